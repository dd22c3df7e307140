"""Money that comes back: recalled from idle holders, released or presumed spent when an instance falls silent."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.ledger.domain.tuning import Tuning
from shared.allotment import Ack, Answer, NotActive, Recall, Row
from shared.events import AllotmentClosed, AllotmentGranted, AllotmentRenewed, AllotmentReturned, LedgerEpoch
from tests.support.ledger import (
    KEY,
    P1,
    P2,
    ask,
    beat,
    budget,
    budget_set,
    close,
    corrected,
    gives_back,
    key_issued,
    used,
    window,
)
from tests.support.servers import NatsServer
from tests.support.town import Town, a_town, eventually

A = window("a:key_1")
PATIENT = Tuning(recall_wait_ms=20_000)
"""An ask waits longer for recalled money than any test does: time decides nothing."""
HASTY = Tuning(lease_ms=40, max_call_ms=40, margin_ms=40)
"""An instance is given up after an eighth of a second of silence."""


@pytest.fixture
async def town(nats: NatsServer) -> AsyncIterator[Town]:
    async with a_town(nats) as made:
        yield made


async def test_idle_money_is_recalled_and_granted_onward(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    enforcer = await (await town.enforcer(tuning=PATIENT)).active()

    async def gives_back_what_is_idle(recall: Recall) -> None:
        (known,) = recall.known
        assert await town.send(gives_back(Row(known.serial, 70, 20, known.granted, 0)))

    heard = await town.hear_recalls(P1, gives_back_what_is_idle)
    assert (await town.ask(ask(90, want=100))).granted == 90
    answer = await town.ask(ask(80, instance=P2))
    assert (answer.verdict, answer.granted) == ("ok", 80)
    assert [(recall.account, recall.epoch) for recall in heard] == [("a:key_1", 1)]
    assert [(known.serial, known.granted, known.term) for known in heard[0].known] == [(1, 90, (A,))]
    assert enforcer.meters.recalls.values == {(): 1}
    order = [record for record in await town.decisions() if isinstance(record, AllotmentGranted | AllotmentReturned)]
    assert [type(record) for record in order] == [AllotmentGranted, AllotmentReturned, AllotmentGranted]
    assert enforcer.office.state.balance(A).escrow == 100


async def test_without_an_answer_to_the_recall_the_ask_is_refused(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    await (await town.enforcer(tuning=Tuning(recall_wait_ms=1))).active()
    heard = await town.hear_recalls(P1)
    await town.ask(ask(90))
    refused = await town.ask(ask(80, instance=P2))
    assert (refused.verdict, refused.granted) == ("reserved", 0)
    assert refused.refusal is not None
    assert refused.refusal.room == 10
    await eventually(lambda: len(heard) == 1)


async def test_those_who_wait_are_sent_away_when_the_office_is_left(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    enforcer = await (await town.enforcer(tuning=PATIENT)).active()
    heard = await town.hear_recalls(P1)
    await town.ask(ask(90))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(town.send(ask(80, instance=P2)))
        await eventually(lambda: len(heard) == 1)
        assert enforcer.office.clerk.waiting == 1
        await enforcer.office.retire()
    assert isinstance(waiting.result(), NotActive)
    assert enforcer.office.clerk.waiting == 0
    second = await (await town.enforcer()).active()
    assert second.office.state.balance(A).escrow == 90


async def test_money_of_a_silent_instance_is_released(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    enforcer = await (await town.enforcer(tuning=HASTY)).active()
    state = enforcer.office.state
    assert (await town.ask(ask(60))).lease_ms == HASTY.lease_ms
    await eventually(lambda: state.balance(A).escrow == 0)
    assert enforcer.meters.closings.values == {("silent",): 1}
    assert (await town.ask(ask(70, rseq=2))).verdict == "closed"
    assert (await town.ask(ask(100, instance=P2))).granted == 100
    await town.use(used(1, 50, A))  # its journal is found
    await eventually(lambda: state.balance(A).spent == 50)
    assert state.balance(A).overdraft == 50


async def test_money_of_a_silent_instance_is_presumed_spent_in_strict_mode(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 100, strict=True)))
    enforcer = await (await town.enforcer(tuning=HASTY)).active()
    state = enforcer.office.state
    await town.ask(ask(60))
    await eventually(lambda: state.balance(A).presumed == 60)
    assert state.balance(A).escrow == 0
    assert (await town.ask(ask(50, instance=P2))).verdict == "exceeded"
    await town.use(used(1, 20, A))
    await eventually(lambda: state.balance(A).presumed == 40)
    ack = await town.send(close(1))
    assert isinstance(ack, Ack)
    await eventually(lambda: state.balance(A).presumed == 0)
    assert (await town.ask(ask(50, instance=P2, rseq=2))).granted == 50


async def test_an_instance_that_beats_is_not_silent(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    enforcer = await (await town.enforcer(tuning=HASTY)).active()
    await town.ask(ask(60))
    await town.ask(ask(30, instance=P2))
    while not enforcer.meters.closings.values:
        assert isinstance(await town.send(beat()), Ack)
    closed = [record for record in await town.decisions() if isinstance(record, AllotmentClosed)]
    assert [(record.instance, record.how, record.settled) for record in closed] == [(P2, "silent", ((1, 0),))]
    assert any(isinstance(record, AllotmentRenewed) for record in await town.decisions())


async def test_a_successor_counts_silence_anew_and_knows_the_lease_of_its_predecessor(town: Town) -> None:
    """An instance that was given a long lease must not be given up by an enforcer whose own is short."""
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    first = await (await town.enforcer(tuning=Tuning(lease_ms=600_000))).active()
    await town.ask(ask(60))
    await first.kill()
    second = await (await town.enforcer(tuning=HASTY)).active()
    await town.ask(ask(30, instance=P2))
    await eventually(lambda: bool(second.meters.closings.values))
    assert [name for name, instance in second.office.state.instances.items() if instance.silent] == [P2]
    epochs = [record.lease_ms for record in await town.decisions() if isinstance(record, LedgerEpoch)]
    assert epochs == [600_000, 40]


async def test_a_correction_changes_what_may_be_granted(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    enforcer = await (await town.enforcer()).active()
    await town.use(used(1, 100, A, serial=None))
    await eventually(lambda: enforcer.office.state.balance(A).spent == 100)
    assert (await town.ask(ask(10))).verdict == "exceeded"
    await town.use(corrected(1, (A, -60)))
    await town.use(corrected(1, (A, -60)))  # sent twice
    await eventually(lambda: enforcer.office.state.balance(A).spent == 40)

    async def granted() -> bool:
        reply = await town.send(ask(60, rseq=2))
        return isinstance(reply, Answer) and reply.granted == 60

    await eventually(granted)
    assert (await town.ask(ask(61, rseq=3))).verdict == "exceeded"
