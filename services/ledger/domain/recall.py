"""Money asked back from those who hold it idle, when an ask cannot be met otherwise.

An ask that lacks room waits a moment only if every account it lacks room on may get some: because somebody is asked
now, was asked a moment ago, or because an earlier ask waits there. Nobody is asked twice for the same account within
the gap, so a full budget costs few messages.
"""

from collections.abc import Iterable, Mapping

from services.ledger.domain.draft import Draft
from services.ledger.domain.state import LedgerState
from services.ledger.domain.tuning import Tuning
from shared.allotment import Ask, Known, Recall
from shared.events import AccountWindow
from shared.ids import AccountId, InstanceId

KNOWN_MAX = 500
"""Most allotments that one recall lists; its receiver gives back all that is idle on the account in any case."""
MEMORY_MAX = 20_000

Target = tuple[str, AccountWindow]
"""A holder (instance), and where it holds money."""


class Recalls:
    """Whom this process has asked for money lately. Times are milliseconds of its monotonic clock."""

    def __init__(self, state: LedgerState, tuning: Tuning) -> None:
        self._state = state
        self._tuning = tuning
        self._asked: dict[tuple[AccountId, str], int] = {}
        self._under_way: dict[AccountWindow, int] = {}

    def clear(self) -> None:
        """Forget everybody who was asked."""
        self._asked.clear()
        self._under_way.clear()

    def plan(
        self, ask: Ask, short: Iterable[AccountWindow], blocked: Mapping[AccountWindow, int], now_ms: int
    ) -> tuple[int, list[Target]] | None:
        """Until when an ask may wait for room on all of `short`, and who is to be asked; None: nothing can come.

        `blocked` are account-windows for which an earlier ask waits, with its end.
        """
        until_ms = 0
        targets: list[Target] = []
        for window in short:
            holders = self._holders(ask, window, now_ms)
            under_way_ms = self._under_way.get(window, 0)
            if holders:
                targets += ((name, window) for name in holders)
                until_ms = max(until_ms, now_ms + self._tuning.recall_wait_ms)
            elif under_way_ms > now_ms:
                until_ms = max(until_ms, under_way_ms)
            elif window in blocked:
                until_ms = max(until_ms, blocked[window])
            else:
                return None
        return (until_ms, targets) if until_ms > now_ms else None

    def letters(self, targets: Iterable[Target], draft: Draft) -> list[tuple[InstanceId, Recall]]:
        """The messages, with figures of the folded state only: nothing tentative may leave."""
        return [
            (
                InstanceId(name),
                Recall(epoch=self._state.epoch, account=window.account, known=self._known(name, window, draft)),
            )
            for name, window in dict.fromkeys(targets)
        ]

    def _holders(self, ask: Ask, window: AccountWindow, now_ms: int) -> list[str]:
        """Living instances with money that is neither spent nor the asking allotment's own."""
        balance = self._state.seen(window)
        if balance is None:
            return []
        earliest = now_ms - self._tuning.recall_gap_ms
        found: list[str] = []
        for name, serials in balance.holders.items():
            asked_ms = self._asked.get((window.account, name))
            if asked_ms is not None and asked_ms > earliest:
                continue
            allotments = self._state.instances[name].allotments
            own = ask.serial if name == ask.instance else None
            if any(serial != own and allotments[serial].out > allotments[serial].unfolded for serial in serials):
                found.append(name)
        return found

    def note(self, targets: Iterable[Target], now_ms: int) -> None:
        """These are asked now."""
        for name, window in targets:
            self._asked[window.account, name] = now_ms
            self._under_way[window] = now_ms + self._tuning.recall_wait_ms
        if len(self._asked) > MEMORY_MAX:
            earliest = now_ms - self._tuning.recall_gap_ms
            self._asked = {key: asked for key, asked in self._asked.items() if asked > earliest}
        if len(self._under_way) > MEMORY_MAX:
            self._under_way = {window: until for window, until in self._under_way.items() if until > now_ms}

    def _known(self, name: str, window: AccountWindow, draft: Draft) -> tuple[Known, ...]:
        balance = self._state.seen(window)
        serials = () if balance is None else balance.holders.get(name, ())
        allotments = self._state.instances[name].allotments
        known: list[Known] = []
        for serial in serials:
            if len(known) >= KNOWN_MAX:
                break
            held = allotments[serial]
            known.append(Known(serial, held.granted, held.returned, held.term, draft.admit_for_ms(held.term)))
        return tuple(known)
