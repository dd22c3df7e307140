"""`make bench-loop`: the runaway loop of 64 agents against a small key, and what it costs everybody else.

64 agents retry without pause against a key with $0.35. A subscriber in the integrations' account writes down when the
80 % warning came and when the wall. A sibling key of the same team keeps calling. After the wall the loop goes on for
some minutes, while the processor time of the ledger's processes is measured.
"""

import argparse
import asyncio
import sys
from collections import Counter
from pathlib import Path
from time import monotonic, sleep

import msgspec
from nats import connect

from tests.bench.calls import MODEL, Line
from tests.support.stack import Stack, stack_folder

AGENTS = 64
BUDGET_USD = 0.35
PAUSE_S = 0.05
"""Between two refusals of one agent: a loop without any pause measures the load generator, not the ledger."""
CALM_S = 5.0
TICKS = 100
"""Of Linux's processor time, per second."""
TEXT = "[[sim completion=200 prompt=1000 delay_ms=50]] try again " + "x " * 1900
BODY = msgspec.json.encode({"model": MODEL, "messages": [{"role": "user", "content": TEXT}], "max_tokens": 300})


def main() -> None:
    """Run the loop; exit code 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    with stack_folder() as folder:
        stack = Stack(folder / "home", enforcers=2).start()
        try:
            broken = asyncio.run(loop(stack, options.minutes))
        finally:
            stack.stop()
    for what in broken:
        print(f"BROKEN: {what}")
    sys.exit(1 if broken else 0)


async def loop(stack: Stack, minutes: float) -> list[str]:
    """The whole story; what went wrong."""
    team = stack.call("POST", "/team/new", json={"team_alias": "agents", "max_budget": 100})["team_id"]
    agent = stack.mint(key_alias="agent", team_id=team, max_budget=BUDGET_USD)
    sibling = stack.mint(key_alias="sibling", team_id=team, max_budget=10)
    story = Story(stack)
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(story.listen())
        await story.listens.wait()
        for _ in range(AGENTS):
            group.create_task(story.run_agent(agent))
        group.create_task(story.run_sibling(sibling))
        await story.wall.wait()
        await asyncio.sleep(CALM_S)
        came = ", ".join(f"{name} at {at:.2f} s" for name, at in story.heard.items())
        print(f"the wall came after {story.wall_s:.2f} s; signals: {came}")
        await story.watch(minutes)
        story.stop.set()
        listening.cancel()
    return judge(story)


class Story:
    """What happens meanwhile, and what is seen of it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.heard: dict[str, float] = {}
        self.agents: Counter[int] = Counter()
        self.sibling: Counter[int] = Counter()
        self.wall_s = 0.0
        self.wall = asyncio.Event()
        self.listens = asyncio.Event()
        self.stop = asyncio.Event()
        self._started = monotonic()

    async def listen(self) -> None:
        """Write down when which signal of the agents' key came."""
        url = (self.stack.home / "signals.url").read_text().strip()
        client = await connect(url, inbox_prefix=b"_INBOX_subscriber")
        subscription = await client.subscribe("signal.budget.>")
        await client.flush()
        await client.flush()  # the first ping may overtake the subscription
        self._started = monotonic()
        self.listens.set()
        async for message in subscription.messages:
            signal = msgspec.json.decode(message.data)
            if signal.get("alias") == "agent":
                self.heard.setdefault(signal.get("threshold") or signal["type"], monotonic() - self._started)

    async def run_agent(self, key: str) -> None:
        """One agent: the same call again and again, whatever the answer."""
        line = Line(self.stack.url, key)
        while not self.stop.is_set():
            status, _, _ = await line.post(BODY)
            self.agents[status] += 1
            if status == 402 and not self.wall.is_set():
                self.wall_s = monotonic() - self._started
                self.wall.set()
            if status != 200:
                await asyncio.sleep(PAUSE_S)
        line.close()

    async def run_sibling(self, key: str) -> None:
        """Another key of the same team, a call every half second."""
        line = Line(self.stack.url, key)
        while not self.stop.is_set():
            status, _, _ = await line.post(BODY)
            self.sibling[status] += 1
            await asyncio.sleep(0.5)
        line.close()

    async def watch(self, minutes: float) -> None:
        """Print what the processes use of a processor while the loop goes on."""
        before, calls, since = processor_s(self.stack), self.agents.total(), monotonic()
        for minute in range(1, max(1, round(minutes)) + 1):
            await asyncio.sleep(60 * min(1.0, minutes))
            now, lasted = processor_s(self.stack), monotonic() - since
            share = ", ".join(f"{name} {100 * (now[name] - before[name]) / lasted:.2f} %" for name in now)
            rate = (self.agents.total() - calls) / lasted
            print(f"minute {minute}: {rate:,.0f} refused calls/s; of one processor: {share}", flush=True)


def processor_s(stack: Stack) -> dict[str, float]:
    """Processor seconds that the ledger's processes and the proxy have used so far."""
    used: dict[str, float] = {}
    for name, child in stack.run_record()["children"].items():
        if name.startswith(("ledger", "proxy")):
            fields = Path(f"/proc/{child['process']['pid']}/stat").read_text().rsplit(")", 1)[1].split()
            used[name] = (int(fields[11]) + int(fields[12])) / TICKS
    return used


def judge(story: Story) -> list[str]:
    """Print the figures; what is not as promised."""
    sleep(2)
    rows = {row["key_alias"]: row for row in story.stack.call("GET", "/spend/keys")["data"]}
    spent = int(rows["agent"]["spend_nusd"]) / 1e9
    print(f"agents: {dict(story.agents)}; sibling: {dict(story.sibling)}; spent ${spent:.6f} of ${BUDGET_USD}")
    broken: list[str] = []
    if set(story.sibling) != {200}:
        broken.append(f"the sibling key was touched: {story.sibling}")
    if set(story.agents) - {200, 402, 429}:
        broken.append(f"agents saw {story.agents}")
    if "80%" not in story.heard or story.heard["80%"] > story.wall_s:
        broken.append(f"the 80 % signal did not come before the wall: {story.heard}, wall at {story.wall_s:.2f} s")
    if spent > BUDGET_USD:
        broken.append(f"${spent} was spent")
    return broken


if __name__ == "__main__":
    main()
