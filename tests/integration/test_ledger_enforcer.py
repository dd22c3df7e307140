"""The enforcer against a real NATS server: fence, office, every request of a proxy."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared import allotment
from shared.allotment import Ack, Answer, NotActive, Reply, Row
from shared.errors import Conflict, TundishError
from shared.events import LedgerEpoch, encode, usage_batch
from shared.ids import uuid7
from shared.topology import (
    LEDGER,
    allot_subject,
    grant_fence,
    grant_subject,
    usage_subject,
)
from tests.support.ledger import (
    KEY,
    P1,
    P2,
    ask,
    balances,
    beat,
    budget,
    budget_set,
    close,
    gives_back,
    key_issued,
    org_created,
    used,
    window,
)
from tests.support.servers import NatsServer
from tests.support.town import WITHIN_S, Town, a_town, eventually

A = window("a:key_1")


@pytest.fixture
async def town(nats: NatsServer) -> AsyncIterator[Town]:
    async with a_town(nats) as made:
        yield made


async def test_the_conversation_of_a_proxy(town: Town) -> None:
    rev = await town.decided(org_created(), key_issued(), budget_set(budget(KEY, 100, soft=50)))
    enforcer = await (await town.enforcer()).active()
    state = enforcer.office.state
    answer = await town.ask(ask(40, rev=rev, sent=123))
    assert (answer.verdict, answer.granted, answer.term, answer.sent_ms, answer.epoch) == ("ok", 40, (A,), 123, 1)
    refused = await town.ask(ask(61, serial=2))
    assert refused.refusal is not None
    assert (refused.verdict, refused.refusal.room) == ("reserved", 60)
    await town.use(used(1, 25, A))
    await eventually(lambda: state.balance(A).spent == 25)
    ack = await town.send(gives_back(Row(1, 15, 25, 40, 0)))
    assert isinstance(ack, Ack)
    assert [(known.serial, known.returned) for known in ack.known] == [(1, 15)]
    assert (state.balance(A).escrow, enforcer.office.problem()) == (0, None)
    assert isinstance(await town.send(beat()), Ack)
    closed = await town.send(close(1))
    assert isinstance(closed, Ack)
    assert closed.closed
    assert (await town.ask(ask(1, serial=9))).verdict == "closed"
    assert (await town.ask(ask(76, instance=P2))).verdict == "exceeded"
    assert (await town.ask(ask(75, instance=P2, rseq=2))).granted == 75


async def test_an_ask_waits_for_policy_that_the_enforcer_has_not_read_yet(town: Town) -> None:
    rev = await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    await (await town.enforcer()).active()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(town.send(ask(150, rev=rev + 1)))
        beating = group.create_task(town.send(beat(instance=P2)))
        await beating
        assert not asking.done()
        await town.decided(budget_set(budget(KEY, 200)))
    answer = asking.result()
    assert isinstance(answer, Answer)
    assert (answer.verdict, answer.granted) == ("ok", 150)


async def test_policy_that_never_comes_ends_in_a_word(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    await (await town.enforcer()).active()
    reply = await town.send(ask(10, rev=999))
    assert isinstance(reply, NotActive)
    assert "policy" in reply.reason


async def test_what_is_no_request_is_answered_and_harms_nothing(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    await (await town.enforcer()).active()
    for junk in (b"", b"{", b'{"type":"ask"}', b"[1]", b"\xff"):
        reply = allotment.decode_reply(await town.proxy.request(allot_subject(0), junk, timeout_s=5))
        assert isinstance(reply, NotActive)
    assert (await town.ask(ask(10))).granted == 10


async def test_many_asks_at_once_never_pass_the_limit(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 1_000)))
    enforcer = await (await town.enforcer()).active()
    answers = await asyncio.gather(*(town.ask(ask(3, serial=serial)) for serial in range(1, 601)))
    verdicts = [answer.verdict for answer in answers]
    assert (verdicts.count("ok"), verdicts.count("reserved")) == (333, 267)
    assert enforcer.office.state.balance(A).escrow == 999
    grants = await town.stored(LEDGER, grant_fence(0))
    assert len(grants) < 300  # group commit


async def test_killed_and_started_again_the_state_is_the_same(town: Town) -> None:
    rev = await town.decided(org_created(), key_issued(), budget_set(budget(KEY, 500, soft=30)))
    first = await (await town.enforcer()).active()
    for serial in range(1, 6):
        await town.ask(ask(20 * serial, serial=serial, rev=rev))
    await town.use(used(1, 20, A, serial=1), used(2, 30, A, serial=2), used(4, 7, A, serial=3))
    await town.send(gives_back(Row(5, 60, 0, 100, 0)))
    await town.send(close(0, P2))
    await eventually(lambda: first.office.state.balance(A).spent == 57 and not first.office.state.untold)
    await first.kill()
    before = balances(first.office.state)
    second = await (await town.enforcer()).active()
    after = balances(second.office.state)
    assert before.pop("epoch") != after.pop("epoch")
    assert after == before
    assert (await town.ask(ask(261, serial=6))).verdict == "reserved"


async def test_a_second_enforcer_follows_and_takes_over_when_the_first_leaves(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    first = await (await town.enforcer(place="here")).active()
    await town.ask(ask(40))
    second = await town.enforcer(place="there")
    await eventually(lambda: second.office.problem() is None)
    assert not await second.office.lease.take()
    assert (second.office.standing, second.office.word(), first.office.word()) == ("standby", "standby", None)
    assert (await town.ask(ask(50, rseq=2))).granted == 50
    await eventually(lambda: second.office.state.balance(A).escrow == 50)
    await first.office.retire()
    await second.active()
    assert second.office.word() is None
    answer = await town.ask(ask(51, rseq=3))
    assert (answer.granted, answer.epoch) == (51, 2)


async def test_a_lease_that_is_not_renewed_ends_within_seconds(town: Town) -> None:
    """The machine of the first is gone: nobody sees that its process has ended, only the lease tells."""
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    first = await (await town.enforcer(place="here")).active()
    second = await town.enforcer(place="there")
    await eventually(lambda: second.office.problem() is None)
    await first.kill()
    assert (await (await second.active()).office.lease.take(), second.office.state.epoch) == (True, 2)


async def test_an_enforcer_that_was_deposed_cannot_grant(town: Town) -> None:
    """Paused through an election, it wakes with a full inbox: nothing it decides reaches the log or a proxy."""
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    old = await (await town.enforcer()).active()
    await town.ask(ask(10))
    rival = await town.enforcer(start=False)
    supervisor = rival.supervisor
    supervisor.keep("auth", rival.office.reader.follow_auth)
    supervisor.keep("ledger", rival.office.reader.follow_ledger)
    await eventually(lambda: rival.office.reader.caught_up)
    stale = old.office.state.grant_seq
    await rival.office._take_office()
    with pytest.raises(Conflict):
        await old.office.append(b"{}", stale, uuid7())
    await eventually(lambda: old.office.state.epoch == 3)
    await old.active()
    assert (await town.ask(ask(20, rseq=2))).epoch == 3  # it has read the other's word and taken office anew


async def test_nobody_takes_office_before_reading_what_was_decided_on(town: Town) -> None:
    """A limit was lowered and a grant made on it: an enforcer behind on auth's log must not grant by the old one."""
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    first = await (await town.enforcer()).active()
    rev = await town.decided(budget_set(budget(KEY, 50)))
    await town.ask(ask(10, rev=rev))
    await first.kill()
    second = await town.enforcer(start=False)
    second.supervisor.keep("ledger", second.office.reader.follow_ledger)
    await eventually(lambda: second.office.reader.live[LEDGER])
    taking = second.supervisor.start("office", second.office._take_office())
    await asyncio.sleep(0.05)
    assert not taking.done()
    assert second.office.state.auth_need == rev > second.office.state.auth_pos
    second.supervisor.keep("auth", second.office.reader.follow_auth)
    await taking
    assert (second.office.state.epoch, second.office.state.auth_pos) == (2, rev)


async def test_the_fence_needs_both_headers(town: Town) -> None:
    """Two writers with subjects of their own: only the second header makes the server compare them."""
    one, two = grant_subject(0, "one"), grant_subject(0, "two")
    seq = await town.admin.append(one, b"1", fence=grant_fence(0), expected=0, msg_id=uuid7())
    with pytest.raises(Conflict):
        await town.admin.append(two, b"2", fence=grant_fence(0), expected=0, msg_id=uuid7())
    await town.admin.publish(usage_subject(0, "p"), b"[]")  # foreign subjects do not disturb it
    await town.admin.append(two, b"2", fence=grant_fence(0), expected=seq, msg_id=uuid7())
    unfenced = {"Nats-Expected-Last-Subject-Sequence": "0"}
    ack = await town.admin.publish(grant_subject(0, "three"), b"3", headers=unfenced)
    assert ack.seq > seq  # without the second header: no conflict, money would be granted twice


async def test_an_append_with_unknown_outcome_is_dropped_and_decided_again(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    enforcer = await (await town.enforcer()).active()
    await town.ask(ask(10))
    real = enforcer.office.clerk._append

    async def lands_and_says_nothing(data: bytes, expected: int, msg_id: str) -> int:
        enforcer.office.clerk._append = real
        await real(data, expected, msg_id)
        raise Conflict("the acknowledgement was lost")

    enforcer.office.clerk._append = lands_and_says_nothing
    assert isinstance(await town.send(ask(70, rseq=2)), NotActive)
    await eventually(lambda: enforcer.office.state.epoch == 2)
    await enforcer.active()
    answer = await town.ask(ask(70, rseq=2))
    assert (answer.granted, answer.epoch) == (70, 2)
    grants = await town.decisions()
    assert [record.epoch for record in grants if isinstance(record, LedgerEpoch)] == [1, 2]
    assert enforcer.office.state.balance(A).escrow == 70


async def test_it_goes_on_after_nats_was_away(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    enforcer = await (await town.enforcer()).active()
    await town.ask(ask(10))
    town.server.stop()
    town.server.start()

    async def granted() -> bool:
        try:
            reply = await town.send(ask(30, rseq=2), timeout_s=0.5)
        except TundishError:
            return False
        return isinstance(reply, Answer) and reply.granted == 30

    await eventually(granted)
    assert enforcer.office.state.balance(A).escrow == 30


async def test_unreadable_usage_does_not_take_its_neighbours_along(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    enforcer = await (await town.enforcer()).active()
    good = encode(used(1, 10, A, serial=None))
    for data in (b"not json", usage_batch([b'{"type":"usage.recorded.v1"}', good, b"7"])):
        await town.proxy.publish(usage_subject(0, P1), data)
    await eventually(lambda: enforcer.office.state.balance(A).spent == 10)
    assert enforcer.office.standing == "active"


async def test_a_decision_from_a_newer_version_stops_the_enforcer(town: Town) -> None:
    enforcer = await (await town.enforcer()).active()
    data = (
        b'{"id":"x","at":"2026-11-01T00:00:00Z","source":"s","auth_pos":0,"usage_pos":0,"records":[{"type":"new.v9"}]}'
    )
    await town.admin.publish(grant_subject(0, "newer"), data)
    with pytest.raises(TundishError, match="run the version that wrote it"):
        await asyncio.wait_for(enforcer.fatal, WITHIN_S)


async def test_a_log_shorter_than_what_was_folded_stops_the_enforcer(town: Town) -> None:
    """After a crash without fsync new messages would get numbers that count as read."""
    enforcer = await (await town.enforcer()).active()
    enforcer.office.state.ledger_pos += 1_000
    town.server.stop()
    town.server.start()
    with pytest.raises(TundishError, match="has lost what it had acknowledged"):
        await asyncio.wait_for(enforcer.fatal, WITHIN_S)


async def test_what_somebody_had_put_into_the_logs_by_a_reply_subject_stops_nobody(town: Town) -> None:
    rev = await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    enforcer = await (await town.enforcer()).active()
    assert (await town.ask(ask(10, rev=rev))).granted == 10
    state = enforcer.office.state
    decided = state.grant_seq
    for reply in ("auth.evil.v1.ack", grant_subject(0, "evil")):
        await town.proxy.send("$KV.objects.mine.one", b"x", reply=reply)
    await eventually(lambda: state.grant_seq > decided and state.auth_pos > rev)
    granted: list[Reply] = []

    async def grants() -> bool:
        """The word of an enforcer whose append met the stranger is to ask again."""
        reply = await town.send(ask(5, serial=2 + len(granted)))
        granted.append(reply)
        return isinstance(reply, Answer) and reply.granted == 5

    await eventually(grants)
    other = await town.enforcer()
    await eventually(lambda: other.office.reader.caught_up)
    assert other.office.state.grant_seq == state.grant_seq
