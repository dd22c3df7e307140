"""Images: generations and edits, billed by the token or by the piece, with partial images in streams."""

import base64
import re
import struct
import zlib
from collections.abc import Iterator

import msgspec

from deploy.simulator import errors, multipart
from deploy.simulator.answers import Answer, Call, decode
from deploy.simulator.deployments import Deployment
from deploy.simulator.faults import Fault
from deploy.simulator.usage import Steering, Usage, steering, text_tokens

MAX_IMAGES = 10
MAX_SOURCES = 16
MAX_PARTIAL_IMAGES = 3
MAX_PROMPT_CHARS = 32_000
TOKENS_PER_SOURCE = 323
TOKENS_PER_PARTIAL_IMAGE = 100
DEFAULT_SIZE = "1024x1024"
SIZE_PATTERN = re.compile(r"\d{2,5}x\d{2,5}\Z")

TOKENS = {
    "low": {"1024x1024": 272, "1024x1536": 408, "1536x1024": 400},
    "medium": {"1024x1024": 1056, "1024x1536": 1584, "1536x1024": 1568},
    "high": {"1024x1024": 4160, "1024x1536": 6240, "1536x1024": 6208},
}
"""Quality → size → output tokens of one image of a model that is billed by the token."""
DALLE_SIZES = (DEFAULT_SIZE, "1024x1792", "1792x1024")

BY_TOKEN = ("gpt-image", "chatgpt-image", "mai-image-2.6")
BY_PIECE = ("dall-e", "flux", "mai-image", "mai-")
OTHERS = ("gpt-", "o1", "o3", "o4", "phi-", "llama-", "mistral-", "deepseek-", "grok-", "text-embedding-", "whisper")
"""Beginnings of model names that can do no images; a name that nobody knows can."""


class ImageBody(msgspec.Struct, kw_only=True):
    """The fields of an image request that decide anything here."""

    prompt: str
    model: str | None = None
    n: int | None = None
    size: str | None = None
    quality: str | None = None
    response_format: str | None = None
    output_format: str | None = None
    background: str | None = None
    stream: bool | None = None
    partial_images: int | None = None


class ImageRequest(ImageBody, kw_only=True):
    """An image request; `sources`: how many images came with it, `edit`: whether they are to be changed."""

    sources: int = 0
    edit: bool = False

    @property
    def streamed(self) -> bool:
        """Whether the answer is a stream of events."""
        return self.stream is True

    def answer(self, deployment: Deployment, call: Call) -> Answer:
        """The deployment's answer; raises Foundry's refusals."""
        return _answer(self, deployment, call)


class FluxRequest(msgspec.Struct):
    """A request in the words of FLUX's own paths."""

    prompt: str
    model: str | None = None
    width: int | None = None
    height: int | None = None
    num_images: int | None = None
    input_image: str | None = None


def parse_generation(body: bytes, content_type: bytes) -> ImageRequest:
    """The request of a JSON body; raises a 400."""
    return ImageRequest(**msgspec.structs.asdict(decode(body, ImageBody)))


def parse_edit(body: bytes, content_type: bytes) -> ImageRequest:
    """The request of a form with one image or more; raises a 400."""
    form = multipart.parse(body, content_type)
    sources = form.uploads("image")
    if not sources:
        raise errors.invalid("Missing required parameter: 'image'.", "missing_required_parameter", "image")
    if len(sources) > MAX_SOURCES:
        raise errors.invalid(f"Too many images: the maximum is {MAX_SOURCES}.", "array_above_max_length", "image")
    if any(not source.data for source in sources):
        raise errors.invalid("Invalid image file or mode for image 1, please check your image file.", param="image")
    prompt = form.text("prompt")
    if prompt is None:
        raise errors.invalid("Missing required parameter: 'prompt'.", "missing_required_parameter", "prompt")
    return ImageRequest(
        prompt=prompt,
        model=form.text("model"),
        n=form.number("n"),
        size=form.text("size"),
        quality=form.text("quality"),
        response_format=form.text("response_format"),
        output_format=form.text("output_format"),
        background=form.text("background"),
        stream=form.flag("stream"),
        partial_images=form.number("partial_images"),
        sources=len(sources),
        edit=True,
    )


def parse_flux(body: bytes, content_type: bytes) -> ImageRequest:
    """The request of FLUX's own path; raises a 400."""
    asked = decode(body, FluxRequest)
    size = None if asked.width is None or asked.height is None else f"{asked.width}x{asked.height}"
    given = asked.input_image is not None
    return ImageRequest(
        prompt=asked.prompt, model=asked.model, n=asked.num_images, size=size, sources=int(given), edit=given
    )


def by_token(model: str) -> bool:
    """Whether a model's images are billed by the token (and its answers tell a usage)."""
    lowered = model.lower()
    return lowered.startswith(BY_TOKEN) or not lowered.startswith(BY_PIECE)


def _answer(request: ImageRequest, deployment: Deployment, call: Call) -> Answer:
    lowered = deployment.model.lower()
    if deployment.claude:
        raise errors.api_not_supported()
    if lowered.startswith(OTHERS) and not lowered.startswith(BY_TOKEN):
        raise errors.wrong_operation("imageEdit" if request.edit else "imageGeneration", deployment.model)
    tokens = by_token(lowered)
    _check(request, lowered, tokens)
    steer = steering(request.prompt, call.caller.usage)
    if steer.filter:
        message = "Your task failed as a result of our safety system."
        raise errors.invalid(message, "contentFilter" if steer.filter == 1 else "content_policy_violation", "prompt")
    usage = _tokens(request, steer) if tokens else _pieces(request, steer, lowered)
    made = Answer(
        id="img-" + call.serial,
        usage=usage,
        charged=text_tokens(len(request.prompt)),
        delay_ms=steer.delay_ms,
        chunk_delay_ms=steer.chunk_delay_ms,
    )
    told = usage_json(usage) if tokens and call.with_usage and not steer.no_usage else None
    if not request.streamed:
        made.body = _plain(request, call, usage, told, lowered)
        return made
    fault = call.fault if call.fault is not None and call.fault.kind == "midstream_error" else None
    if fault is not None:
        made.usage = _billed_until(usage, request.partial_images or 0, fault.after_events)
    made.events = _events(request, call, told, fault)
    return made


def _check(request: ImageRequest, model: str, tokens: bool) -> None:
    """Raise the 400 of a request that is refused."""
    if not request.prompt or len(request.prompt) > MAX_PROMPT_CHARS:
        message = f"Invalid 'prompt': its length must be between 1 and {MAX_PROMPT_CHARS}."
        raise errors.invalid(message, "invalid_value", "prompt")
    most = 1 if model.startswith("dall-e-3") else MAX_IMAGES
    if request.n is not None and not 1 <= request.n <= most:
        raise errors.invalid(f"Invalid 'n': it must be between 1 and {most}.", "invalid_value", "n")
    size = request.size or DEFAULT_SIZE
    if model.startswith("dall-e-3") and size not in DALLE_SIZES:
        message = f"Invalid value: '{size}'. Supported values are: {', '.join(DALLE_SIZES)}."
        raise errors.invalid(message, "invalid_value", "size")
    if size != "auto" and SIZE_PATTERN.match(size) is None:
        raise errors.invalid(f"Invalid value: '{size}' is not a size.", "invalid_value", "size")
    allowed = ("standard", "hd") if model.startswith("dall-e") else (*TOKENS, "auto", "xhigh", "max")
    if request.quality is not None and request.quality not in allowed:
        message = f"Invalid value: '{request.quality}'. Supported values are: {', '.join(allowed)}."
        raise errors.invalid(message, "invalid_value", "quality")
    if tokens and request.response_format is not None:
        raise errors.invalid("Unknown parameter: 'response_format'.", "unknown_parameter", "response_format")
    if request.streamed:
        _check_stream(request, tokens)


def _check_stream(request: ImageRequest, tokens: bool) -> None:
    if not tokens:
        raise errors.invalid("Unknown parameter: 'stream'.", "unknown_parameter", "stream")
    if request.n not in (None, 1):
        raise errors.invalid("Streaming is only supported with n=1.", "invalid_value", "n")
    if not 0 <= (request.partial_images or 0) <= MAX_PARTIAL_IMAGES:
        message = f"Invalid 'partial_images': it must be between 0 and {MAX_PARTIAL_IMAGES}."
        raise errors.invalid(message, "invalid_value", "partial_images")


def _tokens(request: ImageRequest, steer: Steering) -> Usage:
    """What is billed by the token: text and images in, images (and some text) out."""
    image_in = steer.image_prompt or request.sources * TOKENS_PER_SOURCE
    prompt = text_tokens(len(request.prompt)) + image_in if steer.prompt is None else steer.prompt
    image_out = steer.image_completion or _image_tokens(request)
    completion = image_out if steer.completion is None else steer.completion
    return Usage(
        prompt=prompt,
        image_prompt=min(image_in, prompt),
        completion=completion,
        image_completion=min(image_out, completion) if steer.image_completion else completion,
    )


def _image_tokens(request: ImageRequest) -> int:
    quality = TOKENS.get(request.quality or "medium", TOKENS["medium" if request.quality == "auto" else "high"])
    each = quality.get(request.size or DEFAULT_SIZE, quality[DEFAULT_SIZE])
    partial = (request.partial_images or 0) * TOKENS_PER_PARTIAL_IMAGE if request.streamed else 0
    return each * (request.n or 1) + partial


def _pieces(request: ImageRequest, steer: Steering, model: str) -> Usage:
    """What is billed by the image."""
    kind = ""
    if model.startswith("dall-e"):
        kind = f"{request.quality or 'standard'}/{(request.size or DEFAULT_SIZE).replace('x', '-x-')}"
    images = (request.n or 1) if steer.images is None else steer.images
    return Usage(prompt=0, images=images, image_kind=kind)


def usage_json(usage: Usage) -> dict[str, object]:
    """The `usage` object of an image answer."""
    told: dict[str, object] = {
        "input_tokens": usage.prompt,
        "input_tokens_details": {
            "image_tokens": usage.image_prompt,
            "text_tokens": usage.prompt - usage.image_prompt,
        },
        "output_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
    }
    if usage.image_completion != usage.completion:
        text = usage.completion - usage.image_completion
        told["output_tokens_details"] = {"image_tokens": usage.image_completion, "text_tokens": text}
    return told


def _plain(request: ImageRequest, call: Call, usage: Usage, told: dict[str, object] | None, model: str) -> bytes:
    tokens = by_token(model)
    count = (request.n or 1) if tokens else max(1, min(usage.images, MAX_IMAGES))
    as_url = not tokens and (request.response_format or ("url" if model.startswith("dall-e") else "")) == "url"
    data: list[dict[str, object]] = [
        {"url": f"https://images.invalid/{call.serial}/{number}.png"} if as_url else {"b64_json": picture(number)}
        for number in range(count)
    ]
    reply: dict[str, object] = {"created": call.created, "data": data}
    if tokens:
        reply |= _shape(request)
    if told is not None:
        reply["usage"] = told
    return msgspec.json.encode(reply)


def _shape(request: ImageRequest) -> dict[str, object]:
    return {
        "background": request.background or "opaque",
        "output_format": request.output_format or "png",
        "quality": request.quality or "medium",
        "size": request.size or DEFAULT_SIZE,
    }


def _events(request: ImageRequest, call: Call, told: dict[str, object] | None, fault: Fault | None) -> Iterator[bytes]:
    """Partial images, then the whole one with its usage; a fault puts an error in the place of the rest."""
    family = "image_edit" if request.edit else "image_generation"
    shape = {"created_at": call.created, **_shape(request)}
    partial = request.partial_images or 0
    for number in range(partial + 1):
        if fault is not None and number >= fault.after_events:
            body = fault.body_bytes() or msgspec.json.encode(errors.server_error(call.request_id))
            yield b"event: error\ndata: %b\n\n" % body
            return
        kind = f"{family}.partial_image" if number < partial else f"{family}.completed"
        event: dict[str, object] = {"type": kind, "b64_json": picture(number), **shape}
        if number < partial:
            event["partial_image_index"] = number
        elif told is not None:
            event["usage"] = told
        yield b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode(event))


def _billed_until(usage: Usage, partial: int, events: int) -> Usage | None:
    """What is billed for a stream that breaks after so many events: the partial images that were sent."""
    if events > partial:
        return usage
    if events == 0:
        return None
    sent = min(events * TOKENS_PER_PARTIAL_IMAGE, usage.completion)
    return msgspec.structs.replace(usage, completion=sent, image_completion=min(sent, usage.image_completion))


def picture(number: int) -> str:
    """A small valid PNG in base64: eight by eight grey pixels, another grey for each number."""
    rows = b"".join(b"\0" + bytes([(number * 29 + 64) % 256]) * 8 for _ in range(8))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()
