"""The bytes of chat answers, plain and streamed: keys in Azure's order, the unchanging parts made once."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import msgspec

from deploy.simulator.sse import DONE
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
    + b',"service_tier":"%b",'
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
_OPEN = b'data: {"choices":['

_PADS = tuple(b'"obfuscation":"%b",' % b"aZ3qk8Xw0pLr5tVb"[: (i * 7) % 17] for i in range(16))
_NO_PADS = (b"",) * 16


class ChatShape(msgspec.Struct, kw_only=True, gc=False):
    """All that decides the bytes of one chat answer.

    `text_tokens` is the number of visible words of each choice; `finish` is `stop` or `length`. `tier` is the
    service tier that served; streams tell it with `tell_tier` only. `grok`: see chat_usage_json.
    """

    id: str
    created: int
    model_json: bytes
    usage: Usage
    text_tokens: int
    choices: int
    finish: bytes = b"stop"
    chunks: int | None = None
    include_usage: bool = False
    obfuscate: bool = True
    with_usage: bool = True
    tier: bytes = b"default"
    tell_tier: bool = False
    grok: bool = False

    @property
    def usage_json(self) -> bytes:
        """The `usage` object."""
        return chat_usage_json(self.usage, self.grok)


def answer_text(tokens: int) -> str:
    """The deterministic answer of so many tokens."""
    count = min(tokens, MAX_ANSWER_WORDS)
    whole, rest = divmod(count, len(WORDS))
    return " ".join(WORDS * whole + WORDS[:rest])


@lru_cache(maxsize=256)
def _text_json(tokens: int) -> bytes:
    return msgspec.json.encode(answer_text(tokens))


def plain(shape: ChatShape) -> bytes:
    """The body of a plain answer."""
    text = _text_json(shape.text_tokens)
    if shape.choices == 1:
        return whole(shape, _CHOICE % (shape.finish, 0, text))
    return whole(shape, b",".join([_CHOICE % (shape.finish, index, text) for index in range(shape.choices)]))


def whole(shape: ChatShape, choices: bytes) -> bytes:
    """The body around choices that are JSON already."""
    usage = b',"usage":' + shape.usage_json if shape.with_usage else b""
    return _PLAIN % (choices, shape.created, shape.id.encode(), shape.model_json, shape.tier, usage)


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


def stream(shape: ChatShape) -> Iterator[bytes]:
    """The events of a streamed answer."""
    head, tail = _around(shape)
    pads = _PADS if shape.obfuscate else _NO_PADS
    each = range(shape.choices)
    yield FIRST_CHUNK
    for index in each:
        yield b"".join((_OPEN, _ROLE % index, head, pads[3], tail))
    for number, piece in enumerate(pieces(shape.text_tokens, shape.chunks)):
        for index in each:
            yield b"".join((_OPEN, _DELTA % (piece, index), head, pads[number & 15], tail))
    for index in each:
        yield b"".join((_OPEN, _FINISH % (shape.finish, index), head, pads[0], tail))
    if shape.include_usage and shape.with_usage:
        yield _usage_event(shape)
    yield DONE


def ending(shape: ChatShape) -> Iterator[bytes]:
    """The last events of any streamed answer: usage where it was asked for, and `[DONE]`."""
    if shape.include_usage and shape.with_usage:
        yield _usage_event(shape)
    yield DONE


def chunk(shape: ChatShape, choice: bytes, number: int) -> bytes:
    """The event of a choice's JSON, with the padding of this number."""
    head, tail = _around(shape)
    return b"".join((_OPEN, choice, head, (_PADS if shape.obfuscate else _NO_PADS)[number & 15], tail))


def _usage_event(shape: ChatShape) -> bytes:
    head, _ = _around(shape)
    pads = _PADS if shape.obfuscate else _NO_PADS
    return b"".join((_OPEN, head, pads[5], _tail(shape, b',"usage":' + shape.usage_json)))


def _around(shape: ChatShape) -> tuple[bytes, bytes]:
    """What comes after the choices of every event, before and behind its padding."""
    head = b'],"created":%d,"id":"%b","model":%b,' % (shape.created, shape.id.encode(), shape.model_json)
    return head, _tail(shape, b',"usage":null' if shape.include_usage else b"")


def _tail(shape: ChatShape, usage: bytes) -> bytes:
    tier = b'"service_tier":"%b",' % shape.tier if shape.tell_tier else b""
    return b'"object":"chat.completion.chunk",' + tier + FINGERPRINT + usage + b"}\n\n"


def content_events(shape: ChatShape, events: int) -> int:
    """How many of the first `events` events of a stream carry content."""
    all_content = len(pieces(shape.text_tokens, shape.chunks)) * shape.choices
    return max(0, min(events - 1 - shape.choices, all_content))
