"""A small world for property tests: proxies with wallets, enforcers that come and go, and links that lose things."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.ledger.domain.decide import decide, knows_policy_of, listen
from services.ledger.domain.fold import fold_auth, fold_grants, fold_usage
from services.ledger.domain.state import LedgerState
from shared.allotment import Ack, Answer, Ask, Beat, Close, Reply, Request, Return, Row
from shared.events import AccountWindow, AllotmentGranted, GrantBatch, LedgerEpoch, UsageRecorded
from shared.ids import AccountId, InstanceId, KeyId
from tests.support.ledger import EPOCH, KEY, ORG, OTHER, TEAM, Logs, budget, budget_set, key_issued, team_created, used

KEYS = (KEY, OTHER)


@dataclass
class Wallet:
    """One allotment as its proxy sees it; `until` is when it stops admitting, on the world's own clock."""

    serial: int
    key: KeyId
    lineage: tuple[str, ...]
    rev: int
    term: tuple[AccountWindow, ...] = ()
    granted: int = 0
    returned: int = 0
    spent: int = 0
    rseq: int = 0
    until: datetime = EPOCH
    draining: bool = False
    calls: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)

    @property
    def room(self) -> int:
        return self.granted - self.returned - self.spent - sum(self.calls)

    def row(self) -> Row:
        return Row(self.serial, self.returned, self.spent, self.granted, sum(self.calls))


class Proxy:
    """One instance: wallets, running calls, and a journal whose events go out in their own time."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.id = InstanceId(name)
        self.wallets: list[Wallet] = []
        self.journal: list[UsageRecorded] = []
        self.n = 0

    def wallet(self, key: KeyId) -> Wallet:
        lineage = self.world.lineage(key)
        for wallet in self.wallets:
            if wallet.key == key and wallet.lineage == lineage and not wallet.draining:
                if wallet.term and self.world.now >= wallet.until:
                    wallet.draining = True
                    continue
                return wallet
        fresh = Wallet(len(self.wallets) + 1, key, lineage, len(self.world.logs.auth))
        self.wallets.append(fresh)
        return fresh

    def call(self, key: KeyId, hold: int, ahead: int) -> None:
        """Start a call, or let it wait and ask for its money."""
        wallet = self.wallet(key)
        if not self.start(wallet, hold):
            wallet.waiting = [*wallet.waiting, hold][-3:]
            self.world.requests.append((self, self.ask(wallet, wallet.waiting[0], ahead)))

    def ask(self, wallet: Wallet, cost: int, ahead: int) -> Ask:
        wallet.rseq += 1
        need = wallet.returned + wallet.spent + sum(wallet.calls) + cost
        return Ask(
            instance=self.id,
            serial=wallet.serial,
            key_id=wallet.key,
            lineage=tuple(AccountId(name) for name in wallet.lineage),
            policy_rev=wallet.rev,
            rseq=wallet.rseq,
            need=need,
            want=need + ahead,
            least=cost,
            sent_ms=0,
            rows=(wallet.row(),),
        )

    def start(self, wallet: Wallet, hold: int) -> bool:
        if wallet.draining or self.world.now >= wallet.until or hold > wallet.room:
            return False
        wallet.calls.append(hold)
        return True

    def finish(self, wallet: Wallet, cost: int) -> None:
        held = wallet.calls.pop(0)
        wallet.spent += cost
        self.n += 1
        self.journal.append(
            used(self.n, cost, *wallet.term, serial=wallet.serial, instance=self.id, held=held, key=wallet.key)
        )

    def give_back(self) -> tuple[Row, ...]:
        for wallet in self.wallets:
            wallet.returned += max(0, wallet.room)
        return tuple(wallet.row() for wallet in self.wallets)

    def learn(self, reply: Reply) -> None:
        if isinstance(reply, Answer):
            wallet = self.wallets[reply.serial - 1]
            self._believe(wallet, reply.granted, reply.term, reply.admit_for_ms)
            if reply.verdict == "policy":
                wallet.draining = True
        elif isinstance(reply, Ack):
            for known in reply.known:
                wallet = self.wallets[known.serial - 1]
                self._believe(wallet, known.granted, known.term, known.admit_for_ms)

    def _believe(self, wallet: Wallet, granted: int, term: tuple[AccountWindow, ...], admit_for_ms: int) -> None:
        wallet.granted = max(wallet.granted, granted)
        wallet.term = wallet.term or term
        wallet.until = max(wallet.until, self.world.now + timedelta(milliseconds=admit_for_ms))
        while wallet.waiting and self.start(wallet, wallet.waiting[0]):
            wallet.waiting.pop(0)


class Enforcer:
    """Reads the logs at its own pace; `active` once its epoch is in the log and nothing was in doubt since."""

    def __init__(self, world: "World", skew: timedelta = timedelta()) -> None:
        self.world = world
        self.skew = skew
        self.state = LedgerState(partition=0)
        self.usage_read = 0
        self.active = False

    def read(self, log: str, most: int) -> None:
        logs = self.world.logs
        if log == "auth":
            for event in logs.auth[self.state.auth_pos :][:most]:
                fold_auth(self.state, event, self.state.auth_pos + 1)
        elif log == "usage":
            for event in logs.usage[self.usage_read :][:most]:
                fold_usage(self.state, event)
                self.usage_read += 1
                self.state.ledger_pos = self.usage_read
        else:
            for batch in logs.grants[self.state.grant_seq :][:most]:
                fold_grants(self.state, batch, self.state.grant_seq + 1)
                self.active = False  # somebody else decides, or an append of ours landed after all

    def take_office(self) -> None:
        """Read what earlier decisions were based on, then append an epoch behind the fence."""
        self.read("auth", self.state.auth_need - self.state.auth_pos)
        self.read("usage", self.state.usage_need - self.usage_read)
        epoch = LedgerEpoch(epoch=self.state.epoch + 1, holder=InstanceId("e"))
        self.active = self._append((epoch,), "lands")

    def serve(self, requests: list[Request], fate: str) -> list[tuple[Request, Reply]]:
        """Decide and append; `fate` is what happens to the append. Replies only when it was acknowledged."""
        for request in requests:
            if not knows_policy_of(self.state, request):
                self.read("auth", 1_000)
            listen(self.state, request)
        decided = decide(self.state, requests, self.world.now + self.skew, 0)
        if decided.records and not self._append(decided.records, fate):
            self.active = False
            return []
        return list(zip(requests, decided.replies, strict=True))

    def _append(self, records: tuple[object, ...], fate: str) -> bool:
        logs = self.world.logs
        if fate == "lost" or self.state.grant_seq != len(logs.grants):
            return False
        batch = logs.batch(records, self.state.auth_pos, self.world.now)  # pyright: ignore[reportArgumentType]
        batch = GrantBatch(
            id=batch.id,
            at=batch.at,
            source=batch.source,
            auth_pos=self.state.auth_pos,
            usage_pos=self.usage_read,
            records=batch.records,
        )
        logs.grants.append(batch)
        self.world.check_grant_rule(batch, self.state)
        if fate == "unacknowledged":
            return False
        fold_grants(self.state, batch, len(logs.grants))
        return True


class World:
    """Everything. `strict`: no call costs more than its hold."""

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self.now = EPOCH + timedelta(minutes=1)
        self.logs = Logs()
        self.highest: dict[str, int] = {}
        self.started = 0
        self.requests: list[tuple[Proxy, Request]] = []
        self.replies: list[tuple[Proxy, Reply]] = []
        self.proxies: list[Proxy] = []
        self.dead: list[Proxy] = []
        self.logs.auth += [key_issued(KEY), key_issued(OTHER), team_created()]
        self.limit("key", KEY, 300)
        self.limit("key", OTHER, 200)
        self.limit("org", ORG, 400)
        self.enforcers = [Enforcer(self), Enforcer(self, timedelta(minutes=-9))]

    def limit(self, kind: str, scope_id: str, amount: int) -> None:
        made = budget(scope_id, amount, kind=kind, duration="1h" if kind == "key" else "3h")  # pyright: ignore[reportArgumentType]
        self.logs.auth.append(budget_set(made))
        self.highest[made.account] = max(amount, self.highest.get(made.account, 0))

    def lineage(self, key: KeyId) -> tuple[str, ...]:
        teams = (f"a:{TEAM}",) if f"a:{TEAM}" in self.highest else ()
        return (f"a:{key}", *teams, f"a:{ORG}")

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

    def recover(self, proxy: Proxy) -> None:
        """A successor charges running calls at their hold, under the old name, and announces the end."""
        for wallet in proxy.wallets:
            while wallet.calls:
                proxy.finish(wallet, wallet.calls[0])
        self.requests.append((proxy, Close(instance=proxy.id, last_n=proxy.n, sent_ms=0)))

    # ---- what must hold ------------------------------------------------------------------------------

    def check_grant_rule(self, batch: GrantBatch, decider: LedgerState) -> None:
        """After a grant, spend plus escrow is within the limit: truly when costs keep to their holds, else as far
        as the enforcer that decided could know."""
        earlier = self.logs.grants[:-1]
        assert batch.auth_pos >= max((entry.auth_pos for entry in earlier), default=0)
        assert batch.usage_pos >= max((entry.usage_pos for entry in earlier), default=0)
        self.check_windows(batch, decider)
        truth = LedgerState(partition=0)
        for seq, event in enumerate(self.logs.auth[: batch.auth_pos], 1):
            fold_auth(truth, event, seq)
        usage = self.logs.usage if self.strict else self.logs.usage[: batch.usage_pos]
        for event in usage:
            fold_usage(truth, event)
        for seq, entry in enumerate(self.logs.grants, 1):
            fold_grants(truth, entry, seq)
        for record in batch.records:
            if isinstance(record, AllotmentGranted):
                for window in record.term:
                    limit = truth.directory.budgets[window.account].limit_nusd
                    balance = truth.balance(window)
                    assert limit is not None
                    assert balance.spent + balance.escrow <= limit, (window, balance, limit)

    def check_windows(self, batch: GrantBatch, decider: LedgerState) -> None:
        """A new allotment never goes back to a window before one that was granted for."""
        for record in batch.records:
            if isinstance(record, AllotmentGranted):
                instance = decider.instances.get(record.instance)
                if instance is None or record.serial not in instance.allotments:
                    for window in record.term:
                        assert window.index >= decider.account(window.account).highest

    def check_committed(self) -> None:
        """What calls have cost or hold, anywhere, is within the highest limit ever in force."""
        committed: dict[AccountWindow, int] = {}
        for proxy in self.proxies + self.dead:
            for event in proxy.journal:
                for window in event.windows:
                    committed[window] = committed.get(window, 0) + event.cost_nusd
            for wallet in proxy.wallets:
                for window in wallet.term:
                    committed[window] = committed.get(window, 0) + sum(wallet.calls)
        for window, amount in committed.items():
            assert amount <= self.highest[window.account], (window, amount)


def request_of(proxy: Proxy, kind: str) -> Request:
    """A return or a beat of a proxy, with all its wallets."""
    rows = proxy.give_back()
    if kind == "return":
        return Return(instance=proxy.id, rows=rows, sent_ms=0)
    return Beat(instance=proxy.id, rows=rows, sent_ms=0)
