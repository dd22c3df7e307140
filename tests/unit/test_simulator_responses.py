"""The simulator's Responses API: objects, streams, what is stored, what is refused, background."""

import json
from datetime import datetime
from typing import Any

import pytest

from deploy.simulator import Options, Simulator
from tests.unit.simulator_driver import KEY, NOW, FixedClock, Reply, ask, fault, served

PATH = "/openai/v1/responses"
TOOLS = [{"type": "function", "name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}}]


class HandClock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.ms = 0

    def now(self) -> datetime:
        return NOW

    def monotonic_ms(self) -> int:
        return self.ms


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(Options(), FixedClock())


async def respond(simulator: Simulator, given: object = "Say hi", **fields: object) -> Reply:
    return await ask(simulator, PATH, {"model": "gpt-5-mini", "input": given, **fields}, query="")


async def get(simulator: Simulator, rest: str, method: str = "GET") -> Reply:
    return await ask(simulator, f"{PATH}/{rest}", method=method, query="")


def named(reply: Reply) -> list[tuple[str | None, Any]]:
    """Names and data of a stream's events."""
    found: list[tuple[str | None, Any]] = []
    for text in reply.body.decode().removesuffix("\n\n").split("\n\n"):
        lines = dict(line.split(": ", 1) for line in text.split("\n"))
        data = lines["data"]
        found.append((lines.get("event"), data if data == "[DONE]" else json.loads(data)))
    return found


async def test_a_response_has_azures_fields(simulator: Simulator) -> None:
    steered = "[[sim prompt=9 completion=71 reasoning=64 cached=3]]"
    body = (await respond(simulator, steered, max_output_tokens=200, reasoning={"effort": "low"})).json
    assert (body["object"], body["status"], body["model"]) == ("response", "completed", "gpt-5-mini")
    assert (body["max_output_tokens"], body["reasoning"]) == (200, {"effort": "low", "summary": None})
    assert [item["type"] for item in body["output"]] == ["reasoning", "message"]
    assert body["output"][1]["content"][0]["text"] == "The ladle tips and bright metal runs"
    assert body["usage"] == {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 3},
        "output_tokens": 71,
        "output_tokens_details": {"reasoning_tokens": 64},
        "total_tokens": 80,
    }
    (call,) = (await served(simulator))["calls"]
    assert (call["operation"], call["id"], call["model"]) == ("responses", body["id"], "gpt-5-mini-2025-08-07")
    assert call["usage"] == {"prompt": 9, "cached": 3, "completion": 71, "reasoning": 64}


async def test_a_stream_tells_everything_in_order(simulator: Simulator) -> None:
    reply = await respond(simulator, "[[sim completion=3]]", stream=True, model="gpt-4.1")
    events = named(reply)
    kinds = [name for name, _ in events]
    assert kinds == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        *["response.output_text.delta"] * 3, "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    assert [data["type"] for _, data in events] == kinds
    assert events[0][1]["response"]["usage"] is None
    final = events[-1][1]["response"]
    assert (
        "".join(data["delta"] for name, data in events if name == "response.output_text.delta")
        == (final["output"][0]["content"][0]["text"])
    )
    assert final["usage"]["output_tokens"] == 3
    assert (await get(simulator, final["id"])).json == final


async def test_event_lines_and_done_are_steered(simulator: Simulator) -> None:
    bare = named(await respond(simulator, "[[sim event=0 done=1]]", stream=True))
    assert {name for name, _ in bare} == {None}
    assert bare[-1][1] == "[DONE]"
    change = {"responses_events": False, "responses_done": True}
    await ask(simulator, "/_sim/settings", change, query="", headers={})
    assert named(await respond(simulator, stream=True))[-1] == (None, "[DONE]")
    assert named(await respond(simulator, "[[sim event=1 done=0]]", stream=True))[-1][0] == "response.completed"


async def test_functions_are_called_and_answered(simulator: Simulator) -> None:
    first = (await respond(simulator, "[[sim tool=1]]", tools=TOOLS)).json
    call = first["output"][-1]
    assert (call["type"], call["name"], json.loads(call["arguments"])) == (
        "function_call",
        "weather",
        {"city": "launder"},
    )
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "5"}
    again = await respond(simulator, [output], previous_response_id=first["id"])
    assert again.json["output"][-1]["type"] == "message"
    assert again.json["usage"]["input_tokens"] > first["usage"]["total_tokens"]
    carried = [{**call, "id": call["id"]}, output]
    del carried[0]["status"]
    assert (await respond(simulator, carried)).status == 200
    orphan = await respond(simulator, [{**output, "call_id": "call_none"}])
    assert "No tool call found" in orphan.json["error"]["message"]
    kinds = [name for name, _ in named(await respond(simulator, "[[sim tool=1]]", tools=TOOLS, stream=True))]
    assert "response.function_call_arguments.delta" in kinds
    assert "response.function_call_arguments.done" in kinds
    assert kinds[-1] == "response.completed"


async def test_reasoning_summaries_refusals_and_structure(simulator: Simulator) -> None:
    kinds = [name for name, _ in named(await respond(simulator, reasoning={"summary": "auto"}, stream=True))]
    assert "response.reasoning_summary_text.delta" in kinds
    kinds = [name for name, _ in named(await respond(simulator, "[[sim refuse=1]]", stream=True))]
    assert "response.refusal.done" in kinds
    form = {"format": {"type": "json_schema", "name": "x", "schema": TOOLS[0]["parameters"]}}
    body = (await respond(simulator, text=form)).json
    assert json.loads(body["output"][-1]["content"][0]["text"]) == {"city": "launder"}
    secret = (await respond(simulator, include=["reasoning.encrypted_content"], store=False)).json["output"][0]
    assert (await respond(simulator, [secret, {"role": "user", "content": "a"}])).status == 200


async def test_what_is_cut_or_filtered_is_incomplete(simulator: Simulator) -> None:
    cut = (await respond(simulator, "[[sim completion=50]]", max_output_tokens=20)).json
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert cut["usage"]["output_tokens"] == 20
    kinds = [name for name, _ in named(await respond(simulator, "[[sim filter=2]]", stream=True))]
    assert kinds[-1] == "response.incomplete"
    prompt = await respond(simulator, "[[sim filter=1]]")
    assert prompt.status == 400
    assert prompt.json["error"]["content_filters"][0]["blocked"] is True


async def test_only_what_is_stored_can_be_referred_to(simulator: Simulator) -> None:
    kept = (await respond(simulator)).json
    item = kept["output"][0]["id"]
    assert item.startswith("rs_")
    for reference in ({"type": "item_reference", "id": item}, {"type": "reasoning", "id": item, "summary": []}):
        assert (await respond(simulator, [reference, {"role": "user", "content": "a"}])).status == 200
    forgotten = (await respond(simulator, store=False)).json
    missing = await respond(simulator, [{"type": "item_reference", "id": forgotten["output"][0]["id"]}])
    assert (missing.status, "not found" in missing.json["error"]["message"]) == (404, True)
    for previous in (forgotten["id"], "resp_none"):
        reply = await respond(simulator, previous_response_id=previous)
        assert (reply.status, reply.json["error"]["code"]) == (400, "previous_response_not_found")
    listed = (await get(simulator, f"{kept['id']}/input_items")).json
    assert [part["text"] for one in listed["data"] for part in one["content"]] == ["Say hi"]
    assert (await get(simulator, kept["id"], "DELETE")).json["deleted"] is True
    for rest, method in (("", "GET"), ("", "DELETE"), ("/input_items", "GET"), ("/cancel", "POST")):
        assert (await get(simulator, kept["id"] + rest, method)).status == 404


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"input": [{"role": "user", "content": "a", "status": "completed"}]}, "unknown_parameter"),
        ({"context_management": [{"type": "compaction"}]}, "unknown_parameter"),
        ({"temperature": 0.2}, "unsupported_parameter"),
        ({"max_output_tokens": 15}, "integer_below_min_value"),
        ({"background": True, "store": False}, "invalid_value"),
        ({"input": ""}, "missing_required_parameter"),
        ({"input": 3}, "invalid_type"),
    ],
)
async def test_refusals(simulator: Simulator, fields: dict[str, Any], code: str) -> None:
    reply = await ask(simulator, PATH, {"model": "gpt-5-mini", "input": "a", **fields}, query="")
    assert (reply.status, reply.json["error"]["code"]) == (400, code)
    assert (await served(simulator))["total"] == 0


async def test_models_without_responses(simulator: Simulator) -> None:
    phi = await respond(simulator, model="phi-4")
    assert (phi.status, phi.json["error"]["message"]) == (400, "Model not supported")
    assert (await respond(simulator, model="claude-opus-4-5")).json["error"]["code"] == "api_not_supported"


async def test_a_background_response_runs_its_time_and_is_billed_at_its_end() -> None:
    clock = HandClock()
    simulator = Simulator(Options(), clock)
    begun = (await respond(simulator, "[[sim background_ms=100 prompt=7]]", background=True)).json
    assert (begun["status"], begun["usage"], begun["output"]) == ("queued", None, [])
    clock.ms = 60
    assert (await get(simulator, begun["id"])).json["status"] == "in_progress"
    assert (await served(simulator))["total"] == 0
    clock.ms = 100
    (billed,) = (await served(simulator))["calls"]
    assert (billed["id"], billed["usage"]["prompt"], billed["completed"]) == (begun["id"], 7, True)
    ended = (await get(simulator, begun["id"])).json
    assert (ended["status"], ended["usage"]["input_tokens"]) == ("completed", 7)
    assert (await get(simulator, f"{begun['id']}/cancel", "POST")).json["status"] == "completed"
    assert (await served(simulator))["total"] == 1


@pytest.mark.parametrize(("at_ms", "billed"), [(10, []), (60, [8])])
async def test_a_cancelled_response_is_billed_as_far_as_it_came(at_ms: int, billed: list[int]) -> None:
    clock = HandClock()
    simulator = Simulator(Options(), clock)
    begun = (await respond(simulator, "[[sim background_ms=100]]", background=True)).json
    clock.ms = at_ms
    for _ in range(2):
        reply = (await get(simulator, f"{begun['id']}/cancel", "POST")).json
        assert (reply["status"], reply["usage"]) == ("cancelled", None)
    clock.ms = 200
    assert (await get(simulator, begun["id"])).json["status"] == "cancelled"
    assert [call["usage"]["completion"] for call in (await served(simulator))["calls"]] == billed
    plain = (await respond(simulator)).json
    assert (await get(simulator, f"{plain['id']}/cancel", "POST")).status == 400


@pytest.mark.parametrize(
    ("kind", "last"),
    [
        ("responses_failed", ["response.failed", "error"]),
        ("responses_error_first", ["error", "response.failed"]),
        ("midstream_error", ["response.failed", "error"]),
    ],
)
async def test_a_stream_fails_as_told(simulator: Simulator, kind: str, last: list[str]) -> None:
    await fault(simulator, kind=kind, after_events=1, count=1, headers={"retry-after": "7"})
    reply = await respond(simulator, stream=True)
    events = named(reply)
    assert [name for name, _ in events] == ["response.created", *last]
    assert [data["sequence_number"] for _, data in events] == [0, 1, 2]
    assert reply.headers["retry-after"] == "7"
    assert (await served(simulator))["total"] == 0
    await fault(simulator, kind=kind, after_events=6, count=1)
    await respond(simulator, "[[sim completion=10]]", stream=True, model="gpt-4.1")
    assert (await served(simulator))["calls"][0]["usage"]["completion"] == 2


async def test_classic_previews_have_responses_too(simulator: Simulator) -> None:
    query = "api-version=2025-04-01-preview"
    body = {"model": "gpt-4.1", "input": "a"}
    made = (await ask(simulator, "/openai/responses", body, query=query, headers=KEY)).json
    found = await ask(simulator, f"/openai/responses/{made['id']}", method="GET", query=query)
    assert found.json == made
    assert (await served(simulator))["calls"][0]["surface"] == "classic"
