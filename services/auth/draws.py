"""Ids and secrets for one request. Repeated under the same `Idempotency-Key`, a request draws the same ones again."""

import hmac
import secrets
from collections import Counter
from uuid import UUID

from services.auth.secret import ALPHABET, PREFIX, RANDOM_CHARS, checksum
from shared.ids import short_id, uuid7_from

SEED_BYTES = 32
_DIGEST_BYTES = 64
_ID_BYTES = 10
_BYTES_PER_CHAR_DIVISOR = 256 - 256 % len(ALPHABET)
"""Bytes from here on are passed over: the rest of them would make some characters likelier than others."""


class Draws:
    """What is made up for a request: by chance, or from the seed of its first attempt.

    `again`: the request may have done its work before, and what it would make may be there already. The n-th id of a
    prefix, and the n-th secret, are the same in every attempt, whatever else is drawn between them.
    """

    def __init__(self, *, seed: bytes | None = None, began_ms: int = 0, again: bool = False) -> None:
        self._seed = seed
        self._began_ms = began_ms
        self._counts: Counter[str] = Counter()
        self.again = again

    @property
    def repeatable(self) -> bool:
        """Whether a later attempt of the same request draws the same."""
        return self._seed is not None

    def short_id(self, prefix: str) -> str:
        """An opaque id for a record, such as `key_0193…`."""
        if self._seed is None:
            return short_id(prefix)
        return f"{prefix}_{UUID(uuid7_from(self._began_ms, self._block(f'id:{prefix}')[:_ID_BYTES])).hex}"

    def secret(self) -> str:
        """A new secret: `sk-`, 43 random base62 characters, and the checksum."""
        self._counts["secret"] += 1
        kind = f"secret:{self._counts['secret']}"
        chars: list[str] = []
        while len(chars) < RANDOM_CHARS:
            usable = (byte for byte in self._block(kind) if byte < _BYTES_PER_CHAR_DIVISOR)
            chars += [ALPHABET[byte % len(ALPHABET)] for byte in usable]
        body = PREFIX + "".join(chars[:RANDOM_CHARS])
        return body + checksum(body)

    def _block(self, kind: str) -> bytes:
        """The next 64 bytes of a kind."""
        if self._seed is None:
            return secrets.token_bytes(_DIGEST_BYTES)
        self._counts[kind] += 1
        return hmac.digest(self._seed, f"{kind}\0{self._counts[kind]}".encode(), "sha512")
