"""Stored responses: what later calls may refer to, and those that still run in the background."""

import re
from typing import Any

import msgspec

from deploy.simulator import errors, responses_events
from deploy.simulator.answers import Answer
from deploy.simulator.asks import Ask
from deploy.simulator.deployments import Deployment
from deploy.simulator.responses_events import Made
from deploy.simulator.site import Site
from deploy.simulator.usage import Usage

MAX_STORED = 10_000
MAX_ITEMS_KEPT = 100_000


class Pending(msgspec.Struct, kw_only=True):
    """A background response under way: queued for the first half of `takes_ms`, then in progress."""

    deployment: Deployment
    usage: Usage
    request_id: str
    client_request_id: str | None
    surface: str
    started_ms: int
    takes_ms: int


class Stored(msgspec.Struct, kw_only=True):
    """A response with its input items and the response it went on from. `tokens`: its prompt and its output."""

    made: Made
    items: list[dict[str, Any]]
    before: "Stored | None"
    tokens: int
    pending: Pending | None = None
    cancelled: bool = False


class Store:
    """The last MAX_STORED responses of a resource, and their items by id."""

    def __init__(self) -> None:
        self._responses: dict[str, Stored] = {}
        self._items: dict[str, dict[str, Any]] = {}

    def put(self, stored: Stored) -> None:
        """Keep a response; the oldest goes when there are too many."""
        while len(self._responses) >= MAX_STORED:
            self.remove(next(iter(self._responses)))
        self._responses[stored.made.id] = stored
        for item in (*stored.items, *responses_events.output(stored.made)):
            if len(self._items) >= MAX_ITEMS_KEPT:
                del self._items[next(iter(self._items))]
            self._items[str(item["id"])] = item

    def get(self, response_id: str) -> Stored | None:
        """The response of this id."""
        return self._responses.get(response_id)

    def item(self, item_id: str) -> dict[str, Any] | None:
        """The input or output item of this id."""
        return self._items.get(item_id)

    def remove(self, response_id: str) -> bool:
        """Forget a response and its items; False when there is none."""
        gone = self._responses.pop(response_id, None)
        if gone is None:
            return False
        for item in (*gone.items, *responses_events.output(gone.made)):
            self._items.pop(str(item["id"]), None)
        return True

    def settle_all(self, site: Site) -> None:
        """Bill every background response that has run its time."""
        for stored in self._responses.values():
            status_of(stored, site)


def status_of(stored: Stored, site: Site) -> str:
    """Where a response stands now; a background one is billed when it is first seen to have ended."""
    if stored.cancelled:
        return "cancelled"
    pending = stored.pending
    if pending is None:
        return stored.made.status
    run_ms = site.clock.monotonic_ms() - pending.started_ms
    if run_ms < pending.takes_ms:
        return "queued" if run_ms * 2 < pending.takes_ms else "in_progress"
    stored.pending = None
    _bill(stored, pending, site, pending.usage)
    return stored.made.status


def _bill(stored: Stored, pending: Pending, site: Site, usage: Usage) -> None:
    billed = site.bill(
        at=site.clock.now(),
        id=stored.made.id,
        request_id=pending.request_id,
        deployment=pending.deployment,
        usage=usage,
        surface=pending.surface,
        operation="responses",
        client_request_id=pending.client_request_id,
    )
    billed.completed = True


def _found(ask: Ask, match: re.Match[str]) -> Stored:
    stored = ask.site.one(Store).get(match["id"])
    if stored is None:
        message = f"Response with id '{match['id']}' not found."
        raise errors.FoundryError(404, errors.openai(message, None, None))
    return stored


def _shown(stored: Stored, status: str) -> Answer:
    ended = status == stored.made.status
    body = responses_events.whole(stored.made) if ended else responses_events.unfinished(stored.made, status)
    return Answer(id=stored.made.id, usage=None, body=msgspec.json.encode(body))


async def get(ask: Ask, match: re.Match[str]) -> Answer:
    """GET a response: of a background one its status now."""
    stored = _found(ask, match)
    return _shown(stored, status_of(stored, ask.site))


async def delete(ask: Ask, match: re.Match[str]) -> Answer:
    """DELETE a response; one under way is billed as far as it came."""
    stored = _found(ask, match)
    _stop(stored, ask.site)
    ask.site.one(Store).remove(stored.made.id)
    body = {"id": stored.made.id, "object": "response.deleted", "deleted": True}
    return Answer(id=stored.made.id, usage=None, body=msgspec.json.encode(body))


async def cancel(ask: Ask, match: re.Match[str]) -> Answer:
    """Cancel a background response; cancelling it again, or one that has ended, changes nothing."""
    stored = _found(ask, match)
    if not stored.made.background:
        raise errors.invalid("Cannot cancel a synchronous response.", None, None)
    _stop(stored, ask.site)
    return _shown(stored, status_of(stored, ask.site))


def _stop(stored: Stored, site: Site) -> None:
    """End a background response: nothing is billed of a queued one, prompt and half the output after that."""
    status = status_of(stored, site)
    pending = stored.pending
    if pending is None:
        return
    stored.pending = None
    stored.cancelled = True
    if status == "in_progress":
        usage = pending.usage
        half = usage.completion // 2
        reasoning = min(usage.reasoning, half)
        _bill(stored, pending, site, msgspec.structs.replace(usage, completion=half, reasoning=reasoning))


async def input_items(ask: Ask, match: re.Match[str]) -> Answer:
    """List the input of a response, newest first."""
    items = list(reversed(_found(ask, match).items))
    body = {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": False,
    }
    return Answer(id=match["id"], usage=None, body=msgspec.json.encode(body))
