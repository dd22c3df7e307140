"""Secrets that must wait in a database or a stream, sealed: AES-256-GCM under a key that follows from a pepper.

A sealed text is `format | length of label | label | nonce | ciphertext and tag`. The label says which pepper opens it:
texts outlive a change of the pepper while the old one is still listed. Purpose and context are not in it: who opens it
says what it must be, and a text that was moved to another row does not open.
"""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.errors import TundishError

FORMAT = b"\x01"
KEY_BYTES = 32
REHASH = "rehash"
"""The purpose of what is sealed for whoever moves a secret to another pepper; the context is the key's id."""
NONCE_BYTES = 12
LABEL_BYTES_MAX = 255
_INFO = b"tundish/sealing/v1/"


class SealBroken(TundishError):
    """A sealed text cannot be opened: it was changed or moved, or its pepper is no longer listed."""


class Sealer:
    """Seals under the first of the peppers, opens what was sealed under any of them.

    `purpose` parts the uses from one another (each has its own key), `context` ties a text to its place, such as the id
    of its row. Raises ValueError for a pepper's label beyond 255 bytes.
    """

    def __init__(self, peppers: dict[str, bytes]) -> None:
        self._peppers = {label.encode(): pepper for label, pepper in peppers.items()}
        if any(len(label) > LABEL_BYTES_MAX for label in self._peppers):
            raise ValueError(f"a pepper's label is longer than {LABEL_BYTES_MAX} bytes")
        self._current = next(iter(self._peppers))
        self.current = self._current.decode()
        self._ciphers: dict[tuple[bytes, str], AESGCM] = {}

    def seal(self, purpose: str, context: str, plaintext: bytes) -> bytes:
        """The sealed form; another one each time."""
        label = self._current
        front = FORMAT + bytes((len(label),)) + label
        nonce = secrets.token_bytes(NONCE_BYTES)
        return front + nonce + self._cipher(label, purpose).encrypt(nonce, plaintext, _bound(front, context))

    def open(self, purpose: str, context: str, sealed: bytes) -> bytes:
        """What was sealed for this purpose and context. Raises SealBroken."""
        end = 2 + (sealed[1] if len(sealed) > 1 else 0)
        front, nonce, rest = sealed[:end], sealed[end : end + NONCE_BYTES], sealed[end + NONCE_BYTES :]
        label = front[2:]
        if sealed[:1] != FORMAT or label not in self._peppers or len(nonce) < NONCE_BYTES:
            raise SealBroken(f"a sealed text ({purpose}) is of no pepper that is listed in TUNDISH_PEPPERS")
        try:
            return self._cipher(label, purpose).decrypt(nonce, rest, _bound(front, context))
        except InvalidTag as error:
            raise SealBroken(f"a sealed text ({purpose}) was changed, or belongs elsewhere") from error

    def label_of(self, sealed: bytes) -> str:
        """The pepper's label that a text needs. Raises SealBroken when it is none of the listed."""
        label = sealed[2 : 2 + sealed[1]] if len(sealed) > 1 else b""
        if sealed[:1] != FORMAT or label not in self._peppers:
            raise SealBroken("a sealed text is of no pepper that is listed in TUNDISH_PEPPERS")
        return label.decode()

    def _cipher(self, label: bytes, purpose: str) -> AESGCM:
        """The cipher of a pepper and purpose; purposes are few, fixed words of the code."""
        found = self._ciphers.get((label, purpose))
        if found is None:
            key = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_INFO + purpose.encode())
            found = self._ciphers[label, purpose] = AESGCM(key.derive(self._peppers[label]))
        return found


def _bound(front: bytes, context: str) -> bytes:
    """What the tag vouches for besides the text."""
    return front + context.encode()
