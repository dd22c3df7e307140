"""The bytes of chat answers, plain and streamed: keys in Azure's order, the unchanging parts made once."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import msgspec

from deploy.simulator.usage import Usage, chat_usage_json

MAX_ANSWER_WORDS = 16_384
"""A longer answer still counts all its tokens; its text is cut here."""
MAX_KEPT_PIECES = 512

SENTENCE = (
    "The ladle tips and bright metal runs down the launder into the tundish, where it settles, loses its "
    "slag and meets the moulds at an even pace; nobody in the Gießerei touches the furnace while the strand "
    "is drawn."
)
"""What every answer says, over and over: one word for each token."""
WORDS = SENTENCE.split()

_FOUR = (
    b'"self_harm":{"filtered":false,"severity":"safe"},"sexual":{"filtered":false,"severity":"safe"},'
    b'"violence":{"filtered":false,"severity":"safe"}}'
)
_HATE = b'{"hate":{"filtered":false,"severity":"safe"},'
_PROTECTED = (
    b'"protected_material_code":{"filtered":false,"detected":false},'
    b'"protected_material_text":{"filtered":false,"detected":false},'
)
_JAILBREAK = b'"jailbreak":{"filtered":false,"detected":false},'
CHOICE_FILTER = _HATE + _PROTECTED + _FOUR
CHUNK_FILTER = _HATE + _FOUR
PROMPT_FILTER = b'[{"prompt_index":0,"content_filter_results":' + _HATE + _JAILBREAK + _FOUR + b"}]"

FINGERPRINT = b'"system_fingerprint":"fp_sim0000001"'
DONE = b"data: [DONE]\n\n"
FIRST_CHUNK = (
    b'data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":'
    + PROMPT_FILTER
    + b"}\n\n"
)

_CHOICE = (
    b'{"content_filter_results":'
    + CHOICE_FILTER
    + b',"finish_reason":"%b","index":%d,"logprobs":null,"message":{"annotations":[],"content":%b,'
    b'"refusal":null,"role":"assistant"}}'
)
_PLAIN = (
    b'{"choices":[%b],"created":%d,"id":"%b","model":%b,"object":"chat.completion","prompt_filter_results":'
    + PROMPT_FILTER
    + b',"service_tier":"default",'
    + FINGERPRINT
    + b"%b}"
)
_ROLE = (
    b'{"content_filter_results":{},"delta":{"content":"","refusal":null,"role":"assistant"},"finish_reason":null,'
    b'"index":%d,"logprobs":null}'
)
_DELTA = (
    b'{"content_filter_results":'
    + CHUNK_FILTER
    + b',"delta":{"content":%b},"finish_reason":null,"index":%d,"logprobs":null}'
)
_FINISH = b'{"content_filter_results":{},"delta":{},"finish_reason":"%b","index":%d,"logprobs":null}'
_CHUNK = b'data: {"choices":[%b],%b%b"object":"chat.completion.chunk",' + FINGERPRINT + b"%b}\n\n"

_PADS = tuple(b'"obfuscation":"%b",' % b"aZ3qk8Xw0pLr5tVb"[: (i * 7) % 17] for i in range(16))
_NO_PADS = (b"",) * 16


class ChatShape(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All that decides the bytes of one chat answer.

    `text_tokens` is the number of visible words of each choice; `finish` is `stop` or `length`.
    """

    id: str
    created: int
    model_json: bytes
    usage: Usage
    text_tokens: int
    choices: int
    finish: bytes
    chunks: int | None
    include_usage: bool
    obfuscate: bool


def answer_text(tokens: int) -> str:
    """The deterministic answer of so many tokens."""
    count = min(tokens, MAX_ANSWER_WORDS)
    whole, rest = divmod(count, len(WORDS))
    return " ".join(WORDS * whole + WORDS[:rest])


@lru_cache(maxsize=256)
def _text_json(tokens: int) -> bytes:
    return msgspec.json.encode(answer_text(tokens))


def plain(shape: ChatShape, with_usage: bool) -> bytes:
    """The body of a plain answer."""
    text = _text_json(shape.text_tokens)
    choices = b",".join(_CHOICE % (shape.finish, index, text) for index in range(shape.choices))
    usage = b',"usage":' + chat_usage_json(shape.usage) if with_usage else b""
    return _PLAIN % (choices, shape.created, shape.id.encode(), shape.model_json, usage)


def pieces(tokens: int, chunks: int | None) -> tuple[bytes, ...]:
    """The answer as JSON strings, one for each content chunk: a word each, or `chunks` even parts."""
    parts = min(tokens, MAX_ANSWER_WORDS) if chunks is None else chunks
    return _kept_pieces(tokens, parts) if parts <= MAX_KEPT_PIECES else _make_pieces(tokens, parts)


def _make_pieces(tokens: int, parts: int) -> tuple[bytes, ...]:
    text = answer_text(tokens)
    if not text or parts == 0:
        return ()
    words = [word if i == 0 else " " + word for i, word in enumerate(text.split(" "))]
    units: list[str] | str = words if parts <= len(words) else text
    parts = min(parts, len(units))
    cuts = [i * len(units) // parts for i in range(parts + 1)]
    return tuple(msgspec.json.encode("".join(units[start:end])) for start, end in pairwise(cuts))


_kept_pieces = lru_cache(maxsize=128)(_make_pieces)


def stream(shape: ChatShape, with_usage: bool, error: bytes | None, before: int) -> Iterator[bytes]:
    """The events of a streamed answer.

    With `error`, the stream breaks off with that event after `before` others, without `[DONE]`.
    """
    events = _events(shape, with_usage)
    if error is None:
        yield from events
        yield DONE
        return
    for _, event in zip(range(before), events, strict=False):
        yield event
    yield b"data: " + error + b"\n\n"


def _events(shape: ChatShape, with_usage: bool) -> Iterator[bytes]:
    head = b'"created":%d,"id":"%b","model":%b,' % (shape.created, shape.id.encode(), shape.model_json)
    tail = b',"usage":null' if shape.include_usage else b""
    pads = _PADS if shape.obfuscate else _NO_PADS
    each = range(shape.choices)
    yield FIRST_CHUNK
    for index in each:
        yield _CHUNK % (_ROLE % index, head, pads[3], tail)
    for number, piece in enumerate(pieces(shape.text_tokens, shape.chunks)):
        for index in each:
            yield _CHUNK % (_DELTA % (piece, index), head, pads[number & 15], tail)
    for index in each:
        yield _CHUNK % (_FINISH % (shape.finish, index), head, pads[0], tail)
    if shape.include_usage and with_usage:
        yield _CHUNK % (b"", head, pads[5], b',"usage":' + chat_usage_json(shape.usage))


def content_events(shape: ChatShape, events: int) -> int:
    """How many of the first `events` events of a stream carry content."""
    all_content = len(pieces(shape.text_tokens, shape.chunks)) * shape.choices
    return max(0, min(events - 1 - shape.choices, all_content))
