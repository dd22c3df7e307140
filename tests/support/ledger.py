"""Builders for tests of the ledger: events of auth, usage and grants with few words, and a log of one partition."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from services.ledger.domain.decide import Decided, decide, listen
from services.ledger.domain.fold import fold_auth, fold_correction, fold_grants, fold_usage
from services.ledger.domain.forget import Broom
from services.ledger.domain.state import LedgerState
from services.ledger.domain.tuning import Tuning
from shared.allotment import Answer, Ask, Beat, Close, Request, Return, Row
from shared.events import (
    AccountWindow,
    AnyAuthEvent,
    AnyUsage,
    BudgetSet,
    Change,
    GrantBatch,
    GrantEntry,
    KeyIssued,
    OrgCreated,
    TeamCreated,
    UsageCorrected,
    UsageRecorded,
)
from shared.ids import AccountId, CallId, EventId, InstanceId, KeyId, OrgId, TeamId, uuid7_from
from shared.policy import Budget, Increase, ScopeKind
from shared.pricing import Usage
from shared.windows import WindowSpec

EPOCH = datetime(2026, 11, 1, tzinfo=UTC)
KEY = KeyId("key_1")
OTHER = KeyId("key_2")
TEAM = TeamId("team_1")
ORG = OrgId("org_1")
P1 = InstanceId("p1")
P2 = InstanceId("p2")
_count = iter(range(1, 10**9))


def event_id() -> EventId:
    """A fresh id."""
    return EventId(uuid7_from(1_700_000_000_000 + next(_count), next(_count).to_bytes(10)))


def window(account: str, index: int = 0) -> AccountWindow:
    return AccountWindow(AccountId(account), index)


def budget(
    scope_id: str,
    limit: int | None,
    *,
    kind: ScopeKind = "key",
    account: str | None = None,
    duration: str = "",
    soft: int | None = None,
    anchor: datetime = EPOCH,
    zone: str = "UTC",
    strict: bool = False,
    thresholds: tuple[int, ...] = (),
    model: str | None = None,
    increase: Increase | None = None,
) -> Budget:
    return Budget(
        account=AccountId(account or f"a:{scope_id}"),
        scope_kind=kind,
        scope_id=scope_id,
        window=WindowSpec(anchor=anchor, duration=duration, zone=zone),
        limit_nusd=limit,
        soft_nusd=soft,
        strict=strict,
        thresholds=thresholds,
        model=model,
        increase=increase,
    )


def budget_set(*budgets: Budget, kind: ScopeKind | None = None, scope_id: str | None = None) -> BudgetSet:
    return BudgetSet(
        id=event_id(),
        at=EPOCH,
        source="auth",
        actor="test",
        scope_kind=kind or budgets[0].scope_kind,
        scope_id=scope_id or budgets[0].scope_id,
        budgets=budgets,
    )


def org_created(org: OrgId = ORG) -> OrgCreated:
    return OrgCreated(id=event_id(), at=EPOCH, source="auth", actor="test", org_id=org, alias="the org")


def team_created(team: TeamId = TEAM, org: OrgId = ORG) -> TeamCreated:
    return TeamCreated(id=event_id(), at=EPOCH, source="auth", actor="test", team_id=team, org_id=org, alias="the team")


def key_issued(key: KeyId = KEY, team: TeamId | None = TEAM, org: OrgId = ORG) -> KeyIssued:
    return KeyIssued(
        id=event_id(), at=EPOCH, source="auth", actor="test", key_id=key, team_id=team, org_id=org, alias="a key"
    )


def used(
    n: int,
    cost: int,
    *windows: AccountWindow,
    serial: int | None = 1,
    instance: InstanceId = P1,
    held: int | None = None,
    key: KeyId = KEY,
    team: TeamId | None = TEAM,
    org: OrgId = ORG,
    usage: Usage | None = None,
    **more: object,
) -> UsageRecorded:
    fields: dict[str, object] = {
        "id": event_id(),
        "at": EPOCH + timedelta(seconds=n),
        "source": f"proxy/{instance}",
        "call_id": CallId(f"call-{instance}-{n}"),
        "attempt": 1,
        "instance": instance,
        "partition": 0,
        "n": n,
        "windows": windows,
        "key_id": key,
        "team_id": team,
        "org_id": org,
        "cost_nusd": cost,
        "held_nusd": cost if held is None else held,
        "measured": "reported",
        "outcome": "ok",
        "endpoint": "chat.completions",
        "model": "gpt-4o",
        "deployment": "gpt-4o-eu",
        "status": 200,
        "started_at": EPOCH + timedelta(seconds=n),
        "duration_ms": 120,
        "serial": serial,
        "usage": usage or Usage(input=10, output=5),
    }
    return UsageRecorded(**(fields | more))  # pyright: ignore[reportArgumentType]


def corrected(n: int, *changes: tuple[AccountWindow, int], instance: str = "books") -> UsageCorrected:
    """An operator's correction: account-windows with what is added to their spend."""
    return UsageCorrected(
        id=event_id(),
        at=EPOCH,
        source="bookkeeper",
        instance=InstanceId(instance),
        partition=0,
        n=n,
        scope_kind="key",
        scope_id=KEY,
        changes=tuple(Change(window, delta) for window, delta in changes),
        actor="admin",
    )


def ask(
    need: int,
    *,
    serial: int = 1,
    rseq: int = 1,
    want: int | None = None,
    fill: int = 0,
    least: int | None = None,
    instance: InstanceId = P1,
    key: KeyId = KEY,
    lineage: tuple[str, ...] = ("a:key_1",),
    rev: int = 0,
    model: str = "",
    rows: tuple[Row, ...] = (),
    sent: int = 0,
) -> Ask:
    return Ask(
        instance=instance,
        serial=serial,
        key_id=key,
        lineage=tuple(AccountId(name) for name in lineage),
        policy_rev=rev,
        model=model,
        rseq=rseq,
        need=need,
        want=need if want is None else want,
        fill=fill,
        least=need if least is None else least,
        sent_ms=sent,
        rows=rows,
    )


def gives_back(*rows: Row, instance: InstanceId = P1) -> Return:
    return Return(instance=instance, rows=rows, sent_ms=0)


def beat(*rows: Row, instance: InstanceId = P1) -> Beat:
    return Beat(instance=instance, rows=rows, sent_ms=0)


def close(last_n: int, instance: InstanceId = P1) -> Close:
    return Close(instance=instance, last_n=last_n, sent_ms=0)


def fold_any(state: LedgerState, event: AnyUsage) -> bool:
    """One event of the usage log."""
    if isinstance(event, UsageCorrected):
        return fold_correction(state, event)
    return fold_usage(state, event)


class Logs:
    """The three logs of a partition, as lists; positions count messages from 1."""

    def __init__(self) -> None:
        self.auth: list[AnyAuthEvent] = []
        self.usage: list[AnyUsage] = []
        self.grants: list[GrantBatch] = []

    def batch(self, records: Sequence[GrantEntry], auth_pos: int, at: datetime = EPOCH) -> GrantBatch:
        return GrantBatch(
            id=event_id(),
            at=at,
            source="enforcer",
            auth_pos=auth_pos,
            usage_pos=len(self.usage),
            records=tuple(records),
        )

    def fold(self, order: str = "AUG") -> LedgerState:
        """A state that has read all logs, one log after the other in the order of the letters."""
        state = LedgerState(partition=0)
        for letter in order:
            if letter == "A":
                for seq, event in enumerate(self.auth, 1):
                    fold_auth(state, event, seq)
            elif letter == "U":
                for event in self.usage:
                    fold_any(state, event)
            else:
                for seq, batch in enumerate(self.grants, 1):
                    fold_grants(state, batch, seq)
        return state


class Desk:
    """One enforcer with logs of its own, and a clock that the test moves."""

    def __init__(self, *auth: AnyAuthEvent, logs: Logs | None = None) -> None:
        self.logs = logs or Logs()
        self.state = LedgerState(partition=0) if logs is None else logs.fold()
        self.now = EPOCH + timedelta(seconds=1)
        self.now_ms = 1_000
        self.tuning = Tuning()
        self.learn(*auth)

    def learn(self, *events: AnyAuthEvent) -> None:
        for event in events:
            self.logs.auth.append(event)
            fold_auth(self.state, event, len(self.logs.auth))

    def fold(self, *events: AnyUsage) -> None:
        for event in events:
            self.logs.usage.append(event)
            fold_any(self.state, event)

    def draft(self, *requests: Request) -> Decided:
        for request in requests:
            listen(self.state, request)
        return decide(self.state, requests, self.now, self.now_ms, self.tuning)

    def commit(self, decided: Decided) -> None:
        self.append(*decided.records)

    def append(self, *records: GrantEntry) -> None:
        if records:
            batch = self.logs.batch(records, self.state.auth_pos, self.now)
            self.logs.grants.append(batch)
            fold_grants(self.state, batch, len(self.logs.grants), self.now_ms)

    def serve(self, *requests: Request) -> Decided:
        decided = self.draft(*requests)
        self.commit(decided)
        return decided

    def ask(self, request: Ask) -> Answer:
        reply = self.serve(request).replies[0]
        assert isinstance(reply, Answer)
        return reply


def balances(state: LedgerState) -> dict[str, object]:
    """What must not depend on the order in which the logs were read."""
    accounts = {
        (name, index): (
            balance.spent,
            balance.escrow,
            balance.presumed,
            balance.overdraft,
            balance.round,
            sorted(balance.crossed),
            {holder: sorted(serials) for holder, serials in sorted(balance.holders.items())},
        )
        for name, account in state.accounts.items()
        for index, balance in account.windows.items()
        if balance.spent or balance.escrow or balance.presumed or balance.overdraft or balance.crossed
    }
    return {
        "accounts": accounts,
        "highest": {name: account.highest for name, account in state.accounts.items()},
        "opened": {name: (account.limited_since, account.opened_at) for name, account in state.accounts.items()},
        "instances": {
            name: (
                instance.floor,
                sorted(instance.above),
                instance.lease_ms,
                instance.silent,
                instance.last_n,
                instance.final,
            )
            for name, instance in state.instances.items()
        },
        "allotments": {
            (name, serial): (held.term, held.granted, held.settled, held.returned, held.rseq, held.cap, held.charged)
            for name, instance in state.instances.items()
            for serial, held in instance.allotments.items()
        },
        "escrow": state.escrow,
        "out": {key: sorted(held) for key, held in sorted(state.out.items())},
        "epoch": (state.epoch, state.lease_ms),
        "untold": sorted(state.untold),
    }


def recounted(state: LedgerState) -> dict[tuple[str, int], tuple[int, int, dict[str, set[int]]]]:
    """Escrow, presumed spend and living holders of every account-window, added up from the allotments alone."""
    found: dict[tuple[str, int], tuple[int, int, dict[str, set[int]]]] = {}
    for name, instance in state.instances.items():
        for serial, held in instance.allotments.items():
            if not held.term:
                continue
            for place in (*held.term, *held.attached):
                escrow, presumed, holders = found.get((place.account, place.index), (0, 0, {}))
                charged = held.cap is not None and place.account in held.charged
                if charged:
                    presumed += held.left
                else:
                    escrow += held.out
                if held.out and not instance.closed:
                    holders.setdefault(name, set()).add(serial)
                found[place.account, place.index] = (escrow, presumed, holders)
    return {place: sums for place, sums in found.items() if sums[0] or sums[1] or sums[2]}


def counted(state: LedgerState) -> dict[tuple[str, int], tuple[int, int, dict[str, set[int]]]]:
    """The same as the balances have it."""
    return {
        (name, index): (balance.escrow, balance.presumed, balance.holders)
        for name, account in state.accounts.items()
        for index, balance in account.windows.items()
        if balance.escrow or balance.presumed or balance.holders
    }


def out_of(state: LedgerState) -> dict[str, set[tuple[str, int]]]:
    """Allotments with money out by key, from the allotments alone."""
    found: dict[str, set[tuple[str, int]]] = {}
    for name, instance in state.instances.items():
        for serial, held in instance.allotments.items():
            if held.term and held.out:
                found.setdefault(held.key_id, set()).add((name, serial))
    return found


def forget(state: LedgerState, now: datetime) -> None:
    """One whole round of the broom at once."""
    broom = Broom(state)
    while not broom.sweep(now):
        pass
