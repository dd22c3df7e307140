"""All that is known of a key: settings, versions of its secret, and how they are renewed."""

from datetime import datetime

import msgspec

from services.auth.domain.scope import ScopeState
from shared.events import RotationTerms
from shared.ids import KeyId, OrgId, TeamId, UserId
from shared.policy import Reach, Role

FOLD = 1
"""The rules by which events become a state: another number whenever the same events lead to another state."""


class HashedSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret as it is stored: keyed hash under a pepper's label, and its masked form."""

    label: str
    digest: str
    hint: str


class SecretState(HashedSecret, frozen=True, kw_only=True):
    """One secret version of a key. `delivered` are the ways by which it reached its owner; `underway`: something of
    that is outstanding; `collectable`: it waits to be collected with an older version; `collected_with`: with which one
    it was (0: with none); `reported`: somebody found it, and another takes its place."""

    version: int
    minted_at: datetime | None = None
    not_after: datetime | None = None
    delivered: tuple[str, ...] = ()
    collectable: bool = False
    collected_with: int = 0
    reported: bool = False
    underway: bool = False
    retired_at: datetime | None = None
    retired_for: str | None = None


class KeyState(ScopeState, frozen=True, kw_only=True):
    """All that is known of a key; times are UTC. `secrets` are all versions that work and the last ones that
    do not, oldest first; `rotated_due_at` is the last instant of the schedule for which a secret was minted."""

    key_id: KeyId
    org_id: OrgId
    team_id: TeamId | None = None
    expires_at: datetime | None = None
    allowed_routes: tuple[str, ...] = ()
    user_id: UserId | None = None
    role: Role | None = None
    reach: Reach | None = None
    rotation: RotationTerms | None = None
    rotated_due_at: datetime | None = None
    secrets: tuple[SecretState, ...] = ()
    blocked: bool = False
    unblocked_at: datetime | None = None
    deleted_at: datetime | None = None
