"""One enforcer's machine: reads the logs at its own pace, holds the office by a lease, and drives the real Desk."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from services.ledger.domain.desk import Batch, Desk, Out
from services.ledger.domain.fold import fold_auth, fold_correction, fold_grants, fold_usage
from services.ledger.domain.forget import Broom
from services.ledger.domain.state import LedgerState
from services.ledger.domain.tuning import Tuning
from shared.allotment import Answer, Ask, NotActive, Recall, Reply, Request
from shared.events import GrantBatch, GrantEntry, LedgerEpoch, UsageCorrected
from shared.ids import EventId, InstanceId
from tests.simulation.agenda import Watch
from tests.simulation.herald import Herald
from tests.simulation.logs import Conflict
from tests.simulation.machine import Machine
from tests.simulation.network import BUS
from tests.simulation.oracle import claim

if TYPE_CHECKING:
    from tests.simulation.world import World

LEASE_TTL_MS = 3_000
LEASE_POLL_MS = 500
RENEW_MS = 1_000
APPEND_WAIT_MS = 1_000
SWEEP_MS = 2_000
SWEEP_MOST = 500


class LeaseKeeper:
    """The key-value entry that says who should answer. It protects nothing."""

    def __init__(self) -> None:
        self.holder = ""
        self.until = 0.0

    def take(self, name: str, now: float) -> bool:
        """Take or renew; whether it is ours now."""
        if self.holder != name and now < self.until:
            return False
        self.holder, self.until = name, now + LEASE_TTL_MS
        return True


class Enforcer(Machine):
    """Standby, barrier, active, and back. `split`: usage and decisions are read with lags of their own."""

    def __init__(self, world: World, name: str, watch: Watch, random: Random, tuning: Tuning) -> None:
        super().__init__(world.agenda, name)
        self.world = world
        self.watch = watch
        self.random = random
        self.tuning = tuning
        self.split = random.random() < 0.5
        self.starts = 0
        self.slow: dict[str, float] = {}
        """Until when a log is read late."""
        self.held: set[str] = set()
        """Logs that are not read at all."""
        self.clients: dict[int, tuple[str, Request]] = {}
        self.tokens = 0
        self._reset()
        world.logs.on_auth.append(lambda: self._noticed("auth"))
        world.logs.on_ledger.append(self._noticed_ledger)

    def _reset(self) -> None:
        self.state = LedgerState(partition=0)
        self.desk = Desk(self.state, self.tuning)
        self.herald = Herald(self)
        self.cursors = {"auth": 0, "usage": 0, "grants": 0}
        self.reading: set[str] = set()
        self.standing = "standby"
        self.appending = False
        self.fresh_until = 0.0
        self.wake_at = float("inf")
        self.clients.clear()

    # ---- life ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin with nothing (or a snapshot) and read."""
        self.starts += 1
        self.instance = InstanceId(f"{self.name}.{self.starts}")
        self.rise()
        self._reset()
        self.world.shelf.lend(self)
        for log in self.cursors:
            self._noticed(log)
        self.later(self.random.uniform(0, LEASE_POLL_MS), self._seek_office)
        self.later(SWEEP_MS, self._sweep)

    def _sweep(self) -> None:
        """Forget what nobody will ask about any more: at the end of the logs, and under no decision on its way."""
        logs = self.world.logs
        ends = {"auth": len(logs.auth), "usage": len(logs.ledger), "grants": len(logs.ledger)}
        read = all(self.cursors[log] == end for log, end in ends.items() if self.split or log != "grants")
        if read and not self.appending:
            Broom(self.state).sweep(self.watch.now(), SWEEP_MOST)
        self.later(self.random.uniform(0.5, 1.5) * SWEEP_MS, self._sweep)

    def begin_with(self, state: LedgerState) -> None:
        """Start from a snapshot."""
        self.state = state
        self.desk = Desk(state, self.tuning)
        self.cursors = {"auth": state.auth_pos, "usage": state.ledger_pos, "grants": state.ledger_pos}

    def crash(self) -> None:
        """Lose everything in memory."""
        self.fall()
        self.standing = "standby"

    # ---- reading ------------------------------------------------------------------------------------

    def _noticed_ledger(self) -> None:
        self._noticed("usage")
        self._noticed("grants")

    def _noticed(self, log: str) -> None:
        if not self.alive or log in self.reading or (log == "grants" and not self.split):
            return
        self.reading.add(log)
        slow = self.agenda.now < self.slow.get(log, 0)
        self.later(self.random.uniform(0.2, 20_000 if slow else 30), self._read, log)

    def _read(self, log: str) -> None:
        self.reading.discard(log)
        if log in self.held or not self.world.net.reaches(BUS, self.name):
            self.reading.add(log)
            self.later(100, self._read, log)
            return
        if log == "auth":
            self.read_auth(len(self.world.logs.auth))
        else:
            self.read_ledger(log, len(self.world.logs.ledger))
        self.pump()

    def read_auth(self, upto: int) -> None:
        """Fold AUTH up to a sequence."""
        for seq in range(self.cursors["auth"] + 1, upto + 1):
            fold_auth(self.state, self.world.logs.auth[seq - 1].event, seq)
        self.cursors["auth"] = max(self.cursors["auth"], upto)

    def read_ledger(self, log: str, upto: int) -> None:
        """Fold LEDGER up to a sequence; with `split` only its usage or only its decisions."""
        logs = self.world.logs
        for seq in range(self.cursors[log] + 1, upto + 1):
            message = logs.ledger[seq - 1]
            if isinstance(message, GrantBatch):
                if log == "grants" or not self.split:
                    self._fold_decisions(message, seq)
            elif log == "usage":
                for event in message:
                    if isinstance(event, UsageCorrected):
                        fold_correction(self.state, event)
                    else:
                        fold_usage(self.state, event)
        self.cursors[log] = max(self.cursors[log], upto)
        if log == "usage":
            self.state.ledger_pos = max(self.state.ledger_pos, upto)
            self.world.shelf.offer(self)

    def _fold_decisions(self, batch: GrantBatch, seq: int) -> None:
        folded = fold_grants(self.state, batch, seq, self.watch.ms())
        if folded and batch.source != self.instance and self.standing != "standby":
            self.leave("somebody else has decided something")

    # ---- office -------------------------------------------------------------------------------------

    def _seek_office(self) -> None:
        self.later(LEASE_POLL_MS if self.standing == "standby" else RENEW_MS, self._seek_office)
        sent = self.watch.ms()
        self.world.net.send(self.name, BUS, self._at_lease_keeper, self.life, sent)

    def _at_lease_keeper(self, life: int, sent: int) -> None:
        ours = self.world.lease.take(self.instance, self.agenda.now) if self.life == life and self.alive else False
        self.world.net.send(BUS, self.name, self.hear, self._lease_said, life, ours, sent)

    def _lease_said(self, life: int, ours: bool, sent: int) -> None:
        if life != self.life:
            return
        if not ours:
            self.fresh_until = 0
            if self.standing != "standby":
                self.leave("somebody else holds the lease")
            return
        self.fresh_until = max(self.fresh_until, sent + LEASE_TTL_MS)
        if self.standing == "standby":
            self.standing = "barrier"
            self._take_office()

    @property
    def fresh(self) -> bool:
        """Whether our lease is not in doubt."""
        return self.watch.ms() < self.fresh_until

    def _take_office(self) -> None:
        """Fold what earlier decisions rest on, then append the epoch behind the fence."""
        state = self.state
        if self.standing != "barrier" or self.appending:
            return
        if not self.fresh:
            self.standing = "standby"
            return
        if self.world.barrier and (state.auth_pos < state.auth_need or state.ledger_pos < state.usage_need):
            self.later(20, self._take_office)
            return
        epoch = LedgerEpoch(epoch=state.epoch + 1, holder=self.instance, lease_ms=self.tuning.lease_ms)
        batch = self._batch((epoch,), self.watch.now(), state.auth_pos, state.ledger_pos)
        self._append(batch, self._epoch_appended, self._epoch_failed)

    def _epoch_appended(self, batch: GrantBatch, seq: int) -> None:
        fold_grants(self.state, batch, seq, self.watch.ms())
        if self.standing == "barrier":
            self.standing = "active"
            self.desk.begin(self.watch.ms())
            self.herald.begin()
            self.pump()

    def _epoch_failed(self, _reason: str) -> None:
        self.later(20, self._take_office)

    def leave(self, reason: str) -> None:
        """Send everybody away and wait for the lease again."""
        self.standing = "standby"
        self.world.trace(f"{self.name} leaves: {reason}")
        self._let_out(self.desk.leave(reason))

    # ---- deciding -----------------------------------------------------------------------------------

    @property
    def serving(self) -> bool:
        """Whether it is subscribed to the requests of proxies."""
        return self.alive and self.standing == "active"

    def receive(self, client: str, request: Request) -> None:
        """One request of a proxy arrives at this machine."""
        self.hear(self._take, client, request)

    def _take(self, client: str, request: Request) -> None:
        if self.standing != "active":
            self._reply(client, request, NotActive(sent_ms=request.sent_ms, reason="standby"))
            return
        self.tokens += 1
        self.clients[self.tokens] = (client, request)
        self.desk.take(self.tokens, request, self.watch.ms())
        self.pump()

    def pump(self) -> None:
        """Decide as long as there is something to decide and no append is under way."""
        if self.standing == "barrier":
            self._take_office()
        while self.standing == "active" and not self.appending:
            now, now_ms = self.watch.now(), self.watch.ms()
            decided = self.desk.next_batch(now, now_ms)
            if decided is None:
                self._sleep(now_ms)
                break
            if not decided.records:
                self._let_out(self.desk.committed(decided, None, None, now_ms))
                continue
            if self.world.hasty:
                self._let_out(Out(replies=list(decided.replies)))
            batch = self._batch(decided.records, decided.at, decided.auth_pos, decided.usage_pos)
            self._append(batch, partial(self._committed, decided), partial(self._dropped, decided))
        self.herald.look()

    def _sleep(self, now_ms: int) -> None:
        due = self.desk.due_ms(now_ms)
        if due is None:
            return
        when = max(self.watch.when(due), self.agenda.now + 0.5)
        if when < self.wake_at - 0.5 or self.wake_at <= self.agenda.now:
            self.wake_at = when
            self.later(when - self.agenda.now, self._woken, when)

    def _woken(self, when: float) -> None:
        if when == self.wake_at:
            self.wake_at = float("inf")
        self.pump()

    def _committed(self, decided: Batch, batch: GrantBatch, seq: int) -> None:
        if self.standing != "active":  # the office was left meanwhile and everybody sent away; the log tells the rest
            return
        self._let_out(self.desk.committed(decided, batch, seq, self.watch.ms()))
        self.pump()

    def _dropped(self, decided: Batch, reason: str) -> None:
        if self.standing == "active":
            self._let_out(self.desk.dropped(decided, reason))
            self.leave(reason)

    def _let_out(self, out: Out) -> None:
        for token, reply in out.replies:
            known = self.clients.pop(token, None)
            if known is None:
                claim(self.world.hasty, "one request was answered twice", token, reply)
                continue
            client, request = known
            if isinstance(reply, Answer) and reply.verdict != "ok" and not self.fresh and self.world.opinions:
                reply = NotActive(sent_ms=reply.sent_ms, reason="the lease is in doubt")
            if isinstance(reply, Answer) and isinstance(request, Ask):
                self.world.referee.answered(self, request, reply)
            self._reply(client, request, reply)
        for instance, recall in out.recalls:
            self._recall(instance, recall)

    def _reply(self, client: str, request: Request, reply: Reply) -> None:
        self.world.trace(f"{self.instance} -> {client} of {request.instance}: {reply}")
        self.world.referee.said(request.instance, reply)
        proxy = self.world.machines[client]
        self.world.net.send(self.name, client, proxy.hear, proxy.heard, request.instance, reply)

    def _recall(self, instance: InstanceId, recall: Recall) -> None:
        self.world.count("recalls")
        self.world.trace(f"{self.instance} -> {instance}: {recall}")
        self.world.referee.said(instance, recall)
        proxy = self.world.machines[instance.partition(".")[0]]
        self.world.net.send(self.name, proxy.name, proxy.hear, proxy.recalled, instance, recall)

    # ---- appending ----------------------------------------------------------------------------------

    def _batch(self, records: tuple[GrantEntry, ...], at: datetime, auth_pos: int, usage_pos: int) -> GrantBatch:
        return GrantBatch(
            id=EventId(f"batch-{self.world.number()}"),
            at=at,
            source=self.instance,
            auth_pos=auth_pos,
            usage_pos=usage_pos,
            records=records,
        )

    def _append(
        self, batch: GrantBatch, landed: Callable[[GrantBatch, int], None], failed: Callable[[str], None]
    ) -> None:
        """Compare and append: it lands or not, and the acknowledgement may be lost either way."""
        self.appending = True
        ended: list[bool] = []

        def end(deed: Callable[..., None], *args: object) -> None:
            if not ended:
                ended.append(True)
                self.appending = False
                deed(*args)

        life, expected = self.life, self.state.grant_seq

        def arrive() -> None:
            try:
                seq = self.world.logs.append(batch, expected)
            except Conflict:
                answer: tuple[object, ...] = (failed, "a conflict")
            else:
                answer = (landed, batch, seq)
            self.world.net.send(BUS, self.name, self.hear_in, life, end, *answer)

        self.world.send_once(self.name, BUS, arrive)
        self.later(APPEND_WAIT_MS, end, failed, "no acknowledgement in time")
