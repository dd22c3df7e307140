"""What Foundry says of stored objects, sealed: every id in its place, every other byte unchanged, split anywhere."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain.objects.opening import open_request
from services.proxy.domain.objects.seal import Seal
from services.proxy.domain.objects.sealing import SealingTransform, seal_text
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.sse import FrameSplitter

SEAL = Seal({"p1": b"1" * 32})
OWNER = "team:a"
UPSTREAM_ID = re.compile(rb"(?:resp|msg|rs|fc|ci|cntr|mcpr)_up[0-9]{4}|file-up[0-9]{4}")

RESPONSE: dict[str, Any] = {
    "id": "resp_up0001",
    "object": "response",
    "status": "completed",
    "previous_response_id": "resp_up0002",
    "instructions": None,
    "metadata": {"id": "resp_mine0001", "note": 'say "resp_up0001" twice'},
    "model": "gpt5-mini",
    "output": [
        {"id": "rs_up0003", "type": "reasoning", "summary": []},
        {"id": "fc_up0004", "type": "function_call", "call_id": "call_1", "arguments": '{"id":"msg_up9999"}'},
        {"id": "ci_up0005", "type": "code_interpreter_call", "container_id": "cntr_up0006"},
        {"id": "mcpr_up0010", "type": "mcp_approval_request"},
        {
            "id": "msg_up0007",
            "type": "message",
            "content": [
                {
                    "type": "output_text",
                    "text": "Füße",
                    "annotations": [{"type": "file_citation", "file_id": "file-up0008", "index": 1}],
                }
            ],
        },
    ],
    "tools": [
        {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-up0009"]}},
        {"type": "function", "parameters": {"properties": {"file_id": {"const": "file-mine001"}}}},
    ],
    "usage": {"input_tokens": 9, "output_tokens": 1.50},
}


def transform() -> SealingTransform:
    return SealingTransform(SEAL, OWNER, "dep1")


def unsealed(data: bytes) -> bytes:
    """The bytes with every sealed id opened again."""

    def back(match: re.Match[bytes]) -> bytes:
        text = match[1].decode()
        for kind in ("response", "item", "file", "container"):
            found = SEAL.open(kind, OWNER, text)
            if found is not None:
                assert found.deployment == "dep1"
                return b'"%s"' % found.upstream.encode()
        return match[0]

    return re.sub(rb'"([A-Za-z]+[_-][^"\\]{30,})"', back, data)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", " : ")])
def test_a_whole_response(separators: tuple[str, str]) -> None:
    body = json.dumps(RESPONSE, separators=separators, ensure_ascii=False).encode()
    told = transform().whole(body)
    assert unsealed(told) == body
    shown = json.loads(told)
    assert {found.decode() for found in UPSTREAM_ID.findall(told)} == {"msg_up9999", "resp_up0001"}, "the caller's own"
    assert shown["metadata"] == RESPONSE["metadata"]
    assert shown["output"][0]["id"].startswith("rs_")
    assert shown["output"][1]["call_id"] == "call_1"


def test_a_list_of_items() -> None:
    body = json.dumps(
        {
            "object": "list",
            "data": [{"id": "msg_up0001", "content": [{"type": "input_file", "file_id": "file-up0002"}]}],
            "first_id": "msg_up0001",
            "last_id": "msg_up0001",
        }
    ).encode()
    told = transform().whole(body)
    assert unsealed(told) == body
    assert not UPSTREAM_ID.search(told)


def test_what_was_given_out_comes_back_in() -> None:
    told = json.loads(transform().whole(json.dumps(RESPONSE).encode()))
    body = json.dumps({"previous_response_id": told["id"], "input": told["output"], "tools": told["tools"][:1]})
    found = open_request(Endpoint.RESPONSES, body.encode(), SEAL, OWNER)
    again = json.loads(found.body)
    assert again["previous_response_id"] == "resp_up0001"
    assert again["input"] == RESPONSE["output"]
    assert found.deployment == "dep1"


EVENTS: list[dict[str, Any]] = [
    {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "status": "in_progress", "output": []}},
    {"type": "response.output_item.added", "item": RESPONSE["output"][4]},
    {"type": "response.content_part.added", "item_id": "msg_up0007", "part": RESPONSE["output"][4]["content"][0]},
    {"type": "response.output_text.delta", "item_id": "msg_up0007", "delta": 'id":"msg_x Füße'},
    {
        "type": "response.output_text.annotation.added",
        "item_id": "msg_up0007",
        "annotation": {"file_id": "file-up0008"},
    },
    {"type": "response.function_call_arguments.delta", "item_id": "fc_up0004", "delta": '{"id"'},
    {"type": "response.completed", "response": RESPONSE},
]


def stream(events: bool) -> bytes:
    frames = [
        (f"event: {event['type']}\n" if events else "")
        + f"data: {json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n"
        for event in EVENTS
    ]
    return "".join([": keep-alive\n\n", *frames, "data: [DONE]\n\n"]).encode()


@given(st.lists(st.integers(1, 4_000), max_size=30), st.booleans())
def test_a_stream_split_anywhere(cuts: list[int], events: bool) -> None:
    data = stream(events)
    splitter, sealer, out = FrameSplitter(), transform(), bytearray()
    at = 0
    for cut in [*cuts, len(data)]:
        for frame in splitter.feed(data[at : at + cut]):
            out += sealer.feed(frame)
        at += cut
    out += sealer.end()
    assert not splitter.rest()
    assert unsealed(bytes(out)) == data
    kept = {found.decode() for found in UPSTREAM_ID.findall(bytes(out))}
    assert kept == {"msg_up9999", "resp_up0001"}


@given(st.binary(max_size=300))
def test_anything_passes(data: bytes) -> None:
    assert transform().feed(data) == data
    assert transform().whole(data) == data


def test_texts_of_errors() -> None:
    event = {"type": "error", "message": "No response 'resp_0123456789ab' for file-0123456789ab.", "code": "x"}
    told = transform().feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    assert b"0123456789ab" not in told
    failed = {"type": "response.failed", "response": {"error": {"message": "item msg_0123456789abcdef is gone"}}}
    assert b"0123456789" not in transform().feed(b"data: " + json.dumps(failed).encode() + b"\n\n")
    text = seal_text("Previous response 'resp_0123456789ab' not found", SEAL, OWNER, "dep1")
    assert SEAL.open("response", OWNER, text.split("'")[1]) is not None


def test_an_id_of_another_shape_stays() -> None:
    body = b'{"object":"response","id":"../x","output":[{"id":"0"},{"id":5}]}'
    assert transform().whole(body) == body
