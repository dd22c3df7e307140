"""The enforcer against a real NATS server: fence, fail-over, every request of a proxy, signals."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from services.ledger.domain.cross import told
from services.ledger.enforcer.meters import Meters
from services.ledger.enforcer.office import Office, incarnations
from shared import allotment
from shared.allotment import Ack, Answer, NotActive, Reply, Request, Row
from shared.bus import Bucket, Bus, Tail
from shared.clock import SystemClock
from shared.errors import Conflict, TundishError
from shared.events import (
    AnyAuthEvent,
    LedgerEpoch,
    ThresholdCrossed,
    UsageRecorded,
    decode_grants,
    decode_signal,
    encode,
    type_of,
    usage_batch,
)
from shared.ids import InstanceId, uuid7
from shared.tasks import Supervisor
from shared.telemetry import Metrics
from shared.topology import (
    LEASES_BUCKET,
    LEDGER,
    SIGNALS,
    allot_subject,
    auth_subject,
    grant_fence,
    grant_subject,
    lease_kv,
    usage_subject,
)
from tests.support.ledger import (
    KEY,
    ORG,
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

A = window("a:key_1")
WITHIN_S = 20.0


async def eventually(probe: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until `probe` says so; fails after a generous bound."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            said = probe()
            if said if isinstance(said, bool) else await said:
                return
            await asyncio.sleep(0.01)


class Running:
    """One enforcer in this process."""

    def __init__(self, bus: Bus, office: Office, supervisor: Supervisor) -> None:
        self.bus = bus
        self.office = office
        self.supervisor = supervisor

    async def active(self) -> "Running":
        await eventually(lambda: self.office.standing == "active")
        return self

    async def kill(self) -> None:
        """End without any farewell."""
        await self.supervisor.close()
        await self.bus.close()


class Town:
    """A NATS server with auth, a proxy and any number of enforcers."""

    def __init__(self, server: NatsServer, admin: Bus, proxy: Bus) -> None:
        self.server = server
        self.admin = admin
        self.proxy = proxy
        self.running: list[Running] = []

    async def enforcer(self, *, start: bool = True) -> Running:
        bus = await Bus.open(self.server.url_for("enforcer"), user="enforcer", name="test")
        fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        office = Office(
            bus,
            0,
            InstanceId(uuid7()),
            SystemClock(),
            Meters(Metrics()),
            created=await incarnations(bus),
            fatal=fatal,
        )
        running = Running(bus, office, Supervisor())
        self.running.append(running)
        if start:
            office.start(running.supervisor)
        return running

    async def decided(self, *events: AnyAuthEvent) -> int:
        """Publish events of auth; the sequence of the last."""
        seq = 0
        for event in events:
            seq = (await self.admin.publish(auth_subject(type_of(event), "x"), encode(event))).seq
        return seq

    async def send(self, request: Request, timeout_s: float = 5) -> Reply:
        data = await self.proxy.request(allot_subject(0), allotment.encode(request), timeout_s=timeout_s)
        return allotment.decode_reply(data)

    async def ask(self, request: Request) -> Answer:
        reply = await self.send(request)
        assert isinstance(reply, Answer), reply
        return reply

    async def use(self, *events: UsageRecorded, instance: InstanceId = P1) -> None:
        data = usage_batch([encode(event) for event in events])
        await self.proxy.publish(usage_subject(0, instance), data, msg_id=uuid7())

    async def stored(self, stream: str, subject: str) -> list[bytes]:
        """Everything a stream holds under a subject."""
        async for batch in Tail(self.admin, stream, subject).batches():
            if batch.caught_up:
                return [message.data for message in batch.messages]
        raise AssertionError


@pytest.fixture
async def town(nats: NatsServer) -> AsyncIterator[Town]:
    admin = await Bus.open(nats.url_for("admin"), user="admin", name="test")
    proxy = await Bus.open(nats.url_for("proxy"), user="proxy", name="test")
    made = Town(nats, admin, proxy)
    yield made
    for running in made.running:
        with contextlib.suppress(TundishError):
            await running.kill()
    await proxy.close()
    await admin.close()


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
    assert after.pop("epoch") == 2
    assert before.pop("epoch") == 1
    assert after == before
    assert (await town.ask(ask(261, serial=6))).verdict == "reserved"


async def test_a_second_enforcer_waits_and_takes_over_when_the_first_leaves(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 100)))
    first = await (await town.enforcer()).active()
    await town.ask(ask(40))
    entry = await Bucket(town.admin, LEASES_BUCKET).get(lease_kv(0))
    assert entry is not None
    # as if the first were on another machine: only its lease says that it lives
    elsewhere = msgspec.json.decode(entry.value) | {"place": "elsewhere"}
    first.office.lease._mine = msgspec.structs.replace(first.office.lease._mine, place="elsewhere")
    await Bucket(town.admin, LEASES_BUCKET).put(lease_kv(0), msgspec.json.encode(elsewhere))
    second = await town.enforcer()
    await eventually(lambda: second.office.reader.caught_up)
    assert not await second.office.lease.take()
    assert second.office.standing == "standby"
    assert (await town.ask(ask(50, rseq=2))).granted == 50
    await first.supervisor.close()
    await first.office.lease.renew()
    await first.office.lease.release()
    await second.active()
    assert (await town.ask(ask(51, rseq=3))).granted == 51
    assert second.office.state.epoch == 2


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
    grants = [record for data in await town.stored(LEDGER, grant_fence(0)) for record in decode_grants(data).records]
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


async def test_each_signal_is_published_once_whoever_is_in_office(town: Town) -> None:
    await town.decided(org_created(), key_issued(team=None), budget_set(budget(ORG, 100, kind="org", soft=50)))
    first = await (await town.enforcer()).active()
    org = window("a:org_1")
    await town.ask(ask(60, lineage=("a:org_1",)))
    await town.use(used(1, 60, org))
    await eventually(lambda: "soft" in first.office.state.balance(org).told)
    assert (await town.ask(ask(110, rseq=2, least=50, lineage=("a:org_1",)))).verdict == "exceeded"
    await eventually(lambda: first.office.state.balance(org).told == {"soft", "exceeded"})
    await first.kill()
    await (await town.enforcer()).active()
    await town.ask(ask(40, serial=2, lineage=("a:org_1",)))
    signals = [decode_signal(data) for data in await town.stored(SIGNALS, "signal.>")]
    assert [type_of(signal) for signal in signals] == ["budget.threshold_reached.v1", "budget.exceeded.v1"]
    assert {signal.alias for signal in signals} == {"the org"}
    assert [signal.spent_nusd for signal in signals] == [60, 60]


async def test_a_signal_whose_publishing_is_unknown_is_published_by_the_successor(town: Town) -> None:
    await town.decided(key_issued(), budget_set(budget(KEY, 100, soft=50)))
    first = await (await town.enforcer()).active()
    first.office.herald.open = False
    first.office.herald._publish_all = lambda: asyncio.sleep(0, True)  # killed before it could publish
    await town.use(used(1, 60, A, serial=None))
    await eventually(lambda: first.office.state.untold == {("a:key_1", 0, "soft")})
    assert await town.stored(SIGNALS, "signal.>") == []
    await first.kill()
    second = await (await town.enforcer()).active()
    await eventually(lambda: second.office.state.untold == set())
    assert len(await town.stored(SIGNALS, "signal.>")) == 1
    records = [record for data in await town.stored(LEDGER, grant_fence(0)) for record in decode_grants(data).records]
    crossed = [record for record in records if isinstance(record, ThresholdCrossed)]
    assert crossed == [ThresholdCrossed(window=A, threshold="soft", spent_nusd=60), told(A, "soft", 60)]


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
        await asyncio.wait_for(enforcer.office._fatal, WITHIN_S)


async def test_a_log_shorter_than_what_was_folded_stops_the_enforcer(town: Town) -> None:
    """After a crash without fsync new messages would get numbers that count as read."""
    enforcer = await (await town.enforcer()).active()
    enforcer.office.state.ledger_pos += 1_000
    town.server.stop()
    town.server.start()
    with pytest.raises(TundishError, match="has lost what it had acknowledged"):
        await asyncio.wait_for(enforcer.office._fatal, WITHIN_S)
