"""Who may administer what: one table of roles, and one place that every service asks, whatever port a request came by.

People come with the master key or with a key that has a role; services come with a token of their own and name the
person they act for. A key without a role may ask about itself and nothing else.
"""

import hmac
from collections.abc import Mapping
from enum import StrEnum
from hashlib import sha256
from typing import Protocol

import msgspec

from shared.errors import ApiError
from shared.ids import KeyId, OrgId, TeamId
from shared.policy import KeyRecord, Reach, Role
from shared.topology import secret_kv

ACTOR_HEADER = b"x-tundish-actor"
SECRET_CHARS_MAX = 512
ENTRIES_MAX = 10_000
"""Secrets whose names are remembered, by their SHA-256; never the secrets themselves."""
MASTER = "master-key"
"""How the master key is named as an actor."""


class Right(StrEnum):
    """What an administrative call needs. Within which organizations and teams is the principal's reach."""

    KEY_READ = "key:read"
    KEY_WRITE = "key:write"
    TEAM_READ = "team:read"
    TEAM_WRITE = "team:write"
    TEAM_MEMBERS = "team:members"
    ORG_READ = "org:read"
    ORG_WRITE = "org:write"
    USER_READ = "user:read"
    USER_WRITE = "user:write"
    BUDGET_READ = "budget:read"
    BUDGET_WRITE = "budget:write"
    SPEND_READ = "spend:read"
    SPEND_CORRECT = "spend:correct"
    AUDIT_READ = "audit:read"
    OPERATE = "operate"


_READS = frozenset(right for right in Right if right.endswith(":read"))
RIGHTS: Mapping[Role, frozenset[Right]] = {
    "admin": frozenset(Right),
    "org_admin": _READS | {Right.KEY_WRITE, Right.TEAM_WRITE, Right.TEAM_MEMBERS, Right.SPEND_CORRECT},
    "team_admin": (_READS - {Right.ORG_READ}) | {Right.KEY_WRITE, Right.TEAM_MEMBERS},
    "viewer": _READS,
}
"""The roles. Each goes as far as its reach; what belongs to nobody in particular takes the reach `all`."""
RANKS: tuple[Role, ...] = ("viewer", "team_admin", "org_admin", "admin")
"""Roles by power: nobody gives a role above their own."""
REACHES: Mapping[Role, tuple[Reach, ...]] = {
    "admin": ("all",),
    "org_admin": ("org",),
    "team_admin": ("team",),
    "viewer": ("all", "org", "team"),
}


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `actor` is what the audit log shows.

    `role` None is a virtual key that administers nothing: `key_id` is its own. `org_id` and `team_id` say where a role
    with the reach `org` or `team` holds.
    """

    role: Role | None
    actor: str
    reach: Reach = "all"
    key_id: KeyId | None = None
    org_id: OrgId | None = None
    team_id: TeamId | None = None

    @property
    def is_admin(self) -> bool:
        """Whether everything is allowed."""
        return self.role == "admin"

    @property
    def everywhere(self) -> bool:
        """Whether the role holds in every organization."""
        return self.role is not None and self.reach == "all"

    def may(self, right: Right) -> bool:
        """Whether the role has a right at all, wherever that is."""
        return self.role is not None and right in RIGHTS[self.role]

    def covers(self, org_id: str | None, team_id: str | None = None) -> bool:
        """Whether what belongs to an organization, and to a team of it, is within reach."""
        if self.role is None:
            return False
        if self.reach == "all":
            return True
        if org_id != self.org_id:
            return False
        return self.reach == "org" or (team_id is not None and team_id == self.team_id)

    def covers_key(self, org_id: str | None, team_id: str | None, reach: Reach | None) -> bool:
        """Whether a key may be known of at all; `reach` is that of its role, None for a key without one.

        A key with a role belongs as far up as its role reaches: the keys of administrators stand in the built-in
        organization, and are none of its own administrators' business.
        """
        if reach == "all" and not self.everywhere:
            return False
        if reach == "org" and self.reach == "team":
            return False
        return self.covers(org_id, team_id)

    def demand(self, right: Right) -> None:
        """Raises ApiError 403 naming the right when the role does not have it."""
        if not self.may(right):
            raise forbidden(right)

    def bounds(self) -> tuple[OrgId | None, TeamId | None]:
        """What lists are narrowed to: (organization, team); None does not narrow."""
        if self.reach == "all":
            return None, None
        return self.org_id, self.team_id if self.reach == "team" else None

    def may_give(self, role: Role) -> bool:
        """Whether a key with this role may be made by this principal (within its reach)."""
        return self.role is not None and RANKS.index(role) <= RANKS.index(self.role)


def forbidden(right: Right) -> ApiError:
    """The refusal of a principal without a right."""
    roles = " or ".join(role for role in reversed(RANKS) if right in RIGHTS[role])
    return ApiError(
        403,
        "not_allowed",
        f"This takes the right {right}, which the master key has, and keys with the role {roles}.",
        kind="permission_error",
    )


class SecretHasher:
    """Secrets to their stored form: HMAC-SHA-256(pepper, SHA-256(secret)), labelled by the pepper."""

    def __init__(self, peppers: dict[str, bytes]) -> None:
        self._peppers = peppers
        self._known: dict[bytes, tuple[str, ...]] = {}
        self.current = next(iter(peppers))
        self.labels = tuple(peppers)

    def digest(self, secret: str, label: str | None = None) -> str:
        """The stored hash under one pepper (the current one if none is named), in hex."""
        return self.digest_of_sha256(sha256(secret.encode()).digest(), label)

    def digest_of_sha256(self, inner: bytes, label: str | None = None) -> str:
        """The stored hash of a secret of which only the SHA-256 is known, as LiteLLM stores it."""
        return hmac.digest(self._peppers[label or self.current], inner, "sha256").hex()

    def entries(self, secret: str) -> tuple[str, ...]:
        """The names under which a secret may stand in the `keys` bucket, current pepper first."""
        inner = sha256(secret.encode()).digest()
        known = self._known.get(inner)
        if known is None:
            known = tuple(secret_kv(label, self.digest_of_sha256(inner, label)) for label in self._peppers)
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


class Keyring(Protocol):
    """The virtual keys as the buckets show them."""

    def holder(self, secret: str) -> KeyRecord | None:
        """The key in force behind a secret; None when there is none. Raises ApiError 401 saying why a known one is
        refused, 503 while the keys are not loaded."""
        ...


class Gatekeeper:
    """Turns the headers of an admin request into a Principal, or refuses it."""

    def __init__(self, *, master_key: str, peer_tokens: dict[str, str], keyring: Keyring | None = None) -> None:
        self._master = master_key.encode()
        self._peers = {name: token.encode() for name, token in peer_tokens.items()}
        self._keyring = keyring

    def authenticate(self, headers: dict[bytes, bytes]) -> Principal:
        """Who this is. Raises ApiError 401 with what to send, 503."""
        credential = bearer(headers)
        if credential is None:
            raise ApiError(
                401,
                "missing_api_key",
                "No API key was sent. Send 'Authorization: Bearer <master key, or a key with a role>'.",
                kind="authentication_error",
            )
        raw = credential.encode("latin-1")
        if hmac.compare_digest(raw, self._master):
            return Principal(role="admin", actor=MASTER)
        for name, token in self._peers.items():
            if hmac.compare_digest(raw, token):
                return Principal(role="admin", actor=self._actor(name, token, headers))
        record = None if self._keyring is None else self._keyring.holder(credential)
        if record is None:
            raise ApiError(
                401,
                "invalid_api_key",
                "The API key is not known here. Administration takes the master key, or a key with a role.",
                kind="authentication_error",
            )
        return principal_of(record)

    def admit(self, headers: dict[bytes, bytes], right: Right, *, everywhere: bool = False) -> Principal:
        """Somebody with a right, where asked for with the reach `all`. Raises ApiError 401, 403, 503."""
        principal = self.authenticate(headers)
        if principal.role is None:
            raise ApiError(
                403,
                "not_allowed",
                "A virtual key may ask GET /key/info about itself; all else takes the master key, or a key with a"
                " role.",
                kind="permission_error",
            )
        principal.demand(right)
        if everywhere and not principal.everywhere:
            raise ApiError(
                403,
                "not_allowed",
                f"This concerns all organizations, and this key's role holds in one {principal.reach} only.",
                kind="permission_error",
            )
        return principal

    def _actor(self, name: str, token: bytes, headers: dict[bytes, bytes]) -> str:
        claim = headers.get(ACTOR_HEADER, b"").decode("latin-1")
        actor, _, signature = claim.rpartition(";")
        expected = hmac.digest(token, actor.encode(), "sha256").hex()
        return actor if actor and hmac.compare_digest(signature.encode(), expected.encode()) else f"service:{name}"


def principal_of(record: KeyRecord) -> Principal:
    """A virtual key as the one who asks."""
    return Principal(
        role=record.role,
        reach=record.reach or "team",
        actor=record.key_id,
        key_id=record.key_id,
        org_id=record.org_id,
        team_id=record.team_id,
    )
