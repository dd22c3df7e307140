"""Calls from the first byte to the bill: what is refused, what is charged, and in which order things happen."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from services.proxy import journal as journal_module
from services.proxy.body import BODY_WAIT_S
from services.proxy.domain.prices import PriceBook
from shared.pricing import PriceRow, Rates
from tests.support.data_plane import (
    FREE_SECRET,
    MASTER,
    NANO_PER_INPUT,
    NANO_PER_OUTPUT,
    SECRET,
    STRICT_SECRET,
    DataPlane,
    chat,
    refuse,
)
from tests.unit.asgi_driver import GONE, Exchange, http_scope, pieces

REPLY = {
    "choices": [{"message": {"content": "Hi"}}],
    "model": "gpt-4o-2024-08-06",
    "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
}
COST = 10 * NANO_PER_INPUT + 4 * NANO_PER_OUTPUT


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[DataPlane]:
    made = DataPlane(tmp_path / "journal")
    async with asyncio.timeout(20):
        yield made
    await made.close()


async def call(
    plane: DataPlane,
    *body: bytes,
    path: str | bytes = "/v1/chat/completions",
    method: str = "POST",
    secret: str | None = SECRET,
    **headers: str,
) -> Exchange:
    if secret is not None:
        headers["authorization"] = f"Bearer {secret}"
    exchange = Exchange(pieces(*(body or (chat(),))), plane.log)
    await plane.door(http_scope(method, path, headers), exchange.receive, exchange.send)
    return exchange


def untouched(plane: DataPlane) -> bool:
    return plane.quiet() and not plane.upstream.requests and not plane.events() and "opened" not in plane.log


async def test_a_plain_call(plane: DataPlane) -> None:
    plane.upstream.json(REPLY, x_ms_region="West", set_cookie="a=b", apim_request_id="r1")
    answer = await call(plane)
    assert (answer.status, json.loads(answer.body)) == (200, REPLY)
    assert answer.headers["x-tundish-cost-nusd"] == str(COST)
    assert (answer.headers["apim-request-id"], answer.headers["x-ms-region"]) == ("r1", "West")
    assert "set-cookie" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"
    (event,) = plane.events()
    assert (event.cost_nusd, event.measured, event.outcome, event.status, event.n) == (COST, "reported", "ok", 200, 1)
    assert (event.key_id, event.model, event.deployment, event.served_model) == (
        "k1", "gpt-4o", "gpt-4o-deployment", "gpt-4o-2024-08-06",
    )  # fmt: skip
    assert answer.headers["x-tundish-call-id"] == event.call_id
    assert plane.spent() == COST
    assert plane.quiet()
    assert plane.log == ["opened", "used", "head", "last"]


async def test_what_goes_to_foundry(plane: DataPlane) -> None:
    plane.upstream.json(REPLY)
    raw = chat(temperature=1.10)
    await call(plane, raw, cookie="a=b", **{"x-forwarded-for": "1.2.3.4"})
    (request,) = plane.upstream.requests
    assert request.body is raw or request.body == raw
    names = {name for name, _ in request.headers}
    assert names == {"content-type", "x-ms-client-request-id", "api-key"}
    assert dict(request.headers)["api-key"] == "foundry-key"
    assert SECRET not in str(request)


async def test_azures_style_takes_the_model_of_the_path(plane: DataPlane) -> None:
    plane.upstream.json(REPLY)
    answer = await call(
        plane, b'{"messages":[]}', path="/openai/deployments/phi-4/chat/completions", secret=None, **{"api-key": SECRET}
    )
    assert answer.status == 200
    assert json.loads(plane.upstream.requests[0].body) == {"messages": [], "model": "phi-4-deployment"}


async def test_a_key_without_limits_needs_no_ledger(plane: DataPlane) -> None:
    plane.upstream.json(REPLY)
    assert (await call(plane, secret=FREE_SECRET)).status == 200
    assert plane.bus.requests == []
    assert (plane.events()[0].serial, plane.events()[0].windows) == (None, ())


@pytest.mark.parametrize(
    ("secret", "status", "code", "kind"),
    [
        (None, 401, "missing_api_key", "authentication_error"),
        ("", 401, "missing_api_key", "authentication_error"),
        ("sk-wrong", 401, "invalid_api_key", "authentication_error"),
        ("sk-\xff", 401, "invalid_api_key", "authentication_error"),
        ("x" * 5_000, 401, "missing_api_key", "authentication_error"),
        (MASTER, 403, "master_key_on_data_plane", "permission_error"),
    ],
)
async def test_wrong_keys(plane: DataPlane, secret: str | None, status: int, code: str, kind: str) -> None:
    answer = await call(plane, secret=secret)
    assert (answer.status, answer.error["code"], answer.error["type"]) == (status, code, kind)
    assert not secret or secret not in answer.body.decode()
    assert untouched(plane)
    assert plane.refused.values == {(code,): 1}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"not json", 400, "invalid_json"),
        (b"[]", 400, "invalid_request_body"),
        (b"{}", 400, "missing_model"),
        (chat(max_tokens="x"), 400, "invalid_request_body"),
        (chat(model="gone"), 404, "model_not_found"),
        (chat(model="secret-model"), 403, "model_not_allowed"),
        (chat(model="nothing"), 403, "model_not_allowed"),
        (chat(model="unpriced"), 503, "price_unknown"),
        (b'{"model":"phi-4","\xff":1}', 400, "invalid_json"),
        (chat(messages="x" * 10_000), 413, "request_too_large"),
    ],
)
async def test_bodies_that_make_no_sense(plane: DataPlane, body: bytes, status: int, code: str) -> None:
    for secret in (SECRET, FREE_SECRET):
        answer = await call(plane, body, secret=secret)
        assert (answer.status, answer.error["code"]) == (status, code)
    assert untouched(plane)


async def test_depth_at_the_very_limit_of_the_interpreter_leaks_nothing(plane: DataPlane) -> None:
    """What one reader still takes another, a few frames deeper, may not: whatever comes out, nothing stays held."""
    for depth in (*range(900, 1_020, 4), 4_000):
        plane.upstream.replies.clear()
        plane.upstream.json(REPLY)
        body = b'{"model":"phi-4","a":' + b"[" * depth + b"]" * depth + b"}"
        answer = await call(plane, body)
        assert answer.status in (200, 400)
        assert plane.quiet()


async def test_a_body_in_many_pieces(plane: DataPlane) -> None:
    raw = chat()
    plane.upstream.json(REPLY)
    answer = await call(plane, b"", raw[:1], raw[1:5], b"", raw[5:], b"")
    assert answer.status == 200
    assert plane.upstream.requests[0].body == raw
    plane.upstream.json(REPLY)
    declared = await call(plane, raw, b"", **{"content-length": str(len(raw))})
    assert declared.status == 200


async def test_a_large_body_in_pieces_is_given_up_early(plane: DataPlane) -> None:
    exchange = Exchange([{"type": "http.request", "body": b"x" * 6_000, "more_body": True}] * 2)
    await plane.door(http_scope("POST", "/v1/embeddings", {"api-key": SECRET}), exchange.receive, exchange.send)
    assert (exchange.status, exchange.error["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("first", [[], [{"type": "http.request", "body": b"{", "more_body": True}]])
async def test_a_slow_body(plane: DataPlane, first: list[Any]) -> None:
    exchange = Exchange(first)
    scope = http_scope("POST", "/v1/embeddings", {"api-key": SECRET})
    serving = asyncio.create_task(cast(Any, plane.door(scope, exchange.receive, exchange.send)))
    patience = plane.inference.patience
    await exchange.waiting.wait()
    now = asyncio.get_running_loop().time()
    patience.sweep(now + BODY_WAIT_S - 1)
    await asyncio.sleep(0)
    assert not serving.done()
    patience.sweep(now + BODY_WAIT_S + 1)
    await serving
    assert not (patience._waiting or patience._expired)
    assert (exchange.status, exchange.error["code"]) == (408, "request_timeout")
    assert untouched(plane)


@pytest.mark.parametrize("first", [[], [{"type": "http.request", "body": b"{", "more_body": True}]])
async def test_a_caller_who_leaves_before_the_body_is_whole(plane: DataPlane, first: list[Any]) -> None:
    exchange = Exchange([*first, GONE])
    await plane.door(http_scope("POST", "/v1/embeddings", {"api-key": SECRET}), exchange.receive, exchange.send)
    assert untouched(plane)


@pytest.mark.parametrize("path", [b"/v1//models", b"/v1/../key/list", b"/v1/%2e%2e/models", b"/v1/models/", b"/%00"])
async def test_odd_paths(plane: DataPlane, path: bytes) -> None:
    answer = await call(plane, path=path)
    assert (answer.status, answer.error["code"]) == (400, "bad_path")
    assert untouched(plane)


async def test_paths_and_methods_that_are_not_served(plane: DataPlane) -> None:
    unknown = await call(plane, path="/v1/nothing")
    assert (unknown.status, unknown.error["code"]) == (404, "not_found")
    assert "/v1/nothing." in unknown.error["message"]
    wrong = await call(plane, method="GET")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    admin = await call(plane, path="/key/generate")
    assert (admin.status, admin.error["code"]) == (404, "not_found")
    assert untouched(plane)


async def test_models_are_those_of_the_key(plane: DataPlane) -> None:
    listed = await call(plane, path="/v1/models", method="GET")
    assert [model["id"] for model in json.loads(listed.body)["data"]] == [
        "gpt-4o",
        "phi-4",
        "unpriced",
        "gpt-5",
        "mystery",
    ]
    one = await call(plane, path="/openai/models/phi-4", method="GET")
    assert json.loads(one.body)["id"] == "phi-4"
    other = await call(plane, path="/v1/models/secret-model", method="GET")
    assert (other.status, other.error["code"]) == (403, "model_not_allowed")
    assert (await call(plane, path="/v1/models", method="GET", secret="sk-wrong")).status == 401


async def test_health_and_draining(plane: DataPlane) -> None:
    assert (await call(plane, path="/health/liveliness", method="GET")).status == 200
    assert (await call(plane, path="/health/readiness", method="GET")).status == 200
    plane.door.draining = True
    assert (await call(plane, path="/health/readiness", method="GET")).status == 503
    answer = await call(plane)
    assert (answer.status, answer.error["code"]) == (503, "draining")
    assert untouched(plane)


@pytest.mark.parametrize(
    ("kind", "status", "code", "measured", "charged"),
    [
        ("connect", 502, "upstream_unreachable", "reported", False),
        ("timeout", 504, "upstream_timeout", "lost", True),
        ("reset", 502, "upstream_reset", "lost", True),
    ],
)
async def test_foundry_fails(plane: DataPlane, kind: str, status: int, code: str, measured: str, charged: bool) -> None:
    plane.upstream.replies.append(refuse(kind))
    answer = await call(plane)
    assert (answer.status, answer.error["code"]) == (status, code)
    (event,) = plane.events()
    assert (event.measured, event.cost_nusd) == (measured, event.held_nusd if charged else 0)
    assert plane.spent() == event.cost_nusd
    assert plane.quiet()


@pytest.mark.parametrize(
    ("status", "body", "told", "code"),
    [
        (302, b"", 502, "upstream_redirect"),
        (401, b'{"error":{"code":"401","message":"key foundry-key"}}', 502, "upstream_auth_failed"),
        (403, b"<html>", 502, "upstream_auth_failed"),
        (404, b'{"error":{"code":"DeploymentNotFound","message":"x"}}', 502, "upstream_deployment_not_found"),
        (404, b"", 502, "upstream_deployment_not_found"),
        (404, b'{"error":{"code":"other","message":"x"}}', 404, "other"),
        (400, b'{"error":{"code":"content_filter","message":"x","innererror":{}}}', 400, "content_filter"),
        (400, b' { "error" : {"code":7,"message":"x"}}', 400, "7"),
        (429, b'{"error":{"code":"429","message":"slow down"}}', 429, "429"),
        (429, b"<html>busy</html>", 429, "upstream_error"),
        (500, b'{"error":"text"}', 500, "upstream_error"),
        (503, b"", 503, "upstream_error"),
        (502, b"<html>", 502, "upstream_error"),
        (204, b"", 502, "upstream_error"),
        (999, b"", 502, "upstream_error"),
    ],
)
async def test_foundrys_errors(plane: DataPlane, status: int, body: bytes, told: int, code: str) -> None:
    plane.upstream.whole(body, status, location="https://evil.example/", retry_after="7")
    answer = await call(plane)
    assert (answer.status, answer.error["code"]) == (told, code)
    assert b"foundry-key" not in answer.body
    assert b"evil.example" not in answer.body
    assert "location" not in answer.headers
    helps = status not in (302, 400, 401, 403, 404)
    assert answer.headers.get("retry-after") == ("7" if helps else None)
    assert answer.headers["content-type"] == "application/json"
    (event,) = plane.events()
    filtered = code == "content_filter"
    assert event.status == status
    assert event.outcome == ("filtered" if filtered else "upstream_error")
    # Foundry bills the prompt that its filter has read, and nothing else of these.
    assert event.cost_nusd == (event.usage.input * NANO_PER_INPUT if filtered else 0)
    assert (event.measured, event.usage.output) == ("estimated" if filtered else "reported", 0)
    assert bool(event.cost_nusd) is filtered
    assert plane.quiet()


async def test_a_filtered_prompt_of_a_strict_key_is_charged_at_its_bound(plane: DataPlane) -> None:
    plane.upstream.whole(b'{"error":{"code":"content_filter","message":"x"}}', 400)
    body = chat(messages=[{"role": "user", "content": "no"}], max_tokens=5)
    answer = await call(plane, body, secret=STRICT_SECRET)
    assert answer.status == 400
    (event,) = plane.events()
    assert 0 < event.cost_nusd < event.held_nusd
    assert event.measured == "lost"
    assert plane.quiet()


@pytest.mark.parametrize(
    ("body", "kind"), [(b"<html>", "text/html"), (b"", "application/json"), (b"[1]", "application/json"), (b"{}", "")]
)
async def test_a_success_that_is_none(plane: DataPlane, body: bytes, kind: str) -> None:
    plane.upstream.whole(body, 200, kind=kind)
    answer = await call(plane)
    assert (answer.status, answer.error["code"]) == (502, "upstream_bad_reply")
    assert (plane.events()[0].measured, plane.events()[0].outcome) == ("estimated", "upstream_error")
    assert plane.quiet()


@pytest.mark.parametrize("usage", [..., None, {}, {"input_tokens": 5}, {"prompt_tokens": 10**30}, "x"])
async def test_no_usage_is_a_marked_estimate_and_never_zero(plane: DataPlane, usage: Any) -> None:
    reply = {name: value for name, value in REPLY.items() if name != "usage"}
    plane.upstream.json(reply if usage is ... else {**reply, "usage": usage})
    assert (await call(plane)).status == 200
    (event,) = plane.events()
    assert event.measured == "estimated"
    assert event.cost_nusd > 0


async def test_an_estimate_stays_within_the_callers_own_cap(plane: DataPlane) -> None:
    long = {**REPLY, "choices": [{"message": {"content": "word " * 400}}], "usage": None}
    plane.upstream.json(long)
    await call(plane, chat(max_tokens=3))
    plane.upstream.json(long)
    await call(plane, chat(max_tokens=3, n=2))
    for event, cap in zip(plane.events(), (3, 6), strict=True):
        assert (event.measured, event.usage.output) == ("estimated", cap)
        assert event.cost_nusd <= event.held_nusd


async def test_the_dearest_model_seen_decides_what_is_held(plane: DataPlane) -> None:
    dear = PriceRow(model="dear-model", rates=Rates(input=10**12, output=10**13))
    cheap = PriceRow(model="cheap-model", rates=Rates(input=1, output=1))
    plane.till._book = PriceBook([dear, cheap])
    for served in ("cheap-model", "dear-model", "cheap-model", "cheap-model"):
        plane.upstream.json({**REPLY, "model": served})
        assert (await call(plane, chat(max_tokens=1), secret=FREE_SECRET)).status == 200
    held = [event.held_nusd for event in plane.events()]
    assert held[0] == held[1] < held[2] == held[3]
    assert [event.cost_nusd for event in plane.events()][1] == 10 * 10**6 + 4 * 10**7


async def test_a_leading_blank_is_still_json(plane: DataPlane) -> None:
    plane.upstream.whole(b"\n " + json.dumps(REPLY).encode())
    assert (await call(plane)).status == 200
    assert plane.events()[0].cost_nusd == COST


async def test_money_runs_out(plane: DataPlane) -> None:
    plane.enforcer.limit = 100
    answer = await call(plane)
    assert (answer.status, answer.error["type"], answer.error["code"]) == (402, "budget_exceeded", "budget_exceeded")
    assert answer.headers["x-should-retry"] == "false"
    assert untouched(plane)


async def test_nobody_knows_about_money(plane: DataPlane) -> None:
    plane.enforcer.faults.extend(["lost"] * 20)
    answer = await call(plane)
    assert (answer.status, answer.error["code"]) == (503, "ledger_unreachable")
    assert untouched(plane)


async def test_a_journal_that_refuses(plane: DataPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_write(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "SEGMENT_BYTES", 1)
        patch.setattr(journal_module, "reserve", refuse_write)
        answer = await call(plane)
    assert (answer.status, answer.error["code"]) == (503, "journal_unavailable")
    assert untouched(plane)
    plane.upstream.json(REPLY)
    assert (await call(plane)).status == 200


async def test_too_many_events_wait(plane: DataPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.proxy.publisher.BACKLOG_MAX", 0)
    answer = await call(plane)
    assert (answer.status, answer.error["code"]) == (503, "usage_backlog")
    assert untouched(plane)


async def test_a_defect_leaks_nothing(plane: DataPlane) -> None:
    plane.upstream.replies.append(ValueError("a defect"))
    answer = await call(plane)
    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert "defect" not in answer.body.decode()
    assert plane.events()[0].measured == "lost"
    assert plane.quiet()


async def test_a_failure_while_leaving_bills_once(plane: DataPlane) -> None:
    plane.upstream.json(REPLY)
    plane.upstream.leave_error = refuse("reset")
    answer = await call(plane)
    assert answer.status == 200
    assert [event.cost_nusd for event in plane.events()] == [COST]
    assert plane.publisher.last_n(0) == 1
    assert plane.quiet()
