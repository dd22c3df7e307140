"""`make bench`: calls per second and added latency of the gateway on one core, everything switched on.

One run, interleaved rounds, so that the machine's moods hit all alike: the constant upstream alone (direct), a
plain nginx proxy before it, and the gateway with key check, budgets on key and team, journal and usage events.
The gateway's process and the nginx proxy are pinned to one core, load and upstream (and all other processes) to
the other; what no call waits for (books, database) runs there at the lowest priority and catches up afterwards.
Ratios of one run mean something; absolute numbers are this machine's.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from tests.bench.servers import Load, need_tools, run_wrk, start_nginx
from tests.support.stack import Stack, free_port, stack_folder, wait_until

GATEWAY_CORE, LOAD_CORE = 0, 1
CONFIG = """
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o
      api_base: http://127.0.0.1:{port}
      api_key: bench
      api_version: "2024-10-21"
"""
BUDGET_USD = 1_000_000
BEHIND = ("ledger-bookkeeper", "postgres", "auth", "scheduler", "simulator")
"""Processes that no call waits for: on this two-core machine they yield to the load and catch up after it."""


def main() -> None:
    """Measure and print; exit code 1 when answers were bad or what was spent does not add up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    need_tools()
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("make bench needs two cores: one for the gateway, one for the load")
    with stack_folder() as folder:
        sys.exit(bench(folder, options))


def bench(folder: Path, options: argparse.Namespace) -> int:
    """Start everything, run the rounds, print, stop everything."""
    upstream, plain = free_port(), free_port()
    started: list[subprocess.Popen[bytes]] = []
    stack: Stack | None = None
    try:
        started.append(start_nginx(folder, "upstream", LOAD_CORE, port=upstream, upstream=None))
        started.append(start_nginx(folder, "plain", GATEWAY_CORE, port=plain, upstream=upstream))
        config = folder / "config.yaml"
        config.write_text(CONFIG.format(port=upstream))
        stack = Stack(folder / "home", config=config).start()
        pin(stack)
        team = stack.call("POST", "/team/new", json={"team_alias": "bench", "max_budget": BUDGET_USD})["team_id"]
        key = stack.mint(key_alias="bench", team_id=team, max_budget=BUDGET_USD, models=["gpt-4o"])
        path = "/v1/chat/completions"
        targets = {
            "direct": f"http://127.0.0.1:{upstream}{path}",
            "nginx proxy": f"http://127.0.0.1:{plain}{path}",
            "gateway": f"{stack.url}{path}",
        }
        rounds: dict[str, list[Load]] = {name: [] for name in targets}
        run_wrk(folder, LOAD_CORE, targets["gateway"], key, connections=options.connections, seconds=2)
        for number in range(options.rounds):
            for name, url in targets.items():
                print(f"round {number + 1} of {options.rounds}: {name:12}", end="\r", flush=True)
                load = run_wrk(folder, LOAD_CORE, url, key, connections=options.connections, seconds=options.seconds)
                rounds[name].append(load)
        report(rounds)
        return check(rounds, stack)
    finally:
        if stack is not None:
            stack.stop()
        for process in started:
            process.terminate()
            process.wait(10)


def pin(stack: Stack) -> None:
    """The gateway's process on its core, everything else on the other."""
    for name, child in stack.run_record()["children"].items():
        core = GATEWAY_CORE if name.startswith("proxy") else LOAD_CORE
        pid = str(child["process"]["pid"])
        subprocess.run(["taskset", "-a", "-c", "-p", str(core), pid], check=True, capture_output=True)
        if name in BEHIND:
            subprocess.run(["renice", "-n", "19", "-p", pid], check=True, capture_output=True)


def report(rounds: dict[str, list[Load]]) -> None:
    """The table: medians over the rounds."""
    rate = {name: statistics.median(load.per_second for load in loads) for name, loads in rounds.items()}
    print(f"{'':14}{'calls/s':>10}{'min':>10}{'max':>10}{'p50 ms':>10}{'p99 ms':>10}{'of nginx':>10}")
    for name, loads in rounds.items():
        p50 = statistics.median(load.p50_us for load in loads) / 1000
        p99 = statistics.median(load.p99_us for load in loads) / 1000
        low, high = min(load.per_second for load in loads), max(load.per_second for load in loads)
        share = rate[name] / rate["nginx proxy"]
        print(f"{name:14}{rate[name]:>10,.0f}{low:>10,.0f}{high:>10,.0f}{p50:>10.2f}{p99:>10.2f}{share:>10.3f}")
    added50 = _median(rounds["gateway"], "p50_us") - _median(rounds["direct"], "p50_us")
    added99 = _median(rounds["gateway"], "p99_us") - _median(rounds["direct"], "p99_us")
    print(f"added to direct at this load: p50 {added50 / 1000:.2f} ms, p99 {added99 / 1000:.2f} ms")


def _median(loads: list[Load], field: str) -> float:
    return statistics.median(getattr(load, field) for load in loads)


def check(rounds: dict[str, list[Load]], stack: Stack) -> int:
    """Whether all answers were good and the books have counted every one of them."""
    bad = sum(load.bad + load.broken for loads in rounds.values() for load in loads)
    answered = sum(load.requests for load in rounds["gateway"])

    def counted() -> int:
        rows = stack.call("GET", "/spend/keys")["data"]
        calls = sum(row["calls"] for row in rows)
        return calls if calls >= answered else 0

    calls = wait_until("all usage in the books", counted, timeout_s=120)
    print(f"bad answers: {bad}; calls in the books: {calls:,} for {answered:,} measured answers plus the warm-up")
    return 0 if bad == 0 else 1


if __name__ == "__main__":
    main()
