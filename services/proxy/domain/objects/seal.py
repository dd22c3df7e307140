"""Sealed ids: what a caller gets to see of an object that Foundry stores under the gateway's one identity.

The text is the kind's prefix, then base64url (no padding) of two bytes that name the pepper and AES-SIV over deployment
and upstream id. Kind and owner are authenticated with it and not in it: under another owner, or as another kind, a
text opens no more than a damaged one does. Sealing is deterministic, so one object has one id.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Mapping
from hashlib import sha256
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.proxy.domain.admission import Caller, Refused

Kind = Literal["response", "item", "file", "batch", "container", "audio"]

TEXT_MAX = 512
"""No id that was sealed here is longer."""
UPSTREAM_MAX = 256
KEY_BYTES = 64
KEY_INFO = b"tundish stored objects v1"
TAG_BYTES = 2

PREFIXES: dict[Kind, str] = {
    "response": "resp_",
    "file": "file-",
    "batch": "batch_",
    "container": "cntr_",
    "audio": "audio_",
}
_ITEM_PREFIX = re.compile(r"[a-z]{1,12}_")
_PLAIN_ID = re.compile(r"[A-Za-z]{1,24}[_-][A-Za-z0-9_.\-]{4,200}")


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """What a sealed id stands for: the object's id in Foundry, and the deployment whose resource has it."""

    kind: Kind
    deployment: str
    upstream: str


class Seal:
    """Seals and opens ids. The first pepper seals, every pepper opens."""

    def __init__(self, peppers: Mapping[str, bytes]) -> None:
        self._ciphers = [(sha256(label.encode()).digest()[:TAG_BYTES], _cipher(key)) for label, key in peppers.items()]

    def seal(self, kind: Kind, owner: str, deployment: str, upstream: str) -> str:
        """The id by which an owner knows an object of Foundry's."""
        tag, cipher = self._ciphers[0]
        data = f"{deployment}\0{upstream}".encode()
        sealed = tag + cipher.encrypt(data, [kind.encode(), owner.encode()])
        return prefix_of(kind, upstream) + urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, kind: Kind, owner: str, text: str) -> Opened | None:
        """What an id stands for; None for one that is not this owner's, whatever the reason."""
        prefix, sealed = _split(kind, text)
        if sealed is None:
            return None
        for tag, cipher in self._ciphers:
            if not sealed.startswith(tag):
                continue
            try:
                data = cipher.decrypt(sealed[TAG_BYTES:], [kind.encode(), owner.encode()])
            except InvalidTag:
                continue
            deployment, _, upstream = data.decode().partition("\0")
            if prefix_of(kind, upstream) == prefix:
                return Opened(kind=kind, deployment=deployment, upstream=upstream)
        return None

    def must_open(self, kind: Kind, owner: str, text: str) -> Opened:
        """The same. Raises Refused (404) for an id that is not this owner's."""
        opened = self.open(kind, owner, text)
        if opened is None:
            raise not_found()
        return opened


def prefix_of(kind: Kind, upstream: str) -> str:
    """How ids of a kind begin; those of items begin as Foundry's do (`msg_`, `rs_`, `fc_` …)."""
    known = PREFIXES.get(kind)
    if known is not None:
        return known
    found = _ITEM_PREFIX.match(upstream)
    return "item_" if found is None else found[0]


def is_upstream_id(text: object) -> bool:
    """Whether a value looks like an id that Foundry gives: only such are sealed."""
    return isinstance(text, str) and _PLAIN_ID.fullmatch(text) is not None


def owner_of(caller: Caller) -> str:
    """Whose the objects are that a key makes: its team's if it has one, else its own."""
    return f"key:{caller.key_id}" if caller.team_id is None else f"team:{caller.team_id}"


def owner_hash(owner: str) -> str:
    """An owner as the keys of the bucket name it."""
    return sha256(owner.encode()).hexdigest()[:32]


def object_hash(opened: Opened) -> str:
    """An object as the keys of the bucket name it."""
    return sha256(f"{opened.deployment}\0{opened.upstream}".encode()).hexdigest()[:32]


def not_found() -> Refused:
    """The one answer for every object that is not the caller's: foreign, deleted, never there, or no id at all."""
    return Refused(
        404,
        "object_not_found",
        "There is no such object: its id is wrong, it was deleted, or it is not yours.",
        headers=((b"x-should-retry", b"false"),),
    )


def _split(kind: Kind, text: str) -> tuple[str, bytes | None]:
    """The prefix of a text and the bytes behind it; None if it cannot be one of ours."""
    if len(text) > TEXT_MAX or not text.isascii():
        return "", None
    prefix = PREFIXES.get(kind)
    if prefix is None:
        found = _ITEM_PREFIX.match(text)
        prefix = "" if found is None else found[0]
    if not prefix or not text.startswith(prefix):
        return "", None
    body = text[len(prefix) :]
    try:
        raw = urlsafe_b64decode(body + "=" * (-len(body) % 4))
    except (Error, ValueError):
        return "", None
    if urlsafe_b64encode(raw).rstrip(b"=").decode() != body:  # one object, one spelling
        return "", None
    return prefix, raw


def _cipher(pepper: bytes) -> AESSIV:
    return AESSIV(HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=KEY_INFO).derive(pepper))
