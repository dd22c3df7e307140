"""Putting the logs together. The order inside each log is fixed; between the logs it does not matter.

A cost is charged to the windows its own event names, never to what another log has taught us; the allotment's
figures only decide how much escrow it replaces. So usage may come before its grant, and a standby that reads one
log late ends up with the same balances.
"""

from services.ledger.domain.directory import learn
from services.ledger.domain.stakes import (
    ease,
    ease_window,
    forget_holder,
    forget_out,
    move,
    note_attached,
    note_out,
    shift,
    stakes,
)
from services.ledger.domain.state import (
    EXCEEDED,
    RESTORED,
    Allotment,
    Crossing,
    Instance,
    LedgerState,
    Meter,
    UnknownRecord,
    crossing_name,
)
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
    SignalPublished,
    ThresholdCrossed,
    UsageCorrected,
    UsageRecorded,
    WindowOpened,
)
from shared.policy import Budget

ATTACH_MAX = 10_000
"""A `window.opened` with this many allotments says that more follow."""


class _Now:
    """When a batch was decided, and when this process reads it."""

    __slots__ = ("at_ms", "auth_pos", "now_ms")

    def __init__(self, batch: GrantBatch, now_ms: int) -> None:
        self.at_ms = int(batch.at.timestamp() * 1000)
        self.auth_pos = batch.auth_pos
        self.now_ms = now_ms


# ---- auth --------------------------------------------------------------------------------------------


def fold_auth(state: LedgerState, event: AnyAuthEvent, seq: int) -> None:
    """One event of auth at its stream sequence."""
    state.auth_pos = max(state.auth_pos, seq)
    if not isinstance(event, BudgetSet):
        learn(state.directory, event)
        return
    directory = state.directory
    before = directory.accounts_of(event.scope_kind, event.scope_id)
    limited = {account for account in before if directory.budgets[account].limited}
    if not learn(directory, event):
        return
    for budget in event.budgets:
        account = state.account(budget.account)
        account.marks = marks_of(budget)
        if budget.limited and budget.account not in limited:
            account.limited_since = seq
        if budget.increase is not None:
            state.timed.add(budget.account)
    for name in {*before, *(budget.account for budget in event.budgets)}:
        reconsider(state, name)


def reconsider(state: LedgerState, name: str) -> None:
    """What is in force for an account may have changed: look at its limits and its level again."""
    account = state.accounts.get(name)
    if account is not None:
        state.dirty.update((name, index) for index in account.windows)
        state.eased.update(key for index in account.windows if (key := (name, index)) in state.awaited)
        state.unposted.add(name)


def marks_of(budget: Budget) -> tuple[int, ...]:
    """The amounts of spend at which something about a budget may have to be told, with and without an increase."""
    amounts = set[int]() if budget.soft_nusd is None else {budget.soft_nusd}
    if budget.limit_nusd is not None:
        more = 0 if budget.increase is None else budget.increase.amount_nusd
        for limit in {budget.limit_nusd, budget.limit_nusd + more}:
            amounts.add(limit)
            amounts.update(-(-limit * percent // 100) for percent in budget.thresholds)
    return tuple(sorted(amounts))


# ---- usage -------------------------------------------------------------------------------------------


def fold_usage(state: LedgerState, event: UsageRecorded) -> bool:
    """One usage event; False when its number was folded before."""
    instance = state.instance(event.instance)
    if not instance.see(event.n):
        return False
    cost = event.cost_nusd
    for window in event.windows:
        account = state.account(window.account)
        balance = account.balance(window.index)
        before = balance.used
        balance.spent += cost
        after = before + cost
        for mark in account.marks:
            if before < mark <= after or balance.presumed:
                state.dirty.add((window.account, window.index))
                break
    if instance.final:  # all that was announced is folded, so this is cost nobody held money for
        for window in event.windows:
            state.balance(window).overdraft += cost
    elif event.serial is not None:
        allotment = instance.allotments.get(event.serial)
        if allotment is None:
            allotment = instance.allotments[event.serial] = Allotment(at_ms=int(event.at.timestamp() * 1000))
        stake = stakes(allotment)
        allotment.settled += cost
        shift(state, event.instance, instance, event.serial, allotment, stake)
    _finish(state, event.instance, instance)
    return True


def fold_correction(state: LedgerState, event: UsageCorrected) -> bool:
    """One correction of spend; False when its number was folded before. Escrow stays what it is."""
    if not state.instance(event.instance).see(event.n):
        return False
    for change in event.changes:
        state.balance(change.window).spent += change.delta_nusd
        state.dirty.add((change.window.account, change.window.index))
        state.unposted.add(change.window.account)
        ease_window(state, change.window)
    return True


def hear(state: LedgerState, instance_id: str, serial: int, spent: int) -> None:
    """Remember what a proxy says it has spent of an allotment; no log holds this."""
    instance = state.instances.get(instance_id)
    allotment = None if instance is None else instance.allotments.get(serial)
    if instance is not None and allotment is not None and spent > allotment.said_spent:
        before = stakes(allotment)
        allotment.said_spent = spent
        shift(state, instance_id, instance, serial, allotment, before)


# ---- decisions ---------------------------------------------------------------------------------------


def fold_grants(state: LedgerState, batch: GrantBatch, seq: int, now_ms: int = 0) -> bool:
    """One batch of decisions at its stream sequence; False when it was folded before.

    `now_ms` is the reader's monotonic clock: silence is counted from the moment the log was read.
    """
    if seq <= state.grant_seq:
        return False
    state.grant_seq = seq
    state.auth_need = max(state.auth_need, batch.auth_pos)
    state.usage_need = max(state.usage_need, batch.usage_pos)
    now = _Now(batch, now_ms)
    for record in batch.records:
        _fold_record(state, record, now)
    return True


def _fold_record(state: LedgerState, record: GrantEntry, now: _Now) -> None:
    match record:
        case AllotmentGranted():
            _granted(state, record, now)
        case AllotmentReturned():
            _returned(state, record, now)
        case AllotmentRenewed():
            _heard(state, record.instance, now)
        case WindowOpened():
            _opened(state, record, now.auth_pos)
        case AllotmentClosed():
            _closed(state, record)
        case ThresholdCrossed():
            _crossed(state, record, now.at_ms)
        case SignalPublished():
            _published(state, record)
        case LedgerEpoch():
            state.epoch = max(state.epoch, record.epoch)
            state.holder = record.holder
            state.lease_ms = record.lease_ms


def _heard(state: LedgerState, name: str, now: _Now) -> Instance:
    """An instance was alive. Its proxy may still go by a longer lease that it was given before."""
    instance = state.instance(name)
    instance.heard_ms = now.now_ms
    instance.lease_ms = max(instance.lease_ms, state.lease_ms)
    return instance


def _granted(state: LedgerState, record: AllotmentGranted, now: _Now) -> None:
    instance = _heard(state, record.instance, now)
    if instance.final:
        return
    allotment = instance.allotments.get(record.serial)
    if allotment is None:
        allotment = instance.allotments[record.serial] = Allotment()
    before = stakes(allotment)
    if not allotment.term:
        allotment.key_id = record.key_id
        allotment.term = record.term
        allotment.auth_pos = now.auth_pos
    allotment.granted = max(allotment.granted, record.granted_nusd)
    allotment.rseq = max(allotment.rseq, record.rseq)
    allotment.at_ms = now.at_ms
    shift(state, record.instance, instance, record.serial, allotment, before)
    for window in record.term:
        account = state.account(window.account)
        account.highest = max(account.highest, window.index)


def _returned(state: LedgerState, record: AllotmentReturned, now: _Now) -> None:
    instance = _heard(state, record.instance, now)
    allotment = instance.allotments.get(record.serial)
    if allotment is None:
        return
    before = stakes(allotment)
    was_out = allotment.out
    allotment.returned = max(allotment.returned, record.returned_nusd)
    allotment.at_ms = now.at_ms
    shift(state, record.instance, instance, record.serial, allotment, before)
    freed = was_out - allotment.out
    for window in allotment.term:
        balance = state.balance(window)
        if balance.freed is None:
            balance.freed = Meter()
        balance.freed.note(now.now_ms // 1000, freed)
    ease(state, allotment)


def _opened(state: LedgerState, record: WindowOpened, auth_pos: int) -> None:
    """Allotments from before the limit count here too from now on; spend stays what the events say."""
    window = record.window
    account = state.account(window.account)
    account.highest = max(account.highest, window.index)
    if len(record.allotments) < ATTACH_MAX:
        account.opened_at = max(account.opened_at, auth_pos)
    balance = account.balance(window.index)
    for name, serial in record.allotments:
        instance = state.instances.get(name)
        allotment = None if instance is None else instance.allotments.get(serial)
        if instance is None or allotment is None or window in allotment.term or window in allotment.attached:
            continue
        allotment.attached += (window,)
        balance.escrow += allotment.out
        if allotment.out and not instance.closed:
            note_attached(balance, name, serial)


def _closed(state: LedgerState, record: AllotmentClosed) -> None:
    instance = state.instance(record.instance)
    if record.how not in ("final", "silent"):
        raise UnknownRecord(f"a closing of the kind {record.how!r} was written by a newer version of the ledger")
    if not instance.closed:
        forget_holder(state, record.instance, instance)
    if record.how == "final":
        instance.last_n = record.last_n if instance.last_n is None else max(instance.last_n, record.last_n)
        _finish(state, record.instance, instance)
        return
    instance.silent = True
    for serial, settled in record.settled:
        allotment = instance.allotments.get(serial)
        if allotment is None or not allotment.term or allotment.cap is not None:
            continue
        before = stakes(allotment)
        allotment.cap = settled
        held = {window.account for window in (*allotment.term, *allotment.attached)}
        allotment.charged = tuple(account for account in record.charged if account in held)
        move(state, allotment, before, stakes(allotment))
        note_out(state, record.instance, serial, allotment)
        ease(state, allotment)


def _finish(state: LedgerState, name: str, instance: Instance) -> None:
    """Close for good once every event that was announced is folded; before that the escrow must stay."""
    if instance.final or instance.last_n is None or instance.floor < instance.last_n:
        return
    instance.final = True
    for serial, allotment in instance.allotments.items():
        plain, charged = stakes(allotment)
        gone = ((0, 0, plain[2], 0), (0, 0, charged[2], 0))  # what was overdrawn stays overdrawn
        move(state, allotment, (plain, charged), gone)
        forget_out(state, name, serial, allotment)
        ease(state, allotment)
    instance.allotments.clear()


def _crossed(state: LedgerState, record: ThresholdCrossed, at_ms: int) -> None:
    window = record.window
    balance = state.balance(window)
    name = crossing_name(record.threshold, record.round)
    if name in balance.crossed:
        return
    balance.crossed[name] = Crossing(
        spent_nusd=record.spent_nusd,
        at_ms=at_ms,
        limit_nusd=record.limit_nusd,
        round=record.round,
        unfolded_nusd=record.unfolded_nusd,
    )
    if record.threshold == EXCEEDED:
        balance.round = max(balance.round, record.round)
    if record.threshold == RESTORED:
        balance.round = max(balance.round, record.round + 1)
        balance.least = 0
    state.untold.add((window.account, window.index, name))
    state.unposted.add(window.account)


def _published(state: LedgerState, record: SignalPublished) -> None:
    name = crossing_name(record.threshold, record.round)
    state.untold.discard((record.window.account, record.window.index, name))
