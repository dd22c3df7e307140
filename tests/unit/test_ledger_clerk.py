"""The clerk between proxies and the log: what leaves when, and what happens when an append fails."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime

import pytest

from services.ledger.domain import desk as desk_module
from services.ledger.domain.draft import Draft
from services.ledger.domain.fold import fold_auth, fold_grants, fold_usage
from services.ledger.domain.state import LedgerState
from services.ledger.domain.tuning import Tuning
from services.ledger.enforcer import clerk as clerk_module
from services.ledger.enforcer.clerk import Clerk
from services.ledger.enforcer.meters import Meters
from shared import allotment
from shared.allotment import Ack, Answer, Ask, NotActive, Recall, Reply, Request, Row
from shared.bus import Request as Letter
from shared.errors import BusError, BusUnavailable, Conflict
from shared.events import AllotmentGranted, SignalPublished, ThresholdCrossed, decode_grants
from shared.ids import InstanceId
from shared.tasks import Supervisor
from shared.telemetry import Metrics
from tests.support.ledger import (
    EPOCH,
    KEY,
    P1,
    P2,
    ask,
    beat,
    budget,
    budget_set,
    gives_back,
    key_issued,
    used,
    window,
)

A = window("a:key_1")


class StillClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.ms = 1_000

    def now(self) -> datetime:
        return EPOCH

    def monotonic_ms(self) -> int:
        return self.ms


class FakeLetter(Letter):
    """A request whose reply the test reads."""

    def __init__(self, data: bytes) -> None:
        self.subject = "allot.v1.0"
        self.data = data
        self.reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def respond(self, data: bytes) -> None:
        self.reply.set_result(data)


class Counter:
    """A clerk at its counter, with a log that the test can hold up or break."""

    def __init__(self) -> None:
        self.state = LedgerState(partition=0)
        self.clock = StillClock()
        self.log: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: BusError | None = None
        self.fresh = True
        self.doubts: list[str] = []
        self.commits = 0
        self.recalls: list[tuple[InstanceId, Recall]] = []
        self.clerk = Clerk(
            self.state,
            Tuning(),
            self.clock,
            Meters(Metrics()),
            source="test",
            append=self.append,
            recall=self.recall,
            lease_fresh=lambda: self.fresh,
            on_doubt=self.doubts.append,
            on_commit=self.committed,
        )

    def committed(self) -> None:
        self.commits += 1

    async def append(self, data: bytes, expected: int, msg_id: str) -> int:
        assert expected == self.state.grant_seq
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.log.append(data)
        return expected + 10  # usage stands between decisions

    async def recall(self, instance: InstanceId, data: bytes) -> None:
        self.recalls.append((instance, allotment.decode_recall(data)))

    async def post(self, request: Request) -> FakeLetter:
        letter = FakeLetter(allotment.encode(request))
        await self.clerk.receive(letter)
        return letter

    async def send(self, request: Request) -> Reply:
        return await self.reply(await self.post(request))

    async def reply(self, letter: FakeLetter) -> Reply:
        async with asyncio.timeout(5):
            return allotment.decode_reply(await letter.reply)


@asynccontextmanager
async def counter() -> AsyncGenerator[Counter]:
    made = Counter()
    for seq, event in enumerate((key_issued(), budget_set(budget(KEY, 100, soft=50))), 1):
        fold_auth(made.state, event, seq)
    supervisor = Supervisor()
    supervisor.keep("clerk", made.clerk.run)
    made.clerk.begin()
    yield made
    await supervisor.close()


def answered(reply: Reply) -> Answer:
    assert isinstance(reply, Answer)
    return reply


async def rest() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_no_reply_leaves_before_the_append_is_acknowledged() -> None:
    async with counter() as at:
        at.gate.clear()
        letters = [await at.post(ask(30)), await at.post(ask(30)), await at.post(ask(101, serial=2))]
        await rest()
        assert not any(letter.reply.done() for letter in letters)
        at.gate.set()
        replies = [answered(await at.reply(letter)) for letter in letters]
        assert [(reply.verdict, reply.granted) for reply in replies] == [("ok", 30), ("ok", 30), ("exceeded", 0)]


async def test_what_arrives_during_an_append_is_the_next_batch() -> None:
    async with counter() as at:
        at.gate.clear()
        first = await at.post(ask(1))
        await rest()
        others = [await at.post(ask(1, serial=serial)) for serial in range(2, 40)]
        await rest()
        at.gate.set()
        assert answered(await at.reply(first)).granted == 1
        assert all([answered(await at.reply(letter)).granted == 1 for letter in others])
        assert len(at.log) == 2
        assert len([r for r in decode_grants(at.log[1]).records if isinstance(r, AllotmentGranted)]) == 38


@pytest.mark.parametrize("error", [BusUnavailable("no answer"), Conflict("somebody else")])
async def test_a_failed_append_drops_the_batch_and_nothing_else(error: BusError) -> None:
    async with counter() as at:
        at.error = error
        reply = await at.send(ask(30))
        assert isinstance(reply, NotActive)
        assert len(at.doubts) == 1
        assert (at.state.escrow, at.clerk.open) == (0, False)
        at.error = None
        assert isinstance(await at.send(ask(30)), NotActive)  # closed until the office is taken anew
        at.clerk.begin()
        assert answered(await at.send(ask(100))).granted == 100


async def test_a_batch_that_the_reader_folds_first_is_not_folded_again() -> None:
    async with counter() as at:
        at.gate.clear()
        letter = await at.post(ask(30))
        await rest()
        real = at.append

        async def seen_by_the_reader(data: bytes, expected: int, msg_id: str) -> int:
            seq = await real(data, expected, msg_id)
            fold_grants(at.state, decode_grants(data), seq)
            return seq

        at.clerk._append = seen_by_the_reader
        at.gate.set()
        assert answered(await at.reply(letter)).granted == 30
        assert answered(await at.send(ask(40, rseq=2))).granted == 40
        assert at.state.balance(A).escrow == 40


async def test_an_ask_with_newer_policy_waits_and_others_pass_it() -> None:
    async with counter() as at:
        early = await at.post(ask(150, rev=3))
        assert isinstance(await at.send(beat(instance=P2)), Ack)
        assert not early.reply.done()
        fold_auth(at.state, budget_set(budget(KEY, 200)), 3)
        at.clerk.wake()
        assert answered(await at.reply(early)).granted == 150


async def test_an_ask_whose_policy_does_not_come_is_sent_away() -> None:
    async with counter() as at:
        early = await at.post(ask(10, rev=3))
        await rest()
        at.clock.ms += Tuning().park_ms
        at.clerk.wake()
        assert isinstance(await at.reply(early), NotActive)
        assert at.clerk.waiting == 0


async def test_refusals_need_a_fresh_lease_and_grants_do_not() -> None:
    async with counter() as at:
        at.fresh = False
        assert isinstance(await at.send(ask(101)), NotActive)
        assert answered(await at.send(ask(100))).granted == 100
        at.fresh = True
        assert answered(await at.send(ask(101, serial=2))).verdict == "exceeded"


async def test_a_soft_limit_that_usage_passes_is_recorded_without_a_request() -> None:
    async with counter() as at:
        fold_usage(at.state, used(1, 60, A, serial=None))
        at.clerk.wake()
        await rest()
        crossed = ThresholdCrossed(window=A, threshold="soft", spent_nusd=60, limit_nusd=100)
        assert decode_grants(at.log[0]).records == (crossed,)
        at.clerk.wake()
        await rest()
        assert len(at.log) == 1
        at.clerk.tell(SignalPublished(window=A, threshold="soft"))
        await rest()
        assert at.commits == 2
        assert at.state.untold == set()


async def test_too_many_waiting_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "QUEUE_MAX", 2)
    async with counter() as at:
        at.gate.clear()
        await at.post(ask(1))
        await rest()
        queued = [await at.post(ask(1, serial=serial)) for serial in (2, 3)]
        too_many = await at.post(ask(1, serial=4))
        at.gate.set()
        assert isinstance(await at.reply(too_many), NotActive)
        assert [answered(await at.reply(letter)).granted for letter in queued] == [1, 1]


async def test_a_batch_too_large_for_the_log_is_decided_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clerk_module, "APPEND_BYTES_MAX", 900)
    async with counter() as at:
        at.gate.clear()
        first = await at.post(ask(1))
        await rest()
        letters = [await at.post(ask(1, serial=serial)) for serial in range(2, 30)]
        at.gate.set()
        for letter in (first, *letters):
            assert answered(await at.reply(letter)).granted == 1
        assert len(at.log) > 5
        assert max(map(len, at.log)) <= 900


async def test_a_request_that_cannot_be_decided_harms_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    real = desk_module.answer

    def fails_on_thirteen(draft: Draft, request: Ask) -> object:
        if request.serial == 13:
            raise ZeroDivisionError
        return real(draft, request)

    monkeypatch.setattr(desk_module, "answer", fails_on_thirteen)
    async with counter() as at:
        at.gate.clear()
        await at.post(ask(1))
        await rest()
        letters = [await at.post(ask(1, serial=serial)) for serial in range(10, 17)]
        at.gate.set()
        replies = [await at.reply(letter) for letter in letters]
        assert [isinstance(reply, Answer) for reply in replies] == [True, True, True, False, True, True, True]


async def test_a_recall_leaves_after_the_append_and_says_what_the_log_says() -> None:
    async with counter() as at:
        assert answered(await at.send(ask(90))).granted == 90
        at.gate.clear()
        letters = [await at.post(ask(95, rseq=2)), await at.post(ask(80, instance=P2))]
        await rest()
        assert at.recalls == []
        at.gate.set()
        assert answered(await at.reply(letters[0])).granted == 95
        await rest()
        ((instance, recall),) = at.recalls
        assert (instance, recall.account) == (P1, "a:key_1")
        assert [(known.serial, known.granted) for known in recall.known] == [(1, 95)]
        assert not letters[1].reply.done()
        assert isinstance(await at.send(gives_back(Row(1, 90, 0, 95, 0))), Ack)
        assert answered(await at.reply(letters[1])).granted == 80


async def test_no_recall_leaves_when_the_append_fails() -> None:
    async with counter() as at:
        assert answered(await at.send(ask(90))).granted == 90
        at.error = BusUnavailable("no answer")
        refused = await at.send(ask(80, instance=P2))
        assert isinstance(refused, NotActive)
        assert at.recalls == []


async def test_an_ask_that_nobody_serves_is_refused_when_its_wait_is_over() -> None:
    async with counter() as at:
        assert answered(await at.send(ask(90))).granted == 90
        letter = await at.post(ask(80, instance=P2))
        await rest()
        assert not letter.reply.done()
        at.clock.ms += Tuning().recall_wait_ms
        assert answered(await at.reply(letter)).verdict == "reserved"  # the clerk looks again by itself


async def test_an_append_that_ends_after_the_office_was_left_is_the_readers() -> None:
    async with counter() as at:
        at.gate.clear()
        letter = await at.post(ask(30))
        await rest()
        await at.clerk.pause("leaving")
        assert isinstance(await at.reply(letter), NotActive)
        at.clerk.begin()
        later = await at.post(ask(30))
        at.gate.set()
        await rest()
        assert (len(at.log), at.commits) == (2, 1)  # the first was not folded here, so the second one repeats it
        assert answered(await at.reply(later)).granted == 30


async def test_leaving_the_office_sends_everybody_away() -> None:
    async with counter() as at:
        at.gate.clear()
        await at.post(ask(1))
        await rest()
        waiting = [await at.post(ask(1, serial=2)), await at.post(ask(5, serial=3, rev=99))]
        await at.clerk.pause("leaving")
        assert all([isinstance(await at.reply(letter), NotActive) for letter in waiting])
