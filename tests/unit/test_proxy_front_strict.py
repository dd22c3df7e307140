"""Strict keys, budgets per model and rate limits, from the first byte to the bill."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from services.proxy.call import Books
from services.proxy.domain.prices import PriceBook
from services.proxy.journal import Journal, JournalError
from services.proxy.publisher import Publisher
from shared.bus import Bus
from shared.ids import InstanceId
from shared.pricing import PriceRow, Rates, estimate
from shared.telemetry import Metrics
from tests.support.data_plane import (
    BOTH_SECRET,
    MODEL_SECRET,
    NANO_PER_INPUT,
    NANO_PER_OUTPUT,
    RATED_SECRET,
    ROW,
    SECRET,
    SOFT,
    STRICT_SECRET,
    DataPlane,
    chat,
    refuse,
)
from tests.unit.asgi_driver import Exchange, http_scope, pieces

HI = [{"role": "user", "content": "hi"}]
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}]}]
TEMPLATE = 64
FLOOR = 100
"""What `default_output_tokens` is in these tests."""


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[DataPlane]:
    made = DataPlane(tmp_path / "journal")
    async with asyncio.timeout(20):
        yield made
    await made.close()


async def call(
    plane: DataPlane, body: bytes, secret: str = STRICT_SECRET, path: str = "/v1/chat/completions"
) -> Exchange:
    exchange = Exchange(pieces(body), plane.log)
    scope = http_scope("POST", path, {"authorization": f"Bearer {secret}"})
    await plane.door(scope, exchange.receive, exchange.send)
    return exchange


def reply(plane: DataPlane, prompt: int = 10, completion: int = 4, **fields: Any) -> None:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    plane.upstream.json({"choices": [{"message": {"content": "Hi"}}], "model": "gpt-4o", "usage": usage, **fields})


def sent(plane: DataPlane) -> dict[str, Any]:
    return json.loads(plane.upstream.requests[-1].body)


async def test_a_cap_of_the_callers_stands(plane: DataPlane) -> None:
    reply(plane)
    raw = chat(messages=HI, max_tokens=50, n=2)
    answer = await call(plane, raw)
    assert answer.status == 200
    assert sent(plane) == json.loads(raw)
    assert "x-tundish-max-tokens" not in answer.headers
    (event,) = plane.events()
    assert event.held_nusd == estimate(len(raw) + TEMPLATE, 100, ROW)
    assert plane.quiet()


@pytest.mark.parametrize(
    ("model", "field", "most"),
    [("gpt-4o", "max_tokens", 16_384), ("gpt-5", "max_completion_tokens", 4_096), ("phi-4", "max_tokens", 4_096)],
)
async def test_without_a_cap_the_model_s_own_maximum_is_put_in(
    plane: DataPlane, model: str, field: str, most: int
) -> None:
    reply(plane)
    raw = chat(model=model, messages=HI, stop=["x"])
    answer = await call(plane, raw)
    assert answer.status == 200
    assert {**sent(plane), "model": model} == {**json.loads(raw), field: most}
    assert answer.headers["x-tundish-max-tokens"] == str(most)
    (event,) = plane.events()
    assert event.held_nusd >= most * NANO_PER_OUTPUT
    assert event.cost_nusd == 10 * NANO_PER_INPUT + 4 * NANO_PER_OUTPUT
    assert plane.quiet()


async def test_the_cap_is_what_the_budget_affords(plane: DataPlane) -> None:
    raw = chat(messages=HI, n=2)
    prompt = len(raw) + TEMPLATE
    plane.enforcer.limit = estimate(prompt, 2 * 100, ROW) + 5
    reply(plane, completion=200)
    answer = await call(plane, raw)
    assert answer.status == 200
    assert answer.headers["x-tundish-max-tokens"] == "100"
    assert sent(plane)["max_tokens"] == 100
    (event,) = plane.events()
    assert event.held_nusd == plane.enforcer.limit
    assert event.cost_nusd <= event.held_nusd


async def test_the_least_output_must_fit(plane: DataPlane) -> None:
    raw = chat(messages=HI)
    plane.enforcer.limit = estimate(len(raw) + TEMPLATE, FLOOR, ROW) - 1
    answer = await call(plane, raw)
    assert (answer.status, answer.error["code"]) == (402, "budget_exceeded")
    fits = answer.error["budget"]["max_tokens_that_fit"]
    assert 16 <= fits < FLOOR
    assert f"(no max_tokens was sent, {FLOOR} assumed; send max_tokens to need less)" in answer.error["message"]
    assert f"max_tokens of at most {fits}" in answer.error["message"]
    assert not plane.upstream.requests
    assert plane.quiet()


async def test_what_was_said_to_fit_does(plane: DataPlane) -> None:
    raw = chat(messages=HI)
    plane.enforcer.limit = estimate(len(raw) + TEMPLATE, FLOOR, ROW) - 1
    refused = await call(plane, raw)
    fits = refused.error["budget"]["max_tokens_that_fit"]
    reply(plane)
    answer = await call(plane, chat(messages=HI, max_tokens=fits))
    assert answer.status == 200


async def test_a_stream_is_capped_and_asked_for_its_usage(plane: DataPlane) -> None:
    usage = b'data: {"choices":[],"model":"gpt-4o","usage":{"prompt_tokens":10,"completion_tokens":4}}\n\n'
    plane.upstream.stream(b'data: {"choices":[{"delta":{}}],"model":"gpt-4o"}\n\n', usage, b"data: [DONE]\n\n")
    answer = await call(plane, chat(messages=HI, stream=True))
    assert answer.headers["x-tundish-max-tokens"] == "16384"
    assert sent(plane)["max_tokens"] == 16_384
    assert sent(plane)["stream_options"] == {"include_usage": True}
    assert plane.quiet()


async def test_an_image_holds_the_whole_window(plane: DataPlane) -> None:
    reply(plane)
    assert (await call(plane, chat(messages=IMAGE, max_tokens=5))).status == 200
    assert plane.events()[0].held_nusd == estimate(128_000, 5, ROW)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": IMAGE, "model": "mystery"}, "messages[0].content[0].image_url"),
        ({"enhancements": {}}, "enhancements"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"mystery_option": []}, "mystery_option"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
async def test_what_cannot_be_bounded_is_refused_by_name(plane: DataPlane, fields: dict[str, Any], param: str) -> None:
    answer = await call(plane, chat(**{"messages": HI, **fields}))
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "unbounded_cost", param)
    assert not plane.bus.requests
    assert plane.quiet()
    reply(plane)
    assert (await call(plane, chat(**{"messages": HI, **fields}), SECRET)).status == 200


async def test_embeddings(plane: DataPlane) -> None:
    raw = json.dumps({"model": "gpt-4o", "input": ["a", "b"]}).encode()
    reply(plane, prompt=2, completion=0)
    answer = await call(plane, raw, path="/v1/embeddings")
    assert answer.status == 200
    assert sent(plane) == json.loads(raw)
    assert plane.events()[0].held_nusd == estimate(len(raw), 0, ROW)


async def test_without_usage_the_bound_is_charged(plane: DataPlane) -> None:
    """Neither more (it is a bound) nor less: what Foundry has billed for an answer without usage, nobody knows."""
    plane.upstream.json({"choices": [{"message": {"content": "word " * 400}}], "model": "gpt-4o"})
    assert (await call(plane, chat(messages=HI, max_tokens=3))).status == 200
    (event,) = plane.events()
    assert (event.measured, event.cost_nusd) == ("lost", event.held_nusd)
    assert plane.till.strict_overdrafts == 0


async def test_more_than_the_bound_is_an_error_and_counted(plane: DataPlane, caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    plane.till.declare(metrics)
    assert b"tundish_strict_overdraft_total 0" in metrics.page()
    reply(plane, prompt=5_000, completion=50)
    with caplog.at_level(logging.ERROR):
        assert (await call(plane, chat(messages=HI, max_tokens=50))).status == 200
    (event,) = plane.events()
    beyond = event.cost_nusd - event.held_nusd
    assert beyond > 0
    assert plane.till.strict_overdrafts == 1
    assert plane.till.overdrafts == {"prompt": beyond, "output": 0, "price": 0}
    assert "proven bound" in caplog.text
    page = metrics.page().decode()
    assert "tundish_strict_overdraft_total 1" in page
    assert f'tundish_overdraft_nusd_total{{kind="prompt"}} {beyond}' in page
    assert 'tundish_overdraft_nusd_total{kind="output"} 0' in page


@pytest.mark.parametrize(
    ("prompt", "completion", "model", "kind"),
    [(10, 500, "gpt-4o", "output"), (5_000, 1, "gpt-4o", "prompt"), (10, 4, "dear", "price")],
)
async def test_overdraft_is_counted_by_what_was_larger(
    plane: DataPlane, prompt: int, completion: int, model: str, kind: str
) -> None:
    plane.till._book = PriceBook([PriceRow(model="dear", rates=Rates(input=10**12, output=10**12))])
    reply(plane, prompt, completion, model=model)
    await call(plane, chat(messages=HI, max_tokens=10), SECRET)
    (event,) = plane.events()
    expected = {"prompt": 0, "output": 0, "price": 0, kind: event.cost_nusd - event.held_nusd}
    assert plane.till.overdrafts == expected
    assert plane.till.overdraft_nusd == sum(expected.values()) > 0
    assert plane.till.strict_overdrafts == 0


async def test_a_lost_call_is_charged_at_what_was_held(plane: DataPlane) -> None:
    plane.upstream.replies.append(refuse("reset"))
    await call(plane, chat(messages=HI))
    (event,) = plane.events()
    assert (event.measured, event.cost_nusd) == ("lost", event.held_nusd)
    assert event.held_nusd >= 16_384 * NANO_PER_OUTPUT
    assert plane.spent() == event.cost_nusd


async def test_a_budget_for_one_model_is_not_asked_about_others(plane: DataPlane) -> None:
    for model in ("gpt-4o", "phi-4"):
        reply(plane)
        assert (await call(plane, chat(model=model, messages=HI), MODEL_SECRET)).status == 200
    assert [ask.model for ask in plane.enforcer.asks] == ["gpt-4o"]
    held, free = plane.events()
    assert (held.serial is None, free.serial is None) == (False, True)
    assert [window.account for window in free.windows] == [SOFT]
    assert SOFT in [window.account for window in held.windows]


# ---- rate limits ---------------------------------------------------------------------------------------------------


async def test_tickets_are_settled_with_what_was_used(plane: DataPlane) -> None:
    reply(plane)
    answer = await call(plane, chat(messages=HI), RATED_SECRET)
    assert answer.status == 200
    limited = {name: value for name, value in answer.headers.items() if name.startswith("x-ratelimit-")}
    assert limited["x-ratelimit-limit-requests"] == "2"
    assert limited["x-ratelimit-limit-tokens"] == "10000"
    reply(plane)
    after = await call(plane, chat(messages=HI), RATED_SECRET)
    spent = 10_000 - int(after.headers["x-ratelimit-remaining-tokens"])
    assert spent == 14 + 14, "a finished call counts what it used"
    refused = await call(plane, chat(messages=HI), RATED_SECRET)
    assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
    assert plane.quiet()


async def test_the_headers_of_a_stream_say_what_was_estimated(plane: DataPlane) -> None:
    usage = b'data: {"choices":[],"model":"gpt-4o","usage":{"prompt_tokens":10,"completion_tokens":4}}\n\n'
    plane.upstream.stream(usage, b"data: [DONE]\n\n")
    raw = chat(messages=HI, stream=True)
    answer = await call(plane, raw, RATED_SECRET)
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) == 10_000 - 100 - -(-len(raw) // 3)
    reply(plane)
    after = await call(plane, chat(messages=HI), RATED_SECRET)
    assert after.headers["x-ratelimit-remaining-tokens"] == str(10_000 - 14 - 14)


@pytest.mark.parametrize("why", ["exceeded", "reserved", "unreachable", "journal"])
async def test_a_call_refused_before_it_left_counts_under_no_limit(
    plane: DataPlane, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        if why == "unreachable":
            plane.enforcer.faults.extend(["lost"] * 100)
        elif why == "journal":

            def broken(record: object) -> None:
                raise JournalError("no space")

            patch.setattr(plane.journal, "opened", broken)
        else:
            plane.enforcer.limit = 0
            plane.enforcer.short = "exceeded" if why == "exceeded" else "reserved"
        for _ in range(4):
            answer = await call(plane, chat(messages=HI), BOTH_SECRET)
            assert answer.error["code"] in (f"budget_{why}", f"ledger_{why}", "journal_unavailable")
            assert answer.headers["x-ratelimit-remaining-requests"] == "2"
            assert answer.headers["x-ratelimit-remaining-tokens"] == "10000"
            assert answer.headers["x-ratelimit-reset-requests"] == "0s"
    assert plane.quiet()
    assert plane.limits.admitted == 0


@pytest.mark.parametrize("how", ["connect", "reset", "defect", "refused"])
async def test_a_place_is_free_again_however_a_call_ends(plane: DataPlane, how: str) -> None:
    """One call at a time is allowed: the second one shows that the first has given its place back."""
    for _ in range(2):
        if how == "refused":
            plane.upstream.json({"error": {"code": "429", "message": "slow"}}, 429)
        else:
            plane.upstream.replies.append(ValueError("defect") if how == "defect" else refuse(how))
        answer = await call(plane, chat(messages=HI), RATED_SECRET)
        assert "x-ratelimit-limit-requests" in answer.headers or how == "defect"
        assert answer.status in (429, 500, 502)
        assert answer.error["code"] != "rate_limit_exceeded"
    assert plane.quiet()


async def test_a_call_that_may_not_begin_gives_its_place_back(
    plane: DataPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.proxy.publisher.BACKLOG_MAX", 0)
    for _ in range(2):
        answer = await call(plane, chat(messages=HI), RATED_SECRET)
        assert (answer.status, answer.error["code"]) == (503, "usage_backlog")
        assert "x-ratelimit-limit-requests" in answer.headers
    assert plane.quiet()


# ---- one name after another ----------------------------------------------------------------------------------------


async def test_a_call_is_settled_in_the_books_it_was_opened_in(plane: DataPlane, tmp_path: Path) -> None:
    other = InstanceId("00000000-instance-two")
    journal = Journal(tmp_path / "journal", other)
    publisher = Publisher(cast(Bus, plane.bus), journal, 1)

    async def renewed() -> None:
        plane.till.renew(Books(journal, publisher, other))

    usage = {"prompt_tokens": 10, "completion_tokens": 4}
    frame = b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
    plane.upstream.stream(renewed, frame, b"data: [DONE]\n\n")
    await call(plane, chat(messages=HI, stream=True))
    assert [event.instance for event in plane.events()] == ["00000000-instance-me"]
    reply(plane)
    await call(plane, chat(messages=HI))
    assert len(plane.events()) == 1
    assert publisher.last_n(0) == 1
    assert not (plane.journal.calls_open or journal.calls_open)
    journal.close(remove=True)
