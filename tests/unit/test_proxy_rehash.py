"""What a proxy tells auth: how far it has applied revocations, and which secrets stand under an older pepper."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest

from services.proxy import applied as applied_module
from services.proxy import rehash as rehash_module
from services.proxy.applied import Applied, Word
from services.proxy.rehash import Rehash
from shared.bus import Bus, Mirror
from shared.errors import BusUnavailable
from shared.events import SecretSeen
from shared.ids import KeyId
from shared.sealing import REHASH, SealBroken, Sealer
from shared.tasks import Supervisor
from shared.topology import APPLIED_SUBJECT, REVOKED_BUCKET, rehash_subject
from tests.fakes.bus import FakeBus
from tests.support.clock import FakeClock

KEY = KeyId("k1")
SEALER = Sealer({"p2": b"2" * 32, "p.1": b"1" * 32})


class Wire(FakeBus):
    """A bus whose core messages can be awaited."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self.published: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self.on_publish = lambda message: self.published.put_nowait((message.subject, message.data))

    async def send(self, subject: str, data: bytes, *, reply: str = "") -> None:
        self.sent.put_nowait((subject, data))


@pytest.fixture
async def tasks() -> AsyncIterator[Supervisor]:
    made = Supervisor()
    async with asyncio.timeout(20):
        yield made
    await made.close()


@pytest.fixture
def wire() -> Wire:
    return Wire()


def mirror_of(wire: Wire) -> Mirror:
    def nothing(*_: Any) -> None:
        return

    return Mirror(cast(Bus, wire), REVOKED_BUCKET, on_load=nothing, on_put=nothing, on_remove=nothing)


async def word(wire: Wire) -> tuple[str, int]:
    subject, data = await wire.sent.get()
    assert subject == APPLIED_SUBJECT
    said = msgspec.json.decode(data, type=Word)
    assert msgspec.json.decode(data).keys() == {"instance", "revision", "at_ms"}
    return said.instance, said.revision


async def test_changes_of_one_moment_are_one_word(
    wire: Wire, tasks: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applied_module, "BEAT_S", 3_600.0)
    mirror = mirror_of(wire)
    tasks.start("applied", Applied(cast(Bus, wire), mirror, FakeClock(), "me").run())
    await asyncio.sleep(0)
    assert wire.sent.empty(), "nothing is known before the bucket was loaded"
    mirror._moved(7)
    mirror._loaded.set()
    assert await word(wire) == ("me", 7)
    for revision in (8, 9, 10):
        mirror._moved(revision)
    assert await word(wire) == ("me", 10)
    await asyncio.sleep(0)
    assert wire.sent.empty()


async def test_a_quiet_process_shows_that_it_lives(
    wire: Wire, tasks: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applied_module, "BEAT_S", 0.01)
    mirror = mirror_of(wire)
    mirror._loaded.set()
    tasks.start("applied", Applied(cast(Bus, wire), mirror, FakeClock(), "me").run())
    assert [await word(wire) for _ in range(3)] == [("me", 0)] * 3


async def test_a_secret_is_reported_once(wire: Wire, tasks: Supervisor) -> None:
    rehash = Rehash(cast(Bus, wire), FakeClock(), SEALER, "me", lambda _: None)
    tasks.start("rehash", rehash.run())
    for _ in range(3):
        rehash.seen(KEY, "s.p.1.aa", b"one")
    rehash.seen(KEY, "s.p.1.cc", b"two")
    seen: list[SecretSeen] = []
    for _ in range(2):
        subject, data = await wire.published.get()
        assert subject == rehash_subject(KEY)
        seen.append(msgspec.json.decode(data, type=SecretSeen))
    assert [(one.old_label, SEALER.open(REHASH, KEY, one.sealed)) for one in seen] == [("p.1", b"one"), ("p.1", b"two")]
    with pytest.raises(SealBroken):
        SEALER.open(REHASH, "another-key", seen[0].sealed)
    assert wire.published.empty()


async def test_what_is_lost_is_seen_again_after_a_while(
    wire: Wire, tasks: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehash_module, "AGAIN_S", 0.01)
    forgotten: asyncio.Queue[KeyId] = asyncio.Queue()
    rehash = Rehash(cast(Bus, wire), FakeClock(), SEALER, "me", forgotten.put_nowait)
    tasks.start("rehash", rehash.run())
    wire.connected = False
    rehash.seen(KEY, "s.p1.aa", b"one")
    assert await forgotten.get() == KEY
    wire.connected = True
    wire.fail = [BusUnavailable("away")]
    rehash.seen(KEY, "s.p1.aa", b"one")
    assert await forgotten.get() == KEY
    assert wire.stored == []
    rehash.seen(KEY, "s.p1.aa", b"one")
    await wire.published.get()


async def test_a_full_queue_never_waits(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehash_module, "WAITING_MAX", 2)
    monkeypatch.setattr(rehash_module, "LOST_MAX", 3)
    monkeypatch.setattr(rehash_module, "TOLD_MAX", 2)
    rehash = Rehash(cast(Bus, wire), FakeClock(), SEALER, "me", lambda _: None)
    for number in range(20):
        rehash.seen(KeyId(f"k{number}"), f"s.p1.{number}", b"x")
    assert (rehash._waiting.qsize(), len(rehash._lost)) == (2, 3)
