"""Files of batches: every line read, opened and rewritten on the way in, sealed on the way out, added up at the end."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain.admission import Refused
from services.proxy.domain.asked import BadRequest
from services.proxy.domain.deployments import Deployment
from services.proxy.domain.objects.lines import BadLine, LineOpener, LineSealer, endpoint_of, first_model
from services.proxy.domain.objects.seal import Seal
from services.proxy.domain.objects.tally import Tally, flat
from services.proxy.domain.paths import Endpoint
from shared.pricing import BATCH, PriceRow, Rates, Service, Usage, price

SEAL = Seal({"p1": b"1" * 32})
MINE, THEIRS = "team:mine", "team:theirs"
ROW = PriceRow(
    model="gpt-5-mini",
    rates=Rates(input=250_000_001, cached=25_000_001, output=2_000_000_001),
    tier_above=1_000,
    tier=Rates(input=500_000_001, cached=50_000_001, output=3_000_000_001),
    services={
        BATCH: Service(
            rates=Rates(input=125_000_001, cached=12_500_001, output=1_000_000_001),
            tier=Rates(input=250_000_003, cached=25_000_003, output=1_500_000_003),
        )
    },
)
DEPLOYMENT = Deployment(
    model="public", name="dep-name", provider="azure", host="foundry.example", headers=(), row=ROW, fixed_price=False,
    priced_by="test", id="dep1", base="https://foundry.example",
)  # fmt: skip


def opener() -> LineOpener:
    def base(deployment: str) -> str:
        return {"dep1": "https://foundry.example", "dep3": "https://foundry.example"}.get(deployment, "")

    return LineOpener(
        deployment=DEPLOYMENT, row=ROW, seal=SEAL, owner=MINE, base_of=base, default_output=100
    )  # fmt: skip


def line(number: int = 1, url: str = "/v1/chat/completions", **body: Any) -> dict[str, Any]:
    content = {"model": "public", "messages": [{"role": "user", "content": "hi"}], **body}
    return {"custom_id": f"c{number}", "method": "POST", "url": url, "body": content}


def file_of(*lines: Any) -> bytes:
    return b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines)


def test_a_file_made_ready() -> None:
    sealed = SEAL.seal("file", MINE, "dep3", "file-0123456")
    part = {"type": "file", "file": {"file_id": sealed}}
    data = file_of(line(1, max_tokens=50, temperature=1.5), b"", line(2, messages=[{"content": [part]}]), b"  ")
    found = opener().open(data)
    one, two = (json.loads(row) for row in found.body.splitlines())
    assert one == {**line(1), "body": {**line(1)["body"], "model": "dep-name", "max_tokens": 50, "temperature": 1.5}}
    assert two["body"]["messages"][0]["content"][0]["file"]["file_id"] == "file-0123456"
    assert (found.lines, found.endpoint) == (2, Endpoint.CHAT)
    assert found.body.endswith(b"}\n")
    assert found.estimate_nusd > 0
    assert first_model(data) == "public"


@pytest.mark.parametrize("name", ["Body", "URL", "Method", "CUSTOM_ID"])
def test_a_line_whose_fields_another_reader_may_take_for_its_own_is_refused(name: str) -> None:
    with pytest.raises(BadLine) as refused:
        opener().open(file_of({**line(1), name: "x"}))
    assert refused.value.param == name.lower()
    with pytest.raises(BadLine) as refused:
        opener().open(file_of(line(1, Model="other")))
    assert refused.value.param == "model"


def test_the_estimate_is_by_the_price_of_batches() -> None:
    one = opener().open(file_of(line(max_tokens=100))).estimate_nusd
    dear = msgspec_row(ROW.services[BATCH].rates, output=2_000_000_002)
    two = LineOpener(
        deployment=DEPLOYMENT, row=dear, seal=SEAL, owner=MINE, base_of=lambda _: "", default_output=1
    ).open(file_of(line(max_tokens=100))).estimate_nusd  # fmt: skip
    assert two - one == 100 * 1_000
    assert opener().open(file_of(*[line(n, max_tokens=100) for n in range(10)])).estimate_nusd == 10 * one


def msgspec_row(rates: Rates, output: int) -> PriceRow:
    return PriceRow(
        model="x",
        rates=ROW.rates,
        services={BATCH: Service(rates=Rates(input=rates.input, cached=rates.cached, output=output))},
    )


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "no lines"),
        ([b"{"], "Line 1"),
        ([line(), b"nonsense"], "Line 2"),
        ([line(), {**line(2), "body": {**line()["body"], "model": "other"}}], "one model"),
        ([line(), line(2, "/v1/embeddings", input="x")], "same 'url'"),
        ([line(url="/v1/images/generations")], "not served in batches"),
        ([line(url="/v1/files")], "not served in batches"),
        ([line(url="/v1/chat/completions/../files")], "not served in batches"),
        ([{**line(), "method": "GET"}], "POST"),
        ([{**line(), "custom_id": 5}], "custom_id"),
        ([{**line(), "body": "x"}], "Line 1"),
        ([line(stream=True)], "stream"),
        ([line(url="/v1/responses", input="x", background=True)], "background"),
        ([line(n=0)], "'n'"),
        ([line(messages="x")], "Line 1"),
    ],
)
def test_lines_that_are_not_taken(lines: list[Any], words: str) -> None:
    with pytest.raises(BadRequest) as refused:
        opener().open(file_of(*lines))
    assert words in str(refused.value)


def test_ids_of_others_in_a_line_are_not_there() -> None:
    theirs = SEAL.seal("response", THEIRS, "dep1", "resp_0123456")
    for text in (theirs, "resp_0123456"):
        with pytest.raises(Refused) as refused:
            opener().open(file_of(line(url="/v1/responses", input="x", previous_response_id=text)))
        assert refused.value.status == 404
    with pytest.raises(BadLine):
        opener().open(file_of(line(url="/v1/responses", input="x", conversation="conv_1")))
    elsewhere = SEAL.seal("response", MINE, "dep2", "resp_0123456")
    with pytest.raises(BadLine):
        opener().open(file_of(line(url="/v1/responses", input="x", previous_response_id=elsewhere)))


def test_a_model_without_a_price_is_refused() -> None:
    row = PriceRow(model="x", rates=Rates(input=1))
    bare = LineOpener(deployment=DEPLOYMENT, row=row, seal=SEAL, owner=MINE, base_of=lambda _: "", default_output=1)
    with pytest.raises(BadLine) as refused:
        bare.open(file_of(line()))
    assert refused.value.code == "price_unknown"


def test_operations_by_their_names() -> None:
    for url in ("/v1/chat/completions", "/chat/completions", "chat/completions", "/openai/v1/chat/completions"):
        assert endpoint_of(url) is Endpoint.CHAT
    assert endpoint_of("/v1/responses") is Endpoint.RESPONSES


# ---- on the way out ----------------------------------------------------------------------------------


def sealer() -> LineSealer:
    return LineSealer(deployment=DEPLOYMENT, seal=SEAL, owner=MINE)


def test_an_own_input_reads_back_as_it_was_sent() -> None:
    sent = [
        line(1, "/v1/responses", input=[{"id": SEAL.seal("item", MINE, "dep1", "msg_0123456")}]),
        line(2, "/v1/responses", input="x", previous_response_id=SEAL.seal("response", MINE, "dep1", "resp_0123456")),
    ]
    back = [json.loads(sealer().line(row)) for row in opener().open(file_of(*sent)).body.splitlines()]
    assert back == sent


def test_an_output_line() -> None:
    body = {"id": "resp_0123456", "object": "response", "model": "dep-name", "output": [{"id": "msg_0123456"}]}
    row = {
        "id": "batch_req_1",
        "custom_id": "resp_0123456",
        "response": {"status_code": 200, "body": body},
        "error": None,
    }
    told = json.loads(sealer().line(json.dumps(row).encode()))
    assert told["custom_id"] == "resp_0123456"
    assert told["response"]["body"]["model"] == "public"
    assert SEAL.open("response", MINE, told["response"]["body"]["id"]) is not None
    assert SEAL.open("item", MINE, told["response"]["body"]["output"][0]["id"]) is not None


def test_chat_lines_pass_byte_for_byte() -> None:
    body = {"id": "chatcmpl-0123456", "model": "gpt-5-mini-2025", "choices": [{"message": {"content": "x"}}]}
    row = json.dumps({"custom_id": "c", "response": {"status_code": 200, "body": body}, "error": None}).encode()
    assert sealer().line(row) == row


@given(st.binary(max_size=200))
def test_anything_else_passes(data: bytes) -> None:
    assert sealer().line(data) == data


# ---- added up ----------------------------------------------------------------------------------------


def served(prompt: int, output: int, cached: int = 0, model: str | None = "gpt-5-mini") -> bytes:
    usage = {
        "prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }  # fmt: skip
    body = {"model": model, "choices": [], "usage": usage}
    return json.dumps({"custom_id": "c", "response": {"status_code": 200, "body": body}}).encode()


def tally() -> Tally:
    return Tally(wire=Endpoint.CHAT, model="public", deployment="dep-name", prompt_tokens=7, row_of=lambda _: ROW)


counts = st.tuples(st.integers(0, 3_000), st.integers(0, 5_000), st.integers(0, 3_000))


@given(st.lists(counts, min_size=1, max_size=40))
def test_the_sum_costs_what_the_lines_cost(lines: list[tuple[int, int, int]]) -> None:
    """Context tiers are those of each line; rounding is once per group, so at most half a nano-dollar a line."""
    books, cost = tally(), 0
    for prompt, output, cached in lines:
        cached = min(prompt, cached)
        books.add(served(prompt, output, cached))
        cost += price(Usage(input=prompt - cached, cached=cached, output=output, tier=BATCH), ROW)
    groups = books.groups()
    assert len(groups) <= 2
    assert sum(group.lines for group in groups) == len(lines) == books.lines
    total = sum(group.cost_nusd for group in groups)
    assert abs(total - cost) * 2 <= len(lines) + len(groups)
    for group in groups:
        assert group.cost_nusd == price(group.usage, group.row)
        assert group.row.tier_above is None
        assert group.measured == "reported"


def test_whole_prices_add_up_to_the_nano_dollar() -> None:
    row = PriceRow(model="x", rates=Rates(input=1), services={BATCH: Service(rates=Rates(input=75_000_000, output=0))})
    books = Tally(wire=Endpoint.CHAT, model="m", deployment="d", prompt_tokens=0, row_of=lambda _: row)
    for prompt in range(100):
        books.add(served(prompt, 1))
    (group,) = books.groups()
    assert group.cost_nusd == sum(range(100)) * 75


def test_models_are_told_apart_and_what_was_not_served_is_not_counted() -> None:
    books = tally()
    for row in (served(1, 1, model="a"), served(1, 1, model="b"), served(1, 1, model="a"), b"", b"{", b"[]", b"{}"):
        books.add(row)
    books.add(json.dumps({"response": {"status_code": 500, "body": {"usage": {"prompt_tokens": 9}}}}).encode())
    books.add(json.dumps({"response": None, "error": {"code": "batch_expired"}}).encode())
    assert [(group.served_model, group.lines) for group in books.groups()] == [("a", 2), ("b", 1)]


FILTERED = {"error": {"code": "content_filter", "message": "no", "status": 400}}


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ({"response": {"status_code": 400, "body": FILTERED}, "error": None}, 1),
        ({"response": {"status_code": 400, "body": {"error": {"code": "ResponsibleAIPolicyViolation"}}}}, 1),
        ({"response": None, **FILTERED}, 1),
        ({"response": {"status_code": 0}, **FILTERED}, 1),
        ({"response": None, "error": {"code": "content_policy_violation", "message": "no"}}, 1),
        ({"response": {"status_code": 400, "body": {"error": {"code": "context_length_exceeded"}}}}, 0),
        ({"response": {"status_code": 429, "body": FILTERED}}, 0),
        ({"response": {"status_code": 400}}, 0),
        ({"response": None, "error": {"code": "batch_cancelled", "message": "content_filter"}}, 0),
    ],
)
def test_a_prompt_that_the_filter_refused_is_billed_and_no_other_failed_line(line: dict[str, Any], lines: int) -> None:
    books = tally()
    books.add(json.dumps({"custom_id": "c", **line}).encode())
    assert books.lines == lines
    for group in books.groups():
        assert (group.measured, group.served_model, group.usage) == ("estimated", None, Usage(input=7, tier=BATCH))


def test_a_line_that_does_not_say_is_estimated_and_marked() -> None:
    books = tally()
    body = {"model": "a", "choices": [{"message": {"content": "x" * 400}}]}
    books.add(json.dumps({"response": {"status_code": 200, "body": body}}).encode())
    (group,) = books.groups()
    assert (group.measured, group.usage.input) == ("estimated", 7)
    assert 50 <= group.usage.output <= 200


def test_rows_without_tiers_stay_the_same() -> None:
    row = PriceRow(model="x", rates=Rates(input=1))
    assert flat(row, high=True) is row
    assert flat(ROW, high=True) is flat(ROW, high=True)
    assert flat(ROW, high=False).rates == ROW.services[BATCH].rates


def test_a_line_with_a_tool_that_has_no_price_is_refused() -> None:
    with pytest.raises(BadLine) as refused:
        opener().open(file_of(line(url="/v1/responses", input="hi", tools=[{"type": "web_search"}])))
    assert refused.value.code == "price_unknown"
    assert "web_search" in str(refused.value)
