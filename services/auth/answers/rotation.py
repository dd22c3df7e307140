"""Answers about the renewal of secrets. `auto_rotate`, `rotation_interval`, `grace_period`, `key_rotation_at`,
`last_rotation_at` and `rotation_count` are LiteLLM's names."""

from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.answers.base import ScopeRow


class TargetRow(msgspec.Struct, kw_only=True):
    """An entry of `rotation_delivery`, as it is sent. `signing_secret` is shown by the call that set the webhook."""

    type: str
    vault: str | UnsetType = UNSET
    secret: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    namespace: str | UnsetType = UNSET
    entry: str | UnsetType = UNSET
    signing_secret: str | UnsetType = UNSET


class RotationRow(ScopeRow, kw_only=True):
    """How a key's secret is renewed. `key_rotation_at`: the next date."""

    auto_rotate: bool = False
    rotation_interval: str | None = None
    grace_period: str | None = None
    rotation_delivery: list[TargetRow] = msgspec.field(default_factory=list[TargetRow])
    rotation_retire: str | None = None
    key_rotation_at: datetime | None = None
    last_rotation_at: datetime | None = None
    rotation_count: int = 0


class DeliveryRow(msgspec.Struct, kw_only=True):
    """A delivery that is outstanding: to which target, how often it was tried, and when it is tried again."""

    target: str
    version: int
    attempts: int
    last_error: str | None
    next_attempt_at: datetime


class RotatingKey(msgspec.Struct, kw_only=True):
    """A key whose secret is renewed. `state`: scheduled, due, minted, delivered (to some of its targets), overlap, or
    manual (it is not renewed by itself)."""

    token_id: str
    key_alias: str | None
    team_id: str | None
    organization_id: str
    state: str
    version: int
    auto_rotate: bool
    rotation_interval: str | None
    key_rotation_at: datetime | None
    last_rotation_at: datetime | None
    rotation_count: int
    old_key_expires: datetime | None
    collectable: bool
    attempts: int
    last_error: str | None
    deliveries: list[DeliveryRow]


class RotatingKeys(msgspec.Struct, kw_only=True):
    """`GET /rotation/list`."""

    keys: list[RotatingKey]
    total_count: int
    current_page: int
    total_pages: int


class RotatedKey(msgspec.Struct, kw_only=True):
    """`POST /key/{key}/rotate`: the new version is on its way; its secret goes to the targets alone."""

    token_id: str
    key_alias: str | None
    version: int
    state: str
    old_key_expires: datetime | None
    deliveries: list[str]
    warnings: list[str] = msgspec.field(default_factory=list[str])


class CollectedKey(msgspec.Struct, kw_only=True):
    """`POST /key/exchange`: the new secret, once. The one that was sent works until `old_key_expires` (null: no end is
    set yet)."""

    key: str
    token_id: str
    version: int
    old_key_expires: datetime | None
