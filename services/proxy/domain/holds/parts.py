"""What is no text in a request: pictures, sound and documents inside messages and items, in tokens by their kind."""

import msgspec

from services.proxy.domain.facts import ModelFacts
from services.proxy.domain.holds.tokens import ASCII_BYTES_PER_TOKEN

MP3_CHARS_PER_TOKEN = 500
WAV_CHARS_PER_TOKEN = 1_000
"""Base64 characters of sound in a token of about a tenth of a second: at 32 kbit/s, and at 8,000 bytes/s."""
FILE_CHARS_PER_TOKEN = 8
FILE_TOKENS = 10_000
"""Base64 characters of a document in a token; tokens of a document that is only named."""
NESTING_MAX = 3
"""Parts within parts (the results of tools) that are looked at; deeper ones count as text."""


class Beyond(msgspec.Struct, kw_only=True):
    """What parts are beside their text. `chars` were counted as text and are none; `files` are tokens of documents."""

    chars: int = 0
    images: int = 0
    sound: int = 0
    files: int = 0

    @property
    def text(self) -> int:
        """Tokens to add to those of the body as text; negative where data was counted that is no text."""
        return self.files - self.chars // ASCII_BYTES_PER_TOKEN


class _ImageUrl(msgspec.Struct):
    url: msgspec.Raw = msgspec.Raw()
    detail: str | None = None


class _Audio(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw()
    format: str | None = None


class _File(msgspec.Struct):
    file_data: msgspec.Raw = msgspec.Raw()


class _Source(msgspec.Struct):
    type: str | None = None
    data: msgspec.Raw = msgspec.Raw()


class _Part(msgspec.Struct):
    type: str | None = None
    detail: str | None = None
    image_url: _ImageUrl | str | None = None
    input_audio: _Audio | None = None
    file: _File | None = None
    file_data: msgspec.Raw = msgspec.Raw()
    source: _Source | None = None
    content: msgspec.Raw = msgspec.Raw()


_parts: msgspec.json.Decoder[list[_Part | str]] = msgspec.json.Decoder(list[_Part | str])


def beyond_text(contents: tuple[msgspec.Raw, ...], facts: ModelFacts) -> Beyond:
    """Tokens of pictures, sound and documents in these contents, each a list of parts."""
    found = Beyond()
    for content in contents:
        _look(content, facts, found, NESTING_MAX)
    return found


def _look(content: msgspec.Raw, facts: ModelFacts, found: Beyond, depth: int) -> None:
    try:
        parts = _parts.decode(content)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return  # Foundry will not know what to do with it either
    for part in parts:
        if isinstance(part, _Part):
            _add(part, facts, found)
            if depth and bytes(memoryview(part.content)[:1]) == b"[":
                _look(part.content, facts, found, depth - 1)


def _add(part: _Part, facts: ModelFacts, found: Beyond) -> None:
    low, high = facts.image_tokens
    if part.image_url is not None:
        if isinstance(part.image_url, str):
            found.chars += len(part.image_url)
            found.images += low if part.detail == "low" else high
        else:
            found.chars += len(part.image_url.url)
            found.images += low if part.image_url.detail == "low" else high
    elif part.type in ("input_image", "computer_screenshot"):
        found.images += low if part.detail == "low" else high
    elif part.input_audio is not None:
        chars = len(part.input_audio.data)
        per_token = WAV_CHARS_PER_TOKEN if part.input_audio.format == "wav" else MP3_CHARS_PER_TOKEN
        found.chars += chars
        found.sound += -(-chars // per_token)
    elif part.file is not None:
        _add_file(len(part.file.file_data), found)
    elif part.type == "input_file":
        _add_file(len(part.file_data), found)
    elif part.source is not None and part.source.type != "text":
        if part.type == "image":
            found.chars += len(part.source.data)
            found.images += high
        elif part.type == "document" and part.source.type != "content":
            _add_file(len(part.source.data), found)


def _add_file(chars: int, found: Beyond) -> None:
    found.chars += chars
    found.files += max(FILE_TOKENS if not chars else 1, -(-chars // FILE_CHARS_PER_TOKEN))
