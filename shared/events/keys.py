"""AUTH: keys, the versions of their secrets, and how those are renewed."""

from datetime import datetime
from typing import Literal

import msgspec

from shared.events.envelope import AuthEvent
from shared.events.scopes import ScopeSettings
from shared.ids import KeyId, OrgId, TeamId, UserId
from shared.policy import Reach, Role

TargetKind = Literal["key_vault", "webhook", "kubernetes"]
RetireWhen = Literal["after_delivery", "after_grace"]
RetireWhy = Literal["expired", "leaked", "replaced", "undelivered"]


class KeySettings(ScopeSettings, frozen=True, kw_only=True):
    """What is set on a key: `allowed_routes` empty allows all; a `role` administers within its `reach` and calls no
    model; `user_id` is whose key it is."""

    key_id: KeyId
    expires_at: datetime | None = None
    allowed_routes: tuple[str, ...] = ()
    user_id: UserId | None = None
    role: Role | None = None
    reach: Reach | None = None


class KeyIssued(KeySettings, frozen=True, kw_only=True, tag="key.issued.v1"):
    """A new key; its first secret follows as `key.secret_minted.v1`."""

    org_id: OrgId
    team_id: TeamId | None = None


class KeyUpdated(KeySettings, frozen=True, kw_only=True, tag="key.updated.v1"):
    """The key's settings after an update, whole (budgets travel as `budget.set.v1`)."""


class KeyBlocked(AuthEvent, frozen=True, kw_only=True, tag="key.blocked.v1"):
    """The key is refused until it is unblocked."""

    key_id: KeyId


class KeyUnblocked(AuthEvent, frozen=True, kw_only=True, tag="key.unblocked.v1"):
    """The key works again."""

    key_id: KeyId


class KeyDeleted(AuthEvent, frozen=True, kw_only=True, tag="key.deleted.v1"):
    """The key is dead for good; its history stays."""

    key_id: KeyId


# ---- versions of the secret --------------------------------------------------------------------------


class KeySecretMinted(AuthEvent, frozen=True, kw_only=True, tag="key.secret_minted.v1"):
    """A secret version of a key, by its keyed hash; `hint` is its masked form (`sk-...abcd`).

    `due_at` is the instant of the schedule that asked for it (None: somebody did). `collectable`: it waits to be
    collected with the version before it.
    """

    key_id: KeyId
    version: int
    label: str
    digest: str
    hint: str
    not_after: datetime | None = None
    due_at: datetime | None = None
    collectable: bool = False


class KeySecretDelivered(AuthEvent, frozen=True, kw_only=True, tag="key.secret_delivered.v1"):
    """A version reached its owner: by one of the targets, by `exchange`, or by the `response` to who asked for it.

    `detail` says where it is, such as the secret's version in a vault. `last`: nothing else is outstanding.
    `collected_with` is the version that an `exchange` was made with (0: it was none).
    """

    key_id: KeyId
    version: int
    target: str
    detail: str = ""
    last: bool = True
    collected_with: int = 0


class KeySecretLimited(AuthEvent, frozen=True, kw_only=True, tag="key.secret_limited.v1"):
    """A version works until `not_after` and no longer. `reported`: because somebody found it, and it is replaced."""

    key_id: KeyId
    version: int
    not_after: datetime
    reported: bool = False


class KeySecretRetired(AuthEvent, frozen=True, kw_only=True, tag="key.secret_retired.v1"):
    """A version is over for good."""

    key_id: KeyId
    version: int
    reason: RetireWhy


class KeySecretRehashed(AuthEvent, frozen=True, kw_only=True, tag="key.secret_rehashed.v1"):
    """A version is stored under another pepper from now on; the secret is the same."""

    key_id: KeyId
    version: int
    label: str
    digest: str


# ---- rotation ----------------------------------------------------------------------------------------


class Target(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where new secrets are brought to.

    | kind | `place` | `name` |
    |---|---|---|
    | `key_vault` | the vault's URL | the secret's name |
    | `webhook` | the URL | empty |
    | `kubernetes` | the namespace | `<secret>/<entry>` |
    """

    kind: TargetKind
    place: str
    name: str = ""


class RotationTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a key's secret is renewed. With `interval` (such as `30d`) it is due at `anchor` plus whole multiples of it.

    The old secret works for `grace` beyond the delivery of the new one (`retire` `after_delivery`), or beyond its
    minting whatever became of the delivery (`after_grace`). `exchange`: whoever has the old secret may collect the new.
    """

    interval: str | None = None
    anchor: datetime | None = None
    grace: str = "24h"
    retire: RetireWhen = "after_delivery"
    targets: tuple[Target, ...] = ()
    exchange: bool = False


class KeyRotationSet(AuthEvent, frozen=True, kw_only=True, tag="key.rotation_set.v1"):
    """How a key's secret is renewed from now on; None: not at all."""

    key_id: KeyId
    rotation: RotationTerms | None
