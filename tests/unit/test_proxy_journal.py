"""The journal: what was written is found again, whatever tore, filled up or died."""

import errno
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.proxy import journal as module
from services.proxy.journal import (
    OPEN,
    USAGE,
    Journal,
    JournalError,
    OpenRecord,
    Remains,
    lock_remains,
    read_frames,
    release,
    sync_all,
)
from shared.events import AccountWindow, UsageRecorded, encode
from shared.ids import AccountId, CallId, EventId, InstanceId, KeyId, OrgId

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ME = InstanceId("00000000-instance-me")
HEIR = InstanceId("00000000-instance-heir")


def opening(call: str, held: int = 100) -> OpenRecord:
    return OpenRecord(
        call_id=CallId(call),
        partition=0,
        held_nusd=held,
        windows=(AccountWindow(AccountId("a"), 1),),
        key_id=KeyId("k"),
        org_id=OrgId("o"),
        endpoint="chat/completions",
        model="m",
        deployment="d",
        started_at=NOW,
        serial=1,
    )


def ending(call: str, n: int, cost: int = 7) -> bytes:
    return encode(
        UsageRecorded(
            id=EventId(f"event-{call}"), at=NOW, source="proxy/x", call_id=CallId(call), attempt=1, instance=ME,
            partition=0, n=n, windows=(), key_id=KeyId("k"), org_id=OrgId("o"), cost_nusd=cost, held_nusd=100,
            measured="reported", outcome="ok", endpoint="chat/completions", model="m", deployment="d", status=200,
            started_at=NOW, duration_ms=1,
        )
    )  # fmt: skip


def die(journal: Journal) -> None:
    """As a killed process: the lock is free, the files stay."""
    journal.close(remove=False)


def remains_in(root: Path) -> list[Remains]:
    found = list(lock_remains(root, HEIR))
    for remains in found:
        remains.give_up()
    return found


def only(root: Path) -> Remains:
    (remains,) = remains_in(root)
    return remains


def segments(journal: Journal) -> list[str]:
    return sorted(path.name for path in journal.folder.glob("*.journal"))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal", ME)
    yield made
    try:
        made.close(remove=False)
    except OSError:
        pass  # the test has closed it


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_what_was_written_is_found(journal: Journal, root: Path) -> None:
    journal.opened(opening("c1"))
    journal.opened(opening("c2", held=55))
    segment = journal.used("c1", ending("c1", 1))
    journal.opened(opening("c3"))
    journal.used("c3", ending("c3", 2))
    journal.acked(0, 1, [segment])
    assert journal.calls_open == 1
    die(journal)
    remains = only(root)
    assert remains.instance == ME
    assert remains.opens == {"c2": opening("c2", held=55)}
    assert remains.events == {0: {1: ending("c1", 1), 2: ending("c3", 2)}}
    assert remains.acked == {0: 1}


def test_no_one_else_may_read_it(journal: Journal) -> None:
    assert journal.folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in journal.folder.iterdir())


def test_a_living_instance_is_left_alone(journal: Journal, root: Path) -> None:
    journal.opened(opening("c1"))
    assert remains_in(root) == []
    die(journal)
    assert len(remains_in(root)) == 1


def test_a_journal_being_recovered_is_left_alone(journal: Journal, root: Path) -> None:
    die(journal)
    recovering = list(lock_remains(root, HEIR))
    assert remains_in(root) == []
    release(recovering[0])
    assert list(root.iterdir()) == []


def test_ones_own_and_foreign_files_are_skipped(journal: Journal, root: Path) -> None:
    die(journal)
    (root / "readme.txt").write_text("hello")
    assert list(lock_remains(root, ME)) == []
    assert list(lock_remains(root / "none", HEIR)) == []


def test_an_instance_is_never_made_twice(journal: Journal, root: Path) -> None:
    with pytest.raises(JournalError, match="cannot be made"):
        Journal(root, ME)


def test_reading_twice_gives_the_same(journal: Journal, root: Path) -> None:
    journal.opened(opening("c1"))
    journal.opened(opening("c2"))
    journal.used("c2", ending("c2", 1))
    die(journal)
    first, second = only(root), only(root)
    assert (first.opens, first.events, first.acked) == (second.opens, second.events, second.acked)


def test_a_torn_tail_at_every_offset(journal: Journal, root: Path) -> None:
    journal.opened(opening("c1"))
    journal.used("c1", ending("c1", 1))
    journal.opened(opening("c2"))
    (name,) = segments(journal)
    path = journal.folder / name
    die(journal)
    whole = path.read_bytes().rstrip(b"\0")
    frames = list(read_frames(whole))
    assert [kind for kind, _ in frames] == [OPEN, USAGE, OPEN]
    ends = [0]
    for _, payload in frames:
        ends.append(ends[-1] + 9 + len(payload))
    for length in range(len(whole) + 1):
        complete = sum(end <= length for end in ends) - 1
        assert list(read_frames(whole[:length])) == frames[:complete]
    path.write_bytes(whole[:-1])
    assert only(root).opens == {}
    assert set(only(root).events[0]) == {1}


def test_a_damaged_byte_anywhere_ends_the_segment_there(journal: Journal) -> None:
    journal.opened(opening("c1"))
    journal.used("c1", ending("c1", 1))
    whole = (journal.folder / segments(journal)[0]).read_bytes().rstrip(b"\0")
    frames = list(read_frames(whole))
    first = 9 + len(frames[0][1])
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x01
        assert list(read_frames(bytes(damaged))) == frames[: 0 if at < first else 1]


@pytest.mark.parametrize("tail", [b"\x00" * 64, b"\xff" * 64, b"\x7f\xff\xff\xff" + b"\x00" * 60])
def test_a_tail_of_rubbish_is_no_frame(journal: Journal, tail: bytes) -> None:
    journal.opened(opening("c1"))
    whole = (journal.folder / segments(journal)[0]).read_bytes().rstrip(b"\0")
    assert list(read_frames(whole + tail)) == list(read_frames(whole))


def test_a_damaged_segment_hides_no_later_one(journal: Journal, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 2_000)
    for number in range(8):
        journal.opened(opening(f"c{number}"))
        journal.used(f"c{number}", ending(f"c{number}", number + 1))
    names = segments(journal)
    assert len(names) > 2
    (journal.folder / names[0]).write_bytes(b"rubbish that is longer than a header")
    die(journal)
    assert max(only(root).events[0]) == 8


def test_a_journal_that_cannot_be_understood_stays_and_blocks_no_other(journal: Journal, root: Path) -> None:
    journal._write(OPEN, b'{"of":"another version"}')
    die(journal)
    other = Journal(root, InstanceId("00000000-instance-zz"))
    other.opened(opening("c9"))
    die(other)
    assert [remains.instance for remains in remains_in(root)] == [other.instance]
    assert [remains.instance for remains in remains_in(root)] == [other.instance]
    assert journal.folder.is_dir()


def test_rotation_copies_open_calls_forward_and_deletes_in_order(
    journal: Journal, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 2_000)
    journal.opened(opening("long"))
    kept_by = journal._current
    for number in range(1, 30):
        journal.opened(opening(f"c{number:02}"))
        segment = journal.used(f"c{number:02}", ending(f"c{number:02}", number))
        if number < 15:
            journal.acked(0, number, [segment])
            assert len(segments(journal)) <= 2
        elif number == 15:
            kept_by = segment
    kept = segments(journal)
    assert len(kept) > 3
    assert kept == sorted(path.name for path in (*[item.path for item in journal._old], journal._current.path))
    journal.acked(0, 15, [kept_by])
    die(journal)
    remains = only(root)
    assert set(remains.opens) == {"long"}
    assert remains.acked == {0: 15}
    assert {n for n in remains.events[0] if n > 15} == set(range(16, 30))


def test_numbers_outlive_the_segments_they_were_given_in(
    journal: Journal, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a recovered call would get a number that every fold has seen, and be skipped."""
    monkeypatch.setattr(module, "SEGMENT_BYTES", 2_000)
    journal.opened(opening("long"))
    number = 0
    while journal._number < 4:
        number += 1
        call = f"c{number}"
        journal.opened(opening(call))
        journal.acked(0, number, [journal.used(call, ending(call, number))])
        copied = journal.folder / segments(journal)[-1]
        frames = list(read_frames(copied.read_bytes()))
        seen = [msg for kind, msg in frames if kind in (module.ACKED, USAGE)]
        assert seen or journal._number == 1
    die(journal)
    remains = only(root)
    assert max([remains.acked.get(0, 0), *remains.events.get(0, {})]) == number
    assert set(remains.opens) == {"long"}


def test_a_segment_stays_until_its_mark_is_on_disk(
    journal: Journal, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 2_000)
    journal.opened(opening("c1"))
    segment = journal.used("c1", ending("c1", 1))
    while journal._number < 2:
        journal.opened(opening(f"fill{journal.calls_open}"))
    disk = Disk(0)
    disk.put_under(journal, monkeypatch)
    journal.acked(0, 1, [segment])
    assert segment.path.exists()
    die(journal)
    assert set(only(root).events[0]) == {1}


def test_the_owed_mark_is_written_when_the_disk_allows(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 2_000)
    journal.opened(opening("c1"))
    segment = journal.used("c1", ending("c1", 1))
    while journal._number < 2:
        journal.opened(opening(f"fill{journal.calls_open}"))
    disk = Disk(0)
    disk.put_under(journal, monkeypatch)
    journal.acked(0, 1, [segment])
    disk.room = 10_000
    journal.acked(1, 5, [])
    assert not segment.path.exists()
    frames = list(read_frames(journal._current.path.read_bytes()))
    assert [payload for kind, payload in frames if kind == module.ACKED] == [b"[0,1]", b"[1,5]"]


def test_a_clean_end_leaves_nothing(journal: Journal, root: Path) -> None:
    journal.opened(opening("c1"))
    journal.acked(0, 1, [journal.used("c1", ending("c1", 1))])
    sync_all(journal.to_sync())
    journal.close(remove=True)
    assert list(root.iterdir()) == []


class Disk:
    """Stands in for the reservation of space: gives what it has room for, in small pieces."""

    def __init__(self, room: int) -> None:
        self.room = room

    def put_under(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        journal._current._reserved = journal._current.size
        monkeypatch.setattr(module, "RESERVE_BYTES", 1)
        monkeypatch.setattr(module, "reserve", self.reserve)

    def reserve(self, fd: int, at: int, length: int) -> None:
        if length > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.posix_fallocate(fd, at, length)
        self.room -= length


@pytest.mark.parametrize("room", [0, 1, 9, 100, 300, 500])
def test_a_full_disk_refuses_new_calls_and_loses_nothing(
    journal: Journal, root: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    journal.opened(opening("before"))
    disk = Disk(room)
    disk.put_under(journal, monkeypatch)
    begun: list[str] = []
    problems: list[str] = []
    for number in range(10):
        try:
            journal.opened(opening(f"full{number}"))
        except JournalError as error:
            problems.append(f"{error} {journal.failed}")
        else:
            begun.append(f"full{number}")
    assert problems
    assert all(text.count("No space left") == 2 and str(journal.folder) in text for text in problems)
    segment = journal.used("before", ending("before", 1))
    journal.acked(0, 1, [segment])
    disk.room = 1_000_000
    journal.opened(opening("after"))
    assert journal.failed is None
    assert journal.calls_open == len(begun) + 1
    die(journal)
    remains = only(root)
    assert set(remains.opens) - {"before"} == {*begun, "after"}


def test_a_disk_that_fills_up_while_rotating(journal: Journal, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The marks and open calls of the old segment must not be lost with it."""
    calls = [f"c{number}" for number in range(6)]
    for number, call in enumerate(calls):
        journal.opened(opening(call))
        journal.opened(opening(f"done{number}"))
        journal.acked(0, number + 1, [journal.used(f"done{number}", ending(f"done{number}", number + 1))])
    monkeypatch.setattr(module, "SEGMENT_BYTES", 2_500)
    disk = Disk(0)
    disk.put_under(journal, monkeypatch)
    for room in (0, 5, 40, 400, 700, 5, 0):
        disk.room = room
        with pytest.raises(JournalError):
            for _ in range(20):
                journal.opened(opening("new"))
    disk.room = 1_000_000
    journal.acked(0, 6, [])
    journal.opened(opening("last"))
    die(journal)
    remains = only(root)
    assert {*calls, "last"} <= set(remains.opens)
    assert max([remains.acked.get(0, 0), *remains.events.get(0, {})]) == 6


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot be made"):
        Journal(tmp_path / "file", ME)


def test_no_segment_can_be_made_any_more(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.opened(opening("c1"))
    monkeypatch.setattr(module, "SEGMENT_BYTES", 10)

    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(module.os, "open", refuse)
    with pytest.raises(JournalError, match="Too many open files"):
        journal.opened(opening("c2"))
    segment = journal.used("c1", ending("c1", 1))
    journal.acked(0, 1, [segment])
    assert journal.calls_open == 0
