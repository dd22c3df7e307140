"""What every machine can suffer: it crashes, or it stands still and then lives through its backlog at once."""

from collections import deque
from collections.abc import Callable

from tests.simulation.agenda import Agenda


class Machine:
    """`later` and `hear` belong to one life: after a crash nothing of before is done any more."""

    def __init__(self, agenda: Agenda, name: str) -> None:
        self.agenda = agenda
        self.name = name
        self.alive = False
        self.life = 0
        self.paused = False
        self._backlog: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()

    def rise(self) -> None:
        """Begin a new life."""
        self.alive = True
        self.life += 1
        self.paused = False
        self._backlog.clear()

    def fall(self) -> None:
        """End this life."""
        self.alive = False
        self.life += 1
        self._backlog.clear()

    def pause(self) -> None:
        """Stand still: what comes in waits."""
        self.paused = True

    def resume(self, first: str = "") -> None:
        """Go on, with everything that came in meanwhile; deeds of the name `first` come before the others."""
        self.paused = False
        if first:
            self._backlog = deque(sorted(self._backlog, key=lambda entry: entry[0].__name__ != first))
        while self._backlog and not self.paused:
            deed, args = self._backlog.popleft()
            deed(*args)

    def hear(self, deed: Callable[..., None], *args: object) -> None:
        """Something reaches this machine now."""
        if not self.alive:
            return
        if self.paused:
            self._backlog.append((deed, args))
        else:
            deed(*args)

    def hear_in(self, life: int, deed: Callable[..., None], *args: object) -> None:
        """Something reaches this machine that only one life of it understands."""
        if life == self.life:
            self.hear(deed, *args)

    def later(self, delay: float, deed: Callable[..., None], *args: object) -> None:
        """A timer of this life."""
        self.agenda.after(delay, self.hear_in, self.life, deed, *args)
