"""What one allotment adds to the balances of its account-windows, and bringing them up to date when it changes.

An allotment's part is a function of its own cumulative figures. So it does not matter in which order usage and
decisions change them, and what was added can always be taken away again.
"""

from typing import TypeVar

from services.ledger.domain.state import Allotment, Balance, Instance, LedgerState
from shared.events import AccountWindow

Stake = tuple[int, int, int, int]
"""(escrow, presumed, overdraft, unfolded) of one account-window."""
Entry = TypeVar("Entry", int, tuple[str, int])
NOTHING: Stake = (0, 0, 0, 0)

Stakes = tuple[Stake, Stake]
"""What an allotment adds to its ordinary account-windows, and to those of its charged accounts."""
NONE: Stakes = (NOTHING, NOTHING)


def stakes(allotment: Allotment) -> Stakes:
    """What an allotment adds now; nothing before its grant is folded."""
    if not allotment.term:
        return NONE
    plain = (allotment.out, 0, allotment.overdraft, allotment.unfolded)
    if allotment.cap is None:
        return plain, plain
    left = allotment.left
    beyond = max(0, allotment.settled + allotment.returned - allotment.granted)
    return plain, (0, left, beyond, 0)


def shift(state: LedgerState, name: str, instance: Instance, serial: int, allotment: Allotment, before: Stakes) -> None:
    """Bring the balances from what an allotment added `before` to what it adds now."""
    after = stakes(allotment)
    if after != before:
        move(state, allotment, before, after)
        if (before[0][0] > 0) != (after[0][0] > 0):
            note_out(state, name, serial, allotment)
            if not instance.closed:
                note_holder(state, name, serial, allotment)


def move(state: LedgerState, allotment: Allotment, before: Stakes, after: Stakes) -> None:
    """Add the difference to every account-window of an allotment."""
    if not allotment.term:
        return
    for window in allotment.term:
        balance = state.balance(window)
        presumed = _add(balance, allotment, window, before, after)
        if presumed:
            _reconsider(state, window)
        kind = window.account in allotment.charged
        balance.overdraft += after[kind][2] - before[kind][2]
        unfolded = after[kind][3] - before[kind][3]
        balance.unfolded += unfolded
        if unfolded < 0 and balance.least:  # a refusal counted on spend whose events may never come
            state.unposted.add(window.account)
    for window in allotment.attached:
        if _add(state.balance(window), allotment, window, before, after):
            _reconsider(state, window)
    state.escrow += after[0][0] - before[0][0]


def _reconsider(state: LedgerState, window: AccountWindow) -> None:
    """Presumed spend has changed: so may what is to be told about an account-window."""
    state.dirty.add((window.account, window.index))
    state.unposted.add(window.account)


def _add(balance: Balance, allotment: Allotment, window: AccountWindow, before: Stakes, after: Stakes) -> bool:
    """Escrow and presumed spend of one account-window; whether presumed spend changed."""
    kind = window.account in allotment.charged
    balance.escrow += after[kind][0] - before[kind][0]
    presumed = after[kind][1] - before[kind][1]
    balance.presumed += presumed
    return presumed != 0


def ease(state: LedgerState, allotment: Allotment) -> None:
    """Money of an allotment came back: those who wait for its account-windows may be served."""
    for window in (*allotment.term, *allotment.attached):
        ease_window(state, window)


def ease_window(state: LedgerState, window: AccountWindow) -> None:
    """The same for one account-window."""
    key = (window.account, window.index)
    if key in state.awaited:
        state.eased.add(key)


def note_out(state: LedgerState, name: str, serial: int, allotment: Allotment) -> None:
    """Keep the index of allotments with money out, by key."""
    _note(state.out, allotment.key_id, (name, serial), held=allotment.out > 0)


def forget_out(state: LedgerState, name: str, serial: int, allotment: Allotment) -> None:
    """An allotment is gone for good."""
    _note(state.out, allotment.key_id, (name, serial), held=False)


def note_holder(state: LedgerState, name: str, serial: int, allotment: Allotment) -> None:
    """Keep the index of living holders: an allotment is in it while money is out of it."""
    for window in (*allotment.term, *allotment.attached):
        _note(state.balance(window).holders, name, serial, held=allotment.out > 0)


def note_attached(balance: Balance, name: str, serial: int) -> None:
    """An allotment with money out counts in one more account-window."""
    _note(balance.holders, name, serial, held=True)


def forget_holder(state: LedgerState, name: str, instance: Instance) -> None:
    """A closed instance holds nothing that could be asked back."""
    for serial, allotment in instance.allotments.items():
        if allotment.out:
            for window in (*allotment.term, *allotment.attached):
                _note(state.balance(window).holders, name, serial, held=False)


def _note(index: dict[str, set[Entry]], name: str, entry: Entry, *, held: bool) -> None:
    entries = index.get(name)
    if held:
        if entries is None:
            index[name] = {entry}
        else:
            entries.add(entry)
    elif entries is not None:
        entries.discard(entry)
        if not entries:
            del index[name]
