"""A small world for property tests: proxies with wallets, enforcers that come and go, and links that lose things.

Enforcers are real desks. Time moves in minutes; a lease lasts ten of them, a call five.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.ledger.domain.desk import Batch, Desk
from services.ledger.domain.fold import fold_auth, fold_grants
from services.ledger.domain.state import LedgerState
from services.ledger.domain.tuning import Tuning
from shared.allotment import Ack, Answer, Ask, Beat, Close, Recall, Reply, Request, Return, Row
from shared.events import (
    AccountWindow,
    AllotmentClosed,
    AllotmentGranted,
    AnyUsage,
    GrantBatch,
    GrantEntry,
    LedgerEpoch,
    UsageRecorded,
)
from shared.ids import AccountId, InstanceId, KeyId
from shared.policy import Budget, Increase, matches
from tests.support.ledger import (
    EPOCH,
    KEY,
    ORG,
    OTHER,
    TEAM,
    Logs,
    budget,
    budget_set,
    corrected,
    event_id,
    fold_any,
    key_issued,
    team_created,
    used,
)

KEYS = (KEY, OTHER)
BIG = "big-*"
MODELS = ("small", "big-1")
MINUTE_MS = 60_000
TUNING = Tuning(lease_ms=10 * MINUTE_MS, max_call_ms=5 * MINUTE_MS, margin_ms=MINUTE_MS)


@dataclass
class Wallet:
    """One allotment as its proxy sees it; `until_ms` is when it stops admitting. `calls` are (hold, started)."""

    serial: int
    key: KeyId
    model: str
    lineage: tuple[str, ...]
    rev: int
    term: tuple[AccountWindow, ...] = ()
    granted: int = 0
    returned: int = 0
    spent: int = 0
    rseq: int = 0
    until_ms: int = 0
    draining: bool = False
    calls: list[tuple[int, int]] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)

    @property
    def holds(self) -> int:
        return sum(hold for hold, _ in self.calls)

    @property
    def room(self) -> int:
        return self.granted - self.returned - self.spent - self.holds

    def row(self) -> Row:
        return Row(self.serial, self.returned, self.spent, self.granted, self.holds)


class Proxy:
    """One instance: wallets, running calls, and a journal whose events go out in their own time."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.id = InstanceId(name)
        self.wallets: list[Wallet] = []
        self.journal: list[UsageRecorded] = []
        self.n = 0
        self.lease_until_ms = 0
        self.closed = False

    def wallet(self, key: KeyId, model: str) -> Wallet:
        lineage = self.world.lineage(key, model)
        for wallet in self.wallets:
            if wallet.key == key and wallet.lineage == lineage and not wallet.draining:
                if wallet.term and self.world.now_ms >= wallet.until_ms:
                    wallet.draining = True
                    continue
                return wallet
        fresh = Wallet(len(self.wallets) + 1, key, model, lineage, len(self.world.logs.auth))
        self.wallets.append(fresh)
        return fresh

    def call(self, key: KeyId, model: str, hold: int, ahead: int) -> None:
        """Start a call, or let it wait and ask for its money."""
        wallet = self.wallet(key, model)
        if not self.start(wallet, hold):
            wallet.waiting = [*wallet.waiting, hold][-3:]
            self.world.requests.append((self, self.ask(wallet, wallet.waiting[0], ahead)))

    def ask(self, wallet: Wallet, cost: int, ahead: int) -> Ask:
        wallet.rseq += 1
        need = wallet.returned + wallet.spent + wallet.holds + cost
        return Ask(
            instance=self.id,
            serial=wallet.serial,
            key_id=wallet.key,
            lineage=tuple(AccountId(name) for name in wallet.lineage),
            model=wallet.model,
            policy_rev=wallet.rev,
            rseq=wallet.rseq,
            need=need,
            want=need + ahead,
            least=cost,
            sent_ms=self.world.now_ms,
            rows=(wallet.row(),),
        )

    def start(self, wallet: Wallet, hold: int) -> bool:
        now_ms = self.world.now_ms
        if wallet.draining or now_ms >= min(wallet.until_ms, self.lease_until_ms) or hold > wallet.room:
            return False
        wallet.calls.append((hold, now_ms))
        return True

    def finish(self, wallet: Wallet, cost: int) -> None:
        held, _ = wallet.calls.pop(0)
        wallet.spent += cost
        self.n += 1
        self.journal.append(
            used(self.n, cost, *wallet.term, serial=wallet.serial, instance=self.id, held=held, key=wallet.key)
        )

    def give_back(self) -> tuple[Row, ...]:
        for wallet in self.wallets:
            wallet.returned += max(0, wallet.room)
        return tuple(wallet.row() for wallet in self.wallets)

    def recalled(self, recall: Recall) -> None:
        """Give back what is idle on the account, but for what waits here."""
        self.believe_known(recall.known, 0)
        for wallet in self.wallets:
            if recall.account in wallet.lineage:
                wallet.returned += max(0, wallet.room - sum(wallet.waiting))
        rows = tuple(wallet.row() for wallet in self.wallets)
        self.world.requests.append((self, Return(instance=self.id, rows=rows, sent_ms=self.world.now_ms)))

    def learn(self, reply: Reply) -> None:
        if isinstance(reply, Answer):
            if reply.verdict == "closed":
                self.closed = True
                self.lease_until_ms = 0
            else:
                self.lease_until_ms = max(self.lease_until_ms, reply.sent_ms + reply.lease_ms)
            wallet = self.wallets[reply.serial - 1]
            self._believe(wallet, reply.granted, reply.term, reply.sent_ms + reply.admit_for_ms)
            if reply.verdict == "policy":
                wallet.draining = True
        elif isinstance(reply, Ack):
            if reply.closed:
                self.closed = True
                self.lease_until_ms = 0
            else:
                self.lease_until_ms = max(self.lease_until_ms, reply.sent_ms + reply.lease_ms)
            self.believe_known(reply.known, reply.sent_ms)
        if self.closed:
            self.lease_until_ms = 0

    def believe_known(self, known: tuple[object, ...], sent_ms: int) -> None:
        for entry in known:
            wallet = self.wallets[entry.serial - 1]  # pyright: ignore[reportAttributeAccessIssue]
            until_ms = sent_ms + entry.admit_for_ms if sent_ms else 0  # pyright: ignore[reportAttributeAccessIssue]
            self._believe(wallet, entry.granted, entry.term, until_ms)  # pyright: ignore[reportAttributeAccessIssue]

    def _believe(self, wallet: Wallet, granted: int, term: tuple[AccountWindow, ...], until_ms: int) -> None:
        wallet.granted = max(wallet.granted, granted)
        wallet.term = wallet.term or term
        wallet.until_ms = max(wallet.until_ms, until_ms)
        while wallet.waiting and self.start(wallet, wallet.waiting[0]):
            wallet.waiting.pop(0)

    def may_run_calls(self) -> bool:
        """Whether a call runs here or may still begin."""
        return self.world.now_ms < self.lease_until_ms or any(wallet.calls for wallet in self.wallets)


class Enforcer:
    """Reads the logs at its own pace; `active` once its epoch is in the log and nothing was in doubt since."""

    def __init__(self, world: "World", skew: timedelta = timedelta()) -> None:
        self.world = world
        self.skew = skew
        self.state = LedgerState(partition=0)
        self.desk = Desk(self.state, TUNING)
        self.senders: dict[int, Proxy] = {}
        self.token = 0
        self.usage_read = 0
        self.active = False

    def read(self, log: str, most: int) -> None:
        logs = self.world.logs
        if log == "auth":
            for event in logs.auth[self.state.auth_pos :][:most]:
                fold_auth(self.state, event, self.state.auth_pos + 1)
        elif log == "usage":
            for event in logs.usage[self.usage_read :][:most]:
                fold_any(self.state, event)
                self.usage_read += 1
                self.state.ledger_pos = self.usage_read
        else:
            for batch in logs.grants[self.state.grant_seq :][:most]:
                fold_grants(self.state, batch, self.state.grant_seq + 1, self.world.now_ms)
                self.leave()  # somebody else decides, or an append of ours landed after all

    def leave(self) -> None:
        self.active = False
        self.desk.leave("in doubt")

    def take_office(self) -> None:
        """Read what earlier decisions were based on, then append an epoch behind the fence."""
        self.leave()
        self.read("auth", self.state.auth_need - self.state.auth_pos)
        self.read("usage", self.state.usage_need - self.usage_read)
        epoch = LedgerEpoch(epoch=self.state.epoch + 1, holder=InstanceId("e"), lease_ms=TUNING.lease_ms)
        batch = self._append((epoch,), "lands")
        if batch is not None:
            fold_grants(self.state, batch, len(self.world.logs.grants), self.world.now_ms)
            self.desk.begin(self.world.now_ms)
            self.active = True

    def serve(self, requests: list[tuple[Proxy, Request]], fate: str) -> None:
        """Take requests in and decide; `fate` is what happens to the first append."""
        for proxy, request in requests:
            if isinstance(request, Ask) and request.policy_rev > self.state.auth_pos:
                self.read("auth", 1_000)
            self.token += 1
            self.senders[self.token] = proxy
            self.desk.take(self.token, request, self.world.now_ms)
        self.work(fate)

    def work(self, fate: str = "lands") -> None:
        """Decide until nothing is left to do."""
        for _ in range(200):
            if not self.active:
                return
            batch = self.desk.next_batch(self.world.now + self.skew, self.world.now_ms)
            if batch is None:
                return
            self._commit(batch, fate)
            fate = "lands"
        raise AssertionError("the desk never comes to rest")

    def _commit(self, batch: Batch, fate: str) -> None:
        source = None
        if batch.records:
            source = self._append(batch.records, fate)
            if source is None or fate == "unacknowledged":
                self.desk.dropped(batch, "in doubt")
                self.leave()
                return
        seq = len(self.world.logs.grants) if source is not None else None
        out = self.desk.committed(batch, source, seq, self.world.now_ms)
        assert out.failed == []
        for token, reply in out.replies:
            self.world.replies.append((self.senders.pop(token), reply))
        for name, recall in out.recalls:
            self.world.recalls.append((name, recall))

    def _append(self, records: tuple[GrantEntry, ...], fate: str) -> GrantBatch | None:
        logs = self.world.logs
        if fate == "lost" or self.state.grant_seq != len(logs.grants):
            return None
        batch = GrantBatch(
            id=event_id(),
            at=self.world.now + self.skew,
            source="enforcer",
            auth_pos=self.state.auth_pos,
            usage_pos=self.usage_read,
            records=records,
        )
        logs.grants.append(batch)
        self.world.check_batch(batch, self.state)
        return batch


class World:
    """Everything. `strict`: no call costs more than its hold, and all budgets are strict."""

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self.now = EPOCH + timedelta(minutes=1)
        self.logs = Logs()
        self.budgets: dict[str, Budget] = {}
        self.highest: dict[str, int] = {}
        self.reduced: dict[AccountWindow, int] = {}
        self.corrections = 0
        self.started = 0
        self.requests: list[tuple[Proxy, Request]] = []
        self.replies: list[tuple[Proxy, Reply]] = []
        self.recalls: list[tuple[str, Recall]] = []
        self.proxies: list[Proxy] = []
        self.dead: list[Proxy] = []
        self.logs.auth += [key_issued(KEY), key_issued(OTHER), team_created()]
        self.limit("key", KEY, 300)
        self.limit("model", KEY, 120)
        self.limit("key", OTHER, 200)
        self.limit("org", ORG, 400)
        self.enforcers = [Enforcer(self), Enforcer(self, timedelta(minutes=-9))]

    @property
    def now_ms(self) -> int:
        return (self.now - EPOCH) // timedelta(milliseconds=1)

    def limit(self, kind: str, scope_id: str, amount: int, increase: Increase | None = None) -> None:
        """Set the limit of a key, of a key's calls to big models, of the team or of the organization."""
        made = budget(
            scope_id,
            amount,
            kind="key" if kind == "model" else kind,  # pyright: ignore[reportArgumentType]
            account=f"m:{scope_id}" if kind == "model" else None,
            duration="1h" if kind in ("key", "model") else "3h",
            strict=self.strict,
            thresholds=(50, 80),
            soft=60 if kind == "key" else None,
            model=BIG if kind == "model" else None,
            increase=increase,
        )
        self.budgets[made.account] = made
        scope = [entry for entry in self.budgets.values() if entry.scope_id == scope_id]
        self.logs.auth.append(budget_set(*scope))
        top = amount + (0 if increase is None else increase.amount_nusd)
        self.highest[made.account] = max(top, self.highest.get(made.account, 0))

    def lineage(self, key: KeyId, model: str) -> tuple[str, ...]:
        scopes = (key, TEAM, ORG)
        return tuple(
            entry.account
            for scope in scopes
            for entry in self.budgets.values()
            if entry.scope_id == scope and (entry.model is None or matches(entry.model, model))
        )

    def correct(self, window: AccountWindow, delta: int) -> None:
        self.corrections += 1
        self.logs.usage.append(corrected(self.corrections, (window, delta)))
        self.reduced[window] = self.reduced.get(window, 0) + min(0, delta)

    def chief(self) -> Enforcer:
        """An enforcer in office; the first one takes it when nobody holds it."""
        for enforcer in self.enforcers:
            if enforcer.active:
                return enforcer
        self.enforcers[0].read("grants", 10_000)
        self.enforcers[0].take_office()
        return self.enforcers[0]

    def start_proxy(self) -> Proxy:
        self.started += 1
        proxy = Proxy(self, f"p{self.started}")
        self.proxies.append(proxy)
        return proxy

    def bury(self, proxy: Proxy) -> None:
        """A proxy is no more (crashed, or told that it was closed); another one takes its place."""
        self.proxies.remove(proxy)
        self.dead.append(proxy)
        proxy.lease_until_ms = 0
        self.start_proxy()

    def recover(self, proxy: Proxy) -> None:
        """A successor charges running calls at their hold, under the old name, and announces the end."""
        for wallet in proxy.wallets:
            while wallet.calls:
                proxy.finish(wallet, wallet.calls[0][0])
        self.requests.append((proxy, Close(instance=proxy.id, last_n=proxy.n, sent_ms=self.now_ms)))

    def pass_minutes(self, minutes: int) -> None:
        """Time passes; calls are stopped when they have run for too long, and enforcers in office look around."""
        for _ in range(minutes):
            self.now += timedelta(minutes=1)
            for proxy in self.proxies:
                for wallet in proxy.wallets:
                    while wallet.calls and wallet.calls[0][1] + TUNING.max_call_ms <= self.now_ms:
                        proxy.finish(wallet, wallet.calls[0][0])
        for enforcer in self.enforcers:
            enforcer.work()

    # ---- what must hold ------------------------------------------------------------------------------

    def check_batch(self, batch: GrantBatch, decider: LedgerState) -> None:
        """After a grant, what counts as spent plus escrow is within the limit: truly when costs keep to their holds,
        else as far as the enforcer that decided could know."""
        earlier = self.logs.grants[:-1]
        assert batch.auth_pos >= max((entry.auth_pos for entry in earlier), default=0)
        assert batch.usage_pos >= max((entry.usage_pos for entry in earlier), default=0)
        self.check_windows(batch, decider)
        self.check_silent(batch)
        truth = self.fold_to(batch)
        for record in batch.records:
            if isinstance(record, AllotmentGranted):
                for window in record.term:
                    limit = truth.directory.budgets[window.account].limit_at(batch.at)
                    balance = truth.balance(window)
                    assert limit is not None
                    assert balance.used + balance.escrow <= limit, (window, balance, limit)

    def fold_to(self, batch: GrantBatch) -> LedgerState:
        truth = LedgerState(partition=0)
        for seq, event in enumerate(self.logs.auth[: batch.auth_pos], 1):
            fold_auth(truth, event, seq)
        for event in self._usage(batch):
            fold_any(truth, event)
        for seq, entry in enumerate(self.logs.grants, 1):
            fold_grants(truth, entry, seq)
        return truth

    def _usage(self, batch: GrantBatch) -> list[AnyUsage]:
        """All usage when costs keep to their holds (but corrections only as far as they were known)."""
        if not self.strict:
            return self.logs.usage[: batch.usage_pos]
        known, later = self.logs.usage[: batch.usage_pos], self.logs.usage[batch.usage_pos :]
        return [*known, *(event for event in later if isinstance(event, UsageRecorded))]

    def check_windows(self, batch: GrantBatch, decider: LedgerState) -> None:
        """A new allotment never goes back to a window before one that was granted for."""
        for record in batch.records:
            if isinstance(record, AllotmentGranted):
                instance = decider.instances.get(record.instance)
                if instance is None or record.serial not in instance.allotments:
                    for window in record.term:
                        assert window.index >= decider.account(window.account).highest

    def check_silent(self, batch: GrantBatch) -> None:
        """Nobody is given up while a call of it may run."""
        for record in batch.records:
            if isinstance(record, AllotmentClosed) and record.how == "silent":
                for proxy in self.proxies:
                    assert proxy.id != record.instance or not proxy.may_run_calls()

    def check_committed(self) -> None:
        """What calls have cost or hold, anywhere, is within the highest limit ever in force."""
        committed: dict[AccountWindow, int] = {}
        for proxy in self.proxies + self.dead:
            for event in proxy.journal:
                for window in event.windows:
                    committed[window] = committed.get(window, 0) + event.cost_nusd
            for wallet in proxy.wallets:
                for window in wallet.term:
                    committed[window] = committed.get(window, 0) + wallet.holds
        for window, amount in committed.items():
            assert amount + self.reduced.get(window, 0) <= self.highest[window.account], (window, amount)


def request_of(proxy: Proxy, kind: str) -> Request:
    """A return or a beat of a proxy, with all its wallets."""
    rows = proxy.give_back()
    if kind == "return":
        return Return(instance=proxy.id, rows=rows, sent_ms=proxy.world.now_ms)
    return Beat(instance=proxy.id, rows=rows, sent_ms=proxy.world.now_ms)


def at_minute(world: World, minutes: int) -> datetime:
    """An instant so many minutes ahead."""
    return world.now + timedelta(minutes=minutes)
