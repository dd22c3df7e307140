"""What is checked when something is said, admitted or refused, and what must be true at the end."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from services.proxy.domain.money.wallet import Hold
from shared.allotment import Ack, Answer, Ask, Known, Recall, Refusal, Reply
from shared.events import AccountWindow, AllotmentClosed, GrantBatch, UsageCorrected
from shared.ids import AccountId
from shared.windows import window_at
from tests.simulation.agenda import START, true_now
from tests.simulation.oracle import claim, end_of

if TYPE_CHECKING:
    from tests.simulation.enforcer import Enforcer
    from tests.simulation.proxy import Life, Proxy, Wish
    from tests.simulation.world import World

DELAY_MS = 3_000
"""More than any message takes in one piece; a call may be admitted to a window so much after its end."""


class Referee:
    """Raises Violation."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._presumed: dict[AccountWindow, int] = {}
        """Presumed spend when the batch was decided that has just ended some of it."""

    # ---- decisions ----------------------------------------------------------------------------------

    def appended(self, batch: GrantBatch, seq: int) -> None:
        """A batch of decisions is in the log."""
        world = self._world
        before = {name for name, being in world.oracle.beings.items() if being.final or being.charged is not None}
        if any(isinstance(record, AllotmentClosed) for record in batch.records):
            self._presumed = {window: found for window in world.oracle.over if (found := world.oracle.presumed(window))}
        else:
            self._presumed = {}
        world.oracle.judge(batch, seq)
        world.truth.granted(world.oracle.granted_now)
        for name, being in world.oracle.beings.items():
            if (being.final or being.charged is not None) and name not in before:
                world.count("closed final" if being.final else "closed silent")
                machine = world.machines.get(name.partition(".")[0])
                if machine is not None and not machine.paused:  # who stands still settles when it wakes
                    world.truth.closed(name)

    # ---- what leaves an enforcer --------------------------------------------------------------------

    def said(self, instance: str, message: Reply | Recall) -> None:
        """No figure may leave that is not in the log (R3)."""
        if isinstance(message, Answer):
            if message.granted:
                lot = self._world.oracle.lot(instance, message.serial)
                claim(message.granted <= lot.granted, "a tentative grant left (R3)", instance, message, lot)
        elif isinstance(message, Ack | Recall):
            for known in message.known:
                self._known(instance, known)

    def _known(self, instance: str, known: Known) -> None:
        lot = self._world.oracle.lot(instance, known.serial)
        claim(known.granted <= lot.granted, "a tentative grant left (R3)", instance, known, lot)
        claim(known.returned <= lot.returned, "a tentative return left (R3)", instance, known, lot)

    def answered(self, enforcer: Enforcer, ask: Ask, answer: Answer) -> None:
        """`exceeded` is never premature (R31)."""
        refusal = answer.refusal
        if answer.verdict != "exceeded" or refusal is None:
            return
        world = self._world
        window = self._window(refusal)
        row = next((row for row in ask.rows if row.serial == ask.serial), None)
        first = ask.least if row is None else ask.need - row.returned - row.spent - row.holds
        superseded = ask.rseq < world.newest.get((ask.instance, ask.serial), 0)
        if superseded or self._lowered_since(window, enforcer.state.ledger_pos):
            return
        budget = world.oracle.budgets[window.account]
        presumed = max(0, self._presumed.get(window, 0) - world.oracle.presumed(window))
        certain = world.truth.certain(window, budget, first + presumed, refusal.limit)
        claim(certain, "EXCEEDED too early (R31)", window, first, refusal, world.truth.figures(window), ask)

    def _window(self, refusal: Refusal) -> AccountWindow:
        budget = self._world.oracle.budgets[refusal.account]
        start = START + timedelta(seconds=refusal.window_start_s + 1 - START.timestamp())
        return AccountWindow(AccountId(refusal.account), window_at(budget.window, start).index)

    def _lowered_since(self, window: AccountWindow, position: int) -> bool:
        """Whether a correction downward is on its way to an enforcer."""
        return any(
            isinstance(event, UsageCorrected) and any(change.window == window for change in event.changes)
            for message in self._world.logs.ledger[position:]
            if isinstance(message, tuple)
            for event in message
        )

    # ---- what happens at a proxy --------------------------------------------------------------------

    def admitted(self, proxy: Proxy, wish: Wish, hold: Hold | None) -> None:
        """A call is about to begin."""
        world = self._world
        claim(proxy.mirror.loaded, "a call was admitted without loaded policy (R15)", proxy.name)
        if hold is None:
            return
        claim(wish.amount <= hold.amount <= max(wish.most, wish.amount), "a hold of another size", wish, hold.amount)
        claim(bool(hold.windows), "a hold without windows", wish)
        late = timedelta(milliseconds=world.skew_ms + DELAY_MS)
        for window in hold.windows:
            end = end_of(world.oracle.budgets[window.account], window.index)
            claim(end is None or true_now(world.agenda) <= end + late, "admitted to a window long over (R10)", window)

    def banked(self, life: Life) -> None:
        """A bank was asked something: its wallets against the log."""
        oracle = self._world.oracle
        lots = oracle.being(life.instance).lots
        for serial, wallet in life.bank.vault.wallets.items():
            lot = lots.get(serial)
            granted = 0 if lot is None else lot.granted
            returned = 0 if lot is None else lot.returned
            claim(wallet.granted <= granted, "a wallet holds more than was granted", life.instance, wallet, lot)
            revived = not wallet.key_id  # it drains: it will return all but what its tombstone says was spent
            claim(
                revived or wallet.returned >= returned,
                "a wallet forgot what it returned (R23)",
                life.instance,
                wallet,
                lot,
            )
            claim(wallet.holds >= 0, "negative holds", life.instance, wallet)
            if lot is not None and wallet.term and lot.term:
                claim(wallet.term == lot.term, "a wallet with another term", life.instance, wallet, lot)
            committed = wallet.holds + wallet.spent
            if committed > wallet.granted - wallet.returned and wallet.term:
                strict = self._world.is_strict(wallet.term)
                claim(not strict, "a wallet holds more than it has", life.instance, wallet)

    def refused(self, proxy: Proxy, wish: Wish, verdict: str, refusal: Refusal) -> None:
        """A caller was refused: counted when the truth is otherwise, because memories may be a little old."""
        window = self._window(refusal)
        limit = self._world.truth.oracle.budgets[window.account].limit_nusd
        if limit is None or proxy.mirror.position < len(self._world.logs.auth):
            return
        certain = self._world.truth.certain(window, self._world.oracle.budgets[window.account], wish.amount, limit)
        if verdict == "exceeded" and not certain:
            self._world.count("stale exceeded")
        elif verdict == "reserved" and certain:
            self._world.count("late exceeded")
        elif verdict == "reserved" and self._world.truth.fits(window, wish.amount, limit):
            self._world.count("reserved though idle")
