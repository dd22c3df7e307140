"""Answers about the audit log, with LiteLLM's names."""

from datetime import datetime

import msgspec


class AuditEntry(msgspec.Struct, kw_only=True):
    """One change: `before_value` and `updated_values` hold the fields that it changed, and nothing else."""

    id: str
    updated_at: datetime
    changed_by: str
    changed_by_api_key: str | None
    action: str
    table_name: str
    object_id: str
    before_value: dict[str, object]
    updated_values: dict[str, object]
    cause: str
    position: int


class AuditPage(msgspec.Struct, kw_only=True):
    """`GET /audit`, newest first."""

    audit_logs: list[AuditEntry]
    total: int
    page: int
    page_size: int
    total_pages: int


class HeadAnswer(msgspec.Struct, kw_only=True):
    """The last event that was followed and its hash: `<position>:<hash>` is an anchor to keep elsewhere."""

    position: int
    hash: str


class Verified(msgspec.Struct, kw_only=True):
    """`GET /audit/verify`. `in_stream`: events that were compared with the stream AUTH as well. `next`: go on with
    `?after=`; null when the end was reached. `foreign_messages`: messages in the stream AUTH that are no events, which
    harm nothing and which no part of Tundish wrote there; `foreign_at` are the sequences of the first 100 of them."""

    ok: bool
    events: int
    in_stream: int
    head: HeadAnswer
    broken_at: int | None = None
    what: str | None = None
    next: int | None = None
    foreign_messages: int = 0
    foreign_at: list[int] = []
