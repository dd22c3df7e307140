"""One name after another: what began under a name ends under it, and the log gets everything."""

from pathlib import Path
from typing import cast

import pytest

from services.proxy import incarnation as module
from services.proxy.incarnation import Incarnation
from services.proxy.journal import JournalError
from services.proxy.recovery import Recovered, recover_all
from shared.allotment import Close
from shared.bus import Bus
from shared.tasks import Supervisor
from shared.topology import allot_subject, usage_subject
from tests.fakes.bus import FakeBus
from tests.fakes.enforcer import FakeEnforcer
from tests.support.clock import FakeClock
from tests.unit.test_proxy_journal import ending, opening


class World:
    """Incarnations on a bus with an enforcer."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = FakeClock()
        self.enforcer = FakeEnforcer(self.clock, 0)
        self.bus = FakeBus(responders={allot_subject(0): self.enforcer})

    def begin(self) -> Incarnation:
        made = Incarnation(cast(Bus, self.bus), self.clock, self.root, 1)
        made.start()
        return made

    def closes(self) -> list[tuple[str, int]]:
        return [(request.instance, request.last_n) for request in self.enforcer.heard if isinstance(request, Close)]

    def settle(self, incarnation: Incarnation, call: str) -> None:
        n = incarnation.publisher.next_n(0)
        event = ending(call, n)
        incarnation.publisher.offer(0, n, event, incarnation.journal.used(call, event))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "LAST_CALL_S", 0)
    return World(tmp_path)


async def test_a_clean_end_leaves_no_journal(world: World) -> None:
    made = world.begin()
    made.journal.opened(opening("c1"))
    world.settle(made, "c1")
    assert made.books.instance == made.instance
    finished = await made.finish()
    await made.end(finished=finished)
    assert finished
    assert world.closes() == [(made.instance, 1)]
    assert [message.subject for message in world.bus.stored] == [usage_subject(0, made.instance)]
    assert list(world.root.iterdir()) == []


async def test_with_a_call_open_or_a_silent_ledger_the_journal_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_WAIT_S", 1)
    made = world.begin()
    made.journal.opened(opening("c1"))
    assert not await made.finish()
    world.settle(made, "c1")
    world.enforcer.faults.extend(["lost"] * 10)
    assert not await made.finish()
    await made.end(finished=False)
    assert [folder.name for folder in world.root.iterdir()] == [made.instance]
    counts = Recovered()
    await recover_all(cast(Bus, world.bus), world.clock, world.root, world.begin().instance, 1, counts)
    assert counts.instances == 1


async def test_an_old_name_lives_until_its_last_call_has_ended(world: World) -> None:
    old, new = world.begin(), world.begin()
    assert old.instance != new.instance
    old.journal.opened(opening("c1"))
    tasks = Supervisor()
    task = tasks.start("live-out", old.live_out())
    await recover_all(cast(Bus, world.bus), world.clock, world.root, new.instance, 1, Recovered())
    assert world.closes() == [], "nobody recovers what still lives"
    world.settle(old, "c1")
    await task
    assert world.closes() == [(old.instance, 1)]
    assert [folder.name for folder in world.root.iterdir()] == [new.instance]
    await new.end(finished=True)


async def test_an_old_name_that_cannot_end_leaves_its_journal(world: World) -> None:
    old = world.begin()
    old.journal.opened(opening("c1"))
    tasks = Supervisor()
    tasks.start("live-out", old.live_out())
    await recover_all(cast(Bus, world.bus), world.clock, world.root, old.instance, 1, Recovered())
    await tasks.close()
    assert [folder.name for folder in world.root.iterdir()] == [old.instance]


async def test_no_name_without_a_journal(world: World) -> None:
    world.root.rmdir()
    world.root.write_text("in the way")
    with pytest.raises(JournalError):
        world.begin()
