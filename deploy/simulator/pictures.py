"""How many tokens an image or a sound in a prompt counts."""

import base64
import binascii
import struct

from deploy.simulator.usage import TOKENS_PER_IMAGE

TOKENS_PER_TILE = 170
TILE = 512
LONG_SIDE, SHORT_SIDE = 2_048, 768
UNKNOWN_TILES = 4
"""What an image of unknown size counts in high detail: that of 1024 by 1024."""
BYTES_PER_SOUND_TOKEN = 3_200
"""16-bit sound at 16 kHz, ten tokens a second."""
PNG = b"\x89PNG\r\n\x1a\n"


def image_tokens(url: str, detail: str | None) -> int:
    """Tokens of one image of an OpenAI model: a base, and in high detail each tile of 512 by 512 after scaling.

    Only an inline PNG tells its size. Without `detail` an image of unknown size counts as in low detail.
    """
    if detail == "low":
        return TOKENS_PER_IMAGE
    size = png_size(inline(url))
    if size is None:
        return TOKENS_PER_IMAGE + (UNKNOWN_TILES * TOKENS_PER_TILE if detail == "high" else 0)
    return TOKENS_PER_IMAGE + TOKENS_PER_TILE * _tiles(*size)


def _tiles(width: int, height: int) -> int:
    shrink = min(1.0, LONG_SIDE / max(width, height, 1))
    shrink *= min(1.0, SHORT_SIDE / max(1.0, min(width, height) * shrink))
    across, down = (max(1, -(-int(side * shrink) // TILE)) for side in (width, height))
    return across * down


def inline(url: str) -> bytes:
    """The first bytes of a `data:` URL, enough to see what it is."""
    if not url.startswith("data:"):
        return b""
    try:
        return base64.b64decode(url.partition(",")[2][:64])
    except (binascii.Error, ValueError):
        return b""


def png_size(first: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG by its first 24 bytes."""
    if len(first) < 24 or not first.startswith(PNG):
        return None
    width, height = struct.unpack(">II", first[16:24])
    return int(width), int(height)


def sound_tokens(coded: str) -> int:
    """Tokens of a sound given in base64."""
    return max(1, len(coded) * 3 // 4 // BYTES_PER_SOUND_TOKEN)
