"""Who may administer: one place that every service asks, whatever port a request came in by.

People come with the master key (later also with keys of a role); services come with a token of their own
and name the person they act for. A virtual key may read about itself and nothing else.
"""

import hmac
from hashlib import sha256

import msgspec

from shared.errors import ApiError
from shared.ids import KeyId
from shared.policy import SecretRecord
from shared.topology import secret_kv

ACTOR_HEADER = b"x-tundish-actor"
SECRET_CHARS_MAX = 512
ENTRIES_MAX = 10_000
"""Secrets whose names are remembered, by their SHA-256; never the secrets themselves."""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `actor` is what the audit log shows; `key_id` is set for a virtual key."""

    role: str
    actor: str
    key_id: KeyId | None = None

    @property
    def is_admin(self) -> bool:
        """Whether everything is allowed."""
        return self.role == "admin"


class SecretHasher:
    """Secrets to their stored form: HMAC-SHA-256(pepper, SHA-256(secret)), labelled by the pepper."""

    def __init__(self, peppers: dict[str, bytes]) -> None:
        self._peppers = peppers
        self._known: dict[bytes, tuple[str, ...]] = {}
        self.current = next(iter(peppers))

    def digest(self, secret: str, label: str | None = None) -> str:
        """The stored hash under one pepper (the current one if none is named), in hex."""
        pepper = self._peppers[label or self.current]
        return hmac.digest(pepper, sha256(secret.encode()).digest(), "sha256").hex()

    def entries(self, secret: str) -> tuple[str, ...]:
        """The names under which a secret may stand in the `keys` bucket, current pepper first."""
        inner = sha256(secret.encode()).digest()
        known = self._known.get(inner)
        if known is None:
            known = tuple(
                secret_kv(label, hmac.digest(pepper, inner, "sha256").hex()) for label, pepper in self._peppers.items()
            )
            if len(self._known) >= ENTRIES_MAX:
                self._known.clear()
            self._known[inner] = known
        return known


def bearer(headers: dict[bytes, bytes]) -> str | None:
    """The credential of a request (`Authorization: Bearer`, `api-key` or `x-api-key`), or None."""
    raw = headers.get(b"authorization")
    if raw is not None and raw[:7].lower() == b"bearer ":
        value = raw[7:].strip()
    else:
        value = headers.get(b"api-key") or headers.get(b"x-api-key") or b""
    text = value.decode("latin-1")
    return text if 0 < len(text) <= SECRET_CHARS_MAX else None


def sign_actor(token: str, actor: str) -> str:
    """The header value by which a service says for whom it acts, signed with its own token."""
    return f"{actor};{hmac.digest(token.encode(), actor.encode(), 'sha256').hex()}"


class Gatekeeper:
    """Turns the headers of an admin request into a Principal, or refuses it.

    `find` looks a name up in the mirror of `keys` (None: unknown or revoked).
    """

    def __init__(
        self,
        *,
        master_key: str,
        peer_tokens: dict[str, str],
        hasher: SecretHasher | None = None,
    ) -> None:
        self._master = master_key.encode()
        self._peers = {name: token.encode() for name, token in peer_tokens.items()}
        self._hasher = hasher

    def authenticate(self, headers: dict[bytes, bytes], secrets: dict[str, SecretRecord] | None = None) -> Principal:
        """Who this is. Raises ApiError 401 with what to send."""
        credential = bearer(headers)
        if credential is None:
            raise ApiError(
                401,
                "missing_api_key",
                "No API key was sent. Send 'Authorization: Bearer <master key>'.",
                kind="authentication_error",
            )
        raw = credential.encode("latin-1")
        if hmac.compare_digest(raw, self._master):
            return Principal(role="admin", actor="master-key")
        for name, token in self._peers.items():
            if hmac.compare_digest(raw, token):
                return Principal(role="admin", actor=self._actor(name, token, headers))
        if self._hasher is not None and secrets:
            for entry in self._hasher.entries(credential):
                record = secrets.get(entry)
                if record is not None:
                    return Principal(role="key", actor=record.key_id, key_id=record.key_id)
        raise ApiError(
            401,
            "invalid_api_key",
            "The API key is not known here. Administration takes the master key.",
            kind="authentication_error",
        )

    def admin(self, headers: dict[bytes, bytes]) -> Principal:
        """An administrator. Raises ApiError 401 or 403."""
        principal = self.authenticate(headers)
        if not principal.is_admin:
            raise ApiError(403, "not_allowed", "Only an administrator may do this.", kind="permission_error")
        return principal

    def _actor(self, name: str, token: bytes, headers: dict[bytes, bytes]) -> str:
        claim = headers.get(ACTOR_HEADER, b"").decode("latin-1")
        actor, _, signature = claim.rpartition(";")
        expected = hmac.digest(token, actor.encode(), "sha256").hex()
        return actor if actor and hmac.compare_digest(signature.encode(), expected.encode()) else f"service:{name}"
