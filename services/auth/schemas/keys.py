"""Requests about keys, with LiteLLM's names."""

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.domain import values
from services.auth.schemas.rotation import RotationFields
from shared.errors import ApiError

KEYS_PER_REQUEST_MAX = 100


class KeyFields(RotationFields, frozen=True, kw_only=True):
    """What is set on a key beside what every scope has. In a change a field sent as null is cleared, one that is not
    sent stays."""

    user_id: str | UnsetType | None = UNSET
    aliases: dict[str, str] | UnsetType | None = UNSET
    allowed_routes: list[str] | UnsetType | None = UNSET
    key_type: str | None = None
    blocked: bool | None = None


class GenerateKey(KeyFields, frozen=True, kw_only=True):
    """`POST /key/generate`. `key_hash` is the SHA-256 of a secret that exists already, and `key_name` its masked
    form."""

    key: str | None = None
    team_id: str | None = None
    organization_id: str | None = None
    key_hash: str | None = None
    key_name: str | None = None
    key_alias: str | None = None
    duration: str | None = None


class UpdateKey(KeyFields, frozen=True, kw_only=True):
    """`POST /key/update`. `key` names the key; without it `key_alias` does, and the alias stays.
    `team_id` and `organization_id` may only say what is so."""

    key: str | None = None
    team_id: str | UnsetType | None = UNSET
    organization_id: str | UnsetType | None = UNSET
    key_alias: str | UnsetType | None = UNSET
    duration: str | UnsetType | None = UNSET


class BulkUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /key/bulk_update`: entries as `POST /key/update` takes them, each done for itself."""

    keys: list[dict[str, object]]


class NameKey(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /key/block` and `/key/unblock`: by secret, key id or hash, or by alias."""

    key: str | None = None
    key_alias: str | None = None


class NameKeys(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /key/delete` and `/v2/key/info`: by secret, key id or hash, or by alias."""

    keys: list[str] | None = None
    key_aliases: list[str] | None = None


class NoBody(msgspec.Struct, frozen=True, kw_only=True):
    """A request that asks about whoever sends it."""


def targets_of(request: NameKeys) -> tuple[list[str], list[str]]:
    """(references, aliases), one of them empty. Raises ApiError 400."""
    references, aliases = request.keys or [], request.key_aliases or []
    if bool(references) == bool(aliases):
        raise ApiError(400, "invalid_value", "Send either keys or key_aliases, with at least one entry.")
    check_count("keys" if references else "key_aliases", len(references) + len(aliases))
    return references, aliases


def check_count(param: str, count: int) -> None:
    """Refuse more keys than one request may name. Raises ApiError 400."""
    if count > KEYS_PER_REQUEST_MAX:
        raise values.problem(param, f"at most {KEYS_PER_REQUEST_MAX} in one request")
