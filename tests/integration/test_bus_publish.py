"""Publishing and fenced appends against a real server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.bus import Bus, Request
from shared.errors import BusUnavailable, Conflict, Rejected, StreamChanged
from shared.topology import LEDGER, allot_subject, grant_fence, grant_subject, usage_subject
from tests.support.eventually import eventually
from tests.support.servers import NatsServer

GRANTS, OTHER, FENCE = grant_subject(0, "one"), grant_subject(0, "two"), grant_fence(0)


@pytest.fixture
async def bus(nats: NatsServer) -> AsyncIterator[Bus]:
    bus = await Bus.open(nats.url_for("admin"), user="admin", name="test")
    yield bus
    await bus.close()


async def test_an_acknowledged_message_has_a_place_and_a_repeated_one_has_the_same(bus: Bus) -> None:
    first = await bus.publish("auth.test.v1.a", b"1", msg_id="m1")
    second = await bus.publish("auth.test.v1.a", b"2", msg_id="m2")
    again = await bus.publish("auth.test.v1.a", b"1", msg_id="m1")
    assert (first.stream, first.seq, first.duplicate) == ("AUTH", 1, False)
    assert (second.seq, second.duplicate) == (2, False)
    assert (again.seq, again.duplicate) == (1, True)
    assert (await bus.stream_info("AUTH")).state.messages == 2


async def test_two_writers_with_subjects_of_their_own_are_fenced_off(bus: Bus) -> None:
    first = await bus.append(GRANTS, b"a", fence=FENCE, expected=0, msg_id="a")
    with pytest.raises(Conflict):
        await bus.append(OTHER, b"b", fence=FENCE, expected=0, msg_id="b")
    second = await bus.append(OTHER, b"b", fence=FENCE, expected=first, msg_id="b2")
    with pytest.raises(Conflict):
        await bus.append(GRANTS, b"c", fence=FENCE, expected=first, msg_id="c")
    assert second == first + 1


async def test_without_the_second_header_there_is_no_fence(bus: Bus) -> None:
    """Why `append` sends both: with the first alone the server looks at the exact subject only."""
    await bus.append(GRANTS, b"a", fence=FENCE, expected=0, msg_id="a")
    ack = await bus.publish(OTHER, b"b", msg_id="b", headers={"Nats-Expected-Last-Subject-Sequence": "0"})
    assert ack.seq == 2, "the second writer was not stopped"


async def test_usage_between_two_appends_does_not_disturb_them(bus: Bus) -> None:
    first = await bus.append(GRANTS, b"a", fence=FENCE, expected=0, msg_id="a")
    for number in range(3):
        await bus.publish(usage_subject(0, "proxy"), b"[]", msg_id=f"u{number}")
    assert await bus.append(GRANTS, b"b", fence=FENCE, expected=first, msg_id="b") == first + 4


async def test_partitions_do_not_fence_each_other(bus: Bus) -> None:
    await bus.append(GRANTS, b"a", fence=FENCE, expected=0, msg_id="a")
    await bus.append(grant_subject(1, "one"), b"a", fence=grant_fence(1), expected=0, msg_id="p1")


async def test_an_append_that_was_made_before_is_a_conflict(bus: Bus) -> None:
    await bus.append(GRANTS, b"a", fence=FENCE, expected=0, msg_id="a")
    with pytest.raises(Conflict):
        await bus.append(GRANTS, b"a", fence=FENCE, expected=0, msg_id="a")
    assert (await bus.stream_info(LEDGER)).state.messages == 1


async def test_two_racing_writers_make_one_line(bus: Bus) -> None:
    won = 0

    async def writer(name: str) -> None:
        nonlocal won
        for expected in range(20):
            try:
                await bus.append(
                    grant_subject(0, name), b"x", fence=FENCE, expected=expected, msg_id=f"{name}{expected}"
                )
                won += 1
            except Conflict:
                pass

    await asyncio.gather(writer("left"), writer("right"))
    assert won == (await bus.stream_info(LEDGER)).state.messages


async def test_a_message_that_is_too_large_is_rejected_for_good(bus: Bus) -> None:
    with pytest.raises(Rejected):
        await bus.publish("$KV.leases.ledger.0", b"x" * 5_000)


async def test_a_subject_without_a_stream_is_unavailable(bus: Bus) -> None:
    with pytest.raises(BusUnavailable):
        await bus.publish("nobody.listens", b"x")
    with pytest.raises(StreamChanged):
        await bus.stream_info("NO_SUCH_STREAM")


async def test_a_service_cannot_publish_what_is_not_its_own(nats: NatsServer) -> None:
    proxy = await Bus.open(nats.url_for("proxy"), user="proxy", name="test")
    try:
        with pytest.raises(BusUnavailable):
            await proxy.publish("auth.key.issued.v1.k", b"forged", timeout_s=0.3)
        with pytest.raises(BusUnavailable):
            await proxy.publish(GRANTS, b"forged", timeout_s=0.3)
        assert (await proxy.publish(usage_subject(0, "p"), b"[]")).seq == 1
    finally:
        await proxy.close()


async def test_requests_are_answered_across_users(nats: NatsServer) -> None:
    enforcer = await Bus.open(nats.url_for("enforcer"), user="enforcer", name="test")
    proxy = await Bus.open(nats.url_for("proxy"), user="proxy", name="test")

    async def answer(request: Request) -> None:
        if request.data == b"fail":
            raise ValueError("a handler's failure is logged and harms nothing")
        await request.respond(b"answer to " + request.data)

    try:
        with pytest.raises(BusUnavailable):
            await proxy.request(allot_subject(0), b"nobody there", timeout_s=1)
        await enforcer.serve("allot.v1.*", answer)
        assert await proxy.request(allot_subject(0), b"ask", timeout_s=5) == b"answer to ask"
        with pytest.raises(BusUnavailable):
            await proxy.request(allot_subject(0), b"fail", timeout_s=0.2)
        assert await proxy.request(allot_subject(0), b"again", timeout_s=5) == b"answer to again"
    finally:
        await proxy.close()
        await enforcer.close()


async def test_a_restart_is_survived_and_counted(nats: NatsServer, bus: Bus) -> None:
    before = bus.incarnation
    changes: list[int] = []
    back = asyncio.Event()

    def changed() -> None:
        changes.append(bus.incarnation)
        if bus.connected:
            back.set()

    bus.on_change(changed)
    await bus.publish("auth.test.v1.a", b"1", msg_id="m1")
    await asyncio.to_thread(nats.stop)
    with pytest.raises(BusUnavailable):
        await bus.publish("auth.test.v1.a", b"2", msg_id="m2", timeout_s=0.3)
    await asyncio.to_thread(nats.start)
    async with asyncio.timeout(10):
        await back.wait()
    ack = await eventually(
        lambda: bus.publish("auth.test.v1.a", b"1", msg_id="m1", timeout_s=1), unless=(BusUnavailable,)
    )
    assert bus.incarnation > before
    assert changes
    assert ack.duplicate, "what was acknowledged before the restart is still known"


@pytest.mark.parametrize("user", ["nobody", "auth"])
async def test_wrong_credentials_are_an_error_within_a_bound(
    nats: NatsServer, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.bus.connection.OPEN_TIMEOUT_S", 0.5)
    with pytest.raises(BusUnavailable, match=r"(?i)authorization"):
        await Bus.open(f"nats://{user}:wrong@127.0.0.1:{nats.port}", user=user, name="test")


async def test_a_server_that_is_not_there_is_an_error_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.bus.connection.OPEN_TIMEOUT_S", 0.5)
    with pytest.raises(BusUnavailable, match=r"127\.0\.0\.1:1"):
        await Bus.open("nats://auth:pw@127.0.0.1:1", user="auth", name="test")


async def test_a_cancellation_that_meets_the_answer_is_not_lost(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await Bus.open(nats.url_for("proxy"), user="proxy", name="test")
    ended = asyncio.Event()

    async def answered(_subject: str, _data: bytes, **_: object) -> object:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            ended.set()  # swallowed, as wait_for of Python 3.11 does when its future is done
        return type("Answer", (), {"data": b"late"})()

    try:
        monkeypatch.setattr(proxy._client, "request", answered)
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(proxy.request(allot_subject(0), b"ask", timeout_s=5))
        assert ended.is_set()
        assert asking.cancelled()
    finally:
        await proxy.close()
