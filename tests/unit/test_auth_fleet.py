"""How far the proxies are: who is alive, who refuses already, and how long it took."""

import asyncio
from time import perf_counter

import msgspec

from services.auth import fleet as module
from services.auth.fleet import ALIVE_S, Fleet
from shared.telemetry import Metrics
from tests.fakes.bus import FakeBus


def fleet(metrics: Metrics | None = None) -> Fleet:
    seconds = (metrics or Metrics()).histogram("t_seconds", "Text.", module.BUCKETS_S)
    return Fleet(FakeBus(), seconds=seconds)  # pyright: ignore[reportArgumentType]


def word(instance: str, revision: int) -> bytes:
    return msgspec.json.encode({"instance": instance, "revision": revision, "at_ms": 1})


def now() -> float:
    return perf_counter()


async def test_nobody_is_waited_for_when_nobody_is_there() -> None:
    answer = await fleet().applied(5, began_s=now(), within_ms=10_000)
    assert (answer.proxies, answer.applied) == (0, 0)


async def test_all_that_were_heard_are_waited_for() -> None:
    metrics = Metrics()
    heard = fleet(metrics)
    heard.hear(word("a", 4))
    heard.hear(word("b", 5))
    waiting = asyncio.ensure_future(heard.applied(5, began_s=now(), within_ms=10_000))
    await asyncio.sleep(0)
    assert not waiting.done()
    heard.hear(word("b", 6))
    await asyncio.sleep(0)
    assert not waiting.done(), "a is behind"
    heard.hear(word("a", 5))
    answer = await waiting
    assert (answer.proxies, answer.applied) == (2, 2)
    assert b't_seconds_bucket{le="+Inf"} 1' in metrics.page()


async def test_one_that_is_behind_is_given_up_on_and_not_measured() -> None:
    metrics = Metrics()
    heard = fleet(metrics)
    heard.hear(word("a", 9))
    heard.hear(word("b", 1))
    answer = await heard.applied(9, began_s=now(), within_ms=0)
    assert (answer.proxies, answer.applied) == (2, 1)
    assert b"t_seconds_count 0" in metrics.page()


async def test_a_bucket_made_anew_begins_at_the_front_again() -> None:
    heard = fleet()
    heard.hear(word("a", 900))
    heard.hear(word("a", 2))
    assert (await heard.applied(3, began_s=now(), within_ms=0)).applied == 0


async def test_a_proxy_that_went_silent_is_forgotten() -> None:
    heard = fleet()
    heard.hear(word("a", 1))
    assert heard.alive == 1
    loop = asyncio.get_running_loop()
    late = loop.time() + ALIVE_S + 1
    real, loop.time = loop.time, lambda: late  # type: ignore[method-assign]
    try:
        assert heard.alive == 0
    finally:
        loop.time = real  # type: ignore[method-assign]


async def test_what_cannot_be_read_is_passed_over() -> None:
    heard = fleet()
    heard.hear(b"{")
    heard.hear(b'{"instance": 3}')
    assert heard.alive == 0
