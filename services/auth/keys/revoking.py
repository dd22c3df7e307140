"""The way of every revocation: in force first, recorded after, and told how many proxies refuse already.

Used for keys, versions of their secrets, teams and organizations alike; works with and without Postgres.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from time import perf_counter

import msgspec

from services.auth.answers.revocations import FleetAnswer
from services.auth.domain.key import living
from services.auth.domain.key_state import KeyState
from services.auth.fleet import Fleet
from services.auth.keys.revocations import Order, Revocations, of_key
from services.auth.relay import Relay
from services.auth.store_views import Views
from shared.errors import ApiError, BusError, StoreError
from shared.ids import KeyId, uuid7
from shared.people import People
from shared.policy import RevocationKind
from shared.tasks import Supervisor
from shared.telemetry import Counter
from shared.topology import key_kv, secret_kv

log = logging.getLogger(__name__)

RECORD_WAIT_S = 3.0
"""How long the answer to a revocation, which is in force by then, waits for the event table."""
UNRECORDED = "the revocation is in force; the database does not answer, and it will be recorded there when it does"


class Revoked(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a revocation that is in force. `recorded` false: the event follows when the database is back."""

    recorded: bool
    fleet: FleetAnswer

    @property
    def warnings(self) -> list[str]:
        """What the caller should know."""
        return [] if self.recorded else [UNRECORDED]


class Revoking:
    """Puts revocations in force and makes their events."""

    def __init__(
        self,
        revocations: Revocations,
        people: People,
        views: Views,
        relay: Relay,
        fleet: Fleet,
        tasks: Supervisor,
        *,
        counted: Counter,
    ) -> None:
        self._revocations = revocations
        self._people = people
        self._views = views
        self._relay = relay
        self._fleet = fleet
        self._tasks = tasks
        self._counted = counted

    async def order_for_key(self, kind: RevocationKind, key_id: KeyId) -> Order:
        """A living key with its secrets; asks the database only for what the mirror does not know.

        Raises ApiError 404, StoreUnavailable.
        """
        names = self._people.secrets_of(key_id)
        if not names or key_kv(key_id) not in self._people.keys:
            names = names_of(living(await self._views.key(key_id)))
        return of_key(kind, key_id, names)

    async def standing(self, names: Iterable[str]) -> bool:
        """Whether an entry stands under one of some names, in the bucket itself. Raises BusUnavailable."""
        for name in names:
            if await self._revocations.standing(name) is not None:
                return True
        return False

    async def revoke(self, orders: Sequence[Order], actor: str, *, cause: str = "") -> Revoked:
        """Put the entries, then make the events while the proxies are heard.

        Raises ApiError 503 when it is not in force, and what a decision says when there is nothing to revoke.
        """
        began = perf_counter()
        failure: BusError | None = None
        revision = 0
        for order in orders:
            try:
                put = await self._revocations.write(order.kind, order.names, actor, cause=cause)
                revision = max(revision, put)
            except BusError as error:
                failure = error
                break
        if failure is not None:
            log.error("a revocation is not in force: %s", failure)
            recorded = await self._record(orders, actor, cause)
            raise _pending(recorded=recorded is True)
        fleet, recorded = await asyncio.gather(
            self._fleet.applied(revision, began_s=began), self._record(orders, actor, cause)
        )
        if isinstance(recorded, ApiError):
            raise recorded
        for order in orders:
            self._counted.add(1, order.kind, "yes" if recorded else "later")
        return Revoked(recorded=recorded, fleet=fleet)

    async def _record(self, orders: Sequence[Order], actor: str, cause: str) -> bool | ApiError:
        """Make the events; False when the database does not do it in time (it goes on in the background), an error when
        what was to be revoked turns out to be gone."""
        outcome: list[bool] = []
        refusals: list[ApiError] = []

        async def work() -> None:
            try:
                for order in orders:
                    position = await self._revocations.record(order, actor=actor, cause=cause)
                    self._relay.tell(position)
                outcome.append(True)
            except StoreError as error:
                log.warning("a revocation is in force and waits to be recorded: %s", error)
            except ApiError as error:
                refusals.append(error)

        task = self._tasks.start(f"record-{uuid7()}", work())
        await asyncio.wait({task}, timeout=RECORD_WAIT_S)
        return refusals[0] if refusals else bool(outcome)


def names_of(state: KeyState) -> tuple[str, ...]:
    """The bucket keys of the secrets of a key that were not retired."""
    return tuple(secret_kv(item.label, item.digest) for item in state.secrets if item.retired_at is None)


def _pending(*, recorded: bool) -> ApiError:
    return ApiError(
        503,
        "revocation_pending",
        "The revocation is NOT in force everywhere: the message bus does not answer. "
        + (
            "It is recorded and takes effect when the bus is back."
            if recorded
            else "It is not recorded either: repeat the request."
        ),
    )
