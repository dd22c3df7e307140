"""What goes wrong, and when: crashes, pauses, cuts, slow logs, changed budgets, corrections."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from shared.events import AccountWindow, Change, UsageCorrected
from shared.ids import EventId, InstanceId
from shared.windows import window_at
from tests.simulation.agenda import true_now
from tests.simulation.network import ALL, BUS
from tests.simulation.oracle import claim

if TYPE_CHECKING:
    from shared.policy import Budget
    from tests.simulation.journal import Journal
    from tests.simulation.world import World

BOOKS = InstanceId("books.1")


class Storm:
    """Faults at random times, each kind with a mean pause of its own."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random
        self.over = False
        self._corrections = 0

    def start(self) -> None:
        """Let things go wrong until the storm is over."""
        profile = self._world.profile
        for every_s, deed in (
            (profile.proxy_crash_every_s, self.crash_proxy),
            (profile.proxy_pause_every_s, self.pause_proxy),
            (profile.enforcer_crash_every_s, self.crash_enforcer),
            (profile.enforcer_pause_every_s, self.pause_enforcer),
            (profile.cut_every_s, self.cut),
            (profile.change_every_s, self.change),
            (profile.correct_every_s, self.correct),
            (profile.slow_log_every_s, self.slow_log),
        ):
            if every_s:
                self._again(every_s, deed)

    def _again(self, every_s: float, deed: Callable[[], None]) -> None:
        world = self._world
        half = world.agenda.now > world.profile.demand_s * 500
        if world.profile.storm and half and deed in (self.crash_proxy, self.crash_enforcer, self.pause_enforcer):
            every_s = min(every_s, 5 if deed == self.crash_proxy else 16)
        world.agenda.after(self._random.expovariate(1 / every_s) * 1_000, self._happen, every_s, deed)

    def _happen(self, every_s: float, deed: Callable[[], None]) -> None:
        if not self.over:
            deed()
            self._again(every_s, deed)

    # ---- machines -----------------------------------------------------------------------------------

    def crash_proxy(self) -> None:
        """A proxy dies; it or another recovers the journal soon, late or never. Sometimes it ends cleanly."""
        world = self._world
        alive = [proxy for proxy in world.proxies if proxy.alive and not proxy.paused]
        if not alive:
            return
        proxy = self._random.choice(alive)
        if self._random.random() < 0.25:
            world.trace(f"{proxy.name} stops cleanly")
            world.count("stops")
            proxy.stop()
            world.agenda.after(self._random.uniform(100, 8_000), self._restart, proxy)
            return
        world.count("crashes")
        world.trace(f"{proxy.name} crashes")
        proxy.crash()
        world.agenda.after(self._random.choice((10, 300, 5_000, 20_000)), self._restart, proxy)

    def _restart(self, proxy: object) -> None:
        from tests.simulation.proxy import Proxy

        assert isinstance(proxy, Proxy)
        if proxy.alive and not proxy.stopping:
            return
        if proxy.alive:
            proxy.crash()
        proxy.start()
        for journal in self._left():
            late = self._random.choice((0, 0, 50, 3_000, 30_000))
            self._world.agenda.after(late, self._recover, journal)

    def _left(self) -> list[Journal]:
        world = self._world
        return [found for found in world.journals.values() if not found.locked_by and not found.lost and not found.done]

    def _recover(self, journal: Journal) -> None:
        world = self._world
        alive = [proxy for proxy in world.proxies if proxy.alive and not proxy.paused and not proxy.stopping]
        if alive and not journal.locked_by and not journal.lost:
            self._random.choice(alive).recover(journal, again=self._random.random() < 0.3)

    def pause_proxy(self) -> None:
        """A proxy stands still for a while."""
        proxy = self._random.choice(self._world.proxies)
        if proxy.alive and not proxy.paused:
            self._world.trace(f"{proxy.name} stands still")
            proxy.pause()
            self._world.agenda.after(self._random.choice((200, 3_000, 45_000)), proxy.resume)

    def crash_enforcer(self) -> None:
        """An enforcer dies and comes back."""
        enforcer = self._random.choice(self._world.enforcers)
        if enforcer.alive:
            self._world.trace(f"{enforcer.name} crashes")
            enforcer.crash()
            self._world.agenda.after(self._random.choice((100, 2_000, 10_000)), enforcer.start)

    def pause_enforcer(self) -> None:
        """An enforcer stands still, most often the one in office, long enough to be deposed."""
        enforcers = [found for found in self._world.enforcers if found.alive and not found.paused]
        if enforcers:
            enforcer = max(enforcers, key=lambda found: (found.serving, self._random.random()))
            self._world.trace(f"{enforcer.name} stands still")
            enforcer.pause()
            first = self._random.choice(("", "_take"))  # the inbox may well be looked at before the log
            self._world.agenda.after(self._random.choice((500, 3_500, 6_000)), enforcer.resume, first)

    def cut(self) -> None:
        """A machine's link is cut: both ways, or one only, from all or from one other."""
        world, random = self._world, self._random
        one = random.choice([*world.proxies, *world.proxies, *world.enforcers]).name
        other = random.choice((ALL, ALL, BUS, random.choice(world.enforcers).name))
        cuts = random.choice(({(one, other)}, {(other, one)}, {(one, other), (other, one)}))
        world.trace(f"cut {cuts}")
        world.net.cuts |= cuts
        long = world.profile.cut_s * 1_000
        world.agenda.after(random.choice((1_000, 5_000, long, 2 * long)), world.net.cuts.difference_update, cuts)

    def slow_log(self) -> None:
        """An enforcer reads late for a while."""
        enforcer = self._random.choice(self._world.enforcers)
        log = self._random.choice(("auth", "usage", "grants"))
        enforcer.slow[log] = self._world.agenda.now + self._random.uniform(1_000, 20_000)

    # ---- budgets ------------------------------------------------------------------------------------

    def change(self) -> None:
        """Auth decides something."""
        self._random.choice(
            (self._limit, self._limit, self._limit, self._add, self._remove, self._increase, self._place, self._block)
        )()

    def _limit(self) -> None:
        """A limit is lowered, raised, taken away, or appears."""
        budgets = self._world.estate.budgets()
        if not budgets:
            return
        budget = self._random.choice(budgets)
        limit = budget.limit_nusd
        if limit is None:
            limit = self._world.draw.one(1.0).limit_nusd
        elif self._random.random() < 0.1:
            limit = None
        else:
            limit = int(limit * self._random.choice((0.3, 0.7, 0.9, 1.2, 2.0)))
        self._world.trace(f"limit of {budget.account}: {budget.limit_nusd} -> {limit}")
        self._world.estate.change(budget.account, limit_nusd=limit)

    def _add(self) -> None:
        estate, random = self._world.estate, self._random
        if len(estate.budgets()) > 14:
            return
        kind, scopes = random.choice((("key", estate.keys), ("team", estate.teams), ("org", estate.orgs)))
        model = random.choice((None, None, "gpt-a", "gpt-*"))
        new = self._world.draw.one(0.6, model)
        self._world.trace(f"new budget for {kind}: {new}")
        estate.add(msgspec.structs.replace(new, scope_kind=kind, scope_id=random.choice(list(scopes))))

    def _remove(self) -> None:
        budgets = self._world.estate.budgets()
        if len(budgets) > 2:
            self._world.estate.remove(self._random.choice(budgets).account)

    def _increase(self) -> None:
        limited = [budget for budget in self._world.estate.budgets() if budget.limit_nusd]
        if limited:
            budget = self._random.choice(limited)
            amount = int((budget.limit_nusd or 0) * self._random.uniform(0.2, 1.0))
            self._world.trace(f"{budget.account} may spend {amount} more for a while")
            self._world.estate.increase(budget.account, amount, self._random.uniform(2_000, 40_000))

    def _place(self) -> None:
        key = self._random.choice(list(self._world.estate.keys))
        team = self._random.choice([None, *self._world.estate.teams])
        self._world.trace(f"{key} moves to {team}")
        self._world.estate.place_key(key, team, "org")

    def _block(self) -> None:
        key = self._random.choice(list(self._world.estate.keys))
        self._world.estate.block(key, blocked=not self._world.estate.keys[key].blocked)

    def correct(self) -> None:
        """An operator sets the spend of a window right."""
        world = self._world
        budgets = world.estate.budgets()
        if budgets:
            budget = self._random.choice(budgets)
            self.correct_by(budget, self._random.choice((-1.0, -0.5, 0.1)))

    def correct_by(self, budget: Budget, share: float) -> None:
        """The spend of a budget's window of now is changed by a share of itself."""
        world = self._world
        window = AccountWindow(budget.account, window_at(budget.window, true_now(world.agenda)).index)
        delta = int(world.oracle.spent[window] * share)
        claim(delta + world.oracle.spent[window] >= 0, "a correction below nothing", window)
        self._corrections += 1
        event = UsageCorrected(
            id=EventId(f"correction-{self._corrections}"),
            at=true_now(world.agenda),
            source="books",
            instance=BOOKS,
            partition=0,
            n=self._corrections,
            scope_kind=budget.scope_kind,
            scope_id=budget.scope_id,
            changes=(Change(window, delta),),
            actor="operator",
        )
        world.trace(f"correction of {window} by {delta}")
        world.logs.publish((event,))
