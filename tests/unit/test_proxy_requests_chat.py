"""What callers send: clear refusals for bodies that make no sense, untouched bytes for those that do."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain.asked import BadRequest
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests import read_request
from services.proxy.domain.requests.reading import CHOICES_MAX, TOKENS_MAX
from services.proxy.domain.requests.writing import outgoing_body, outgoing_fields, written

CHAT = Endpoint.CHAT


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "gpt-4o", **fields}).encode()


def test_what_matters_is_read() -> None:
    asked = read_request(body(stream=True, stream_options={"include_usage": True}, max_tokens=7, n=2), CHAT, None)
    assert (asked.model, asked.stream, asked.include_usage, asked.output_cap, asked.choices) == (
        "gpt-4o", True, True, 7, 2,
    )  # fmt: skip


def test_contents_that_are_lists_are_kept_for_a_closer_look() -> None:
    parts = [{"type": "text", "text": "hi"}]
    asked = read_request(
        body(messages=[{"content": "["}, {"content": parts}, {"role": "user"}, {"content": None}, {"content": []}]),
        CHAT,
        None,
    )
    assert [json.loads(bytes(part)) for part in asked.parts] == [parts, []]
    assert read_request(body(messages=None), CHAT, None).parts == ()


def test_absent_and_null_are_the_same() -> None:
    nulls = body(stream=None, stream_options=None, max_tokens=None, max_completion_tokens=None, n=None)
    assert read_request(nulls, CHAT, None) == read_request(body(), CHAT, None)
    assert read_request(body(), CHAT, None).output_cap is None


def test_the_larger_of_two_caps_counts() -> None:
    for one, other in ((5, 9), (9, 5)):
        asked = read_request(body(max_tokens=one, max_completion_tokens=other), CHAT, None)
        assert (asked.output_cap, asked.max_tokens, asked.max_completion_tokens) == (9, one, other)
    with pytest.raises(BadRequest):
        read_request(body(max_tokens=-1, max_completion_tokens=9), CHAT, None)


def test_embeddings_have_no_output_and_no_stream() -> None:
    asked = read_request(body(stream=True, input="x", max_tokens=9, n=7), Endpoint.EMBEDDINGS, None)
    assert (asked.chat, asked.stream, asked.output_cap, asked.choices) == (False, False, 0, 1)
    assert bytes(asked.input) == b'"x"'


def test_the_model_of_the_path_wins() -> None:
    assert read_request(body(), CHAT, "phi-4").model == "phi-4"
    assert read_request(b"{}", CHAT, "phi-4").model == "phi-4"


@pytest.mark.parametrize(
    "raw",
    [b"", b" ", b"not json", b"{", b'{"model":"m"', b'{"model":"m"} x', b"\xef\xbb\xbf{}", b'{"model":"\xff"}',
     b'{"model":"\\ud800"}', b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"\x00"],
)  # fmt: skip
def test_what_is_no_json(raw: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        read_request(raw, CHAT, None)
    assert refused.value.code == "invalid_json"


@pytest.mark.parametrize(
    "raw",
    [b"[]", b"null", b'"text"', b"7", body(model=7), body(stream="yes"), body(stream=1), body(n="2"), body(n=1.5),
     body(max_tokens="10"), body(max_tokens=True), body(stream_options=[]),
     body(messages="x"), body(messages=["x"]), body(stream_options={"include_usage": 1}),
     b'{"model":"m","max_tokens":1e400}'],
)  # fmt: skip
def test_wrong_types(raw: bytes) -> None:
    with pytest.raises(BadRequest, match=r"wrong type|not valid JSON"):
        read_request(raw, CHAT, None)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"model": "m" * 201}, "model"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": TOKENS_MAX + 1}, "max_tokens"),
        ({"max_completion_tokens": 10**40}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": -1}, "n"),
        ({"n": CHOICES_MAX + 1}, "n"),
        ({"n": 10**30}, "n"),
    ],
)
def test_values_out_of_bounds_name_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_request(body(**fields), CHAT, None)
    assert refused.value.param == param


def test_the_edges_are_allowed() -> None:
    asked = read_request(body(max_tokens=TOKENS_MAX, n=CHOICES_MAX), CHAT, None)
    assert (asked.output_cap, asked.choices) == (TOKENS_MAX, CHOICES_MAX)
    assert read_request(body(max_tokens=0), CHAT, None).output_cap == 0


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for model in (None, "m"):
        try:
            read_request(raw, CHAT, model)
            outgoing_body(raw, model="deployment", inject_usage=True)
        except BadRequest as error:
            refused = error
        else:
            continue
        assert refused.code


ODD = (
    b'{ "temperature" : 1.10,"model":"gpt-4o",\n'
    b'"big":123456789012345678901234567890, "t":"\\u00e9\xc3\xa9","a":[ 1,2 ]}'
)


def test_an_unchanged_body_is_the_same_object() -> None:
    assert outgoing_body(ODD, model=None, inject_usage=False) is ODD


def test_other_fields_keep_their_bytes() -> None:
    out = outgoing_body(ODD, model="phi-4-deployment", inject_usage=False)
    for part in (b"1.10", b"123456789012345678901234567890", b'"\\u00e9\xc3\xa9"', b"[ 1,2 ]"):
        assert part in out
    assert json.loads(out) == {**json.loads(ODD), "model": "phi-4-deployment"}


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (..., {"include_usage": True}),
        (None, {"include_usage": True}),
        ({}, {"include_usage": True}),
        ({"include_usage": False}, {"include_usage": True}),
        ({"include_obfuscation": False}, {"include_obfuscation": False, "include_usage": True}),
    ],
)
def test_usage_is_asked_for(options: object, sent: dict[str, bool]) -> None:
    raw = body(stream=True) if options is ... else body(stream=True, stream_options=options)
    out = json.loads(outgoing_body(raw, model=None, inject_usage=True))
    assert out == {"model": "gpt-4o", "stream": True, "stream_options": sent}


def test_a_cap_is_put_in_and_nothing_else_changes() -> None:
    fields = outgoing_fields(ODD, model=None, inject_usage=False)
    plain, capped = written(fields), written(fields, "max_completion_tokens", 77)
    assert json.loads(plain) == json.loads(ODD)
    assert json.loads(capped) == {**json.loads(ODD), "max_completion_tokens": 77}
    for part in (b"1.10", b"123456789012345678901234567890", b'"\\u00e9\xc3\xa9"', b"[ 1,2 ]"):
        assert part in capped
    assert "max_completion_tokens" not in fields


def test_a_field_that_stands_twice_is_sent_once() -> None:
    raw = b'{"model":"gpt-4o","max_tokens":5,"max_tokens":7}'
    assert read_request(raw, CHAT, None).output_cap == 7
    assert written(outgoing_fields(raw, model=None, inject_usage=False)) == b'{"model":"gpt-4o","max_tokens":7}'


@pytest.mark.parametrize("key", [b"\xff", b"a\xc3"])
def test_a_key_that_is_no_text_is_refused_and_not_a_crash(key: bytes) -> None:
    raw = b'{"model":"m","' + key + b'":1}'
    read_request(raw, CHAT, None)
    with pytest.raises(BadRequest) as refused:
        outgoing_body(raw, model="deployment", inject_usage=False)
    assert refused.value.code == "invalid_json"


def test_depth_is_refused_and_not_a_crash() -> None:
    raw = b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(BadRequest):
        outgoing_body(raw, model="deployment", inject_usage=False)


@pytest.mark.parametrize(
    "twice",
    [b'{"model":"first","messages":[],"model":"last"}', b'{"model":"first","messages":[],"mod\\u0065l":"last"}'],
)
def test_a_model_that_stands_twice_is_read_and_sent_once(twice: bytes) -> None:
    assert read_request(twice, Endpoint.CHAT, None).model == "last"
    assert outgoing_body(twice, model="deployment", inject_usage=False) == b'{"model":"deployment","messages":[]}'


@pytest.mark.parametrize("name", ["Model", "MODEL", "mOdel"])
def test_a_model_in_other_letters_is_refused_where_the_body_names_it(name: str) -> None:
    raw = json.dumps({"model": "gpt-4o", "messages": [], name: "other"}).encode()
    with pytest.raises(BadRequest) as refused:
        outgoing_body(raw, model="deployment", inject_usage=False)
    assert refused.value.param == "model"
    assert outgoing_body(raw, model=None, inject_usage=False) == raw, "the path names the model"
