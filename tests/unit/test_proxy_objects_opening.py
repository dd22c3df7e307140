"""Ids inside request bodies: exchanged in their places, refused everywhere else, whatever spelling is tried."""

import json
from typing import Any

import pytest

from services.proxy.domain.admission import Refused
from services.proxy.domain.asked import BadRequest
from services.proxy.domain.objects.opening import Unsealed, open_request
from services.proxy.domain.objects.seal import Kind, Seal, not_found
from services.proxy.domain.paths import Endpoint

SEAL = Seal({"p1": b"1" * 32})
MINE, THEIRS = "team:mine", "team:theirs"
UPSTREAM: dict[Kind, str] = {
    "response": "resp_0123456789abcdef",
    "item": "msg_0123456789abcdef",
    "file": "file-0123456789abcdef",
    "container": "cntr_0123456789abcdef",
    "batch": "batch_0123456789abcdef",
    "audio": "audio_0123456789abcdef",
}

PLACES: list[tuple[str, Endpoint, Kind, Any]] = [
    ("previous response", Endpoint.RESPONSES, "response", {"previous_response_id": "@"}),
    ("item", Endpoint.RESPONSES, "item", {"input": [{"type": "message", "id": "@", "content": "hi"}]}),
    ("reference", Endpoint.RESPONSES, "item", {"input": [{"type": "item_reference", "id": "@"}]}),
    ("bare reference", Endpoint.RESPONSES, "item", {"input": [{"id": "@"}]}),
    ("file", Endpoint.RESPONSES, "file", {"input": [{"content": [{"type": "input_file", "file_id": "@"}]}]}),
    ("image", Endpoint.RESPONSES, "file", {"input": [{"content": [{"type": "input_image", "file_id": "@"}]}]}),
    ("screen", Endpoint.RESPONSES, "file", {"input": [{"type": "computer_call_output", "output": {"file_id": "@"}}]}),
    ("tool's output", Endpoint.RESPONSES, "file", {"input": [{"output": [{"type": "input_file", "file_id": "@"}]}]}),
    ("approval", Endpoint.RESPONSES, "item", {"input": [{"type": "x", "approval_request_id": "@"}]}),
    ("container of a call", Endpoint.RESPONSES, "container", {"input": [{"type": "x", "container_id": "@"}]}),
    ("annotation", Endpoint.RESPONSES, "file", {"input": [{"content": [{"annotations": [{"file_id": "@"}]}]}]}),
    ("files of a tool", Endpoint.RESPONSES, "file", {"tools": [{"container": {"type": "auto", "file_ids": ["@"]}}]}),
    ("mask of a tool", Endpoint.RESPONSES, "file", {"tools": [{"input_image_mask": {"file_id": "@"}}]}),
    ("chat", Endpoint.CHAT, "file", {"messages": [{"content": [{"type": "file", "file": {"file_id": "@"}}]}]}),
    ("messages", Endpoint.MESSAGES, "file", {"messages": [{"content": [{"source": {"file_id": "@"}}]}]}),
    ("sound", Endpoint.CHAT, "audio", {"messages": [{"role": "assistant", "audio": {"id": "@"}}]}),
    ("tokens", Endpoint.COUNT_TOKENS, "file", {"messages": [{"content": [{"source": {"file_id": "@"}}]}]}),
    ("document", Endpoint.OCR, "file", {"document": {"type": "file", "file_id": "@"}}),
    ("picture", Endpoint.IMAGE_EDITS, "file", {"images": [{"file_id": "@"}]}),
    ("batch", Endpoint.BATCHES, "file", {"input_file_id": "@", "endpoint": "/v1/responses"}),
]


def filled(content: Any, text: str) -> bytes:
    return json.dumps({"model": "m", **content}).replace("@", text).encode()


def opened(endpoint: Endpoint, body: bytes) -> Unsealed:
    return open_request(endpoint, body, SEAL, MINE)


@pytest.mark.parametrize(("endpoint", "kind", "content"), [row[1:] for row in PLACES], ids=[row[0] for row in PLACES])
class TestEveryPlace:
    def test_an_own_id_is_exchanged_and_nothing_else(self, endpoint: Endpoint, kind: Kind, content: Any) -> None:
        sealed = SEAL.seal(kind, MINE, "dep1", UPSTREAM[kind])
        found = opened(endpoint, filled(content, sealed))
        assert found.body == filled(content, UPSTREAM[kind])
        exact = kind in ("response", "item", "container", "audio")
        assert (found.deployment, found.resources) == (("dep1", ()) if exact else (None, ("dep1",)))

    @pytest.mark.parametrize("how", ["theirs", "raw", "damaged", "other kind", "empty"])
    def test_any_other_id_is_one_and_the_same_404(self, endpoint: Endpoint, kind: Kind, content: Any, how: str) -> None:
        other: Kind = "file" if kind == "response" else "response"
        text = {
            "theirs": SEAL.seal(kind, THEIRS, "dep1", UPSTREAM[kind]),
            "raw": UPSTREAM[kind],
            "damaged": SEAL.seal(kind, MINE, "dep1", UPSTREAM[kind])[:-2],
            "other kind": SEAL.seal(other, MINE, "dep1", UPSTREAM[other]),
            "empty": "",
        }[how]
        with pytest.raises(Refused) as refused:
            opened(endpoint, filled(content, text))
        assert (refused.value.status, refused.value.message) == (404, not_found().message)

    def test_a_foreign_id_beside_an_own_one_is_not_smuggled(self, endpoint: Endpoint, kind: Kind, content: Any) -> None:
        """The same key twice: we read the last, somebody else may read the first."""
        own = SEAL.seal(kind, MINE, "dep1", UPSTREAM[kind])
        body = filled(content, own)
        text = b'"%s"' % own.encode()
        at = body.index(text)
        if body[at - 1 : at] == b"[":
            start = body.index(b'"file_ids"')
            twice = body[:start] + b'"file_ids": ["file-foreign0"], ' + body[start:]
        else:
            start = body.rindex(b'"', 0, body.rindex(b'"', 0, body.rindex(b":", 0, at)))
            twice = body[:start] + body[start:at] + b'"file-foreign0", ' + body[start:]
        with pytest.raises((BadRequest, Refused)):
            opened(endpoint, twice)
        if body[at - 1 : at] != b"[":
            name = body[start + 1 : body.index(b'"', start + 1)]
            escaped = body[: start + 1] + b"\\u%04x" % name[0] + body[start + 2 :]
            with pytest.raises((BadRequest, Refused)):
                opened(endpoint, escaped)


@pytest.mark.parametrize(
    "content",
    [
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"prompt": {"id": "pmpt_1"}},
        {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
        {"tools": [{"type": "file_search"}]},
        {"tools": [{"type": "x", "filters": {"vector_store_ids": ["vs_1"]}}]},
        {"tools": [{"type": "code_interpreter", "container": "cntr_1"}]},
        {"tools": [{"type": "shell", "environment": {"type": "container_reference", "container_id": "cntr_1"}}]},
        {"tools": [{"type": "computer", "session_id": "s1"}]},
    ],
)
def test_what_is_stored_for_all_together_is_refused_by_name(content: Any) -> None:
    with pytest.raises(Refused) as refused:
        opened(Endpoint.RESPONSES, filled(content, ""))
    assert (refused.value.status, refused.value.code) == (400, "not_isolated")
    assert refused.value.param is not None


@pytest.mark.parametrize("key", ["data_sources", "dataSources", "DATA_SOURCES", "data_s\\u006furces"])
def test_search_indexes_by_the_gateways_identity_are_refused(key: str) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"%s":[{"type":"azure_search"}]}' % key.encode()
    with pytest.raises(Refused) as refused:
        opened(Endpoint.CHAT, body)
    assert (refused.value.status, refused.value.code) == (400, "not_isolated")


def test_a_container_by_id_is_refused_for_claude_too() -> None:
    with pytest.raises(Refused):
        opened(Endpoint.MESSAGES, b'{"model":"m","container":"c","messages":[]}')


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","input":"hello","Previous_Response_Id":"resp_x"}',
        b'{"model":"m","CONVERSATION":"conv_1","input":[{"id":"x"}]}',
        b'{"model":"m","input":[{"Id":"msg_x","prompt":null}]}',
        b'{"model":"m","input":[{"content":[{"File_ID":"file-x"}],"container_id":null}]}',
        b'{"model":"m","previous_response_id":5}',
        b'["previous_response_id", {"id": 1}]',
        b'{"previous_response_id":"x"',
        b'{"a":' * 200 + b'{"id":"x"}' + b"}" * 200,
    ],
)
def test_what_another_reader_may_take_for_an_id_is_refused(body: bytes) -> None:
    with pytest.raises((BadRequest, Refused)):
        opened(Endpoint.RESPONSES, body)


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (Endpoint.RESPONSES, b'{"model":"m","input":"my id\\": \\"resp_x"}'),
        (Endpoint.RESPONSES, b'{"model":"m", "input":"hi" , "metadata":{"id":"resp_x","file_id":"file-x"}}'),
        (Endpoint.RESPONSES, b'{"model":"m","input":"hi","text":{"format":{"schema":{"properties":{"id":{}}}}}}'),
        (
            Endpoint.RESPONSES,
            b'{"model":"m","input":"hi","tools":[{"type":"function","parameters":{"properties":'
            b'{"file_id":{"type":"string"},"vector_store_ids":{"const":"x"}}}}]}',
        ),
        (Endpoint.RESPONSES, b'{"model":"m","input":[{"type":"x","call_id":"call_1","arguments":"{\\"id\\":1}"}]}'),
        (Endpoint.RESPONSES, b'{"model":"m","input":[{"role":"user","content":"caf\\u00e9 \\u0022id\\u0022"}]}'),
        (Endpoint.RESPONSES, b'{"model":"m","previous_response_id":null,"conversation":null,"prompt":null}'),
        (Endpoint.CHAT, b'{"model":"m","messages":[{"role":"tool","tool_call_id":"call_1","id":"x"}]}'),
        (Endpoint.EMBEDDINGS, b'{"model":"m","input":"x","file_id":"file-x"}'),
        (Endpoint.RESPONSES, b"not json at all"),
        (Endpoint.IMAGE_EDITS, b'--B\r\n\r\n"file_id": "file-x"\r\n--B--'),
        (Endpoint.RAW, b'\xff\x00"id": "x"'),
        (Endpoint.RAW, b'{"documents":[{"id":"d1","file_id":"mine"}]}'),
    ],
)
def test_bytes_without_ids_of_ours_stay_as_they_are(endpoint: Endpoint, body: bytes) -> None:
    assert opened(endpoint, body) == Unsealed(body=body)


def test_only_the_id_in_its_place_is_exchanged() -> None:
    sealed = SEAL.seal("response", MINE, "dep1", UPSTREAM["response"])
    body = (
        json.dumps({"metadata": {"last": sealed}, "input": sealed, "previous_response_id": sealed, "temperature": 1.10})
        .replace("1.1", "1.10")
        .encode()
    )
    found = opened(Endpoint.RESPONSES, body).body
    assert found.count(sealed.encode()) == 2
    assert found.count(UPSTREAM["response"].encode()) == 1
    assert b"1.10" in found


def test_several_files_and_the_same_one_twice() -> None:
    one, two = (SEAL.seal("file", MINE, "dep1", f"file-{name}00000") for name in ("a", "b"))
    tools = [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": [one, two, one]}}]
    found = json.loads(opened(Endpoint.RESPONSES, json.dumps({"tools": tools}).encode()).body)
    assert found["tools"][0]["container"]["file_ids"] == ["file-a00000", "file-b00000", "file-a00000"]


def test_responses_of_two_deployments_do_not_go_together() -> None:
    one = SEAL.seal("response", MINE, "dep1", UPSTREAM["response"])
    two = SEAL.seal("item", MINE, "dep2", UPSTREAM["item"])
    with pytest.raises(BadRequest):
        opened(Endpoint.RESPONSES, json.dumps({"previous_response_id": one, "input": [{"id": two}]}).encode())
