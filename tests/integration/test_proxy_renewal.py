"""The ledger closes the instance of a proxy that runs: it goes on under a new name, and nobody who calls sees it."""

import asyncio
from pathlib import Path

import httpx
import pytest

from services.proxy.closing import close_instance
from shared.bus import Bus
from shared.clock import SystemClock
from shared.ids import InstanceId
from tests.support.audit import served_cost
from tests.support.stack import Stack, wait_until

pytestmark = pytest.mark.stack

PATH = "/v1/chat/completions"
SLOW = "Take your time. [[sim completion=40 chunk_delay_ms=50]]"


def body(content: str, *, stream: bool = False) -> dict[str, object]:
    messages = [{"role": "user", "content": content}]
    return {"model": "gpt-4o", "messages": messages, "max_tokens": 200, "stream": stream}


def names(home: Path) -> set[str]:
    """The instances that have a journal."""
    return {folder.name for folder in (home / "journal").iterdir()}


async def close_by_hand(stack: Stack, instance: str) -> bool:
    """What the ledger does to an instance that it has not heard of for too long."""
    port = stack.run_record()["ports"]["nats"]
    password = (stack.home / "nats" / "proxy.pw").read_text().strip()
    bus = await Bus.open(f"nats://proxy:{password}@127.0.0.1:{port}", user="proxy", name="test")
    try:
        return await close_instance(bus, SystemClock(), InstanceId(instance), 0, 0, 5)
    finally:
        await bus.close()


def test_a_closed_instance_goes_on_under_a_new_name(stack: Stack) -> None:
    key = stack.mint(key_alias="renewed", max_budget=5, budget_duration="30d")
    with httpx.Client(base_url=stack.url, trust_env=False, headers={"authorization": f"Bearer {key}"}) as client:

        def call() -> None:
            answer = client.post(PATH, json=body("Hello. [[sim completion=40]]"))
            assert answer.status_code == 200, answer.text

        call()
        before = names(stack.home)
        assert len(before) == 1
        with client.stream("POST", PATH, json=body(SLOW, stream=True)) as reply:
            lines = reply.iter_lines()
            next(lines)
            assert asyncio.run(close_by_hand(stack, *before))
            wait_until("a new name", lambda: (names(stack.home) - before) or (call() and None), timeout_s=30)
            assert before < names(stack.home), "its call still runs"
            call()
            assert any(line == "data: [DONE]" for line in lines)
        wait_until("the old name has ended", lambda: not before & names(stack.home))
        call()
    with stack.simulator() as simulator:
        served = simulator.get("/_sim/served").json()["calls"]
    mine = [item for item in served if item["usage"].get("completion") == 40]
    cost = sum(served_cost(item) for item in mine)
    assert len(mine) >= 4

    def spent() -> int:
        info = stack.call("GET", "/key/info", params={"key": key})["info"]
        return round(float(info["spend"] or 0) * 1e9)

    wait_until("the books have every call, those of both names", lambda: spent() == cost)
