"""Who calls, how much it may cost, and how long it takes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from shared.allotment import Refusal
from tests.simulation.estate import MODELS
from tests.simulation.proxy import Wish

if TYPE_CHECKING:
    from tests.simulation.proxy import Proxy
    from tests.simulation.world import World

MEAN = 10_000
"""About what a call holds, in nano-dollars."""


class Demand:
    """Callers at every proxy, at random times; a refused one may come again."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random
        self.over = False
        self.keys = list(world.estate.keys)
        self._weights = [self._random.random() ** 2 + 0.05 for _ in self.keys]

    def start(self) -> None:
        """Let callers come until the demand is over."""
        for proxy in self._world.proxies:
            self._world.agenda.after(self._pause(), self._next, proxy)

    def _pause(self) -> float:
        return self._random.expovariate(self._world.profile.calls_per_s) * 1_000

    def _next(self, proxy: Proxy) -> None:
        if self.over:
            return
        self._world.agenda.after(self._pause(), self._next, proxy)
        if proxy.busy:
            self.call(proxy, self.wish(), again=self._random.choice((0, 0, 0, 3)))

    def call(self, proxy: Proxy, wish: Wish, again: int) -> None:
        """One caller; refused, it comes again so many times."""

        def ended(how: str, _refusal: Refusal | None) -> None:
            self._world.count(f"call {how}")
            if how in ("exceeded", "reserved", "unreachable") and again and not self.over:
                self._world.agenda.after(self._random.uniform(30, 400), self.call, proxy, self.copy(wish), again - 1)

        wish.ended = ended
        self._world.count("calls")
        proxy.call(wish)

    def wish(self) -> Wish:
        """Whatever a caller may want."""
        random = self._random
        amount = int(MEAN * math.exp(random.gauss(-0.5, 1.0))) + 1
        if random.random() < 0.02:
            amount *= 12
        most = amount if random.random() < 0.8 else amount * 4
        share = random.choice((1.0, 1.0, random.random(), random.random(), 0.0))
        longest = self._world.profile.terms.max_call_ms
        takes = 50 * (40 if random.random() < 0.8 else min(longest, 60_000) / 50) ** random.random()
        return Wish(
            key=random.choices(self.keys, self._weights)[0],
            model=random.choice(MODELS),
            amount=amount,
            most=most,
            share=share,
            takes_ms=takes,
            patience_ms=random.choice((300.0, 3_000.0, 10_000.0)),
        )

    @staticmethod
    def copy(wish: Wish) -> Wish:
        """The same caller once more."""
        return Wish(wish.key, wish.model, wish.amount, wish.most, wish.share, wish.takes_ms, wish.patience_ms)
