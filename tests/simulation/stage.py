"""A quiet little world for one scenario at a time: nothing goes wrong but what the scenario does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from shared.allotment import Refusal
from shared.events import AccountWindow, AllotmentGranted, GrantBatch
from shared.ids import AccountId
from shared.policy import Budget
from tests.simulation.ending import conclude
from tests.simulation.enforcer import Enforcer
from tests.simulation.estate import budget
from tests.simulation.network import ALL, BUS
from tests.simulation.oracle import Lot
from tests.simulation.profiles import CALM, SHORT, Profile, Terms
from tests.simulation.proxy import Proxy, Wish
from tests.simulation.world import World

QUIET = replace(CALM, name="stage", skew_ms=0)
KEY = "key0"
MAIN = "main"


@dataclass
class Caller:
    """One call that a scenario makes; `how` is empty while nobody knows how it ends."""

    wish: Wish
    how: str = ""
    refusal: Refusal | None = None
    began: bool = False

    def ended(self, how: str, refusal: Refusal | None) -> None:
        """The call's end."""
        self.how, self.refusal = how, refusal


@dataclass
class Kept:
    """Messages that were taken out of the network, to be delivered when the scenario likes."""

    letters: list[tuple[str, str, Callable[..., None], tuple[object, ...]]] = field(
        default_factory=list[tuple[str, str, Callable[..., None], tuple[object, ...]]]
    )

    def deliver(self) -> None:
        """Everything that was kept arrives now, and once more if it is delivered again."""
        for _, _, deliver, args in self.letters:
            deliver(*args)


class Stage:
    """Two enforcers (`first` holds the office) and some proxies over a team `team0` with a key `key0`."""

    def __init__(
        self,
        *budgets: Budget,
        proxies: int = 2,
        enforcers: int = 2,
        terms: Terms = SHORT,
        profile: Profile = QUIET,
        key_budgets: tuple[Budget, ...] = (),
        seed: int = 1,
        start: bool = True,
    ) -> None:
        self.world = World(seed, replace(profile, terms=terms), proxies=proxies, enforcers=enforcers)
        for enforcer in self.world.enforcers:
            enforcer.split = False
        for proxy in self.world.proxies:
            proxy.lanes, proxy.publish_ms = 1, 20.0
        self.world.estate.org("org")
        self.world.estate.team("team0", "org", *budgets)
        self.world.estate.key(KEY, "team0", "org", *key_budgets)
        self.world.estate.key("key1", "team0", "org")
        self.callers: list[Caller] = []
        if start:
            self.world.boot()
            self.world.run(2_500)
            assert self.first.serving

    # ---- who is who ---------------------------------------------------------------------------------

    @property
    def first(self) -> Enforcer:
        """The enforcer in office (the one with the highest epoch, when several believe so)."""
        serving = [found for found in self.world.enforcers if found.serving and not found.paused]
        return max(serving or self.world.enforcers, key=lambda found: (found.serving, found.state.epoch))

    @property
    def second(self) -> Enforcer:
        """Another one."""
        return next(found for found in self.world.enforcers if found is not self.first)

    def proxy(self, number: int) -> Proxy:
        """A proxy by number."""
        return self.world.proxies[number]

    # ---- calls --------------------------------------------------------------------------------------

    def call(
        self,
        proxy: int,
        amount: int,
        *,
        key: str = KEY,
        model: str = "gpt-a",
        share: float = 1.0,
        takes_ms: float = 50,
        patience_ms: float = 10_000,
    ) -> Caller:
        """A call begins; time does not pass."""
        wish = Wish(key, model, amount, amount, share, takes_ms, patience_ms)
        caller = Caller(wish)
        wish.ended = caller.ended
        self.callers.append(caller)
        self.proxy(proxy).call(wish)
        return caller

    def serve(self, proxy: int, amount: int, **more: object) -> Caller:
        """A call from beginning to end."""
        caller = self.call(proxy, amount, **more)  # pyright: ignore[reportArgumentType]
        self.world.until(lambda: caller.how != "", 70_000)
        return caller

    def until(self, true: Callable[[], bool], within_ms: float = 60_000) -> None:
        """Let time pass until something is true."""
        self.world.until(true, within_ms)

    def run(self, ms: float) -> None:
        """Let time pass."""
        self.world.run(ms)

    def elect(self, *, crash: bool = True) -> Enforcer:
        """The enforcer in office goes (it dies or stands still), and another takes office; the one that went."""
        gone = self.first
        (gone.crash if crash else gone.pause)()
        self.until(lambda: any(found.serving and found is not gone for found in self.world.enforcers))
        return gone

    # ---- links --------------------------------------------------------------------------------------

    def keep(self, source: str, target: str, name: str = "") -> Kept:
        """Take messages out of the network, those whose delivery function is called `name` (all by default)."""
        kept = Kept()

        def tap(came: str, goes: str, deliver: Callable[..., None], args: tuple[object, ...]) -> bool:
            inner = [deliver.__name__, *(getattr(arg, "__name__", "") for arg in args)]
            if source not in (ALL, came) or target not in (ALL, goes) or (name and name not in inner):
                return False
            kept.letters.append((came, goes, deliver, args))
            return True

        self.world.net.taps.append(tap)
        return kept

    def let_go(self) -> None:
        """Nothing is taken out any more."""
        self.world.net.taps.clear()

    def cut(self, proxy: int) -> None:
        """A proxy's link is cut, both ways."""
        name = self.proxy(proxy).name
        self.world.net.cuts |= {(name, ALL), (ALL, name)}

    def heal(self) -> None:
        """All links are whole."""
        self.world.net.cuts.clear()

    # ---- figures ------------------------------------------------------------------------------------

    def window(self, account: str = MAIN, index: int = 0) -> AccountWindow:
        """An account-window."""
        return AccountWindow(AccountId(account), index)

    def held(self, account: str = MAIN, index: int = 0) -> int:
        """What the log has in escrow or presumed."""
        return self.world.oracle.held(self.window(account, index))

    def spent(self, account: str = MAIN, index: int = 0) -> int:
        """What calls have cost."""
        return self.world.truth.finished[self.window(account, index)]

    def lots(self, proxy: int) -> list[Lot]:
        """The allotments of a proxy's instance of now."""
        life = self.proxy(proxy).life_now
        assert life is not None
        return list(self.world.oracle.being(life.instance).lots.values())

    def grants(self) -> list[AllotmentGranted]:
        """All grants in the log."""
        batches = [found for found in self.world.logs.ledger if isinstance(found, GrantBatch)]
        return [record for batch in batches for record in batch.records if isinstance(record, AllotmentGranted)]

    def end(self) -> None:
        """Everything comes to rest, and nothing is left."""
        self.let_go()
        conclude(self.world)


def team(limit: int | None, duration: str = "", account: str = MAIN, *, strict: bool = True) -> Budget:
    """The budget of the stage's team."""
    return budget(account, limit, duration, strict=strict)


__all__ = ["ALL", "BUS", "KEY", "MAIN", "Caller", "Kept", "Stage", "budget", "team"]
