"""What becomes of an item of work: done with, or tried again, and after how long."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from services.auth.commits import Commits
from services.auth.relay import Relay
from services.auth.rotation.minting import Minting
from services.auth.rotation.saga import AGAIN_S, AHEAD_AGAIN_S, Saga
from services.auth.secret import Vault
from services.auth.store_rotation import Pending
from shared.bus import Bus, Message
from shared.events import RotationDue, encode
from shared.ids import EventId, KeyId
from shared.sealing import Sealer
from shared.telemetry import Metrics
from tests.support.clock import FakeClock

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PEPPERS = {"p1": bytes(32)}


class Reached(Exception):
    """The database would be asked now."""


class NoCommits:
    async def key(self, *_: object, **__: object) -> None:
        raise Reached


def saga(clock: FakeClock) -> Saga:
    minting = Minting(
        cast("Commits", NoCommits()),
        cast("Pending", None),
        cast("Relay", None),
        Vault(PEPPERS),
        Sealer(PEPPERS),
        clock,
        source="test",
        wake=asyncio.Event(),
        outcomes=Metrics().counter("outcomes_total", "", "outcome"),
    )
    return Saga(cast("Bus", None), minting)


def due(at: datetime) -> Message:
    event = RotationDue(id=EventId("e"), at=at, source="scheduler/test", key_id=KeyId("key_1"), due_at=at)
    return Message(subject="work.rotation.v1.key_1", data=encode(event), seq=1, pending=0)


async def test_what_our_clock_has_not_reached_waits_loudly(caplog: pytest.LogCaptureFixture) -> None:
    """The clock of a scheduler is ahead, or ours behind: it is not dropped, and done once our clock is there."""
    clock = FakeClock(NOW)
    item = due(NOW + timedelta(minutes=5))
    with caplog.at_level(logging.ERROR):
        assert [await saga(clock)._again_s(item, attempt) for attempt in (1, 2)] == [AHEAD_AGAIN_S] * 2
    assert [("key_1" in text, "clock" in text) for text in caplog.messages] == [(True, True)], "once"
    clock.advance(4 * 60)
    with caplog.at_level(logging.CRITICAL):
        assert await saga(clock)._again_s(item, 3) == AGAIN_S, "the commits were asked, and said no"


async def test_what_nobody_can_read_is_done_with() -> None:
    item = Message(subject="work.rotation.v1.key_1", data=b"{}", seq=1, pending=0)
    assert await saga(FakeClock(NOW))._again_s(item, 1) is None
