"""Opaque identifiers. Times come first (UUIDv7), so ids sort by age and serve as partition keys."""

import os
import time
from datetime import UTC, datetime
from typing import NewType
from uuid import UUID

KeyId = NewType("KeyId", str)
TeamId = NewType("TeamId", str)
OrgId = NewType("OrgId", str)
UserId = NewType("UserId", str)
AccountId = NewType("AccountId", str)
CallId = NewType("CallId", str)
EventId = NewType("EventId", str)
InstanceId = NewType("InstanceId", str)
PriceId = NewType("PriceId", str)

DEFAULT_ORG = OrgId("default")

_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}

RANDOM_POOL_BYTES = 8_000
"""Random bytes are fetched from the system by the page: one system call for many ids."""


class _RandomPool:
    """Slices of system randomness, each handed out once; a forked child starts with an empty pool."""

    def __init__(self) -> None:
        self._bytes = b""
        self._at = 0
        os.register_at_fork(after_in_child=self._empty)

    def take(self, count: int) -> bytes:
        at = self._at
        if at + count > len(self._bytes):
            self._bytes = os.urandom(RANDOM_POOL_BYTES)
            at = 0
        self._at = at + count
        return self._bytes[at : at + count]

    def _empty(self) -> None:
        self._bytes = b""
        self._at = 0


_pool = _RandomPool()


def uuid7() -> str:
    """A new UUIDv7 in its canonical text form (RFC 9562: 48 bits of Unix ms, 74 random bits)."""
    return uuid7_from(time.time_ns() // 1_000_000, _pool.take(10))


def uuid7_from(unix_ms: int, random: bytes) -> str:
    """A UUIDv7 from a time in Unix milliseconds and ten random bytes (pure, for tests and derivation)."""
    when = f"{unix_ms & 0xFFFF_FFFF_FFFF:012x}"
    bits = random.hex()
    return f"{when[:8]}-{when[8:]}-7{bits[1:4]}-{_VARIANT[bits[4]]}{bits[5:8]}-{bits[8:20]}"


def time_of(uuid: str) -> datetime:
    """The UTC time inside a UUIDv7."""
    return datetime.fromtimestamp((UUID(uuid).int >> 80) / 1000, UTC)


def short_id(prefix: str) -> str:
    """An opaque id for a record, such as `key_0193…`: a prefix and a UUIDv7 without dashes."""
    return f"{prefix}_{uuid7().replace('-', '')}"
