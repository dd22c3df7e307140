"""Bringing minted secrets to their owners, again and again until it is done, or they are needed no more.

A delivery is claimed for a while, made, and recorded by its event. Whoever dies on the way leaves a claim that runs
out, and a repetition does no harm: a target that has the secret already is left alone, or told the same thing again.
"""

import asyncio
import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from services.auth.commits import Commits
from services.auth.domain.derived import derived_id
from services.auth.domain.key_state import KeyState, SecretState
from services.auth.domain.renewing import decide_delivered
from services.auth.domain.stamp import Stamp
from services.auth.domain.versions import old_ends_at, waiting
from services.auth.relay import Relay
from services.auth.rotation import signals
from services.auth.rotation.minting import PURPOSE, context
from services.auth.rotation.targets.courier import DeliveryError, Owner, Parcel
from services.auth.rotation.targets.couriers import Couriers
from services.auth.store_rotation import Job, Pending, put_signal
from services.auth.store_views import Views
from shared.clock import Clock
from shared.errors import StoreError, StoreUnavailable
from shared.events import AnyAuthEvent, KeySecretDelivered
from shared.people import People
from shared.sealing import SealBroken, Sealer
from shared.telemetry import Counter
from shared.topology import secret_kv

if TYPE_CHECKING:
    from shared.pg import PgConnection

log = logging.getLogger(__name__)

ACTOR = "service:auth"
AT_ONCE = 16
"""Deliveries that one process makes at the same time."""
LEASE = timedelta(seconds=30)
"""How long a claim holds, and so how long a delivery waits whose process died over it: longer than it may take."""
DELIVER_TIMEOUT_S = 20
POLL_S = 1.0
HOLD = timedelta(seconds=1)
"""When a delivery is looked at again whose secret the proxies do not know yet."""
FIRST = timedelta(seconds=5)
LONGEST = timedelta(minutes=15)
SIGNAL_AT = 3
"""The failed attempt at which people hear of it; after that once a day."""
SIGNAL_EVERY = timedelta(days=1)


def pause_after(attempts: int) -> timedelta:
    """How long to wait after a number of failed attempts."""
    return min(FIRST * 2 ** min(attempts - 1, 20), LONGEST)


def is_told(attempts: int, signalled_at: datetime | None, now: datetime) -> bool:
    """Whether people hear of a failed attempt."""
    if attempts < SIGNAL_AT:
        return False
    return signalled_at is None or now - signalled_at >= SIGNAL_EVERY


class Delivering:
    """The loop of deliveries. `wake` says that there are some; it looks for them now and then anyway."""

    def __init__(
        self,
        commits: Commits,
        views: Views,
        pending: Pending,
        people: People,
        relay: Relay,
        couriers: Couriers,
        sealer: Sealer,
        clock: Clock,
        *,
        source: str,
        wake: asyncio.Event,
        announce: asyncio.Event,
        deliveries: Counter,
    ) -> None:
        self._commits = commits
        self._views = views
        self._pending = pending
        self._people = people
        self._relay = relay
        self._couriers = couriers
        self._sealer = sealer
        self._clock = clock
        self._source = source
        self._wake = wake
        self._announce = announce
        self._deliveries = deliveries
        self._under_way = 0
        self.outstanding = 0
        self._since: datetime | None = None

    @property
    def oldest_age_s(self) -> float:
        """For how long the oldest outstanding delivery has been waiting."""
        return 0.0 if self._since is None else max(0.0, (self._clock.now() - self._since).total_seconds())

    async def run(self) -> None:
        """Deliver for ever: whoever comes to an end makes room for the next one."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                try:
                    if await self._begin(group):
                        continue
                except StoreUnavailable as error:
                    log.debug("deliveries wait for the database: %s", error)
                try:
                    async with asyncio.timeout(POLL_S):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def _begin(self, group: asyncio.TaskGroup) -> int:
        """Begin the deliveries that are to be made now, as far as there is room; how many. Raises StoreUnavailable."""
        room = AT_ONCE - self._under_way
        if room <= 0:
            return 0
        self.outstanding, self._since = await self._pending.waiting()
        if not self.outstanding:
            return 0
        jobs = await self._pending.claim(self._clock.now(), lease=LEASE, most=room)
        for job in jobs:
            self._under_way += 1
            group.create_task(self._attempt(job))
        return len(jobs)

    async def _attempt(self, job: Job) -> None:
        """One delivery; nothing that goes wrong with it disturbs another one."""
        try:
            await self._deliver(job)
        except StoreError as error:
            log.info("the delivery of %s to %s is not recorded: %s", job.key_id, job.way, error)
        except Exception:
            log.exception("the delivery of %s to %s failed", job.key_id, job.way)
        finally:
            self._under_way -= 1
            self._wake.set()

    async def _deliver(self, job: Job) -> None:
        key = await self._views.key(job.key_id)
        secret = None if key is None else next((one for one in key.secrets if one.version == job.version), None)
        if key is None or secret is None or job.version not in waiting(key):
            return  # its row goes with the event that says so
        if secret_kv(secret.label, secret.digest) not in self._people.secrets:
            await self._pending.hold(job, self._clock.now() + HOLD)  # the proxies would refuse it
            return
        kind = job.target.kind
        try:
            async with asyncio.timeout(DELIVER_TIMEOUT_S):
                detail = await self._couriers.deliver(job.target, self._parcel(job, key, secret))
        except (DeliveryError, SealBroken) as error:
            await self._fail(job, key, str(error))
        except TimeoutError:
            await self._fail(job, key, f"not done within {DELIVER_TIMEOUT_S} s")
        except Exception as error:  # whatever it was, its owner hears of it
            log.exception("the delivery of %s to %s broke", job.key_id, job.way)
            await self._fail(job, key, f"failed: {type(error).__name__}")
        else:
            await self._record(job, detail)
            self._deliveries.add(1, kind, "delivered")
            log.info("version %d of %s was delivered to %s", job.version, job.key_id, job.way)

    def _parcel(self, job: Job, key: KeyState, secret: SecretState) -> Parcel:
        """What is brought. Raises SealBroken."""
        text = self._sealer.open(PURPOSE, context(job.key_id, job.version), job.sealed).decode()
        ends = [end for end in (secret.not_after, key.expires_at) if end is not None]
        return Parcel(
            owner=Owner(key_id=key.key_id, org_id=key.org_id, team_id=key.team_id, alias=key.alias),
            version=job.version,
            secret=text,
            minted_at=job.created_at,
            message_id=f"msg_{derived_id('delivery', job.key_id, str(job.version), job.way).replace('-', '')}",
            ends_at=min(ends, default=None),
            old_ends_at=old_ends_at(key, job.version),
        )

    async def _record(self, job: Job, detail: str) -> None:
        def decide(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            if state is None or state.deleted_at is not None:
                return []
            return decide_delivered(state, job.version, job.way, stamp, detail=detail)

        async def tell(connection: "PgConnection", state: KeyState, events: list[AnyAuthEvent]) -> None:
            for event in events:
                if isinstance(event, KeySecretDelivered):
                    signal = signals.delivered(state, job.version, job.way, at=event.at, source=self._source)
                    await put_signal(connection, *signal)

        try:
            change = await self._commits.key(
                job.key_id, decide, actor=ACTOR, cause=f"delivered to {job.way}", beside=tell
            )
        except ValueError:
            return  # the key is not there (any more)
        self._relay.tell(change.position)
        self._announce.set()

    async def _fail(self, job: Job, key: KeyState, reason: str) -> None:
        now = self._clock.now()
        signal = None
        if is_told(job.attempts, job.signalled_at, now):
            signal = signals.failed(
                key,
                job.version,
                job.way,
                reason,
                job.attempts,
                f"attempt {job.attempts}",
                at=now,
                source=self._source,
            )
        await self._pending.failed(job, reason=reason, next_at=now + pause_after(job.attempts), signal=signal, now=now)
        self._deliveries.add(1, job.target.kind, "failed")
        log.warning("version %d of %s was not delivered to %s: %s", job.version, job.key_id, job.way, reason)
        if signal is not None:
            self._announce.set()
