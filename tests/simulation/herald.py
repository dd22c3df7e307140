"""What an enforcer in office tells the world: signals for people, levels for proxies. Both may be told again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.ledger.domain.cross import signal_of, threshold_of, told
from shared.allotment import Level
from shared.events import AccountWindow, BudgetExceeded, BudgetRestored, BudgetThresholdReached
from shared.ids import AccountId
from tests.simulation.network import BUS

if TYPE_CHECKING:
    from tests.simulation.enforcer import Enforcer

REPEAT_MS = 500
LEVELS_MAX = 50
Signal = BudgetThresholdReached | BudgetExceeded | BudgetRestored


class Herald:
    """Publishes what the state says is not told yet, until the log says that it is."""

    def __init__(self, enforcer: Enforcer) -> None:
        self._enforcer = enforcer
        self._under_way: set[tuple[str, int, str]] = set()
        self._posting: set[str] = set()

    def begin(self) -> None:
        """The office is taken: whatever the one before has not recorded as told is told again."""
        self._under_way.clear()
        self._enforcer.desk.board.begin(list(self._enforcer.world.levels.values()))

    def look(self) -> None:
        """Publish what is new."""
        enforcer = self._enforcer
        if not enforcer.serving:
            return
        for name in sorted(enforcer.state.untold - self._under_way):
            self._tell(name)
        self._post()

    def _tell(self, name: tuple[str, int, str]) -> None:
        account, index, what = name
        enforcer, state = self._enforcer, self._enforcer.state
        window = AccountWindow(AccountId(account), index)
        balance = state.seen(window)
        if balance is None:
            return
        threshold, _ = threshold_of(what)
        signal = signal_of(state.directory, window, threshold, balance.crossed[what], enforcer.instance)
        self._under_way.add(name)
        enforcer.later(REPEAT_MS, self._under_way.discard, name)
        if signal is None:
            return
        enforcer.world.net.send(enforcer.name, BUS, self._arrive, enforcer.life, name, signal)

    def _arrive(self, life: int, name: tuple[str, int, str], signal: Signal) -> None:
        enforcer = self._enforcer
        enforcer.world.signal(name, signal)
        enforcer.world.net.send(BUS, enforcer.name, enforcer.hear_in, life, self._told, name)

    def _told(self, name: tuple[str, int, str]) -> None:
        enforcer = self._enforcer
        account, index, what = name
        if enforcer.serving and name in enforcer.state.untold:
            enforcer.desk.told(told(AccountWindow(AccountId(account), index), *threshold_of(what)))
            enforcer.pump()

    def _post(self) -> None:
        enforcer = self._enforcer
        for level in enforcer.desk.board.due(enforcer.watch.now(), LEVELS_MAX):
            if level.account not in self._posting:
                self._posting.add(level.account)
                enforcer.world.net.send(enforcer.name, BUS, self._put, enforcer.life, level)
                enforcer.later(REPEAT_MS, self._posting.discard, level.account)

    def _put(self, life: int, level: Level) -> None:
        enforcer = self._enforcer
        enforcer.world.post(level)
        enforcer.world.net.send(BUS, enforcer.name, enforcer.hear_in, life, self._posted, level)

    def _posted(self, level: Level) -> None:
        self._posting.discard(level.account)
        self._enforcer.desk.board.posted(level)
        self.look()
