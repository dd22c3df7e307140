"""`/audit`: who changed what, whole and provable."""

from collections.abc import Mapping
from datetime import UTC, datetime

from services.auth.answers.audit import AuditPage, Verified
from services.auth.api.operations import Ask, Operation, Query
from services.auth.api.reading import number, page_of
from services.auth.audit.reading import Audit
from services.auth.audit.verifying import Verifier
from services.auth.domain import values
from services.auth.domain.actions import NAMES, TABLES, WITH_FIRST, types_of
from services.auth.store_audit import Filter
from shared.access import Principal, Right

PAGE_SIZE = 50
PAGE_SIZE_MAX = 100
EXPORT_ROWS = 1_000
EXPORT_ROWS_MAX = 2_000
POSITION_MAX = 10**18
LINES = "application/x-ndjson"

FILTERS = {
    "changed_by": "only changes of this actor: master-key, a key id, service:<name>",
    "action": "only changes of this kind, such as created, updated, deleted, blocked, rotated, revoked",
    "table_name": "only changes of key, team, org, user or budget (or LiteLLM's name of the table)",
    "object_id": "only changes of what has this id",
    "start": "only changes from this time on (RFC 3339)",
    "end": "only changes before this time (RFC 3339)",
    "team_id": "only changes of this team and its keys",
    "organization_id": "only changes of this organization, its teams and keys",
}


def audit_operations(audit: Audit, verifier: Verifier) -> list[Operation]:
    """The rows of `/audit`."""

    async def page(ask: Ask) -> AuditPage:
        size = number(ask.query, "page_size", PAGE_SIZE, PAGE_SIZE_MAX)
        return await audit.page(filter_of(ask.query, ask.caller), ask.caller, page=page_of(ask.query), size=size)

    async def export(ask: Ask) -> bytes:
        wanted = filter_of(ask.query, ask.caller)
        limit = number(ask.query, "limit", EXPORT_ROWS, EXPORT_ROWS_MAX)
        return await audit.export(wanted, ask.caller, position=_position(ask.query, "position"), limit=limit)

    async def verify(ask: Ask) -> Verified:
        return await verifier.verify(after=_position(ask.query, "after"), anchor=ask.query.get("anchor"))

    return [
        Operation(
            method="GET",
            path="/audit",
            summary="The changes, newest first, each with its actor and the fields before and after",
            right=Right.AUDIT_READ,
            query=Query(known={"page": "from 1", "page_size": f"rows per page, at most {PAGE_SIZE_MAX}", **FILTERS}),
            run=page,
            answer=AuditPage,
        ),
        Operation(
            method="GET",
            path="/audit/export",
            summary="The changes, oldest first, a line of JSON each; the last line says where to go on",
            right=Right.AUDIT_READ,
            query=Query(
                known={
                    "position": "begin after this position",
                    "limit": f"at most so many changes, up to {EXPORT_ROWS_MAX}",
                    **FILTERS,
                }
            ),
            run=export,
            answer=bytes,
            media=LINES,
        ),
        Operation(
            method="GET",
            path="/audit/verify",
            summary="Whether the log is what was written: the chain, the stream AUTH and an anchor are compared",
            right=Right.AUDIT_READ,
            everywhere=True,
            query=Query(
                known={
                    "anchor": "<position>:<hash> of an earlier answer, kept elsewhere",
                    "after": "begin after this position",
                }
            ),
            run=verify,
            answer=Verified,
        ),
    ]


def filter_of(query: Mapping[str, str], caller: Principal) -> Filter:
    """What a list shows, within the caller's reach. Raises ApiError 400."""
    action = query.get("action")
    if action is not None and action not in NAMES:
        raise values.problem("action", f"use one of {', '.join(NAMES)}")
    usual, first = (None, ()) if action is None else types_of(action)
    bound_org, bound_team = caller.bounds()
    return Filter(
        actor=query.get("changed_by"),
        types=usual,
        first_types=first,
        kinds_of_first=WITH_FIRST,
        stream_kind=_kind(query.get("table_name")),
        object_id=query.get("object_id"),
        start=_time(query, "start"),
        end=_time(query, "end"),
        org_id=query.get("organization_id"),
        team_id=query.get("team_id"),
        bound_org=bound_org,
        bound_team=bound_team,
    )


def _kind(table: str | None) -> str | None:
    if table is None or table in TABLES:
        return table
    for kind, name in TABLES.items():
        if table in (name, name.removeprefix("LiteLLM_")):
            return kind
    raise values.problem("table_name", f"use one of {', '.join((*TABLES, *TABLES.values()))}")


def _time(query: Mapping[str, str], name: str) -> datetime | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise values.problem(name, "use a time such as 2026-03-01 or 2026-03-01T12:00:00Z") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _position(query: Mapping[str, str], name: str) -> int:
    return 0 if query.get(name, "0") == "0" else number(query, name, 1, POSITION_MAX)
