"""Both ledger processes as they are run in production: start, answer, stop in order, be killed and come back."""

import asyncio
import signal
from collections.abc import AsyncGenerator

import pytest

from shared import allotment, pg
from shared.allotment import Answer, NotActive, Reply
from shared.bus import Bus
from shared.bus import Request as Letter
from shared.errors import BusUnavailable
from shared.events import encode, type_of
from shared.topology import allot_subject, auth_subject, inbox_prefix
from tests.support.ledger import KEY, ask, budget, budget_set, key_issued
from tests.support.processes import ENFORCER, WITHIN_S, checks_say, metrics, process, ready
from tests.support.role_keys import PEPPERS
from tests.support.servers import NatsServer, free_port
from tests.support.town import eventually


@pytest.fixture
async def proxy(nats: NatsServer) -> AsyncGenerator[Bus]:
    bus = await Bus.open(nats.url_for("admin"), user="admin", name="test")
    for event in (key_issued(), budget_set(budget(KEY, 100))):
        await bus.publish(auth_subject(type_of(event), "x"), encode(event))
    await bus.close()
    bus = await Bus.open(nats.url_for("proxy"), user="proxy", name="test")
    yield bus
    await bus.close()


async def asked(proxy: Bus, need: int, rseq: int, serial: int = 1) -> Answer:
    """Ask until somebody decides, as a proxy does."""
    data = allotment.encode(ask(need, rseq=rseq, serial=serial))
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                reply = allotment.decode_reply(await proxy.request(allot_subject(0), data, timeout_s=0.5))
                if isinstance(reply, Answer):
                    return reply
            except BusUnavailable:
                pass
            await asyncio.sleep(0.02)


async def test_the_enforcer_is_killed_and_comes_back(nats: NatsServer, proxy: Bus) -> None:
    port = free_port()
    url = nats.url_for("enforcer")
    async with process(ENFORCER, url, port) as first:
        await ready(port)
        assert (await asked(proxy, 40, 1)).granted == 40
        first.kill()
        await first.wait()
    async with process(("services.ledger", "enforcer"), url, port) as second:
        await ready(port)
        answer = await asked(proxy, 50, 2)
        assert (answer.granted, answer.epoch) == (50, 2)
        page = await metrics(port)
        assert "tundish_ledger_escrow_nusd 50" in page
        assert 'tundish_ledger_answers_total{verdict="ok"} 1' in page
        second.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WITHIN_S):
            assert await second.wait() == 0
    async with process(("services.ledger", "enforcer"), url, port):  # the lease was left, nobody is waited for
        await ready(port)
        assert (await asked(proxy, 60, 3)).epoch == 3


async def test_a_standby_is_ready_says_so_and_takes_over_at_once_when_told_to(nats: NatsServer, proxy: Bus) -> None:
    one, two, url = free_port(), free_port(), nats.url_for("enforcer")
    async with process(ENFORCER, url, one) as first:
        assert (await ready(one))["partition 0"] == "ok"
        async with process(ENFORCER, url, two):
            await checks_say(two, "partition 0", "standby")
            assert (await asked(proxy, 40, 1)).epoch == 1
            assert "tundish_ledger_active_partitions 0" in await metrics(two)
            first.send_signal(signal.SIGTERM)
            async with asyncio.timeout(WITHIN_S):
                assert await first.wait() == 0
            await checks_say(two, "partition 0", "ok")
            answer = await asked(proxy, 50, 2)
            assert (answer.granted, answer.epoch) == (50, 2)


async def test_a_killed_enforcer_is_replaced_with_asks_in_flight(nats: NatsServer, proxy: Bus) -> None:
    """Every ask is answered, and what all of them were granted stays below the limit of 100."""
    one, two, url = free_port(), free_port(), nats.url_for("enforcer")
    async with process(ENFORCER, url, one) as first:
        await ready(one)
        async with process(ENFORCER, url, two):
            await checks_say(two, "partition 0", "standby")
            assert (await asked(proxy, 1, 1)).epoch == 1
            answers: list[Answer] = []

            async def caller(serial: int) -> None:
                for rseq in range(1, 11):
                    answer = await asked(proxy, rseq, rseq, serial=serial)
                    answers.append(answer)

            async with asyncio.TaskGroup() as group:
                callers = [group.create_task(caller(serial)) for serial in range(2, 18)]
                await eventually(lambda: len(answers) >= 20)
                first.kill()
            assert all(task.done() for task in callers)
            assert {answer.epoch for answer in answers} == {1, 2}
            granted = {answer.serial: answer.granted for answer in answers if answer.verdict == "ok"}
            last = {answer.serial: max(a.granted for a in answers if a.serial == answer.serial) for answer in answers}
            assert sum(last.values()) + 1 <= 100
            assert granted
            assert {answer.verdict for answer in answers} <= {"ok", "reserved", "exceeded"}


async def test_a_frozen_enforcer_wakes_after_an_election_and_decides_nothing(nats: NatsServer, proxy: Bus) -> None:
    """Its inbox is full of asks by then: none is granted or refused by it, and it stands by from now on."""
    one, two, url = free_port(), free_port(), nats.url_for("enforcer")
    async with process(ENFORCER, url, one) as first:
        await ready(one)
        assert (await asked(proxy, 10, 1)).epoch == 1
        async with process(ENFORCER, url, two):
            await checks_say(two, "partition 0", "standby")
            replies: list[Reply] = []

            async def on_reply(letter: Letter) -> None:
                replies.append(allotment.decode_reply(letter.data))

            inbox = f"{inbox_prefix('proxy')}.late"
            await proxy.serve(f"{inbox}.*", on_reply)
            first.send_signal(signal.SIGSTOP)
            for rseq in range(2, 40):
                late = allotment.encode(ask(rseq, rseq=rseq, serial=2, rev=0))
                await proxy.send(allot_subject(0), late, reply=f"{inbox}.{rseq}")
            await checks_say(two, "partition 0", "ok")
            assert (await asked(proxy, 60, 2)).epoch == 2
            assert replies == []
            for rseq in range(40, 80):
                late = allotment.encode(ask(rseq, rseq=rseq, serial=2, rev=0))
                await proxy.send(allot_subject(0), late, reply=f"{inbox}.{rseq}")
            first.send_signal(signal.SIGCONT)
            await checks_say(one, "partition 0", "standby")
            assert (await asked(proxy, 61, 3)).epoch == 2

            def decided() -> list[Reply]:
                return [reply for reply in replies if not isinstance(reply, NotActive)]

            await eventually(lambda: len(decided()) >= 40)
            assert len(decided()) == 40
            assert {reply.epoch for reply in decided() if not isinstance(reply, NotActive)} == {2}
            assert 'tundish_ledger_answers_total{verdict="ok"} 1\n' in await metrics(one)


async def test_each_partition_has_an_office(nats: NatsServer, proxy: Bus) -> None:
    port = free_port()
    async with process(ENFORCER, nats.url_for("enforcer"), port, TUNDISH_PARTITIONS="3"):
        checks = await ready(port)
        assert checks == {"nats": "ok", "partition 0": "ok", "partition 1": "ok", "partition 2": "ok"}
        data = allotment.encode(ask(100))
        for partition in range(3):
            reply = allotment.decode_reply(await proxy.request(allot_subject(partition), data, timeout_s=5))
            assert isinstance(reply, Answer)
            assert reply.granted == 100
        page = await metrics(port)
        assert "tundish_ledger_active_partitions 3" in page
        assert "tundish_ledger_snapshot_age_seconds" in page


async def test_the_bookkeeper_starts_and_stops(nats: NatsServer, database: str) -> None:
    await pg.migrate(database, schema="ledger", package="services.ledger.bookkeeper", progress=lambda _line: None)
    port = free_port()
    arguments = ("services", "serve", "ledger-bookkeeper")
    values = {"TUNDISH_POSTGRES_URL": database, "TUNDISH_PEPPERS": PEPPERS}
    async with process(arguments, nats.url_for("bookkeeper"), port, **values) as child:
        await ready(port)
        child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WITHIN_S):
            assert await child.wait() == 0


async def test_a_taken_port_ends_the_start_with_a_word(nats: NatsServer) -> None:
    port = free_port()
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", port)
    async with taken, process(("services.ledger", "enforcer"), nats.url_for("enforcer"), port) as child:
        async with asyncio.timeout(WITHIN_S):
            assert await child.wait() == 1


async def test_an_unknown_program_is_refused(nats: NatsServer) -> None:
    async with process(("services.ledger", "treasurer"), nats.url_for("enforcer"), 1) as child:
        async with asyncio.timeout(WITHIN_S):
            assert await child.wait() == 1
