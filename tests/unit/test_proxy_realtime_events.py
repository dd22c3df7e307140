"""What passes in a realtime session, and what is not offered in it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain.asked import BadRequest
from services.proxy.domain.realtime import CLIENT_TYPES, key_of_subprotocols, read_client, read_server

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["type", "session", "prompt"]), inner),
)


def raw(**event: object) -> bytes:
    return json.dumps(event).encode()


@pytest.mark.parametrize("kind", sorted(CLIENT_TYPES))
def test_known_events_pass(kind: str) -> None:
    assert read_client(raw(type=kind)).type == kind


def test_bytes_of_most_events_pass_unchanged() -> None:
    message = b'{ "type" : "input_audio_buffer.append", "audio":"AAAA" }'
    assert read_client(message).message == message


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
