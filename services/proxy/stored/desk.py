"""What every route of stored objects needs: whose object an id is, what stands behind it, and how answers go out."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from services.proxy.answers import JSON_TYPE, Receive, Send, send_bytes, send_failure
from services.proxy.body import Patience
from services.proxy.domain.admission import Caller, Refused, check_model
from services.proxy.domain.asked import BadRequest
from services.proxy.domain.deployments import Deployment
from services.proxy.domain.objects.places import Places
from services.proxy.domain.objects.records import ObjectRecord, RecordKind
from services.proxy.domain.objects.seal import Kind, Opened, Seal, is_upstream_id, not_found, owner_of
from services.proxy.domain.paths import Route
from services.proxy.relay.complaints import Complaints
from services.proxy.stored.foundry import Answer, Foundry, failure_of, failure_of_error, said_in
from services.proxy.stored.records import Records
from services.proxy.upstream import UpstreamError
from shared.clock import Clock
from shared.errors import BusError
from shared.ids import uuid7

log = logging.getLogger(__name__)

QUERY_BYTES_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Visit:
    """One request about stored objects by a caller who was let in."""

    route: Route
    method: str
    headers: dict[bytes, bytes]
    query: dict[str, str]
    receive: Receive
    send: Send
    caller: Caller
    owner: str
    call_id: str

    @classmethod
    def of(cls, route: Route, scope: Any, receive: Receive, send: Send, caller: Caller) -> "Visit":
        """From an ASGI request. Raises BadRequest for a query that is none."""
        return cls(
            route=route,
            method=scope["method"],
            headers=dict(scope["headers"]),
            query=query_of(scope),
            receive=receive,
            send=send,
            caller=caller,
            owner=owner_of(caller),
            call_id=uuid7(),
        )

    def only(self, *names: str) -> dict[str, str]:
        """The query, which may have these parameters and no other. Raises BadRequest."""
        for name in self.query:
            if name not in names and name != "api-version":
                raise BadRequest(f"The query parameter '{name[:60]}' is not served here.", param=name[:60])
        return {name: self.query[name] for name in names if name in self.query}


@dataclass(frozen=True, slots=True)
class Desk:
    """What the routes share. `body_bytes_max` and `patience` bound request bodies."""

    foundry: Foundry
    places: Places
    seal: Seal
    records: Records
    complaints: Complaints
    clock: Clock
    patience: Patience
    body_bytes_max: int
    default_output: int
    exceeded_status: int

    def open(self, visit: Visit, kind: Kind) -> tuple[Opened, Deployment]:
        """The object a path names, for its owner only. Raises Refused: 404, or if its model is not allowed any more."""
        opened = self.seal.must_open(kind, visit.owner, visit.route.object_id or "")
        if not is_upstream_id(opened.upstream):
            raise not_found()
        deployment = self.places.holder(opened)
        check_model(visit.caller, deployment.model, deployment.model in self.places)
        return opened, deployment

    def hide(self, visit: Visit, kind: Kind, opened: Opened) -> str:
        """The id by which a caller knows an object."""
        return self.seal.seal(kind, visit.owner, opened.deployment, opened.upstream)

    async def bad(self, visit: Visit, answer: Answer, deployment: Deployment, *, stored: bool = True) -> None:
        """Tell the caller of a reply that is no good. Raises Refused when it says that a `stored` object is gone."""
        said = said_in(answer)
        failure = failure_of(said, deployment, self.seal, visit.owner, stored=stored)
        self.complaints.note(deployment, said, failure)
        await send_failure(visit.send, visit.route.dialect, failure, [*answer.headers, named(visit)], visit.call_id)

    async def good(self, visit: Visit, body: bytes, answer: Answer | None = None) -> None:
        """A JSON answer."""
        headers = [] if answer is None else answer.headers
        await send_bytes(visit.send, 200, JSON_TYPE, body, [*headers, named(visit)])

    async def broken(self, visit: Visit, error: UpstreamError) -> None:
        """Tell the caller that no reply came."""
        log.warning("a request about a stored object failed: %s", error)
        await send_failure(visit.send, visit.route.dialect, failure_of_error(error), [named(visit)], visit.call_id)


def named(visit: Visit) -> tuple[bytes, bytes]:
    """The header with the request's own id."""
    return b"x-tundish-call-id", visit.call_id.encode()


def unwritable(error: BusError) -> Refused:
    """The answer when records can neither be read nor written."""
    log.error("records of stored objects cannot be reached: %s", error)
    return Refused(
        503,
        "objects_unavailable",
        "The gateway cannot read or write its records of stored objects at the moment. Try again shortly.",
        kind="server_error",
        headers=((b"retry-after", b"2"),),
    )


def query_of(scope: Any) -> dict[str, str]:
    """The parameters of a request, each once. Raises BadRequest."""
    raw: bytes = scope.get("query_string", b"")
    if len(raw) > QUERY_BYTES_MAX:
        raise BadRequest(f"The query is longer than {QUERY_BYTES_MAX} bytes.")
    found: dict[str, str] = {}
    for name, value in parse_qsl(raw.decode("latin-1"), keep_blank_values=True):
        if name in found:
            raise BadRequest(f"The query parameter '{name[:60]}' is given twice.", param=name[:60])
        found[name] = value
    return found


def number(query: dict[str, str], name: str, default: int, most: int) -> int:
    """A number of the query between 1 and `most`. Raises BadRequest."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 8 and 1 <= int(text) <= most):
        raise BadRequest(f"'{name}' must be a number between 1 and {most}.", param=name)
    return int(text)


async def page(desk: Desk, visit: Visit, kind: RecordKind, shown: dict[str, Kind], default: int, most: int) -> bytes:
    """A page of an owner's own records, as `limit`, `after`, `order` and `purpose` ask for it; never Foundry's list.

    `shown` are the fields of the object that hold ids. Raises BadRequest, Refused.
    """
    query = visit.only("limit", "after", "order", *(["purpose"] if kind == "file" else []))
    limit = number(query, "limit", default, most)
    if query.get("order", "desc") not in ("asc", "desc"):
        raise BadRequest("'order' must be 'asc' or 'desc'.", param="order")
    try:
        records = await desk.records.all(visit.owner, kind)
    except BusError as error:
        raise unwritable(error) from error
    if "purpose" in query:
        records = [record for record in records if record.purpose == query["purpose"]]
    if query.get("order", "desc") == "desc":
        records.reverse()
    if "after" in query:
        after = desk.seal.must_open(kind, visit.owner, query["after"])
        places = [place for place, record in enumerate(records) if _same(record, after)]
        if not places:
            raise not_found()
        records = records[places[0] + 1 :]
    data = [visible(desk, visit, record.said, record.deployment, shown) for record in records[:limit]]
    ids = [desk.seal.seal(kind, visit.owner, record.deployment, record.upstream) for record in _edges(records[:limit])]
    return msgspec.json.encode(
        {
            "object": "list",
            "data": [msgspec.Raw(one) for one in data],
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
            "has_more": len(records) > limit,
        }
    )


def visible(desk: Desk, visit: Visit, said: bytes, deployment: str, shown: dict[str, Kind]) -> bytes:
    """An object of Foundry's as its owner sees it: ids sealed, the model by its public name."""
    fields = msgspec.json.decode(said, type=dict[str, msgspec.Raw])
    for key, kind in shown.items():
        value = fields.get(key)
        if value is not None and bytes(value).startswith(b'"'):
            text = desk.seal.seal(kind, visit.owner, deployment, msgspec.json.decode(value, type=str))
            fields[key] = msgspec.Raw(msgspec.json.encode(text))
    holder = desk.places.find(deployment)
    model = fields.get("model")
    if holder is not None and model is not None and bytes(model) == msgspec.json.encode(holder.name):
        fields["model"] = msgspec.Raw(msgspec.json.encode(holder.model))
    return msgspec.json.encode(fields)


def _same(record: ObjectRecord, opened: Opened) -> bool:
    return record.upstream == opened.upstream and record.deployment == opened.deployment


def _edges(records: list[ObjectRecord]) -> Iterable[ObjectRecord]:
    return records[:1] + records[-1:]
