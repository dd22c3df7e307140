"""One partition's office: wait for the lease, take office behind the fence, serve until anything is in doubt.

Whoever waits reads the logs all the while, so that it can take over within seconds.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Literal

from services.ledger.domain.fold import fold_grants
from services.ledger.domain.forget import Broom
from services.ledger.domain.state import LedgerState
from services.ledger.domain.tuning import Tuning
from services.ledger.enforcer.clerk import Clerk
from services.ledger.enforcer.herald import Herald
from services.ledger.enforcer.lease import Lease
from services.ledger.enforcer.meters import Meters
from services.ledger.enforcer.reader import Reader
from services.ledger.enforcer.snapshots import SnapshotKeeper, SnapshotStore
from shared.bus import Bucket, Bus
from shared.clock import Clock
from shared.errors import BusError, BusUnavailable, TundishError
from shared.events import GrantBatch, LedgerEpoch, encode
from shared.ids import EventId, InstanceId, uuid7
from shared.tasks import Supervisor
from shared.topology import LEASES_BUCKET, allot_subject, grant_fence, grant_subject, recall_subject

log = logging.getLogger(__name__)

LEASE_POLL_S = 0.25
LEASE_RENEW_S = 0.75
APPEND_S = 2.0
"""An append without an answer for this long is in doubt: the office is taken anew, which costs little."""
RETIRE_S = 0.5
RETIRE_TRIES = 4
READ_WAIT_S = 1.0
"""What taking office waits for is on its way to the reader; it looks again at least this often."""

SWEEP_S = 0.5
SWEEP_REST_S = 60.0

Standing = Literal["standby", "barrier", "active"]


class Office:
    """Everything that belongs to one partition in this process."""

    def __init__(
        self,
        bus: Bus,
        state: LedgerState,
        instance: InstanceId,
        clock: Clock,
        meters: Meters,
        *,
        tuning: Tuning,
        created: dict[str, str],
        snapshots: SnapshotStore,
        snapshot_every: int,
        fatal: "asyncio.Future[None]",
    ) -> None:
        partition = state.partition
        self._bus = bus
        self._partition = partition
        self._instance = instance
        self._clock = clock
        self._tuning = tuning
        self._fatal = fatal
        self._source = f"ledger-enforcer/{instance}"
        self._subject = grant_subject(partition, instance)
        self._doubt = asyncio.Event()
        self.standing: Standing = "standby"
        self._holding: asyncio.Task[None] | None = None
        self.state = state
        self.lease = Lease(Bucket(bus, LEASES_BUCKET), partition, instance, clock)
        self.clerk = Clerk(
            state,
            tuning,
            clock,
            meters,
            source=self._source,
            append=self.append,
            recall=self.recall,
            lease_fresh=self.lease.fresh,
            on_doubt=self._on_doubt,
            on_commit=self._on_commit,
        )
        self.herald = Herald(
            bus,
            state,
            self.clerk.board,
            clock,
            meters,
            source=self._source,
            tell=self.clerk.tell,
            lease_fresh=self.lease.fresh,
        )
        self.snapshots = SnapshotKeeper(
            snapshots,
            state,
            clock,
            meters,
            created=created,
            every=snapshot_every,
            active=lambda: self.standing == "active",
        )
        self.reader = Reader(
            bus,
            state,
            clock,
            own_subject=self._subject,
            created=created,
            on_change=self._on_change,
            on_foreign=self._on_foreign,
            on_fatal=self._on_fatal,
            meters=meters,
        )

    def start(self, supervisor: Supervisor) -> None:
        """Begin to read, and to serve when it is our turn."""
        name = f"partition {self._partition}"
        supervisor.keep(f"{name}: reading auth", self.reader.follow_auth)
        supervisor.keep(f"{name}: reading the ledger", self.reader.follow_ledger)
        supervisor.keep(f"{name}: clerk", self.clerk.run)
        supervisor.keep(f"{name}: herald", self.herald.run)
        supervisor.keep(f"{name}: snapshots", self.snapshots.run)
        supervisor.keep(f"{name}: forgetting", self._forget)
        self._holding = supervisor.keep(f"{name}: office", self.hold)

    def problem(self) -> str | None:
        """What is wrong, for the health page; None while in office, and while another enforcer is and we follow it."""
        if not self.reader.caught_up:
            return f"reading the logs: {sum(self.reader.lag.values())} messages to go"
        if self.standing == "active" or (self.standing == "standby" and self.lease.taken):
            return None
        return "waiting for the lease" if self.standing == "standby" else "taking office"

    def word(self) -> str | None:
        """What the health page says of an office that is well; None: nothing but that."""
        return "standby" if self.standing == "standby" else None

    async def retire(self) -> None:
        """Leave the office for good, and the lease to whoever comes next, at once.

        Python 3.11 loses a cancellation that meets an answer of NATS (in `wait_for`), hence the repetition.
        """
        self.clerk.close()
        for _ in range(RETIRE_TRIES):
            if self._holding is None or self._holding.done():
                break
            self._holding.cancel()
            await asyncio.wait({self._holding}, timeout=RETIRE_S)
        await self.lease.release()

    async def recall(self, instance: InstanceId, data: bytes) -> None:
        """Ask a proxy instance for idle money; a message that is lost costs somebody a wait, nothing else."""
        await self._bus.send(recall_subject(self._partition, instance), data)

    async def append(self, data: bytes, expected: int, msg_id: str) -> int:
        """Append decisions if `expected` is the last decision of the partition. Raises BusError."""
        fence = grant_fence(self._partition)
        return await self._bus.append(
            self._subject, data, fence=fence, expected=expected, msg_id=msg_id, timeout_s=APPEND_S
        )

    async def hold(self) -> None:
        """Wait for the lease and serve, again and again."""
        while True:
            self.standing = "standby"
            await self.reader.until(lambda: self.reader.caught_up)
            if await self._is_our_turn():
                await self._serve()
            else:
                await asyncio.sleep(LEASE_POLL_S)

    async def _is_our_turn(self) -> bool:
        try:
            return await self.lease.take()
        except BusUnavailable as error:
            log.info("partition %d: the lease cannot be asked for: %s", self._partition, error)
            return False

    async def _serve(self) -> None:
        """One term in office; ends when the lease is lost or a decision of ours is in doubt."""
        self._doubt.clear()
        self.standing = "barrier"
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(self._renew())
            try:
                await self._take_office()
                if not self._doubt.is_set():
                    await self._answer_until_doubt()
            finally:
                self.standing = "standby"
                self._doubt.set()  # whatever becomes of the cancellation, the lease is not renewed any more
                renewing.cancel()

    async def _answer_until_doubt(self) -> None:
        self.clerk.begin()
        self.herald.begin()
        try:
            subscription = await self._bus.serve(allot_subject(self._partition), self.clerk.receive)
            self.standing = "active"
            try:
                await self._doubt.wait()
            finally:
                with contextlib.suppress(Exception):  # without a connection there is nothing to unsubscribe
                    await subscription.unsubscribe()
        finally:
            self.herald.open = False
            await self.clerk.pause("this enforcer has left the office")

    async def _take_office(self) -> None:
        """Fold what earlier decisions were based on, then append an epoch behind the fence.

        The append succeeds only on a state that holds every earlier decision, so its success is what makes this
        enforcer active. A conflict means that there is more to read.
        """
        state = self.state
        while not self._doubt.is_set():
            if state.auth_pos < state.auth_need or state.ledger_pos < state.usage_need:
                await self._read(lambda: state.auth_pos >= state.auth_need and state.ledger_pos >= state.usage_need)
                continue
            expected = state.grant_seq
            batch = GrantBatch(
                id=EventId(uuid7()),
                at=self._clock.now(),
                source=self._source,
                auth_pos=state.auth_pos,
                usage_pos=state.ledger_pos,
                records=(LedgerEpoch(epoch=state.epoch + 1, holder=self._instance, lease_ms=self._tuning.lease_ms),),
            )
            try:
                seq = await self.append(encode(batch), expected, batch.id)
            except BusError as error:
                log.info("partition %d: the epoch was not appended: %s", self._partition, error)
                await self._read(self._has_more_than(expected))
                continue
            fold_grants(state, batch, seq, self._clock.monotonic_ms())
            log.info("partition %d: in office with epoch %d", self._partition, state.epoch)
            return

    def _has_more_than(self, grant_seq: int) -> Callable[[], bool]:
        return lambda: self.state.grant_seq > grant_seq

    async def _read(self, reached: Callable[[], bool]) -> None:
        """Wait a bounded time until something has been read."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READ_WAIT_S):
                await self.reader.until(reached)

    async def _forget(self) -> None:
        """Drop what nobody will ask about, a little at a time, never under a decision that is on its way, and only
        at the end of the logs: what is used up in an old part of them may be granted more further on."""
        broom = Broom(self.state)
        while True:
            may = self.reader.caught_up and not self.clerk.deciding
            complete = may and broom.sweep(self._clock.now())
            await asyncio.sleep(SWEEP_REST_S if complete else SWEEP_S)

    async def _renew(self) -> None:
        while not self._doubt.is_set():
            await asyncio.sleep(LEASE_RENEW_S)
            if not self._doubt.is_set() and not await self.lease.renew():
                self._on_doubt("somebody else holds the lease")

    # ---- what is heard -------------------------------------------------------------------------------

    def _on_doubt(self, reason: str) -> None:
        self.clerk.close()
        if not self._doubt.is_set():
            log.warning("partition %d: leaving office: %s", self._partition, reason)
            self._doubt.set()

    def _on_foreign(self, source: str) -> None:
        if self.standing != "standby":
            self._on_doubt(f"{source} has decided something")

    def _on_change(self) -> None:
        self.snapshots.wake()
        if self.clerk.open:
            self.clerk.wake()
            self.herald.wake()

    def _on_commit(self) -> None:
        self.herald.wake()

    def _on_fatal(self, error: TundishError) -> None:
        if not self._fatal.done():
            self._fatal.set_exception(error)
