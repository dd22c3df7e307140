"""Finishing a dead instance: its events once more, its open calls as lost, then the close; twice is harmless."""

from pathlib import Path
from typing import cast

import msgspec
import pytest

from services.proxy import recovery as module
from services.proxy.journal import Journal
from services.proxy.recovery import Recovered, recover_all
from shared.allotment import Close
from shared.bus import Bus
from shared.events import UsageRecorded
from shared.ids import InstanceId
from shared.topology import allot_subject, usage_subject
from tests.fakes.bus import FakeBus
from tests.fakes.enforcer import FakeEnforcer
from tests.support.clock import FakeClock
from tests.unit.test_proxy_journal import HEIR, ME, die, ending, opening


class World:
    """A dead journal, a bus and an enforcer."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = FakeClock()
        self.enforcer = FakeEnforcer(self.clock, 0)
        self.bus = FakeBus(responders={allot_subject(0): self.enforcer})
        self.counts = Recovered()

    async def recover(self) -> None:
        await recover_all(cast(Bus, self.bus), self.clock, self.root, HEIR, 1, self.counts)

    def events(self) -> list[UsageRecorded]:
        return [
            event
            for message in self.bus.stored
            for event in msgspec.json.decode(message.data, type=list[UsageRecorded])
        ]

    def closes(self) -> list[Close]:
        return [request for request in self.enforcer.heard if isinstance(request, Close)]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "CLOSE_WAIT_S", 1)
    return World(tmp_path)


def dead(root: Path, instance: InstanceId = ME) -> Journal:
    """One event the log has, one it may not have, and two calls that never ended."""
    journal = Journal(root, instance)
    for call in ("c1", "c2", "c3", "c4"):
        journal.opened(opening(call, held=50))
    journal.acked(0, 1, [journal.used("c2", ending("c2", 1))])
    journal.used("c4", ending("c4", 2))
    die(journal)
    return journal


async def test_nothing_served_goes_uncounted(world: World) -> None:
    journal = dead(world.root)
    await world.recover()
    told = [(event.n, event.call_id, event.measured, event.cost_nusd, event.outcome) for event in world.events()]
    assert told == [
        (2, "c4", "reported", 7, "ok"),
        (3, "c1", "lost", 50, "unknown"),
        (4, "c3", "lost", 50, "unknown"),
    ]
    assert {event.instance for event in world.events()} == {ME}
    assert [event.windows for event in world.events()][1:] == [opening("c1").windows] * 2
    assert all(message.subject == usage_subject(0, ME) for message in world.bus.stored)
    assert [(close.instance, close.last_n) for close in world.closes()] == [(ME, 4)]
    assert not journal.folder.exists()
    assert (world.counts.instances, world.counts.lost) == (1, 2)


async def test_twice_gives_the_same_numbers(world: World) -> None:
    journal = dead(world.root)
    world.enforcer.faults.extend(["lost"] * 4)
    await world.recover()
    assert journal.folder.exists()
    first = [(event.n, event.id, event.call_id, event.cost_nusd) for event in world.events()]
    world.bus.stored.clear()
    world.clock.advance(3_600)
    await world.recover()
    assert [(event.n, event.id, event.call_id, event.cost_nusd) for event in world.events()] == first
    assert not journal.folder.exists()
    assert world.closes()[-1].last_n == 4


async def test_numbers_go_on_after_what_the_log_is_known_to_have(world: World) -> None:
    journal = Journal(world.root, ME)
    journal.opened(opening("c1"))
    journal.acked(0, 17, [])
    die(journal)
    await world.recover()
    assert [event.n for event in world.events()] == [18]
    assert world.closes()[0].last_n == 18


async def test_a_lost_call_keeps_the_version_of_its_secret_and_its_tags(world: World) -> None:
    journal = Journal(world.root, ME)
    journal.opened(msgspec.structs.replace(opening("c1"), secret_version=3, tags=("a", "b")))
    journal.opened(opening("c2"))
    die(journal)
    await world.recover()
    assert [(event.secret_version, event.tags) for event in world.events()] == [(3, ("a", "b")), (0, ())]


async def test_an_empty_journal_is_closed_and_goes(world: World) -> None:
    die(Journal(world.root, ME))
    await world.recover()
    assert world.events() == []
    assert [close.last_n for close in world.closes()] == [0]
    assert list(world.root.iterdir()) == []


async def test_the_living_are_left_alone(world: World) -> None:
    living = Journal(world.root, InstanceId("living"))
    living.opened(opening("c1"))
    dead(world.root)
    await world.recover()
    assert [close.instance for close in world.closes()] == [ME]
    assert living.folder.exists()
    living.close(remove=True)


async def test_a_failure_gives_the_journal_back(world: World) -> None:
    journal = dead(world.root)
    world.bus.fail = [RuntimeError("a defect")]
    with pytest.raises(RuntimeError):
        await world.recover()
    await world.recover()
    assert not journal.folder.exists()
    assert len(world.closes()) == 1


async def test_large_journals_go_in_several_messages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_EVENTS_MAX", 2)
    journal = Journal(world.root, ME)
    for number in range(1, 6):
        journal.opened(opening(f"c{number}"))
        journal.used(f"c{number}", ending(f"c{number}", number))
    die(journal)
    await world.recover()
    assert [message.msg_id for message in world.bus.stored] == [f"{ME}.0.{span}" for span in ("1-2", "3-4", "5-5")]
