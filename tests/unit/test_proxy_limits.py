"""Rate limits on the way of a call: what a caller is told, what counts, and what is freed."""

import asyncio

import pytest

from services.proxy.domain.admission import Caller, Refused, join
from services.proxy.domain.limits import fleet as fleet_module
from services.proxy.domain.limits.gossip import News, Row
from services.proxy.domain.limits.rates import WINDOW_MS
from services.proxy.limits import RateLimits, Ticket
from shared.ids import InstanceId, KeyId, OrgId, TeamId
from shared.policy import KeyRecord, Limits, OrgRecord, TeamRecord
from tests.support.clock import FakeClock

ME = InstanceId("instance-me")
NONE = Limits()


def caller(
    key: Limits = NONE,
    *,
    team: Limits = NONE,
    org: Limits = NONE,
    models: dict[str, Limits] | None = None,
    key_id: str = "k1",
) -> Caller:
    return join(
        KeyRecord(
            seq=1, key_id=KeyId(key_id), org_id=OrgId("o1"), team_id=TeamId("t1"), alias="night shift", limits=key,
            model_limits=models or {},
        ),
        TeamRecord(seq=1, team_id=TeamId("t1"), org_id=OrgId("o1"), limits=team),
        OrgRecord(seq=1, org_id=OrgId("o1"), alias="acme", limits=org),
        1,
    )  # fmt: skip


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(monotonic_ms=100_000)


@pytest.fixture
def limits(clock: FakeClock) -> RateLimits:
    return RateLimits(clock, ME)


def take(limits: RateLimits, who: Caller, tokens: int = 10, model: str = "gpt-4o") -> Ticket:
    ticket = limits.admit(who, model, tokens)
    assert ticket is not None
    return ticket


def refused(limits: RateLimits, who: Caller, tokens: int = 10, model: str = "gpt-4o") -> Refused:
    with pytest.raises(Refused) as caught:
        limits.admit(who, model, tokens)
    assert caught.value.status == 429
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.kind == "rate_limit_error"
    assert not any(name == b"x-should-retry" for name, _ in caught.value.headers)
    return caught.value


def test_without_limits_there_is_no_ticket(limits: RateLimits) -> None:
    assert limits.admit(caller(), "gpt-4o", 10) is None
    assert limits.admit(caller(models={"o3": Limits(rpm=1)}), "gpt-4o", 10) is None
    assert len(limits.fleet) == 0


def test_requests_are_counted_and_refused_with_a_true_wait(limits: RateLimits, clock: FakeClock) -> None:
    who = caller(Limits(rpm=2))
    take(limits, who)
    clock.advance(10.25)
    take(limits, who)
    error = refused(limits, who)
    headers = dict(error.headers)
    assert headers[b"retry-after"] == b"51"
    assert headers[b"retry-after-ms"] == b"50750"
    assert "key 'night shift': 2 requests per minute (rpm_limit); 2 were used in the last 60 seconds" in error.message
    assert "Try again in 51 s." in error.message
    assert error.extra == {
        "rate_limit": {
            "scope": "key", "scope_id": "k1", "alias": "night shift", "models": None, "type": "requests", "limit": 2,
            "used": 2, "wanted": 1, "retry_after_ms": 50_750,
        }
    }  # fmt: skip
    clock.advance(50.749)
    refused(limits, who)
    clock.advance(0.001)
    take(limits, who)


def test_headers_tell_the_tightest_limit_of_each_kind(limits: RateLimits, clock: FakeClock) -> None:
    who = caller(Limits(rpm=10, tpm=1_000), team=Limits(rpm=5, tpm=100_000), org=Limits(parallel=7))
    ticket = take(limits, who, 400)
    assert dict(ticket.headers) == {
        b"x-ratelimit-limit-requests": b"5",
        b"x-ratelimit-remaining-requests": b"4",
        b"x-ratelimit-reset-requests": b"61s",
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"600",
        b"x-ratelimit-reset-tokens": b"61s",
    }
    ticket.settle(150)
    clock.advance(30)
    assert dict(ticket.headers)[b"x-ratelimit-remaining-tokens"] == b"850"
    assert dict(ticket.headers)[b"x-ratelimit-reset-tokens"] == b"31s"
    assert dict(refused(limits, who, 900).headers)[b"x-ratelimit-remaining-requests"] == b"4"


def test_tokens_are_estimated_first_and_settled_once(limits: RateLimits) -> None:
    who = caller(Limits(tpm=1_000))
    first = take(limits, who, 600)
    error = refused(limits, who, 500)
    assert "600 were used in the last 60 seconds (600 of them are estimates of calls in flight" in error.message
    assert "and this call may need 500." in error.message
    first.settle(100)
    first.settle(0)
    take(limits, who, 900)
    refused(limits, who, 1)


def test_a_call_that_used_more_than_estimated_is_counted_in_full(limits: RateLimits) -> None:
    who = caller(Limits(tpm=1_000))
    take(limits, who, 100).settle(5_000)
    assert dict(refused(limits, who, 1).headers)[b"x-ratelimit-remaining-tokens"] == b"0"


def test_an_estimate_above_the_whole_limit_passes_when_nothing_else_does(limits: RateLimits, clock: FakeClock) -> None:
    who = caller(Limits(tpm=1_000))
    take(limits, who, 50_000).settle(700)
    refused(limits, who, 50_000)
    clock.advance(61)
    take(limits, who, 50_000)


def test_calls_in_flight_are_freed_by_their_end(limits: RateLimits) -> None:
    who = caller(Limits(parallel=2))
    first, second = take(limits, who), take(limits, who)
    error = refused(limits, who)
    assert dict(error.headers)[b"retry-after"] == b"1"
    assert "2 calls at a time (max_parallel_requests); 2 are in flight" in error.message
    first.settle(0)
    first.settle(0)
    take(limits, who)
    refused(limits, who)
    second.settle(10)
    take(limits, who)


def test_a_refused_call_counts_nowhere(limits: RateLimits) -> None:
    who = caller(Limits(rpm=100, tpm=1_000), team=Limits(parallel=1))
    ticket = take(limits, who, 10)
    for _ in range(5):
        refused(limits, who, 10)
    assert dict(ticket.headers)[b"x-ratelimit-remaining-requests"] == b"99"
    assert dict(ticket.headers)[b"x-ratelimit-remaining-tokens"] == b"990"


def test_limits_of_team_and_organization_are_shared_by_their_keys(limits: RateLimits) -> None:
    one, two = (caller(team=Limits(rpm=1), key_id=key_id) for key_id in ("k1", "k2"))
    take(limits, one)
    assert "team t1: 1 request per minute (rpm_limit); 1 was used" in refused(limits, two).message
    one, two = (caller(org=Limits(rpm=1), key_id=key_id) for key_id in ("k3", "k4"))
    take(limits, one)
    assert "organization 'acme'" in refused(limits, two).message


def test_limits_per_model_count_matching_models_only(limits: RateLimits) -> None:
    who = caller(Limits(rpm=4), models={"gpt-4o*": Limits(rpm=2), "o3": Limits(tpm=100)})
    take(limits, who, model="gpt-4o")
    take(limits, who, model="gpt-4o-mini")
    error = refused(limits, who, model="gpt-4o")
    assert "for models 'gpt-4o*': 2 requests per minute (model_rpm_limit)" in error.message
    take(limits, who, 90, model="o3")
    refused(limits, who, 20, model="o3")
    take(limits, who, model="other")
    assert "for models" not in refused(limits, who, model="other").message


def test_the_longest_wait_is_told(limits: RateLimits, clock: FakeClock) -> None:
    who = caller(Limits(rpm=1, tpm=100, parallel=1))
    take(limits, who, 100)
    clock.advance(20)
    error = refused(limits, who, 100)
    assert dict(error.headers)[b"retry-after"] == b"41"


def test_a_limit_of_zero_names_no_time(limits: RateLimits) -> None:
    error = refused(limits, caller(Limits(rpm=0)))
    assert b"retry-after" not in dict(error.headers)
    assert "Ask your platform team" in error.message


def test_a_changed_policy_is_followed_at_once(limits: RateLimits) -> None:
    take(limits, caller(Limits(rpm=1)))
    refused(limits, caller(Limits(rpm=1)))
    take(limits, caller(Limits(rpm=2)))
    refused(limits, caller(Limits(rpm=2)))
    assert limits.admit(caller(), "gpt-4o", 10) is None


def test_idle_limits_are_forgotten(limits: RateLimits, clock: FakeClock) -> None:
    for number in range(50):
        take(limits, caller(Limits(rpm=1), key_id=f"k{number}"))
    assert len(limits.fleet) == 50
    for _ in range(40):
        clock.advance(10)
        limits.fleet.tick(clock.monotonic_ms())
    assert len(limits.fleet) == 0
    take(limits, caller(Limits(rpm=1), key_id="k0"))


def test_the_number_of_limits_is_bounded(limits: RateLimits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "LIMITS_MAX", 100)
    for number in range(1_000):
        take(limits, caller(Limits(rpm=1), key_id=f"k{number}"))
    assert len(limits.fleet) <= 100
    assert limits.fleet.overflows > 0


# ---- waiting for rights of others -----------------------------------------------------------------------


def other(clock: FakeClock, limits: RateLimits, seq: int, gave: int = 0) -> News:
    """Another instance that speaks; `gave` is what it hands to us of the key's rpm limit."""
    quota_id = next(iter(limits.fleet._quotas))
    row = Row(quota_id, 10, 5 - gave, 0, 0, {ME: gave}, (), True)
    return News(instance="other", seq=seq, at_ms=clock.monotonic_ms(), rows=(row,))


async def test_a_call_waits_for_rights_that_another_instance_gives(limits: RateLimits, clock: FakeClock) -> None:
    who = caller(Limits(rpm=10))
    take(limits, who)
    limits.fleet.heard(other(clock, limits, 1), clock.monotonic_ms())
    for news in limits.fleet.tick(clock.monotonic_ms()):
        limits.fleet.heard(news, clock.monotonic_ms())
    while limits._take(limits._plan(who, "gpt-4o"), 1, clock.monotonic_ms()):
        pass
    limits.wake.clear()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(limits.enter(who, "gpt-4o", 1))
        await asyncio.sleep(0)
        assert limits.wake.is_set()
        assert not waiting.done()
        limits.fleet.heard(other(clock, limits, 2, gave=3), clock.monotonic_ms())
        limits.moved()
        assert await waiting is not None
    assert limits.waited == 1


async def test_a_call_that_no_wait_helps_is_refused_at_once(limits: RateLimits) -> None:
    who = caller(Limits(rpm=1))
    assert await limits.enter(who, "gpt-4o", 1) is not None
    with pytest.raises(Refused):
        await limits.enter(who, "gpt-4o", 1)
    assert limits.waited == 0
    assert await limits.enter(caller(), "gpt-4o", 1) is None


def test_a_wait_for_what_others_used_leaves_them_time_to_say_so(limits: RateLimits, clock: FakeClock) -> None:
    who = caller(Limits(rpm=1))
    take(limits, who)
    limits.fleet.heard(News(instance="other", seq=1, at_ms=5), clock.monotonic_ms())
    assert dict(refused(limits, who).headers)[b"retry-after-ms"] == str(WINDOW_MS + 1_000 + 50).encode()


# ---- calls that do not take place, and calls in flight -----------------------------------------------------


def test_a_call_that_is_taken_back_was_never_there(limits: RateLimits, clock: FakeClock) -> None:
    who = caller(Limits(rpm=2, tpm=1_000, parallel=1), team=Limits(rpm=2))
    for _ in range(20):
        ticket = take(limits, who, 900)
        ticket.take_back()
        ticket.take_back()
        ticket.settle(500)
        assert dict(ticket.headers)[b"x-ratelimit-remaining-requests"] == b"2"
        assert dict(ticket.headers)[b"x-ratelimit-remaining-tokens"] == b"1000"
        assert dict(ticket.headers)[b"x-ratelimit-reset-requests"] == b"0s"
    assert limits.admitted == 0
    done = take(limits, who, 900)
    done.settle(100)
    done.take_back()
    assert dict(done.headers)[b"x-ratelimit-remaining-tokens"] == b"900"
    assert dict(done.headers)[b"x-ratelimit-remaining-requests"] == b"1"


def test_what_is_taken_back_after_a_minute_takes_nothing_else_along(limits: RateLimits, clock: FakeClock) -> None:
    who = caller(Limits(rpm=5, tpm=1_000))
    ticket = take(limits, who, 900)
    clock.advance(61)
    other = take(limits, who, 300)
    ticket.take_back()
    assert dict(other.headers)[b"x-ratelimit-remaining-requests"] == b"4"
    assert dict(other.headers)[b"x-ratelimit-remaining-tokens"] == b"700"


def test_others_hear_that_a_call_was_taken_back(limits: RateLimits, clock: FakeClock) -> None:
    who = caller(Limits(rpm=2, tpm=1_000, parallel=1))
    there = RateLimits(clock, InstanceId("other"))

    def tell() -> None:
        for news in limits.fleet.tick(clock.monotonic_ms()):
            there.fleet.heard(news, clock.monotonic_ms())

    ticket = take(limits, who, 600)
    tell()
    theirs = there._plan(who, "gpt-4o")
    assert [quota.room(clock.monotonic_ms()) for quota, *_ in theirs.items] == [1, 400, 0]
    ticket.take_back()
    tell()
    assert [quota.room(clock.monotonic_ms()) for quota, *_ in theirs.items] == [2, 1_000, 1]


def test_they_hear_it_again_if_they_missed_it(limits: RateLimits, clock: FakeClock) -> None:
    who = caller(Limits(rpm=2, tpm=1_000, parallel=1))
    there = RateLimits(clock, InstanceId("other"))
    ticket = take(limits, who, 600)
    for news in limits.fleet.tick(clock.monotonic_ms()):
        there.fleet.heard(news, clock.monotonic_ms())
    ticket.take_back()
    limits.fleet.tick(clock.monotonic_ms())
    clock.advance(6)
    for news in limits.fleet.tick(clock.monotonic_ms()):
        there.fleet.heard(news, clock.monotonic_ms())
    theirs = there._plan(who, "gpt-4o")
    assert [quota.room(clock.monotonic_ms()) for quota, *_ in theirs.items] == [2, 1_000, 1]


def test_a_wait_for_estimates_in_flight_is_a_second(limits: RateLimits, clock: FakeClock) -> None:
    who = caller(Limits(tpm=1_000))
    first = take(limits, who, 600)
    clock.advance(5)
    error = refused(limits, who, 500)
    assert dict(error.headers)[b"retry-after-ms"] == b"1000"
    first.settle(550)
    error = refused(limits, who, 500)
    assert dict(error.headers)[b"retry-after-ms"] == b"56000"
    assert "in flight" not in error.message
    take(limits, who, 100)
    error = refused(limits, who, 500)
    assert dict(error.headers)[b"retry-after-ms"] == b"56000", "what is in flight is not what stands in the way"
    assert "100 of them are estimates of calls in flight" in error.message


def test_the_estimate_of_a_call_that_outlasts_the_window_is_in_nobody_s_way(
    limits: RateLimits, clock: FakeClock
) -> None:
    who = caller(Limits(tpm=1_000))
    slow = take(limits, who, 900)
    clock.advance(61)
    take(limits, who, 900).settle(900)
    error = refused(limits, who, 500)
    assert dict(error.headers)[b"retry-after-ms"] == b"61000"
    assert "in flight" not in error.message
    slow.settle(100)


def test_estimates_at_other_instances_are_waited_for_as_well(limits: RateLimits, clock: FakeClock) -> None:
    who = caller(Limits(tpm=1_000))
    there = RateLimits(clock, InstanceId("other"))
    ticket = take(limits, who, 900)

    def tell() -> None:
        for one, two in ((limits, there), (there, limits)):
            for news in one.fleet.tick(clock.monotonic_ms()):
                one.fleet.heard(news, clock.monotonic_ms())
                two.fleet.heard(news, clock.monotonic_ms())

    for _ in range(3):
        clock.advance(0.6)
        tell()
    assert dict(refused(there, who, 500).headers)[b"retry-after"] == b"1"
    ticket.settle(900)
    tell()
    assert int(dict(refused(there, who, 500).headers)[b"retry-after"]) > 50


def test_the_output_that_was_assumed_is_told(limits: RateLimits) -> None:
    who = caller(Limits(tpm=1_000))
    take(limits, who, 600).settle(600)
    with pytest.raises(Refused) as caught:
        limits.admit(who, "gpt-4o", 1_020, 1_000)
    said = "may need 1,020 (no max_tokens was sent, so 1,000 output tokens are assumed; send max_tokens to need less)"
    assert said in caught.value.message
