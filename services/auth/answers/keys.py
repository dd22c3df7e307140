"""Answers about keys, with LiteLLM's names. `token_id` and `token` are the key's id, the same for all its life."""

from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.answers.revocations import FleetAnswer
from services.auth.answers.rotation import RotationRow


class KeyRow(RotationRow, kw_only=True):
    """A key. `key_type` is its `role`, or how it may call models."""

    token_id: str
    token: str
    key_name: str | None
    key_alias: str | None
    key_type: str
    role: str | None
    status: str
    blocked: bool
    expires: datetime | None
    models: tuple[str, ...]
    aliases: dict[str, str]
    allowed_routes: tuple[str, ...]
    tags: tuple[str, ...]
    team_id: str | None
    organization_id: str
    user_id: str | None
    metadata: dict[str, object]
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str


class VersionRow(msgspec.Struct, kw_only=True):
    """One version of a key's secret. `expires`: its end, where one is set. `delivered`: how it reached its owner.
    `last_used`: null when it was never used, or when that is not known.

    `status`: `current` is what the owner has, `pending` waits for them, `overlap` still works beside it, `retired` and
    `leaked` work no more.
    """

    version: int
    key_name: str
    created_at: datetime | None
    expires: datetime | None
    delivered: tuple[str, ...]
    last_used: datetime | None
    status: str


class KeyInfo(KeyRow, kw_only=True):
    """A key with its spend in dollars: of the current window, and in all; null when it is not known. `versions` of its
    secret: those that work and the last ones that do not, newest first."""

    spend: float | None = None
    total_spend: float | None = None
    versions: list[VersionRow] = msgspec.field(default_factory=list[VersionRow])


class KeyAnswer(KeyRow, kw_only=True):
    """A key after a change. `recorded` false: in force, and not in the event table yet. `fleet`: after a revocation."""

    key: str | None = None
    recorded: bool = True
    fleet: FleetAnswer | UnsetType = UNSET
    warnings: list[str] = msgspec.field(default_factory=list[str])


class MintedKey(KeyAnswer, kw_only=True):
    """A new key; `key` is its secret, which is never shown again (null for a key that was imported by its hash)."""

    spend: float = 0.0


class RevokedKey(msgspec.Struct, kw_only=True):
    """What can be said of a key that was blocked while the database was away."""

    token_id: str
    token: str
    key_alias: str | None
    team_id: str | None
    organization_id: str | None
    blocked: bool = True
    status: str = "blocked"
    recorded: bool = False
    fleet: FleetAnswer | None = None
    warnings: list[str] = msgspec.field(default_factory=list[str])


class KeyInfoAnswer(msgspec.Struct, kw_only=True):
    """`GET /key/info`: `key` as it was sent."""

    key: str
    info: KeyInfo
    warnings: list[str] = msgspec.field(default_factory=list[str])


class KeyInfosAnswer(msgspec.Struct, kw_only=True):
    """`POST /v2/key/info`: `key` as they were sent, `info` of those that there are; the others are in `not_found`."""

    key: list[str]
    info: list[KeyInfo]
    not_found: list[str]
    warnings: list[str] = msgspec.field(default_factory=list[str])


class KeyList(msgspec.Struct, kw_only=True):
    """`GET /key/list`: key ids, or whole rows when `return_full_object` is true."""

    keys: list[str | KeyRow]
    total_count: int
    current_page: int
    total_pages: int


class KeyAliases(msgspec.Struct, kw_only=True):
    """`GET /key/aliases`, in the order of the alphabet."""

    aliases: list[str]
    total_count: int
    current_page: int
    total_pages: int
    size: int


class UpdatedKey(msgspec.Struct, kw_only=True):
    """An entry of `POST /key/bulk_update` that was done."""

    key: str
    key_info: KeyAnswer


class FailedKey(msgspec.Struct, kw_only=True):
    """An entry of `POST /key/bulk_update` that was refused, with the error that the call for it alone would give."""

    key: str | None
    failed_reason: str
    code: str
    param: str | None
    key_info: None = None


class BulkAnswer(msgspec.Struct, kw_only=True):
    """`POST /key/bulk_update`."""

    total_requested: int
    successful_updates: list[UpdatedKey]
    failed_updates: list[FailedKey]


class KeyHealth(msgspec.Struct, kw_only=True):
    """`POST /key/health`: the key that was sent is in force. `version` of its secret was sent, `newest` is the newest,
    and `ends_at` when the sent one ends, where an end is set."""

    key: str
    token_id: str
    version: int | None
    newest: int
    expires: datetime | None
    ends_at: datetime | None
    warnings: list[str] = msgspec.field(default_factory=list[str])


class DeletedKeys(msgspec.Struct, kw_only=True):
    """`POST /key/delete`: the ids of the keys that are dead now."""

    deleted_keys: list[str]
    recorded: bool = True
    fleet: FleetAnswer | None = None
    warnings: list[str] = msgspec.field(default_factory=list[str])
