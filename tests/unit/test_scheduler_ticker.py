"""The ticker sets events and says when it has fallen silent."""

import asyncio

from services.scheduler.ticker import Ticker
from tests.support.clock import FakeClock


async def test_events_are_set_at_the_start_and_again() -> None:
    ticker = Ticker(FakeClock())
    event = ticker.every("fast", 0.02)
    assert ticker.problem() == "not started"
    ticker.start()
    try:
        async with asyncio.timeout(5):
            for _ in range(3):
                await event.wait()
                event.clear()
        assert ticker.problem() is None
    finally:
        ticker.stop()


async def test_silence_is_a_problem() -> None:
    clock = FakeClock()
    ticker = Ticker(clock)
    ticker.every("slow", 3_600)
    ticker.start()
    try:
        clock.advance(4 * 3_600)
        assert ticker.problem() is None
        clock.advance(1)
        assert "no tick" in (ticker.problem() or "")
    finally:
        ticker.stop()


async def test_stopping_twice_or_before_the_start_is_harmless() -> None:
    ticker = Ticker(FakeClock())
    ticker.stop()
    ticker.start()
    ticker.stop()
    ticker.stop()
