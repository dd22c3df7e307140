"""When to look at which purse again, though nobody says anything."""

import heapq
from collections.abc import Iterator
from itertools import count

from services.proxy.domain.money.purse import Purse


class Agenda:
    """Purses by the time they are due; an entry that was overtaken is skipped."""

    def __init__(self, ask_wait_ms: int) -> None:
        self._ask_wait_ms = ask_wait_ms
        self._heap: list[tuple[int, int, Purse]] = []
        self._order = count()

    def plan(self, purse: Purse) -> None:
        """Look at a purse when something is due there."""
        due = purse.next_due_ms(self._ask_wait_ms)
        if due is not None and (purse.due_ms is None or due < purse.due_ms):
            purse.due_ms = due
            heapq.heappush(self._heap, (due, next(self._order), purse))

    def take_due(self, now_ms: int) -> Iterator[Purse]:
        """The purses that are due; each is to be planned again."""
        while self._heap and self._heap[0][0] <= now_ms:
            due, _, purse = heapq.heappop(self._heap)
            if purse.due_ms == due:
                purse.due_ms = None
                yield purse

    def next_ms(self) -> int | None:
        """When the first is due."""
        while self._heap and self._heap[0][2].due_ms != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
