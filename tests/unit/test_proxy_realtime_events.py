"""What passes in a realtime session, and what is not offered in it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain.asked import BadRequest
from services.proxy.domain.realtime import (
    CLIENT_TYPES,
    key_of_subprotocols,
    read_client,
    read_server,
    session_url,
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["type", "session", "prompt"]), inner),
)


def raw(**event: object) -> bytes:
    return json.dumps(event).encode()


@pytest.mark.parametrize("kind", sorted(CLIENT_TYPES))
def test_known_events_pass(kind: str) -> None:
    assert read_client(raw(type=kind)).type == kind


def test_events_are_written_anew_so_that_a_name_has_one_meaning() -> None:
    message = b'{ "type" : "response.cancel", "t\\u0079pe":"input_audio_buffer.append", "audio":"AAAA" }'
    event = read_client(message)
    assert event.type == "input_audio_buffer.append"
    assert event.message == b'{"type":"input_audio_buffer.append","audio":"AAAA"}'


@pytest.mark.parametrize("key", ["Prompt", "PROMPT", "Session", "File_Id"])
def test_names_in_other_letter_case_are_refused(key: str) -> None:
    with pytest.raises(BadRequest):
        read_client(raw(type="session.update", session={"instructions": "x", key: {"id": "pmpt_1"}}))


@pytest.mark.parametrize("key", ["file_id", "file_ids", "container", "container_id", "vector_store_ids"])
def test_what_is_stored_for_everybody_is_refused_at_any_depth(key: str) -> None:
    content = [{"type": "input_image", key: "x"}]
    with pytest.raises(BadRequest) as refused:
        read_client(raw(type="conversation.item.create", item={"type": "message", "content": content}))
    assert refused.value.param == key


def test_what_callers_name_in_their_own_schemas_is_theirs() -> None:
    tool = {"type": "function", "name": "f", "parameters": {"properties": {"file_id": {"type": "string"}}}}
    assert b"file_id" in read_client(raw(type="session.update", session={"tools": [tool]})).message


@pytest.mark.parametrize("conversation", ["conv_1", {"id": "conv_1"}, ["none"], 1])
def test_other_conversations_are_refused(conversation: object) -> None:
    with pytest.raises(BadRequest):
        read_client(raw(type="response.create", response={"conversation": conversation}))
    assert read_client(raw(type="response.create", response={"conversation": "none"})).type == "response.create"


def test_the_name_of_a_model_that_transcribes_is_exchanged_in_its_place() -> None:
    session = {"audio": {"input": {"transcription": {"model": "mine", "prompt": "a hint"}}}}
    event = read_client(raw(type="session.update", session=session), lambda name: f"{name}-deployment")
    assert event.transcription == "mine-deployment"
    told = json.loads(event.message)["session"]["audio"]["input"]["transcription"]
    assert told == {"model": "mine-deployment", "prompt": "a hint"}


def test_a_model_that_transcribes_must_be_named_once() -> None:
    with pytest.raises(BadRequest):
        read_client(raw(type="session.update", session={"input_audio_transcription": {"language": "en"}}))
    both = {"input_audio_transcription": {"model": "a"}, "audio": {"input": {"transcription": {"model": "b"}}}}
    with pytest.raises(BadRequest):
        read_client(raw(type="session.update", session=both))


@pytest.mark.parametrize(
    ("beta", "version", "transcribes", "url"),
    [
        (False, None, False, "wss://res.example/openai/v1/realtime?model=a%2Fb"),
        (False, "2024-10-01-preview", True, "wss://res.example/openai/v1/realtime?model=a%2Fb&intent=transcription"),
        (True, "2024-10-01-preview", False, "wss://res.example/openai/realtime?api-version=2024-10-01-preview&"),
        (True, "x&deployment=other", False, "wss://res.example/openai/realtime?api-version=2025-04-01-preview&"),
    ],
)
def test_a_session_is_opened_in_its_callers_dialect(
    beta: bool, version: str | None, transcribes: bool, url: str
) -> None:
    made = session_url("https://res.example", "a/b", beta=beta, version=version, transcribes=transcribes)
    assert made == (f"{url}deployment=a%2Fb" if beta else url)


def test_events_of_foundrys_say_what_the_bill_must_know() -> None:
    done = read_server(raw(type="response.done", response={"id": "resp_1", "status": "failed"}))
    assert (done.response_id, done.failed) == ("resp_1", True)
    assert read_server(raw(type="error", error={"event_id": "mine", "message": "no"})).answers == "mine"
    assert read_server(raw(type="input_audio_buffer.committed", item_id="item_1")).item_id == "item_1"
    assert read_server(raw(type="response.output_text.delta", session=3)).type == "response.output_text.delta"


@pytest.mark.parametrize("kind", ["session.create", "response.retrieve", "conversation.create", "", "x" * 5_000])
def test_unknown_events_are_refused(kind: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_client(raw(type=kind))
    assert refused.value.code == "unknown_event"


@pytest.mark.parametrize(("part", "kind"), [("session", "session.update"), ("response", "response.create")])
def test_stored_prompts_are_refused(part: str, kind: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_client(raw(type=kind, **{part: {"prompt": {"id": "pmpt_1"}}}))
    assert refused.value.param == f"{part}.prompt"


def test_a_name_that_stands_twice_is_written_once() -> None:
    message = b'{"type":"session.update","session":{"prompt":{"id":"pmpt_1"}},"session":{"voice":"alloy"}}'
    assert json.loads(read_client(message).message) == {"type": "session.update", "session": {"voice": "alloy"}}
    assert b"pmpt" not in read_client(message).message


@pytest.mark.parametrize(
    "session",
    [
        {"input_audio_transcription": {"model": "whisper-1"}},
        {"type": "realtime", "audio": {"input": {"transcription": {"model": "whisper-1"}}}},
    ],
)
def test_the_model_that_transcribes_is_found(session: dict[str, object]) -> None:
    assert read_client(raw(type="session.update", session=session)).transcription == "whisper-1"


def test_the_session_names_its_model() -> None:
    assert read_server(raw(type="session.created", session={"model": "gpt-realtime"})).model == "gpt-realtime"
    assert read_server(b"nonsense").type == ""


def test_the_key_of_a_browser_stands_among_the_subprotocols() -> None:
    offered = ["realtime", "openai-insecure-api-key.sk-1", "openai-beta.realtime-v1"]
    assert key_of_subprotocols(offered) == ("sk-1", ["realtime"])
    assert key_of_subprotocols(["realtime"]) == (None, ["realtime"])


@given(st.binary(max_size=200) | anything.map(lambda value: json.dumps(value).encode()))
def test_nothing_but_a_bad_request_comes_of_anything(message: bytes) -> None:
    try:
        assert read_client(message).type in CLIENT_TYPES
    except BadRequest:
        pass
    read_server(message)
