"""Several proxies' rate limits in one thread: the real domain code, a clock that steps, and gossip that may be late,
lost, doubled or cut off. What was admitted is written down by true time, so that any sixty seconds can be looked at."""

import heapq
import random
from bisect import bisect_right
from dataclasses import dataclass, field

from services.proxy.domain.limits.fleet import BEAT_MS, GOSSIP_MS, Fleet
from services.proxy.domain.limits.gossip import News, decode, encode
from services.proxy.domain.limits.quota import Quota

STEP_MS = 10
WINDOW_MS = 60_000
LIMIT_ID = "0123456789r"


@dataclass
class Net:
    """How gossip travels."""

    least_ms: int = 1
    most_ms: int = 20
    loss: float = 0.0
    double: float = 0.0


@dataclass
class Proxy:
    """One instance; its clock began somewhere else."""

    fleet: Fleet
    ahead_ms: int
    next_tick_ms: int
    up: bool = True
    cut: bool = False


@dataclass
class World:
    """`call` is one call at one proxy now; `run` lets time pass, calling as often as `rates` (calls a second) say."""

    proxies: int
    limit: int
    seed: int = 0
    net: Net = field(default_factory=Net)
    limit_id: str = LIMIT_ID
    now_ms: int = 0
    weight_max: int = 1

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.all: list[Proxy] = []
        self.mail: list[tuple[int, int, int, bytes]] = []
        self.posted = 0
        self.times: list[int] = []
        self.sums: list[int] = [0]
        self.worst = 0
        self.worst_ms = 0
        self.refused = 0
        self.messages = 0
        for _ in range(self.proxies):
            self.join()

    # ---- members -------------------------------------------------------------------------------------

    def join(self) -> Proxy:
        """One proxy more, which knows nobody."""
        name = f"proxy-{len(self.all)}"
        proxy = Proxy(Fleet(name), self.random.randrange(10**6), self.now_ms)
        self.all.append(proxy)
        return proxy

    def meet(self) -> None:
        """Let all of them hear of each other."""
        self.run(2 * BEAT_MS)

    # ---- calls ---------------------------------------------------------------------------------------

    def quota(self, proxy: Proxy) -> Quota:
        return proxy.fleet.quota(self.limit_id, self.limit, self.clock(proxy))

    def clock(self, proxy: Proxy) -> int:
        return self.now_ms + proxy.ahead_ms

    def call(self, proxy: Proxy, amount: int = 1) -> bool:
        """Whether a call is admitted now."""
        quota, now = self.quota(proxy), self.clock(proxy)
        weight = quota.weight(amount)
        proxy.fleet.used(quota)
        if not quota.fits(weight, now):
            quota.missed(weight, now)
            if quota.short(weight, now):
                proxy.next_tick_ms = min(proxy.next_tick_ms, self.now_ms + STEP_MS)
            self.refused += 1
            return False
        quota.add(weight, now)
        self.times.append(self.now_ms)
        self.sums.append(self.sums[-1] + weight)
        used = self.used()
        if used > self.worst:
            self.worst, self.worst_ms = used, self.now_ms
        return True

    def used(self, ending_ms: int | None = None) -> int:
        """What was admitted in the sixty seconds that end at a moment, by true time."""
        end = self.now_ms if ending_ms is None else ending_ms
        return self.sums[bisect_right(self.times, end)] - self.sums[bisect_right(self.times, end - WINDOW_MS)]

    # ---- time ----------------------------------------------------------------------------------------

    def run(self, ms: int, rates: list[float] | None = None) -> None:
        """Let time pass in steps."""
        for _ in range(ms // STEP_MS):
            self.now_ms += STEP_MS
            self._deliver()
            for proxy in self.all:
                if proxy.up and (self.now_ms >= proxy.next_tick_ms or proxy.fleet.urgent):
                    proxy.next_tick_ms = self.now_ms + GOSSIP_MS
                    for news in proxy.fleet.tick(self.clock(proxy)):
                        self._post(proxy, news)
            for proxy, rate in zip(self.all, rates or [], strict=False):
                for _ in range(self._poisson(rate * STEP_MS / 1_000)):
                    if proxy.up:
                        self.call(proxy, self.random.randint(1, self.weight_max))

    def _poisson(self, mean: float) -> int:
        count, left = 0, self.random.expovariate(1.0) if mean else 1.0
        while left < mean:
            count += 1
            left += self.random.expovariate(1.0)
        return count

    def _post(self, sender: Proxy, news: News) -> None:
        data = encode(news)
        self.messages += 1
        if sender.cut:
            return
        for index, proxy in enumerate(self.all):
            if proxy.cut:
                continue
            for _ in range(1 + (self.random.random() < self.net.double)):
                if self.random.random() >= self.net.loss:
                    self.posted += 1
                    at = self.now_ms + self.random.randint(self.net.least_ms, self.net.most_ms)
                    heapq.heappush(self.mail, (at, self.posted, index, data))

    def _deliver(self) -> None:
        while self.mail and self.mail[0][0] <= self.now_ms:
            _, _, index, data = heapq.heappop(self.mail)
            proxy = self.all[index]
            if proxy.up and not proxy.cut:
                proxy.fleet.heard(decode(data), self.clock(proxy))
