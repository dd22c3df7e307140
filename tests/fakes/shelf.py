"""A bucket in memory: revisions, conflicts, failures by script, and a mirror that hears of every change."""

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass, field

from shared.bus import Entry
from shared.errors import BusUnavailable, Conflict


@dataclass
class FakeShelf:
    """`fail` lists what the next writes do: None as usual, `lost` nothing and raise, `unacked` write and raise."""

    content: dict[str, Entry] = field(default_factory=dict[str, Entry])
    fail: list[str | None] = field(default_factory=list["str | None"])
    on_put: Callable[[str, bytes], None] = lambda _key, _value: None
    on_remove: Callable[[str], None] = lambda _: None
    before: Callable[[str, str], None] = lambda _verb, _key: None
    away: bool = False
    revision: int = 0

    async def get(self, key: str) -> Entry | None:
        self._check("get", key)
        return self.content.get(key)

    async def create(self, key: str, value: bytes) -> int:
        self._check("create", key)
        if key in self.content:
            raise Conflict(key)
        return self._write(key, value)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        self._check("update", key)
        found = self.content.get(key)
        if found is None or found.revision != revision:
            raise Conflict(key)
        return self._write(key, value)

    async def delete(self, key: str, revision: int | None = None) -> None:
        self._check("delete", key)
        found = self.content.get(key)
        if revision is not None and (found is None or found.revision != revision):
            raise Conflict(key)
        self.content.pop(key, None)
        self.on_remove(key)

    async def entries(self, pattern: str) -> dict[str, bytes]:
        self._check("entries", pattern)
        return {key: entry.value for key, entry in self.content.items() if fnmatch.fnmatchcase(key, pattern)}

    def _write(self, key: str, value: bytes) -> int:
        how = self.fail.pop(0) if self.fail else None
        if how == "lost":
            raise BusUnavailable("the write was lost")
        self.revision += 1
        self.content[key] = Entry(value, self.revision)
        self.on_put(key, value)
        if how == "unacked":
            raise BusUnavailable("the acknowledgement was lost")
        return self.revision

    def _check(self, verb: str, key: str) -> None:
        self.before(verb, key)
        if self.away:
            raise BusUnavailable("NATS is away")
