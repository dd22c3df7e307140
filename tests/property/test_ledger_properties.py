"""The budget protocol under lost, doubled and late messages, failing appends, two enforcers and crashes.

Two drivers share one world: a state machine, whose failures shrink to a short story, and long random runs by seed,
which reach states that short stories do not.
"""

from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared.events import AccountWindow
from shared.ids import AccountId, KeyId
from shared.policy import Increase
from tests.support.ledger import KEY, ORG, TEAM, balances, counted, forget, out_of, recounted
from tests.support.ledger_world import KEYS, MODELS, Enforcer, World, at_minute, request_of

ORDERS = ("AUG", "AGU", "UAG", "UGA", "GAU", "GUA")
FATES = (*["lands"] * 8, "lost", "unacknowledged")
amounts = st.integers(1, 40)
picks = st.integers(0, 50)
CHECKS = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)


class Protocol(RuleBasedStateMachine):
    """Rules are what may happen; each is harmless to repeat."""

    strict = True

    def __init__(self) -> None:
        super().__init__()
        self.world = World(strict=self.strict)
        self.world.start_proxy()
        self.world.start_proxy()
        first = self.world.enforcers[0]
        for log in ("auth", "usage", "grants"):
            first.read(log, 100)
        first.take_office()

    # ---- proxies -------------------------------------------------------------------------------------

    @rule(
        pick=picks,
        key=st.sampled_from(KEYS),
        model=st.sampled_from(MODELS),
        hold=amounts,
        ahead=st.sampled_from((0, 0, 30)),
    )
    def call(self, pick: int, key: str, model: str, hold: int, ahead: int) -> None:
        proxy = self.world.proxies[pick % len(self.world.proxies)]
        proxy.call(KeyId(key), model, hold, ahead)

    @rule(pick=picks, share=st.integers(0, 100))
    def finish(self, pick: int, share: int) -> None:
        proxy = self.world.proxies[pick % len(self.world.proxies)]
        running = [wallet for wallet in proxy.wallets if wallet.calls]
        if running:
            wallet = running[pick % len(running)]
            proxy.finish(wallet, self.cost(wallet.calls[0][0], share))

    def cost(self, hold: int, share: int) -> int:
        return hold * share // 100

    @rule(pick=picks, kind=st.sampled_from(("return", "beat")))
    def report(self, pick: int, kind: str) -> None:
        proxy = self.world.proxies[pick % len(self.world.proxies)]
        self.world.requests.append((proxy, request_of(proxy, kind)))

    @rule(pick=picks, count=st.integers(1, 4), again=st.booleans())
    def publish(self, pick: int, count: int, again: bool) -> None:
        everyone = self.world.proxies + self.world.dead
        proxy = everyone[pick % len(everyone)]
        logged = {event.id for event in self.world.logs.usage}
        fresh = [event for event in proxy.journal if event.id not in logged]
        batch = fresh[:count] if not again else proxy.journal[pick % (len(proxy.journal) + 1) :][:count]
        self.world.logs.usage += batch

    @precondition(lambda self: self.world.started < 6)
    @rule(pick=picks, found=st.booleans())
    def crash(self, pick: int, found: bool) -> None:
        """A proxy dies; its journal is recovered at once, or only much later."""
        proxy = self.world.proxies[pick % len(self.world.proxies)]
        self.world.bury(proxy)
        if found:
            self.world.recover(proxy)

    @precondition(lambda self: self.world.dead)
    @rule(pick=picks)
    def recover(self, pick: int) -> None:
        """Again is harmless."""
        self.world.recover(self.world.dead[pick % len(self.world.dead)])

    # ---- links ---------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.requests)
    @rule(
        picked=st.lists(picks, min_size=1, max_size=4),
        fate=st.sampled_from(FATES),
        which=st.integers(0, 1),
        double=st.booleans(),
    )
    def deliver(self, picked: list[int], fate: str, which: int, double: bool) -> None:
        enforcer = self.world.enforcers[which % len(self.world.enforcers)]
        if not enforcer.active:
            enforcer = self.world.chief()
        chosen = [self.world.requests[-1 - pick % len(self.world.requests)] for pick in picked]
        for proxy, request in chosen:
            if not double and (proxy, request) in self.world.requests:
                self.world.requests.remove((proxy, request))
        enforcer.serve(chosen, fate)

    @precondition(lambda self: self.world.replies)
    @rule(pick=picks, what=st.sampled_from((*["deliver"] * 8, "double", "lose")))
    def reply(self, pick: int, what: str) -> None:
        entry = self.world.replies[-1 - pick % len(self.world.replies)]
        if what != "double":
            self.world.replies.remove(entry)
        if what != "lose" and entry[0] in self.world.proxies:
            entry[0].learn(entry[1])
            if entry[0].closed and self.world.started < 40:
                self.world.bury(entry[0])  # told that it was closed: it starts anew, and recovers its own journal
                self.world.recover(entry[0])

    @precondition(lambda self: self.world.recalls)
    @rule(pick=picks, lost=st.booleans())
    def recall(self, pick: int, lost: bool) -> None:
        name, recall = self.world.recalls.pop(pick % len(self.world.recalls))
        for proxy in self.world.proxies:
            if proxy.id == name and not lost:
                proxy.recalled(recall)

    @precondition(lambda self: self.world.requests)
    @rule(pick=picks)
    def lose(self, pick: int) -> None:
        self.world.requests.pop(pick % len(self.world.requests))

    # ---- enforcers -----------------------------------------------------------------------------------

    @rule(which=st.integers(0, 1), log=st.sampled_from(("auth", "usage", "grants")), most=st.integers(1, 6))
    def read(self, which: int, log: str, most: int) -> None:
        enforcer = self.world.enforcers[which]
        enforcer.read(log, most)
        enforcer.work()

    @rule(which=st.integers(0, 1))
    def elect(self, which: int) -> None:
        enforcer = self.world.enforcers[which]
        enforcer.read("grants", 1_000)
        enforcer.take_office()

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        self.world.enforcers[which] = Enforcer(self.world, self.world.enforcers[which].skew)

    # ---- the outside ---------------------------------------------------------------------------------

    @rule(minutes=st.integers(1, 40))
    def time_passes(self, minutes: int) -> None:
        self.world.pass_minutes(minutes)

    @rule(which=st.integers(0, 1))
    def tidy(self, which: int) -> None:
        """What is dropped moves no money."""
        enforcer = self.world.enforcers[which]
        forget(enforcer.state, self.world.now)

    @rule(key=st.sampled_from(KEYS), amount=st.integers(50, 500))
    def change_limit(self, key: str, amount: int) -> None:
        self.world.limit("key", key, amount)

    @rule(amount=st.integers(20, 300))
    def change_model_limit(self, amount: int) -> None:
        self.world.limit("model", KEY, amount)

    @rule(key=st.sampled_from(KEYS), amount=st.integers(10, 200), minutes=st.integers(5, 60))
    def increase(self, key: str, amount: int, minutes: int) -> None:
        until = at_minute(self.world, minutes)
        limit = self.world.budgets[f"a:{key}"].limit_nusd or 0
        self.world.limit("key", key, limit, Increase(amount_nusd=amount, until=until))

    @rule(key=st.sampled_from(KEYS), index=st.integers(0, 2), delta=st.integers(-200, 50))
    def correct(self, key: str, index: int, delta: int) -> None:
        self.world.correct(AccountWindow(AccountId(f"a:{key}"), index), delta)

    @rule(kind=st.sampled_from(("team", "org")), amount=st.integers(100, 700))
    def change_shared_limit(self, kind: str, amount: int) -> None:
        self.world.limit(kind, TEAM if kind == "team" else ORG, amount)

    # ---- what must hold ------------------------------------------------------------------------------

    @invariant()
    def committed_money_is_within_the_limits(self) -> None:
        if self.strict:
            self.world.check_committed()

    @invariant()
    def balances_are_what_allotments_add_up_to(self) -> None:
        for enforcer in self.world.enforcers:
            assert counted(enforcer.state) == recounted(enforcer.state)
            assert enforcer.state.out == out_of(enforcer.state)

    def teardown(self) -> None:
        truth = balances(self.world.logs.fold())
        for order in ORDERS:
            assert balances(self.world.logs.fold(order)) == truth
        self.end_of_demand()

    def end_of_demand(self) -> None:
        """Calls end, everything is published and given back: then no escrow is left anywhere."""
        world = self.world
        chief = Enforcer(world)
        world.enforcers = [chief]
        for log in ("auth", "usage", "grants"):
            chief.read(log, 10_000)
        chief.take_office()
        assert chief.active
        for proxy in world.proxies:
            for wallet in proxy.wallets:
                wallet.waiting.clear()
                while wallet.calls:
                    proxy.finish(wallet, self.cost(wallet.calls[0][0], 100))
        for proxy in world.dead:
            world.recover(proxy)
        for proxy in world.proxies + world.dead:
            logged = {event.id for event in world.logs.usage}
            world.logs.usage += [event for event in proxy.journal if event.id not in logged]
        chief.read("usage", 10_000)
        for proxy in world.proxies:
            for _ in range(3):  # a beat tells what is out, the next one has it back
                world.replies.clear()
                chief.serve([(proxy, request_of(proxy, "beat"))], "lands")
                for sender, reply in world.replies:
                    sender.learn(reply)
        ends = list(world.dead)
        ends += [proxy for proxy in world.proxies if proxy.closed]
        for proxy in ends:
            world.recover(proxy)
        chief.serve([(proxy, request) for proxy, request in world.requests if proxy in ends], "lands")
        assert chief.state.escrow == 0
        assert counted(chief.state) == recounted(chief.state) == {}
        assert all(
            balance.escrow == 0 and balance.presumed == 0 and balance.unfolded >= 0
            for account in chief.state.accounts.values()
            for balance in account.windows.values()
        )


def run(machine: "Protocol", seed: int, steps: int) -> None:
    """A long random run: mostly traffic, now and then a mishap."""
    dice = Random(seed)
    number = lambda: dice.randrange(51)  # noqa: E731
    key = lambda: dice.choice(KEYS)  # noqa: E731
    stories = [
        (70, lambda: machine.call(number(), key(), dice.choice(MODELS), dice.randint(1, 40), dice.choice((0, 0, 30)))),
        (40, lambda: machine.finish(number(), dice.randint(0, 100))),
        (12, lambda: machine.report(number(), dice.choice(("return", "beat")))),
        (15, lambda: machine.publish(number(), dice.randint(1, 4), dice.random() < 0.1)),
        (
            100,
            lambda: machine.deliver(
                [number() for _ in range(dice.randint(1, 3))],
                dice.choice(FATES),
                dice.randrange(2),
                dice.random() < 0.2,
            ),
        ),
        (80, lambda: machine.reply(number(), dice.choice((*["deliver"] * 8, "double", "lose")))),
        (4, lambda: machine.lose(number())),
        (30, lambda: machine.read(dice.randrange(2), dice.choice(("auth", "usage", "grants")), dice.randint(1, 6))),
        (2, lambda: machine.elect(dice.randrange(2))),
        (1, lambda: machine.restart(dice.randrange(2))),
        (1, lambda: machine.crash(number(), dice.random() < 0.5)),
        (1, lambda: machine.recover(number())),
        (10, lambda: machine.recall(number(), dice.random() < 0.1)),
        (5, lambda: machine.time_passes(dice.choice((1, 1, 1, 1, 1, 2, 2, 4, 18)))),
        (1, lambda: machine.tidy(dice.randrange(2))),
        (1, lambda: machine.change_model_limit(dice.randint(20, 300))),
        (1, lambda: machine.increase(key(), dice.randint(10, 200), dice.randint(5, 60))),
        (1, lambda: machine.correct(key(), dice.randrange(3), dice.randint(-200, 50))),
        (2, lambda: machine.change_limit(key(), dice.randint(50, 500))),
        (1, lambda: machine.change_shared_limit(dice.choice(("team", "org")), dice.randint(100, 700))),
    ]
    weights = [weight for weight, _ in stories]
    world = machine.world
    for _ in range(steps):
        (story,) = dice.choices([story for _, story in stories], weights)
        name = story.__code__.co_names[0]
        if (name == "deliver" and not world.requests) or (name == "reply" and not world.replies):
            continue
        if (name == "lose" and not world.requests) or (name == "crash" and world.started >= 8):
            continue
        if (name == "recall" and not world.recalls) or (name == "recover" and not world.dead):
            continue
        story()
        machine.committed_money_is_within_the_limits()
        machine.balances_are_what_allotments_add_up_to()
    machine.teardown()


@pytest.mark.parametrize("seed", range(20))
def test_long_runs(seed: int) -> None:
    run(Protocol(), seed, 1_500)


@pytest.mark.parametrize("seed", range(12))
def test_long_runs_with_overdraft(seed: int) -> None:
    run(ProtocolWithOverdraft(), 1_000 + seed, 1_500)


class ProtocolWithOverdraft(Protocol):
    """Calls may cost up to twice their hold: the enforcer's own view must still keep the rule."""

    strict = False

    def cost(self, hold: int, share: int) -> int:
        return hold * share // 50


TestStrict = Protocol.TestCase
TestStrict.settings = settings(max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=CHECKS)
TestOverdraft = ProtocolWithOverdraft.TestCase
TestOverdraft.settings = settings(max_examples=40, stateful_step_count=50, deadline=None, suppress_health_check=CHECKS)
