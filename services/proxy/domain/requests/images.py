"""Pictures, made from a text or from other pictures: how many, how large, how good."""

import re

import msgspec

from services.proxy.domain.asked import Asked, BadRequest, Form
from services.proxy.domain.holds.tokens import words_tokens
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests.multipart import flag_of, form_of, is_form, number_of, text_of
from services.proxy.domain.requests.reading import count_of, model_of
from shared.pricing import Usage

AUTO = "auto"
QUALITY_DEFAULT, SIZE_DEFAULT = "standard", "1024-x-1024"
PARTIAL_MAX = 3
PARTIAL_TOKENS = 100
"""Each partial picture of a stream is billed as so many image tokens."""
UPLOAD_TOKENS, FAITHFUL_TOKENS = 600, 6_900
"""Tokens of a picture that is sent to be changed: at low fidelity (a base of 65 and 129 for each of up to four
tiles), and at high fidelity (up to 6,240 more)."""
FAITHFUL = ("high", None)

_SIZE = re.compile(r"([0-9]{1,5})[xX*]([0-9]{1,5})")
_WORD = re.compile(r"[a-z0-9_-]{1,20}")


class _Generation(msgspec.Struct):
    model: str | None = None
    prompt: str | None = None
    n: int | None = None
    num_images: int | None = None
    size: str | None = None
    width: int | None = None
    height: int | None = None
    quality: str | None = None
    stream: bool | None = None
    partial_images: int | None = None
    input_fidelity: str | None = None
    image: msgspec.Raw = msgspec.Raw()
    images: list[msgspec.Raw] | None = None


_body = msgspec.json.Decoder(_Generation)
_list = msgspec.json.Decoder(list[msgspec.Raw])


def read_images(body: bytes, path_model: str | None) -> Asked:
    """Pictures from a text. `units` are the pictures and their kind, `guess` the tokens of prompt, pictures sent and
    partial pictures. Raises BadRequest, and whatever msgspec raises for what is no JSON."""
    return _read(_body.decode(body), path_model, Endpoint.IMAGES, 0)


def read_edits(body: bytes, path_model: str | None, content_type: str) -> Asked:
    """Pictures from pictures, as a form or as JSON. Raises as `read_images`."""
    if not is_form(content_type):
        said = _body.decode(body)
        return _read(said, path_model, Endpoint.IMAGE_EDITS, len(said.images or ()) or _listed(said.image))
    form = form_of(body, content_type)
    said = _Generation(
        model=text_of(form, body, "model"),
        prompt=text_of(form, body, "prompt"),
        n=number_of(form, body, "n"),
        size=text_of(form, body, "size"),
        quality=text_of(form, body, "quality"),
        stream=flag_of(form, body, "stream"),
        partial_images=number_of(form, body, "partial_images"),
        input_fidelity=text_of(form, body, "input_fidelity"),
    )
    uploads = sum(part.filename is not None for part in form.parts)
    if not uploads:
        raise BadRequest("No picture was sent: add at least one 'image' part with a file.", param="image")
    return _read(said, path_model, Endpoint.IMAGE_EDITS, uploads, form, content_type)


def kind_of(quality: str | None, size: str | None) -> str:
    """Quality and size as prices name them, `hd/1024-x-1024`. Raises BadRequest for what is neither."""
    good = (quality or QUALITY_DEFAULT).lower()
    if _WORD.fullmatch(good) is None:
        raise BadRequest(
            "'quality' must be a word such as 'standard', 'hd', 'low', 'medium' or 'high'.", param="quality"
        )
    large = (size or SIZE_DEFAULT).lower()
    found = _SIZE.fullmatch(large)
    if found is not None:
        large = f"{int(found[1])}-x-{int(found[2])}"
    elif large not in (AUTO, SIZE_DEFAULT):
        raise BadRequest("'size' must be 'auto' or a width and height such as '1024x1024'.", param="size")
    return f"{good}/{large}"


def _read(
    said: _Generation,
    path_model: str | None,
    endpoint: Endpoint,
    uploads: int,
    form: Form | None = None,
    content_type: str = "application/json",
) -> Asked:
    images = max(count_of(said.n, "n"), count_of(said.num_images, "num_images"))
    partial = count_of(said.partial_images, "partial_images", default=0, least=0, most=PARTIAL_MAX)
    size = said.size
    if said.width is not None and said.height is not None and size is None:
        width = count_of(said.width, "width", most=99_999)
        size = f"{width}x{count_of(said.height, 'height', most=99_999)}"
    each = FAITHFUL_TOKENS if said.input_fidelity in FAITHFUL else UPLOAD_TOKENS
    return Asked(
        model=model_of(path_model or said.model),
        endpoint=endpoint,
        stream=bool(said.stream),
        output_cap=0,
        units=Usage(images=images, kind=kind_of(said.quality, size)),
        guess=Usage(
            input=words_tokens(said.prompt),
            image_input=uploads * each,
            image_output=images * partial * PARTIAL_TOKENS,
        ),
        content_type=content_type,
        form=form,
    )


def _listed(raw: msgspec.Raw) -> int:
    """How many pictures a field has that is one picture or a list of them."""
    try:
        return len(_list.decode(raw))
    except msgspec.MsgspecError:
        return 1
