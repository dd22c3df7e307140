"""Embeddings: unit vectors that depend on the input's text alone, as floats or base64."""

import base64
import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias
from zlib import crc32

import msgspec

from deploy.simulator import errors
from deploy.simulator.answers import Answer, Call, decode
from deploy.simulator.deployments import Deployment
from deploy.simulator.usage import Steering, Usage, steering, text_tokens

MAX_INPUTS = 2_048
MAX_INPUT_TOKENS = 8_192
MAX_DIMENSIONS = 4_096
MAX_KEPT_BANKS = 16
MAX_HASHED_CHARS = 65_536
TOKENS_PER_PICTURE = 1_000

Item: TypeAlias = str | Sequence[int]


class EmbeddingRequest(msgspec.Struct):
    """The fields of an embeddings request that decide anything here."""

    input: str | list[str | int | list[int]]
    model: str | None = None
    encoding_format: str | None = None
    dimensions: int | None = None

    @property
    def streamed(self) -> bool:
        """Embeddings never are."""
        return False

    def answer(self, deployment: Deployment, call: Call) -> Answer:
        """The deployment's answer; raises Foundry's refusals."""
        return _answer(self, deployment, call)


class Picture(msgspec.Struct):
    """One image to be embedded, perhaps with a text."""

    image: str = ""
    text: str | None = None


class ImageEmbeddingRequest(msgspec.Struct):
    """The fields of an image embeddings request that decide anything here."""

    input: list[Picture]
    model: str | None = None
    encoding_format: str | None = None
    dimensions: int | None = None

    @property
    def streamed(self) -> bool:
        """Embeddings never are."""
        return False

    def answer(self, deployment: Deployment, call: Call) -> Answer:
        """The deployment's answer; raises Foundry's refusals."""
        return _answer_images(self, deployment, call)


class Bank(msgspec.Struct, frozen=True):
    """One unit vector of a size; turning it round gives the others, all of the same length."""

    texts: tuple[bytes, ...]
    packed: bytes


def parse(body: bytes, content_type: bytes = b"") -> EmbeddingRequest:
    """The request of these bytes; raises a 400."""
    return decode(body, EmbeddingRequest)


def parse_images(body: bytes, content_type: bytes = b"") -> ImageEmbeddingRequest:
    """The request of these bytes; raises a 400."""
    return decode(body, ImageEmbeddingRequest)


def _answer_images(request: ImageEmbeddingRequest, deployment: Deployment, call: Call) -> Answer:
    if not deployment.embeds or deployment.model.lower().startswith("text-embedding"):
        raise errors.wrong_operation("imageEmbeddings", deployment.model)
    if not request.input or not all(one.image for one in request.input):
        raise errors.invalid("'$.input' is invalid: each item must have an image.", param="input")
    texts = [one.text for one in request.input if one.text]
    steer = steering(texts[-1] if texts else None, call.caller.usage)
    pictures = steer.image_prompt or TOKENS_PER_PICTURE * len(request.input)
    counted = pictures + sum(text_tokens(len(text)) for text in texts)
    prompt = counted if steer.prompt is None else steer.prompt
    items = [one.image[:MAX_HASHED_CHARS] + (one.text or "") for one in request.input]
    found = _body(
        items, _size(request, deployment), _as_base64(request.encoding_format), deployment, prompt, call, steer
    )
    found.usage = Usage(prompt=prompt, image_prompt=min(pictures, prompt))
    found.charged = counted
    return found


def _answer(request: EmbeddingRequest, deployment: Deployment, call: Call) -> Answer:
    if deployment.claude:
        raise errors.api_not_supported()
    if not deployment.embeds:
        raise errors.wrong_operation("embeddings", deployment.model)
    items = _items(request)
    size = _size(request, deployment)
    as_base64 = _as_base64(request.encoding_format)
    last = items[-1]
    steer = steering(last if isinstance(last, str) else None, call.caller.usage)
    counted = sum(_tokens(item) for item in items)
    prompt = counted if steer.prompt is None else steer.prompt
    found = _body(items, size, as_base64, deployment, prompt, call, steer)
    found.charged = counted
    return found


def _body(
    items: Sequence[Item],
    size: int,
    as_base64: bool,
    deployment: Deployment,
    prompt: int,
    call: Call,
    steer: Steering,
) -> Answer:
    data = b",".join(
        b'{"object":"embedding","index":%d,"embedding":%b}' % (index, _vector(item, size, as_base64))
        for index, item in enumerate(items)
    )
    usage = b',"usage":{"prompt_tokens":%d,"total_tokens":%d}' % (prompt, prompt)
    if not call.with_usage or steer.no_usage:
        usage = b""
    answer_id = "embd-" + call.serial
    own = b'"id":"%b",' % answer_id.encode() if call.surface == "models" else b""
    return Answer(
        id=answer_id,
        usage=Usage(prompt=prompt),
        body=b'{%b"object":"list","data":[%b],"model":%b%b}' % (own, data, deployment.model_json, usage),
        delay_ms=steer.delay_ms,
    )


def _items(request: EmbeddingRequest) -> Sequence[Item]:
    given = request.input
    if isinstance(given, str):
        items: list[Item] = [given]
    elif given and all(isinstance(one, int) for one in given):
        items = [[one for one in given if isinstance(one, int)]]
    else:
        items = [one for one in given if not isinstance(one, int)]
        if len(items) != len(given):
            raise errors.invalid("'$.input' mixes texts and tokens.", param="input")
    if not items or any(len(item) == 0 for item in items):
        raise errors.invalid("'$.input' is invalid: it must not be empty.", param="input")
    if len(items) > MAX_INPUTS:
        message = f"Invalid 'input': array too long. Expected an array with maximum length {MAX_INPUTS}."
        raise errors.invalid(message, "array_above_max_length", "input")
    longest = max(_tokens(item) for item in items)
    if longest > MAX_INPUT_TOKENS:
        message = (
            f"This model's maximum context length is {MAX_INPUT_TOKENS} tokens, however you requested "
            f"{longest} tokens ({longest} in your prompt; 0 for the completion). Please reduce your prompt."
        )
        raise errors.invalid(message, "context_length_exceeded", "input")
    return items


def _tokens(item: Item) -> int:
    return text_tokens(len(item)) if isinstance(item, str) else len(item)


def _size(request: EmbeddingRequest | ImageEmbeddingRequest, deployment: Deployment) -> int:
    asked = request.dimensions
    if asked is None:
        return deployment.dimensions
    if deployment.fixed_dimensions:
        raise errors.invalid("This model does not support specifying dimensions.", param="dimensions")
    limit = min(MAX_DIMENSIONS, deployment.dimensions)
    if not 1 <= asked <= limit:
        message = f"Invalid value for 'dimensions' = {asked}. Must be between 1 and {limit}."
        raise errors.invalid(message, "invalid_value", "dimensions")
    return asked


def _as_base64(encoding: str | None) -> bool:
    if encoding not in (None, "float", "base64"):
        raise errors.invalid("'encoding_format' must be 'float' or 'base64'.", param="encoding_format")
    return encoding == "base64"


@lru_cache(maxsize=MAX_KEPT_BANKS)
def _bank(size: int) -> Bank:
    """A unit vector of float32 values from a fixed linear congruential sequence."""
    state = size
    raw: list[float] = []
    for _ in range(size):
        state = (state * 1_664_525 + 1_013_904_223) & 0xFFFF_FFFF
        raw.append(state / 0x8000_0000 - 1.0)
    norm = math.sqrt(sum(value * value for value in raw)) or 1.0
    packed = struct.pack(f"<{size}f", *(value / norm for value in raw))
    values: tuple[float, ...] = struct.unpack(f"<{size}f", packed)
    return Bank(texts=tuple(b"%.9g" % value for value in values), packed=packed)


def _vector(item: Item, size: int, as_base64: bool) -> bytes:
    raw = item.encode() if isinstance(item, str) else repr(item).encode()
    turn = crc32(raw) % size
    bank = _bank(size)
    if as_base64:
        turned = bank.packed[turn * 4 :] + bank.packed[: turn * 4]
        return b'"' + base64.b64encode(turned) + b'"'
    return b"[" + b",".join(bank.texts[turn:] + bank.texts[:turn]) + b"]"
