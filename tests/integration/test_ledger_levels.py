"""What the enforcer tells the world: levels in the bucket `budgets`, signals in the stream SIGNALS, each once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.events import (
    AnyBudgetSignal,
    SignalPublished,
    ThresholdCrossed,
    decode_signal,
    type_of,
)
from shared.topology import SIGNALS
from tests.support.ledger import KEY, ORG, ask, budget, budget_set, key_issued, org_created, used, window
from tests.support.servers import NatsServer
from tests.support.town import Town, a_town, eventually

A = window("a:key_1")
ORGS = window("a:org_1")


@pytest.fixture
async def town(nats: NatsServer) -> AsyncIterator[Town]:
    async with a_town(nats) as made:
        yield made


async def signals(town: Town) -> list[AnyBudgetSignal]:
    found = [decode_signal(data) for data in await town.stored(SIGNALS, "signal.>")]
    assert all(isinstance(one, AnyBudgetSignal) for one in found)
    return [one for one in found if isinstance(one, AnyBudgetSignal)]


async def level_is(town: Town, account: str, state: str) -> bool:
    level = await town.level(account)
    return level is not None and level.state == state


async def test_each_signal_is_published_once_whoever_is_in_office(town: Town) -> None:
    await town.decided(org_created(), key_issued(team=None), budget_set(budget(ORG, 100, kind="org", soft=50)))
    first = await (await town.enforcer()).active()
    await town.ask(ask(60, lineage=("a:org_1",)))
    await town.use(used(1, 60, ORGS))
    await eventually(lambda: "soft" in first.office.state.balance(ORGS).crossed and not first.office.state.untold)
    assert (await town.ask(ask(110, rseq=2, least=50, lineage=("a:org_1",)))).verdict == "exceeded"
    await eventually(lambda: first.office.state.balance(ORGS).exceeded is not None and not first.office.state.untold)
    await first.kill()
    second = await (await town.enforcer()).active()
    await town.ask(ask(40, serial=2, lineage=("a:org_1",)))
    assert not second.office.state.untold
    found = await signals(town)
    assert [type_of(signal) for signal in found] == ["budget.threshold_reached.v1", "budget.exceeded.v1"]
    assert {signal.alias for signal in found} == {"the org"}
    assert [signal.spent_nusd for signal in found] == [60, 60]


async def test_a_signal_whose_publishing_is_unknown_is_published_by_the_successor(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 100, soft=50)))
    first = await (await town.enforcer()).active()
    first.office.herald._tell_all = lambda: asyncio.sleep(0)  # killed before it could publish
    await town.use(used(1, 60, A, serial=None))
    await eventually(lambda: first.office.state.untold == {("a:key_1", 0, "soft")})
    assert await signals(town) == []
    await first.kill()
    second = await (await town.enforcer()).active()
    await eventually(lambda: second.office.state.untold == set())
    assert len(await signals(town)) == 1
    crossed = [record for record in await town.decisions() if isinstance(record, ThresholdCrossed | SignalPublished)]
    assert crossed == [
        ThresholdCrossed(window=A, threshold="soft", spent_nusd=60, limit_nusd=100),
        SignalPublished(window=A, threshold="soft"),
    ]


async def test_an_exhausted_budget_is_a_level_with_the_smallest_refused_need(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    await (await town.enforcer()).active()
    assert await town.level("a:key_1") is None
    assert (await town.ask(ask(90))).verdict == "ok"
    await town.use(used(1, 90, A))
    refused = await town.ask(ask(110, rseq=2, least=20))
    assert refused.verdict == "exceeded"
    await eventually(lambda: level_is(town, "a:key_1", "exhausted"))
    level = await town.level("a:key_1")
    assert level is not None
    assert (level.limit, level.window_index, level.until_s) == (100, 0, None)
    assert 10 < level.least <= 20
    assert level.refusal is not None
    assert level.refusal.account == "a:key_1"


async def test_a_raised_limit_opens_the_level_again_and_says_so(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    await (await town.enforcer()).active()
    await town.use(used(1, 100, A, serial=None))
    await eventually(lambda: level_is(town, "a:key_1", "exhausted"))
    exhausted = await town.level("a:key_1")
    await town.decided(budget_set(budget(KEY, 300)))

    async def opened_again() -> bool:
        return not await level_is(town, "a:key_1", "exhausted")

    await eventually(opened_again)
    opened = await town.level("a:key_1")
    assert exhausted is not None
    assert opened is not None
    assert opened.seq > exhausted.seq
    assert opened.limit == 300

    async def both() -> bool:
        return len(await signals(town)) == 2

    await eventually(both)
    assert [type_of(signal) for signal in await signals(town)] == ["budget.exceeded.v1", "budget.restored.v1"]


async def test_after_fail_over_no_level_is_written_twice_and_what_is_missing_is_written(town: Town) -> None:
    await town.decided(
        key_issued(), org_created(), budget_set(budget(KEY, 100)), budget_set(budget(ORG, 120, kind="org"))
    )
    first = await (await town.enforcer()).active()
    await town.use(used(1, 100, A, ORGS, serial=None))
    await eventually(lambda: level_is(town, "a:key_1", "exhausted"))
    before = await town.level("a:key_1")
    await eventually(lambda: not first.office.state.untold)
    first.office.herald._tell_all = lambda: asyncio.sleep(0)
    await town.use(used(2, 20, A, ORGS, serial=None))
    await eventually(lambda: first.office.state.balance(ORGS).exceeded is not None)
    await first.kill()
    await (await town.enforcer()).active()
    await eventually(lambda: level_is(town, "a:org_1", "exhausted"))
    assert await town.level("a:key_1") == before
    assert sorted(signal.account for signal in await signals(town)) == ["a:key_1", "a:org_1"]


async def test_a_later_level_in_the_bucket_is_left_alone(town: Town) -> None:
    """An enforcer that was deposed and does not know it must not write over its successor's word."""
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    enforcer = await (await town.enforcer()).active()
    await town.use(used(1, 100, A, serial=None))
    await eventually(lambda: level_is(town, "a:key_1", "exhausted"))
    level = await town.level("a:key_1")
    assert level is not None
    await enforcer.office.herald._post(level)
    assert await town.level("a:key_1") == level
    assert enforcer.meters.levels.values == {("exhausted",): 1}
