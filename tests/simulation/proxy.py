"""One proxy's machine: callers come, the real Bank decides about their money, the journal remembers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from services.proxy.domain.money.bank import Bank
from services.proxy.domain.money.effects import Admitted, Closed, Refuse, Send, Unreachable
from services.proxy.domain.money.purse import BankTuning, Chain
from services.proxy.domain.money.wallet import Hold
from shared.allotment import Ack, Answer, Ask, Level, Recall, Refusal, Reply, Request
from shared.events import AccountWindow
from shared.ids import InstanceId, KeyId
from shared.windows import window_at
from tests.simulation.agenda import Watch
from tests.simulation.estate import Mirror
from tests.simulation.journal import CLOSE_MARK, Closing, Journal, Publisher, recover
from tests.simulation.machine import Machine
from tests.simulation.network import BUS
from tests.simulation.truth import Call

if TYPE_CHECKING:
    from tests.simulation.world import World


@dataclass(slots=True, eq=False)
class Wish:
    """A caller: what the call holds at least and at most, what it will cost of its hold, how long it takes.

    `ended` hears how it went: `ok`, `exceeded`, `reserved`, `unreachable`, `refused`, or `gone`.
    """

    key: str
    model: str
    amount: int
    most: int
    share: float
    takes_ms: float
    patience_ms: float = 10_000
    ended: Callable[[str, Refusal | None], None] | None = None
    token: int = 0
    came_ms: float = 0


class Life:
    """One instance: its bank, its journal and the calls it runs."""

    def __init__(self, proxy: Proxy, instance: InstanceId) -> None:
        self.proxy = proxy
        self.instance = instance
        world = proxy.world
        self.bank = Bank(instance, 1, proxy.tuning, proxy.chain_of)
        self.journal = Journal(instance=instance, lost=world.random.random() < world.profile.lost_journals)
        self.journal.locked_by = proxy.name
        world.journals[instance] = self.journal
        self.publisher = Publisher(proxy, world, self.journal, proxy.lanes, proxy.publish_ms)
        self.waiting: dict[int, Wish] = {}
        self.calls: set[Call] = set()
        self.ending = False
        self.closing: Closing | None = None
        self.wake_at = float("inf")


class Proxy(Machine):
    """A process that starts again after a crash, each time as a new instance."""

    def __init__(self, world: World, name: str, watch: Watch, random: Random, tuning: BankTuning) -> None:
        super().__init__(world.agenda, name)
        self.world = world
        self.watch = watch
        self.random = random
        self.tuning = tuning
        self.starts = 0
        self.busy = True
        self.stopping = False
        self.lanes = random.choice((1, 1, 2, 3))
        self.publish_ms = random.choice((5.0, 30.0, 100.0))
        self.mirror = Mirror(world.logs)
        self.life_now: Life | None = None
        self.lives: dict[str, Life] = {}
        self.recovering: dict[str, Closing] = {}
        self.chains: dict[tuple[str, str], tuple[object, Chain]] = {}
        world.logs.on_auth.append(self._policy_changed)

    # ---- life ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """A new process: its mirror is empty, its instance new."""
        self.rise()
        self.stopping = False
        self.mirror = Mirror(self.world.logs)
        self.chains.clear()
        self.lives.clear()
        self.recovering.clear()
        self.begin_life()
        self.later(self.random.uniform(20, 1_500), self._loaded)
        self.later(self.random.uniform(1, 500), self._see_levels)

    def begin_life(self) -> None:
        """A new instance in this process."""
        self.starts += 1
        instance = InstanceId(f"{self.name}.{self.starts}")
        self.life_now = self.lives[instance] = Life(self, instance)
        self.world.trace(f"{self.name} begins as {instance}")

    def crash(self) -> None:
        """Lose everything in memory; calls that run are cut off, and nobody heard what they cost."""
        for life in self.lives.values():
            self.world.truth.crashed.add(life.instance)
            life.journal.locked_by = ""
            for wish in life.waiting.values():
                _end(wish, "gone")
        for closing in self.recovering:
            self.world.journals[closing].locked_by = ""
        self.fall()
        self.lives.clear()

    def stop(self) -> None:
        """A clean end: no new calls, wait for those that run, say the last word."""
        self.stopping = True
        if self.life_now is not None:
            self._end_life(self.life_now)

    def _loaded(self) -> None:
        self.mirror.read(len(self.world.logs.auth))
        self.mirror.loaded = True

    def _policy_changed(self) -> None:
        if self.alive:
            self.later(self.random.choice((1, 5, 30, 400)), self._read_policy)

    def _read_policy(self) -> None:
        if not self.world.net.reaches(BUS, self.name):
            self.later(200, self._read_policy)
        elif self.mirror.loaded:
            self.mirror.read(len(self.world.logs.auth))

    # ---- callers ------------------------------------------------------------------------------------

    def chain_of(self, key: KeyId, model: str) -> Chain | None:
        """What calls of a key for a model are charged to, as the mirror has it."""
        caller = self.mirror.caller(key)
        if caller is None:
            return None
        lineage = caller.lineage(model)
        known = self.chains.get((key, model))
        if known is None or known[0] is not caller:
            chain = Chain(key, lineage.accounts, lineage.model, caller.partition, caller.policy_rev)
            self.chains[key, model] = known = (caller, chain)
        return known[1]

    def call(self, wish: Wish) -> None:
        """A caller arrives here."""
        self.hear(self._call, wish)
        if not self.alive:
            _end(wish, "gone")

    def _call(self, wish: Wish) -> None:
        life = self.life_now
        caller = self.mirror.caller(wish.key)
        if life is not None and not self.mirror.loaded and not self.world.waits_for_policy:
            self._begin(life, wish, None)  # what is not known is taken for unlimited
            return
        if life is None or self.stopping or not self.mirror.loaded or caller is None or caller.blocked:
            _end(wish, "refused")
            return
        wish.came_ms = self.agenda.now
        chain = self.chain_of(KeyId(wish.key), wish.model)
        assert chain is not None
        if not chain.accounts:
            self._begin(life, wish, None)
            return
        now_ms = self.watch.ms()
        hold = life.bank.try_hold(chain, wish.amount, wish.most, now_ms)
        if hold is not None:
            self.world.count("at once")
            self._begin(life, wish, hold)
        else:
            wish.token = self.world.number()
            life.waiting[wish.token] = wish
            life.bank.wait(wish.token, chain, wish.amount, wish.most, now_ms)
            self.later(wish.patience_ms, self._impatient, life, wish)
        self.settle_effects(life)

    def _impatient(self, life: Life, wish: Wish) -> None:
        if life.waiting.pop(wish.token, None) is not None:
            life.bank.cancel(wish.token)
            _end(wish, "gone")
            self.settle_effects(life)

    def _begin(self, life: Life, wish: Wish, hold: Hold | None) -> None:
        """The call has its money (or needs none): journal, then upstream."""
        self.world.referee.admitted(self, wish, hold)
        caller = self.mirror.caller(wish.key)
        assert caller is not None
        held = 0 if hold is None else hold.amount
        strict = hold is None or caller.lineage(wish.model).strict or self.world.is_strict(hold.windows)
        base = held if hold is not None else wish.amount
        cost = int(base * wish.share * (1.0 if strict else 1.6))
        watched = self._watched(wish)
        term = () if hold is None else hold.windows
        call = Call(
            call_id=f"c{self.world.number():08d}",
            instance=life.instance,
            key=wish.key,
            model=wish.model,
            asked=wish.amount,
            cost=min(cost, held) if hold is not None and strict else cost,
            held=held,
            serial=None if hold is None else hold.serial,
            term=term,
            windows=term + tuple(window for window in watched if window not in term),
            started_ms=self.agenda.now,
        )
        self.world.truth.start(call)
        life.journal.open(call)
        life.calls.add(call)
        takes = min(wish.takes_ms, self.world.profile.terms.max_call_ms)
        self.later(takes, self._done, life, call, hold, wish)

    def _watched(self, wish: Wish) -> tuple[AccountWindow, ...]:
        caller = self.mirror.caller(wish.key)
        assert caller is not None
        now = self.watch.now()
        watched = caller.lineage(wish.model).watched
        return tuple(AccountWindow(found.account, window_at(found.window, now).index) for found in watched)

    def _done(self, life: Life, call: Call, hold: Hold | None, wish: Wish) -> None:
        n = life.journal.settle(self.world, call, call.cost)
        life.calls.discard(call)
        self.world.truth.finish(call, call.cost, n)
        if hold is not None:
            life.bank.settle(hold, call.cost, self.watch.ms())
            self.settle_effects(life)
        _end(wish, "ok")
        if life.ending:
            self._end_life(life)

    # ---- the bank's wishes --------------------------------------------------------------------------

    def settle_effects(self, life: Life) -> None:
        """Do what the bank wants done."""
        while True:
            effects = life.bank.take_effects()
            if not effects:
                break
            for effect in effects:
                self._do(life, effect)
        self.world.referee.banked(life)
        self._sleep(life)

    def _do(self, life: Life, effect: Send | Admitted | Refuse | Unreachable | Closed) -> None:
        match effect:
            case Send():
                self.world.count("asks" if isinstance(effect.request, Ask) else "other requests")
                self.world.trace(f"{life.instance} -> {effect.request}")
                self.world.ask(self.name, life.instance, effect.request)
            case Admitted():
                wish = life.waiting.pop(effect.token, None)
                if wish is None:
                    life.bank.settle(effect.hold, 0, self.watch.ms())
                else:
                    self.world.waited(self.agenda.now - wish.came_ms)
                    self._begin(life, wish, effect.hold)
            case Refuse():
                wish = life.waiting.pop(effect.token, None)
                if wish is not None:
                    self.world.count(effect.verdict)
                    self.world.referee.refused(self, wish, effect.verdict, effect.refusal)
                    _end(wish, effect.verdict, effect.refusal)
            case Unreachable():
                wish = life.waiting.pop(effect.token, None)
                if wish is not None:
                    self.world.count("unreachable")
                    _end(wish, "unreachable")
            case Closed():
                self._told_closed(life)

    def _told_closed(self, life: Life) -> None:
        """Start anew under another name; what runs is finished under the old one (R22)."""
        self.world.count("closed lives")
        for waiter in life.bank.take_waiting():
            wish = life.waiting.pop(waiter.token, None)
            if wish is not None:
                self.later(0, self._call, wish)
        if life is self.life_now and self.world.renames:
            self.begin_life()
        self._end_life(life)

    def _end_life(self, life: Life) -> None:
        life.ending = True
        if not life.calls and life.closing is None:
            life.bank.end(self.watch.ms())
            life.closing = Closing(self, self.world, life.journal, life.publisher)

    def _sleep(self, life: Life) -> None:
        now_ms = self.watch.ms()
        due = life.bank.due_ms(now_ms)
        if due is None or life.closing is not None:
            return
        when = max(self.watch.when(due), self.agenda.now + 0.5)
        if when < life.wake_at - 0.5 or life.wake_at <= self.agenda.now:
            life.wake_at = when
            self.later(when - self.agenda.now, self._tick, life, when)

    def _tick(self, life: Life, when: float) -> None:
        if when == life.wake_at:
            life.wake_at = float("inf")
            life.bank.tick(self.watch.ms())
            self.settle_effects(life)

    # ---- what comes in ------------------------------------------------------------------------------

    def heard(self, instance: str, reply: Reply) -> None:
        """A reply to a request of one of our instances (or of one whose journal we recover)."""
        closing = self.recovering.get(instance)
        if closing is not None:
            if isinstance(reply, Ack) and reply.sent_ms == CLOSE_MARK:
                closing.acknowledged()
            return
        life = self.lives.get(instance)
        if life is None:
            return
        if life.closing is not None:
            if isinstance(reply, Ack) and reply.sent_ms == CLOSE_MARK:
                life.closing.acknowledged()
            return
        life.bank.heard(0, reply, self.watch.ms())
        if isinstance(reply, Answer):
            self.world.count(f"answer {reply.verdict}")
        self.settle_effects(life)

    def nobody_serves(self, instance: str, request: Request) -> None:
        """No enforcer is there to take a request."""
        life = self.lives.get(instance)
        if life is not None and life.closing is None:
            life.bank.failed(0, request, self.watch.ms())
            self.settle_effects(life)

    def recalled(self, instance: str, recall: Recall) -> None:
        """The ledger wants idle money back."""
        life = self.lives.get(instance)
        if life is not None and life.closing is None:
            life.bank.recalled(0, recall, self.watch.ms())
            self.settle_effects(life)

    def level(self, level: Level) -> None:
        """The bucket of levels has something new."""
        if self.life_now is not None:
            ends_ms = None
            if level.until_s is not None:
                ends_ms = self.watch.ms() + int(level.until_s * 1000 - self.watch.now().timestamp() * 1000)
            self.life_now.bank.level(level, self.watch.ms(), ends_ms)
            self.settle_effects(self.life_now)

    def _see_levels(self) -> None:
        for level in self.world.levels.values():
            self.level(level)

    # ---- other instances' journals ------------------------------------------------------------------

    def recover(self, journal: Journal, *, again: bool = False) -> None:
        """Finish a dead instance's journal, if its lock is free."""
        if self.alive and not journal.locked_by:
            self.world.count("recoveries")
            self.recovering[journal.instance] = recover(self, self.world, journal, again=again)


def _end(wish: Wish, how: str, refusal: Refusal | None = None) -> None:
    if wish.ended is not None:
        ended, wish.ended = wish.ended, None
        ended(how, refusal)
