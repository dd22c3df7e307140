"""Requests about the renewal of secrets. `auto_rotate`, `rotation_interval` and `grace_period` are LiteLLM's names."""

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.schemas.base import ScopeFields


class TargetRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of `rotation_delivery`; which fields it takes follows from `type`. A row of an answer may be sent back:
    `signing_secret` is passed over."""

    type: str
    vault: str | None = None
    secret: str | None = None
    url: str | None = None
    namespace: str | None = None
    entry: str | None = None
    signing_secret: str | None = None


class RotationFields(ScopeFields, frozen=True, kw_only=True):
    """How a key's secret is renewed. In a change a field sent as null is cleared, one that is not sent stays."""

    auto_rotate: bool | UnsetType | None = UNSET
    rotation_interval: str | UnsetType | None = UNSET
    grace_period: str | UnsetType | None = UNSET
    rotation_delivery: list[TargetRequest] | UnsetType | None = UNSET
    rotation_retire: str | UnsetType | None = UNSET


class NoFields(msgspec.Struct, frozen=True, kw_only=True):
    """A request that says all by its path and its credential."""
