"""One run of the budget benchmark: start everything, fire the mix, break something, count the money."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import urlsplit

import httpx
import msgspec

from tests.bench.calls import MODEL, Call, Tally, fire, mix
from tests.support.audit import price_of, served_calls, served_cost
from tests.support.pipe import Pipe
from tests.support.stack import Stack, free_port, stack_folder, wait_until

MODES = ("strict", "default")
FAULTS = ("none", "proxy", "enforcer", "cut")
FAULT_AT = 0.3
"""The fault comes when this share of the budget's calls has been served."""
SERVE_ALONE_S = 5
"""The lease in runs with a proxy that is cut off, so that it ends within the run."""
DEFAULT_OVERSHOOT_MAX = 0.005
UTILISATION_MIN = 0.99
SETTLED_S = 90.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one run does."""

    mode: str
    fault: str
    proxies: int
    worth: int
    fired: int
    clients: int
    seed: int


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one run has shown. `broken` are promises that were not kept."""

    outcomes: Counter[str]
    tries: int
    spent_nusd: int
    served_nusd: int
    limit_nusd: int
    first_refusal_s: float | None
    asks: int
    p99_wait_ms: float
    broken: list[str]


async def run(plan: Plan, progress: Callable[[str], None]) -> Result:
    """One run on a stack of its own."""
    with stack_folder() as folder, contextlib.ExitStack() as cleaning:
        progress("starting")
        apart = plan.fault == "cut"
        env = {"TUNDISH_SERVE_ALONE_S": str(SERVE_ALONE_S)} if apart else {}
        stack = Stack(folder / "home", proxies=plan.proxies - apart, enforcers=2, env=env).start()
        cleaning.callback(stack.stop)
        urls = stack.urls
        pipe: Pipe | None = None
        if apart:
            pipe, url = cleaning.enter_context(cut_off_proxy(stack))
            urls = [*urls, url]
        calls = mix(plan.seed, plan.fired)
        limit = worth_of(calls, plan.worth)
        key = stack.mint(
            key_alias="bench", max_budget=limit / 1e9, budget_mode=plan.mode, models=[MODEL], budget_thresholds=[80]
        )
        tally = Tally(int(FAULT_AT * plan.worth))

        def step() -> None:
            if tally.done % 50 == 0:
                progress(f"{plan.mode}, {plan.fault}: {tally.done:,} of {plan.fired:,} calls, {tally.good:,} served")

        async with asyncio.TaskGroup() as group:
            load = group.create_task(fire(urls, key, iter(calls), tally, clients=plan.clients, progress=step))
            fault = group.create_task(break_something(plan, stack, tally, pipe))
            await load
            fault.cancel()
        if pipe is not None:
            pipe.thaw()
        asks, p99 = talk_of(stack)
        spent = await asyncio.to_thread(settled_spend, stack, progress)
        served = sum(served_cost(call) for call in served_calls(stack))
        return judge(plan, tally, limit, spent, served, asks, p99)


def worth_of(calls: list[Call], worth: int) -> int:
    """What `worth` calls of the mix cost, in nano-dollars (whole micro-dollars, as people write budgets)."""
    total = sum(price_of(MODEL, call.prompt, call.completion) for call in calls)
    return total * worth // len(calls) // 1_000 * 1_000


async def break_something(plan: Plan, stack: Stack, tally: Tally, pipe: Pipe | None) -> None:
    """The fault of the plan, when its time has come."""
    await tally.served.wait()
    match plan.fault:
        case "proxy":
            os.kill(stack.pid("proxy"), signal.SIGKILL)
        case "enforcer":
            os.kill(active_enforcer(stack), signal.SIGKILL)
        case "cut":
            assert pipe is not None
            pipe.freeze()
            await asyncio.sleep(SERVE_ALONE_S + 3)
            pipe.thaw()
        case _:
            pass


def active_enforcer(stack: Stack) -> int:
    """The process id of the enforcer in office."""
    for name in stack.run_record()["children"]:
        if name.startswith("ledger-enforcer") and metric(stack, name, "tundish_ledger_active_partitions"):
            return stack.pid(name)
    raise AssertionError("no enforcer is in office")


@contextlib.contextmanager
def cut_off_proxy(stack: Stack) -> Generator[tuple[Pipe, str]]:
    """One more proxy, like the stack's own, whose connection to NATS runs through a pipe."""
    given = Path(f"/proc/{stack.pid('proxy')}/environ").read_bytes().decode().split("\0")
    env = dict(entry.split("=", 1) for entry in given if "=" in entry)
    nats = urlsplit(env["TUNDISH_NATS_URL"])
    pipe = Pipe(free_port(), nats.port or 4222)
    port = free_port()
    env |= {
        "TUNDISH_NATS_URL": env["TUNDISH_NATS_URL"].replace(f":{nats.port}", f":{pipe.port}"),
        "TUNDISH_PORT": str(port),
        "TUNDISH_INTERNAL_PORT": str(free_port()),
    }
    process = subprocess.Popen([sys.executable, "-m", "services", "serve", "proxy"], env=env, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until("the proxy apart", lambda: ready(url))
        yield pipe, url
    finally:
        pipe.thaw()
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        pipe.stop()


def ready(url: str) -> bool:
    """Whether a proxy serves."""
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/health/readiness", trust_env=False, timeout=2).status_code == 200
    return False


def metric(stack: Stack, process: str, name: str) -> float:
    """One figure of a process's metrics page, summed over its labels; 0 when nobody answers."""
    headers = {"authorization": f"Bearer {stack.master_key}"}
    with contextlib.suppress(httpx.HTTPError):
        page = httpx.get(f"{stack.internal_url(process)}/metrics", headers=headers, trust_env=False, timeout=5).text
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith((f"{name} ", f"{name}{{"))
        )
    return 0.0


def talk_of(stack: Stack) -> tuple[int, float]:
    """Asks of all proxies together, and the longest of their p99 waits for a grant in milliseconds."""
    names = [name for name in stack.run_record()["children"] if name.startswith("proxy")]
    asks = sum(metric(stack, name, "tundish_asks") for name in names)
    return int(asks), max(metric(stack, name, "tundish_grant_wait_p99_ms") for name in names)


def settled_spend(stack: Stack, progress: Callable[[str], None]) -> int:
    """What the books say once nothing is on its way any more, in nano-dollars."""
    last, since = -1, monotonic()
    deadline = monotonic() + SETTLED_S
    while monotonic() < deadline:
        rows = stack.call("GET", "/spend/keys")["data"]
        spent = sum(int(row["spend_nusd"]) for row in rows)
        if spent != last:
            last, since = spent, monotonic()
        elif monotonic() - since > 12:
            return spent
        progress(f"waiting for the books: ${spent / 1e9:.4f}")
        sleep(0.5)
    return last


def judge(plan: Plan, tally: Tally, limit: int, spent: int, served: int, asks: int, p99: float) -> Result:
    """The figures, and which promises they break."""
    broken: list[str] = []
    most = max(spent, served)
    allowed = limit if plan.mode == "strict" else int(limit * (1 + DEFAULT_OVERSHOOT_MAX))
    if most > allowed:
        broken.append(f"${most / 1e9:.6f} was spent of ${limit / 1e9:.6f}")
    if served > spent:
        broken.append(f"Foundry served ${served / 1e9:.6f}, the books have ${spent / 1e9:.6f}")
    if spent < UTILISATION_MIN * limit:
        broken.append(f"only {100 * spent / limit:.2f} % of the budget could be used")
    return Result(
        outcomes=tally.outcomes,
        tries=tally.tries,
        spent_nusd=most,
        served_nusd=served,
        limit_nusd=limit,
        first_refusal_s=tally.first_refusal_s,
        asks=asks,
        p99_wait_ms=p99,
        broken=broken,
    )
