"""A key-value bucket: a stream that keeps the last message of each subject."""

from dataclasses import dataclass

import msgspec

from shared.bus.connection import ApiProblem, Bus, raise_problem
from shared.errors import Conflict, StreamChanged

NO_MESSAGE = 10037


@dataclass(frozen=True, slots=True)
class Entry:
    """A value with its revision (its sequence in the bucket)."""

    value: bytes
    revision: int


class _SubjectsState(msgspec.Struct, frozen=True):
    subjects: dict[str, int] | None = None


class _Subjects(msgspec.Struct, frozen=True):
    state: _SubjectsState = _SubjectsState()
    error: ApiProblem | None = None


class _Stored(msgspec.Struct, frozen=True):
    subject: str = ""
    seq: int = 0
    data: str = ""
    hdrs: str = ""


class _Got(msgspec.Struct, frozen=True):
    message: _Stored | None = None
    error: ApiProblem | None = None


class Bucket:
    """Reads and writes of one bucket. All raise BusUnavailable; writes may raise Rejected."""

    def __init__(self, bus: Bus, name: str) -> None:
        self._bus = bus
        self.name = name

    async def get(self, key: str) -> Entry | None:
        """The value, read from the leader (a direct get may be answered by a stale replica)."""
        stored = await self._last(key)
        if stored is None or _is_removal(stored.hdrs):
            return None
        return Entry(msgspec.json.decode(f'"{stored.data}"', type=bytes), stored.seq)

    async def put(self, key: str, value: bytes) -> int:
        """Write whatever stands there; the new revision."""
        return (await self._bus.publish(f"$KV.{self.name}.{key}", value)).seq

    async def create(self, key: str, value: bytes) -> int:
        """Write only if the key has never been written or was removed; raises Conflict otherwise."""
        try:
            return await self.update(key, value, 0)
        except Conflict:
            stored = await self._last(key)  # a removal leaves a message, whose sequence is the expected one
            if stored is None or not _is_removal(stored.hdrs):
                raise
            return await self.update(key, value, stored.seq)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Write only if the last revision of the key is `revision`; raises Conflict otherwise."""
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        return (await self._bus.publish(f"$KV.{self.name}.{key}", value, headers=headers)).seq

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Leave a removal mark, so that watchers hear of it; with `revision` only if that is the last."""
        headers = {"KV-Operation": "DEL"}
        if revision is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(revision)
        await self._bus.publish(f"$KV.{self.name}.{key}", b"", headers=headers)

    async def keys(self, pattern: str) -> list[str]:
        """Keys that match a pattern such as `chunk.>`, those that were removed included."""
        prefix = f"$KV.{self.name}."
        request = msgspec.json.encode({"subjects_filter": prefix + pattern})
        answer = msgspec.json.decode(await self._bus.api(f"STREAM.INFO.KV_{self.name}", request), type=_Subjects)
        if answer.error is not None:
            raise_problem(answer.error)
        return sorted(subject.removeprefix(prefix) for subject in answer.state.subjects or {})

    async def _last(self, key: str) -> _Stored | None:
        request = msgspec.json.encode({"last_by_subj": f"$KV.{self.name}.{key}"})
        got = msgspec.json.decode(await self._bus.api(f"STREAM.MSG.GET.KV_{self.name}", request), type=_Got)
        if got.error is not None:
            try:
                raise_problem(got.error)
            except StreamChanged:
                if got.error.err_code == NO_MESSAGE:
                    return None
                raise
        return got.message


def _is_removal(headers_base64: str) -> bool:
    text = msgspec.json.decode(f'"{headers_base64}"', type=bytes)
    return b"KV-Operation: DEL" in text or b"KV-Operation: PURGE" in text or b"Nats-Marker-Reason" in text
