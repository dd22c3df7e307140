"""Ids that follow from what they are about: said twice, it is one thing."""

from hashlib import sha256

from shared.ids import EventId


def derived_id(*parts: str) -> EventId:
    """A UUID (version 8) from some texts."""
    value = int.from_bytes(sha256("\n".join(parts).encode()).digest()[:16])
    value = value & ~(0xF << 76) & ~(0b11 << 62) | 0x8 << 76 | 0b10 << 62
    text = f"{value:032x}"
    return EventId(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")
