"""Forms: `multipart/form-data` bodies, as uploads of audio, images and files come."""

import re

import msgspec

from deploy.simulator import errors

MAX_PARTS = 256
MAX_PART_HEADER_BYTES = 8_192
BOUNDARY_PATTERN = re.compile(rb"boundary=(?:\"([^\"]{1,70})\"|([^\s;\"]{1,70}))", re.IGNORECASE)
PARAMETER_PATTERN = re.compile(r";\s*([a-z*]+)=(?:\"((?:[^\"\\]|\\.)*)\"|([^;]*))", re.IGNORECASE)


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a form."""

    field: str
    filename: str
    content_type: str
    data: bytes


class Form(msgspec.Struct, kw_only=True):
    """A form's texts and files. A name like `image[]` is kept as `image`."""

    texts: dict[str, list[str]]
    files: list[Upload]

    def text(self, name: str) -> str | None:
        """The first value of a field, None when it was not sent."""
        values = self.texts.get(name)
        return values[0] if values else None

    def number(self, name: str) -> int | None:
        """A field that is a whole number; raises a 400 for another text."""
        given = self.text(name)
        if given is None:
            return None
        if not (given.isascii() and given.isdigit() and len(given) <= 12):
            raise errors.invalid(f"Invalid type for '{name}': expected an integer.", "invalid_type", name)
        return int(given)

    def flag(self, name: str) -> bool:
        """A field that is true or false; raises a 400 for another text."""
        given = (self.text(name) or "false").lower()
        if given not in ("true", "false", "1", "0"):
            raise errors.invalid(f"Invalid type for '{name}': expected a boolean.", "invalid_type", name)
        return given in ("true", "1")

    def uploads(self, *names: str) -> list[Upload]:
        """The files of these fields, in the order they came."""
        return [upload for upload in self.files if upload.field in names]


def parse(body: bytes, content_type: bytes) -> Form:
    """The form of a body; raises a 400 for another content type or broken parts."""
    found = BOUNDARY_PATTERN.search(content_type)
    if not content_type.lower().startswith(b"multipart/form-data") or found is None:
        raise errors.invalid("Content-Type must be multipart/form-data with a boundary.")
    delimiter = b"--" + (found[1] or found[2])
    pieces = (b"\r\n" + body).split(b"\r\n" + delimiter)
    if len(pieces) < 3 or not pieces[-1].startswith(b"--"):
        raise errors.invalid("The multipart body does not end with its closing boundary.")
    if len(pieces) - 2 > MAX_PARTS:
        raise errors.invalid(f"The multipart body has more than {MAX_PARTS} parts.")
    form = Form(texts={}, files=[])
    for piece in pieces[1:-1]:
        _add(form, piece)
    return form


def _add(form: Form, piece: bytes) -> None:
    head, blank, data = piece.partition(b"\r\n\r\n")
    if not blank or len(head) > MAX_PART_HEADER_BYTES:
        raise errors.invalid("A part of the multipart body has no headers.")
    headers: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    given = {name.lower(): quoted or bare for name, quoted, bare in _parameters(headers.get("content-disposition", ""))}
    field = given.get("name", "").removesuffix("[]")
    if not field:
        raise errors.invalid("A part of the multipart body has no name.")
    if "filename" in given:
        kind = headers.get("content-type", "application/octet-stream")
        form.files.append(Upload(field=field, filename=given["filename"], content_type=kind, data=data))
        return
    form.texts.setdefault(field, []).append(data.decode("utf-8", "replace"))


def _parameters(disposition: str) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = PARAMETER_PATTERN.findall(disposition)
    return found
