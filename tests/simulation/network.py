"""Links between machines: they lose, delay, double and reorder, and may be cut in one direction only."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.simulation.agenda import Agenda

ALL = "*"
BUS = "bus"
Tap = Callable[[str, str, Callable[..., None], tuple[object, ...]], bool]
"""(source, target, deliver, args) → whether the message is taken out of the world."""


@dataclass
class Weather:
    """How bad the links are now. Shares are of 1; a doubled message's copy comes up to `late_ms` later."""

    loss: float = 0.0
    to_bus: float = 0.1
    """Links to the bus itself (appends, publishing, the lease) lose this share of what others lose: each lost append
    costs an election."""
    doubled: float = 0.0
    late_ms: float = 5_000
    delay_ms: tuple[float, float] = (0.2, 1.5)
    slow: float = 0.0
    """This share of messages takes up to `slow_ms`, so that later ones overtake them."""
    slow_ms: float = 400


class Network:
    """Delivers, or does not. A cut (source, target) stops one direction; `*` stands for everybody."""

    def __init__(self, agenda: Agenda, random: Random, weather: Weather) -> None:
        self._agenda = agenda
        self._random = random
        self.weather = weather
        self.cuts: set[tuple[str, str]] = set()
        self.taps: list[Tap] = []
        """Each sees every message first, and may keep it."""
        self.sent = 0

    def reaches(self, source: str, target: str) -> bool:
        """Whether a message could pass now, by luck apart."""
        cuts = self.cuts
        return not cuts or not ({(source, target), (source, ALL), (ALL, target)} & cuts)

    def send(self, source: str, target: str, deliver: Callable[..., None], *args: object) -> None:
        """Send one message; `deliver(*args)` runs at the target for each copy that arrives."""
        self.sent += 1
        if self.taps and any(tap(source, target, deliver, args) for tap in self.taps):
            return
        weather, random = self.weather, self._random
        loss = weather.loss * (weather.to_bus if BUS in (source, target) else 1.0)
        if not self.reaches(source, target) or (loss and random.random() < loss):
            return
        self._agenda.after(self._delay(), self._arrive, source, target, deliver, args)
        if weather.doubled and random.random() < weather.doubled:
            late = random.random() ** 3 * weather.late_ms
            self._agenda.after(self._delay() + late, self._arrive, source, target, deliver, args)

    def _arrive(self, source: str, target: str, deliver: Callable[..., None], args: tuple[object, ...]) -> None:
        if self.reaches(source, target):
            deliver(*args)

    def _delay(self) -> float:
        weather, random = self.weather, self._random
        low, high = weather.delay_ms
        if weather.slow and random.random() < weather.slow:
            high = weather.slow_ms
        return low + random.random() * (high - low)
