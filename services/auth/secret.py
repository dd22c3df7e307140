"""Minting secrets: `sk-`, 43 random base62 characters (256 bits), and a checksum that finds typing errors."""

import re
import secrets
from hashlib import sha256
from zlib import crc32

from services.auth.domain.key_state import HashedSecret
from shared.access import SecretHasher
from shared.topology import secret_kv

PREFIX = "sk-"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_CHARS = 43
CHECKSUM_CHARS = 6
HINT_CHARS = 4

_DIGEST = re.compile(r"[0-9a-f]{64}")


def mint() -> str:
    """A new secret."""
    body = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_CHARS))
    return body + checksum(body)


def checksum(body: str) -> str:
    """Six base62 characters over everything before them."""
    number, text = crc32(body.encode()), ""
    for _ in range(CHECKSUM_CHARS):
        number, digit = divmod(number, len(ALPHABET))
        text = ALPHABET[digit] + text
    return text


def mistyped(secret: str) -> bool:
    """Whether a text has the shape of a secret of ours and a wrong checksum; a custom key never has."""
    body, tail = secret[:-CHECKSUM_CHARS], secret[-CHECKSUM_CHARS:]
    shaped = len(secret) == len(PREFIX) + RANDOM_CHARS + CHECKSUM_CHARS and secret.startswith(PREFIX)
    return shaped and all(c in ALPHABET for c in secret[len(PREFIX) :]) and checksum(body) != tail


def hint(secret: str) -> str:
    """The masked form, `sk-...abcd`."""
    return f"{PREFIX}...{secret[-HINT_CHARS:]}"


class Vault:
    """Secrets to the forms in which they are stored, under the peppers of the settings (the current one first)."""

    def __init__(self, peppers: dict[str, bytes]) -> None:
        self.hasher = SecretHasher(peppers)
        self._labels = tuple(peppers)

    def hashed(self, secret: str) -> HashedSecret:
        """What is stored of a secret, under the current pepper."""
        digest = self.hasher.digest(secret)
        return HashedSecret(label=self.hasher.current, digest=digest, hint=hint(secret))

    def forms(self, secret: str) -> tuple[tuple[str, str], ...]:
        """(label, digest) of a secret under every pepper, the current one first."""
        return tuple((label, self.hasher.digest(secret, label)) for label in self._labels)

    def imported(self, inner: bytes, hint: str) -> HashedSecret:
        """What is stored of a secret of which only the SHA-256 is known, under the current pepper."""
        return HashedSecret(label=self.hasher.current, digest=self.hasher.digest_of_sha256(inner), hint=hint)

    def digests(self, reference: str) -> list[str]:
        """The stored hashes that a plaintext secret, its SHA-256 or a stored hash itself may stand for; else none."""
        return [name.rpartition(".")[2] for name in self.names(reference)]

    def names(self, reference: str) -> list[str]:
        """The same as keys of the `keys` bucket."""
        return [name for group in self.meant(reference) for name in group]

    def meant(self, reference: str) -> list[tuple[str, ...]]:
        """The same, the names under which one and the same secret may stand in a group each, current pepper first."""
        if reference.startswith(PREFIX):
            return [self.hasher.entries(reference)]
        if _DIGEST.fullmatch(reference):
            return [self._of_sha256(bytes.fromhex(reference)), *((secret_kv(one, reference),) for one in self._labels)]
        return []

    def names_of_secret(self, secret: str) -> tuple[str, ...]:
        """The names of a plaintext of any shape, which is not remembered."""
        return self._of_sha256(sha256(secret.encode()).digest())

    def _of_sha256(self, inner: bytes) -> tuple[str, ...]:
        return tuple(secret_kv(label, self.hasher.digest_of_sha256(inner, label)) for label in self._labels)
