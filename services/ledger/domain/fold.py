"""Putting the logs together. The order inside each log is fixed; between the logs it does not matter.

A cost is charged to the windows its own event names, never to what another log has taught us; the allotment's
figures only decide how much escrow it replaces. So usage may come before its grant, and a standby that reads one
log late ends up with the same balances.
"""

from services.ledger.domain.directory import learn
from services.ledger.domain.state import Allotment, Crossing, Instance, LedgerState, Meter, UnknownRecord
from shared.events import (
    AllotmentClosed,
    AllotmentGranted,
    AllotmentRenewed,
    AllotmentReturned,
    AnyAuthEvent,
    BudgetSet,
    GrantBatch,
    GrantEntry,
    LedgerEpoch,
    ThresholdCrossed,
    UsageRecorded,
    WindowOpened,
)

TOLD = ":told"
"""Ends the name of a threshold whose signal has been published."""
ATTACH_MAX = 10_000
"""A `window.opened` with this many allotments says that more follow."""

Figures = tuple[int, int, int]
NOTHING: Figures = (0, 0, 0)


def fold_auth(state: LedgerState, event: AnyAuthEvent, seq: int) -> None:
    """One event of auth at its stream sequence."""
    state.auth_pos = max(state.auth_pos, seq)
    if not isinstance(event, BudgetSet):
        learn(state.directory, event)
        return
    directory = state.directory
    limited = {
        budget.account
        for budget in event.budgets
        if (before := directory.budgets.get(budget.account)) is not None
        and before.limited
        and directory.in_force(before)
    }
    if not learn(directory, event):
        return
    for budget in event.budgets:
        account = state.account(budget.account)
        if budget.limited and budget.account not in limited:
            account.limited_since = seq
        state.dirty.update((budget.account, index) for index in account.windows)


def fold_usage(state: LedgerState, event: UsageRecorded) -> bool:
    """One usage event; False when its number was folded before."""
    instance = state.instance(event.instance)
    if not instance.see(event.n):
        return False
    cost = event.cost_nusd
    for window in event.windows:
        balance = state.balance(window)
        balance.spent += cost
        budget = state.directory.budgets.get(window.account)
        if budget is not None and _passes(balance.spent - cost, balance.spent, budget.soft_nusd, budget.limit_nusd):
            state.dirty.add((window.account, window.index))
    if instance.final:  # all that was announced is folded, so this is cost nobody held money for
        for window in event.windows:
            state.balance(window).overdraft += cost
    elif event.serial is not None:
        allotment = instance.allotments.get(event.serial)
        if allotment is None:
            allotment = instance.allotments[event.serial] = Allotment()
        before = figures(allotment)
        allotment.settled += cost
        _shift(state, allotment, before)
    _finish(state, instance)
    return True


def fold_grants(state: LedgerState, batch: GrantBatch, seq: int, now_ms: int = 0) -> bool:
    """One batch of decisions at its stream sequence; False when it was folded before.

    `now_ms` is the reader's monotonic clock: silence is counted from the moment the log was read.
    """
    if seq <= state.grant_seq:
        return False
    state.grant_seq = seq
    state.auth_need = max(state.auth_need, batch.auth_pos)
    state.usage_need = max(state.usage_need, batch.usage_pos)
    at_ms = int(batch.at.timestamp() * 1000)
    for record in batch.records:
        _fold_record(state, record, batch.auth_pos, at_ms, now_ms)
    return True


def hear(state: LedgerState, instance_id: str, serial: int, spent: int) -> None:
    """Remember what a proxy says it has spent of an allotment; no log holds this."""
    instance = state.instances.get(instance_id)
    allotment = None if instance is None else instance.allotments.get(serial)
    if allotment is not None and spent > allotment.said_spent:
        before = figures(allotment)
        allotment.said_spent = spent
        _shift(state, allotment, before)


def figures(allotment: Allotment) -> Figures:
    """(out, overdraft, unfolded): what an allotment adds to the balances of its windows."""
    return allotment.out, allotment.overdraft, allotment.unfolded


def _fold_record(state: LedgerState, record: GrantEntry, auth_pos: int, at_ms: int, now_ms: int) -> None:
    match record:
        case AllotmentGranted():
            _granted(state, record, now_ms)
        case AllotmentReturned():
            _returned(state, record, now_ms)
        case AllotmentRenewed():
            state.instance(record.instance).heard_ms = now_ms
        case WindowOpened():
            _opened(state, record, auth_pos)
        case AllotmentClosed():
            _closed(state, record)
        case ThresholdCrossed():
            _crossed(state, record, at_ms)
        case LedgerEpoch():
            state.epoch = max(state.epoch, record.epoch)
            state.holder = record.holder


def _granted(state: LedgerState, record: AllotmentGranted, now_ms: int) -> None:
    instance = state.instance(record.instance)
    instance.heard_ms = now_ms
    if instance.final:
        return
    allotment = instance.allotments.get(record.serial)
    if allotment is None:
        allotment = instance.allotments[record.serial] = Allotment()
    before = figures(allotment) if allotment.term else NOTHING
    if not allotment.term:
        allotment.key_id = record.key_id
        allotment.term = record.term
    allotment.granted = max(allotment.granted, record.granted_nusd)
    allotment.rseq = max(allotment.rseq, record.rseq)
    _shift(state, allotment, before)
    for window in record.term:
        account = state.account(window.account)
        account.highest = max(account.highest, window.index)


def _returned(state: LedgerState, record: AllotmentReturned, now_ms: int) -> None:
    instance = state.instance(record.instance)
    instance.heard_ms = now_ms
    allotment = instance.allotments.get(record.serial)
    if allotment is None:
        return
    before = figures(allotment)
    allotment.returned = max(allotment.returned, record.returned_nusd)
    _shift(state, allotment, before)
    freed = before[0] - allotment.out
    for window in allotment.term:
        balance = state.balance(window)
        if balance.freed is None:
            balance.freed = Meter()
        balance.freed.note(now_ms // 1000, freed)


def _opened(state: LedgerState, record: WindowOpened, auth_pos: int) -> None:
    """Allotments from before the limit count here too from now on; spend stays what the events say."""
    window = record.window
    account = state.account(window.account)
    account.highest = max(account.highest, window.index)
    if len(record.allotments) < ATTACH_MAX:
        account.opened_at = max(account.opened_at, auth_pos)
    balance = account.balance(window.index)
    for instance_id, serial in record.allotments:
        instance = state.instances.get(instance_id)
        allotment = None if instance is None else instance.allotments.get(serial)
        if allotment is not None and window not in allotment.term and window not in allotment.attached:
            allotment.attached += (window,)
            balance.escrow += allotment.out


def _closed(state: LedgerState, record: AllotmentClosed) -> None:
    if record.how != "final":
        raise UnknownRecord(f"a closing of the kind {record.how!r} is in the log: run a newer version")
    instance = state.instance(record.instance)
    instance.last_n = max(record.last_n, instance.last_n or 0)
    _finish(state, instance)


def _crossed(state: LedgerState, record: ThresholdCrossed, at_ms: int) -> None:
    window = record.window
    balance = state.balance(window)
    if record.threshold.endswith(TOLD):
        threshold = record.threshold.removesuffix(TOLD)
        balance.told.add(threshold)
        state.untold.discard((window.account, window.index, threshold))
    elif record.threshold not in balance.crossed:
        balance.crossed[record.threshold] = Crossing(spent_nusd=record.spent_nusd, at_ms=at_ms)
        if record.threshold not in balance.told:
            state.untold.add((window.account, window.index, record.threshold))


def _finish(state: LedgerState, instance: Instance) -> None:
    """Close for good once every event that was announced is folded; before that the escrow must stay."""
    if instance.final or instance.last_n is None or instance.floor < instance.last_n:
        return
    instance.final = True
    for allotment in instance.allotments.values():
        if allotment.term:
            out, _, unfolded = figures(allotment)
            _add(state, allotment, (-out, 0, -unfolded))
    instance.allotments.clear()


def _shift(state: LedgerState, allotment: Allotment, before: Figures) -> None:
    """Bring the balances of an allotment's windows from its figures `before` to those of now."""
    out, overdraft, unfolded = figures(allotment)
    change = (out - before[0], overdraft - before[1], unfolded - before[2])
    if change != NOTHING:
        _add(state, allotment, change)


def _add(state: LedgerState, allotment: Allotment, change: Figures) -> None:
    out, overdraft, unfolded = change
    for window in allotment.term:
        balance = state.balance(window)
        balance.escrow += out
        balance.overdraft += overdraft
        balance.unfolded += unfolded
    for window in allotment.attached:
        state.balance(window).escrow += out
    if allotment.term:
        state.escrow += out


def _passes(before: int, after: int, *limits: int | None) -> bool:
    return any(limit is not None and before < limit <= after for limit in limits)
