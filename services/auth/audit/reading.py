"""The work behind `/audit` and `/audit/export`: the event table, with what each event changed."""

from collections.abc import Sequence

import msgspec

from services.auth.answers.audit import AuditEntry, AuditPage
from services.auth.audit.changes import Fold, entry_of
from services.auth.store_audit import AuditStore, Entry, Filter
from shared.access import Principal

FOLD_MAX = 2_000
"""Events of one stream that are folded for a request; what comes later on a stream is shown as the event tells it."""


class Audit:
    """Reads of the log."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def page(self, wanted: Filter, caller: Principal, *, page: int, size: int) -> AuditPage:
        """A page, newest first, as far as the caller may know."""
        found, total = await self._store.page(wanted, page=page, size=size)
        return AuditPage(
            audit_logs=await self._entries(found, caller),
            total=total,
            page=page,
            page_size=size,
            total_pages=-(-total // size),
        )

    async def export(self, wanted: Filter, caller: Principal, *, position: int, limit: int) -> bytes:
        """The events above a position, oldest first, a line of JSON each; the last line is `{"next": …}`: the position
        to go on from, or null at the end."""
        found = await self._store.after(wanted, position, limit=limit + 1)
        more = len(found) > limit
        lines = [msgspec.json.encode(entry) for entry in await self._entries(found[:limit], caller)]
        lines.append(msgspec.json.encode({"next": found[limit - 1].position if more else None}))
        return b"\n".join(lines) + b"\n"

    async def _entries(self, found: Sequence[Entry], caller: Principal) -> list[AuditEntry]:
        """With before and after: each stream is folded once, up to the last of its events that is asked for."""
        last: dict[str, int] = {}
        for entry in found:
            last[entry.stream_id] = max(entry.version, last.get(entry.stream_id, 0))
        folds: dict[str, Fold] = {}
        for stream_id, version in last.items():
            fold = Fold(stream_id.partition(":")[0])
            fold.add(await self._store.stream(stream_id, up_to=min(version, FOLD_MAX)))
            folds[stream_id] = fold
        return [self._entry(entry, folds[entry.stream_id], caller) for entry in found]

    def _entry(self, entry: Entry, fold: Fold, caller: Principal) -> AuditEntry:
        if entry.version > len(fold.steps):
            return entry_of(entry, None, None, caller)
        return entry_of(entry, *fold.steps[entry.version - 1], caller)
