"""Forms (`multipart/form-data`), as sound and pictures are sent: where each part stands, and the model's exchanged.

The `multipart` package says what the parts are. Their places are found beside it and have to agree with what it read,
so that everything but the model goes out byte for byte, under one understanding of the body.
"""

import re

from multipart import MultipartError, MultipartSegment, PushMultipartParser

from services.proxy.domain.asked import BadRequest, Form, Part
from services.proxy.domain.requests.reading import quoted

FORM = "multipart/form-data"
PARTS_MAX = 64
HEADER_BYTES_MAX = 4_096
HEADERS_MAX = 8
BOUNDARY_MAX = 200
TEXT_BYTES_MAX = 65_536
"""The longest text of a field that we read ourselves; prompts are the longest."""

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_QUOTED = rf"\"([ !#-\[\]-~]{{1,{BOUNDARY_MAX}}})\""
_PLAIN = rf"([A-Za-z0-9'()+_,./:=?-]{{1,{BOUNDARY_MAX}}})\s*(?:;|\Z)"
_BOUNDARY = re.compile(rf";\s*boundary=(?:{_QUOTED}|{_PLAIN})", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9_]{1,64}(?:\[[A-Za-z0-9_]{0,64}\]){0,4}")
"""Names of fields, none of which two readers take for different ones: no escapes, spaces or letters beyond ASCII."""
_DISPOSITION = "Content-Disposition"
_PARAMETER = r"; ?(name|filename\*?)=(?:\"(?:[^\"\\]|\\[^\"])*\"|[^\s;\"\\]+)"
_PARAMETERS = re.compile(_PARAMETER, re.IGNORECASE)
_HEAD = re.compile(rf"form-data(?:{_PARAMETER})+;?", re.IGNORECASE)
"""How a part is named, as all programs write it: nothing in it that some readers take for an end and others do not."""
_NUMBER = re.compile(r"[0-9]{1,12}")
_TRUE, _FALSE = ("true", "1"), ("false", "0", "")


def is_form(content_type: str) -> bool:
    """Whether a content type is that of a form."""
    return content_type.partition(";")[0].strip().lower() == FORM


def form_of(body: bytes, content_type: str) -> Form:
    """The parts of a form. Raises BadRequest for what is no form, or is larger than its bounds."""
    boundary = _boundary(content_type)
    parser = PushMultipartParser(
        boundary,
        content_length=len(body),
        max_header_size=HEADER_BYTES_MAX,
        max_header_count=HEADERS_MAX,
        max_segment_size=len(body),
        max_segment_count=PARTS_MAX,
        strict=True,
    )
    parts: list[Part] = []
    delimiter = b"\r\n--" + boundary.encode()
    begin = body.find(delimiter[2:])
    at = begin
    try:
        for event in parser.parse(body):
            if isinstance(event, MultipartSegment):
                part = _part(event, body, at, delimiter)
                parts.append(part)
                at = part.end + 2
            elif event is not None and event != body[parts[-1].start : parts[-1].end]:
                raise _broken("its parts overlap")
        parser.close()
    except (MultipartError, UnicodeError) as error:
        raise _broken(str(error)) from error
    return Form(boundary=boundary, at=begin, parts=tuple(parts))


def content_type_of(form: Form) -> str:
    """The content type of a form's body."""
    plain = _TOKEN.fullmatch(form.boundary) is not None
    return f"{FORM}; boundary={form.boundary}" if plain else f'{FORM}; boundary="{form.boundary}"'


def text_of(form: Form, body: bytes, name: str) -> str | None:
    """A field's text, None when it was not sent.

    Raises BadRequest when it was sent twice, as a file or as no text, or under a name that another reader may take for
    it (`model[]`, `Model`).
    """
    found = [part for part in form.parts if part.name.partition("[")[0].lower() == name]
    if not found:
        return None
    if len(found) > 1:
        raise BadRequest(f"'{name}' is sent twice: send it once.", param=name)
    part = found[0]
    if part.name != name or part.filename is not None:
        raise BadRequest(f"'{name}' must be sent as a text, in a part of exactly this name.", param=name)
    if part.end - part.start > TEXT_BYTES_MAX:
        raise BadRequest(f"'{name}' is longer than {TEXT_BYTES_MAX} bytes.", param=name)
    try:
        return body[part.start : part.end].decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"'{name}' must be text in UTF-8.", param=name) from error


def number_of(form: Form, body: bytes, name: str) -> int | None:
    """A field that is a whole number, None when it was not sent. Raises BadRequest."""
    text = text_of(form, body, name)
    if text is None:
        return None
    if _NUMBER.fullmatch(text) is None:
        raise BadRequest(f"'{name}' must be a whole number.", param=name)
    return int(text)


def flag_of(form: Form, body: bytes, name: str) -> bool:
    """A field that is true or false; false when it was not sent. Raises BadRequest."""
    text = (text_of(form, body, name) or "").lower()
    if text not in _TRUE + _FALSE:
        raise BadRequest(f"'{name}' must be true or false.", param=name)
    return text in _TRUE


def with_model(form: Form, body: bytes, model: str) -> bytes:
    """The body with another model in it, or with a model where there was none; all else is byte for byte the same.

    The form is one whose `model` was read with `text_of`, so that nobody finds another one in it.
    """
    name = model.encode()
    for part in form.parts:
        if part.name == "model":
            return b"".join((body[: part.start], name, body[part.end :]))
    head = b'--%b\r\nContent-Disposition: form-data; name="model"\r\n\r\n' % form.boundary.encode()
    return b"".join((body[: form.at], head, name, b"\r\n", body[form.at :]))


def _part(segment: MultipartSegment, body: bytes, at: int, delimiter: bytes) -> Part:
    """A part and where it stands: behind the first empty line from the delimiter at `at`, up to the next one."""
    start = body.find(b"\r\n\r\n", at) + 4
    end = body.find(delimiter, start)
    if at < 0 or start < 4 or end < 0:
        raise _broken("a part has no end")
    _check_head(segment)
    if not segment.name:
        raise _broken("a part has no name")
    if _NAME.fullmatch(segment.name) is None:
        raise _broken(f"no field is named '{quoted(segment.name)}'")
    return Part(name=segment.name, filename=segment.filename, start=start, end=end)


def _check_head(segment: MultipartSegment) -> None:
    """Refuse a part whose name another reader may find elsewhere: in a second header, parameter or notation."""
    given = [value for name, value in segment.headerlist if name == _DISPOSITION]
    names = [name.lower() for value in given for name in _PARAMETERS.findall(value)]
    if len(given) != 1 or _HEAD.fullmatch(given[0]) is None or len(set(names)) != len(names):
        raise _broken("the name of a part could be read in more than one way")


def _boundary(content_type: str) -> str:
    found = _BOUNDARY.search(content_type)
    if not is_form(content_type) or found is None:
        raise BadRequest(
            f"This operation takes a form: send Content-Type '{FORM}' with its boundary.", code="invalid_content_type"
        )
    return found[1] or found[2]


def _broken(why: str) -> BadRequest:
    return BadRequest(f"The form cannot be read: {quoted(why)}. Send {FORM} as RFC 7578 has it.", code="invalid_form")
