"""`make bench-budgets`: does a budget hold, and can it be used up, over several proxies and through faults?

A key gets a budget worth a given number of calls of the standard mix. Ten times as many are fired by 256 clients over
all proxies. What was spent is read from the books and, independently, from the log of the Foundry simulator.

    python -m tests.bench.budgets [--proxies 1,2,4] [--modes strict,default] [--faults none,proxy,enforcer,cut]
"""

import argparse
import asyncio
import sys
from contextlib import suppress
from itertools import count

from tests.bench.budgets_run import FAULTS, MODES, Plan, Result, run

HEAD = (
    "mode     fault     proxies admitted  exceeded  reserved   other    spent $    limit $  overshoot $       %  "
    "of limit  1st refusal  asks/call  p99 wait"
)


def main() -> None:
    """Run the matrix, print a line for each run; exit code 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proxies", default="1,2,4")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--worth", type=int, default=2_000, help="calls that the budget pays for")
    parser.add_argument("--factor", type=int, default=10, help="calls fired, as a multiple of that")
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    plans = [
        Plan(
            mode=mode,
            fault=fault,
            proxies=int(proxies),
            worth=options.worth,
            fired=options.worth * options.factor,
            clients=options.clients,
            seed=options.seed,
        )
        for fault in options.faults.split(",")
        for mode in options.modes.split(",")
        for proxies in options.proxies.split(",")
        if not (fault in ("proxy", "cut") and int(proxies) == 1)
    ]
    broken: list[str] = []
    print(HEAD)
    for number, plan in zip(count(1), plans, strict=False):
        result = asyncio.run(run(plan, lambda text, number=number: show(f"run {number} of {len(plans)}: {text}")))
        show("")
        print(line(plan, result), flush=True)
        broken += [f"{plan.mode}, {plan.fault}, {plan.proxies} proxies: {what}" for what in result.broken]
    for what in broken:
        print(f"BROKEN: {what}")
    sys.exit(1 if broken else 0)


def show(text: str) -> None:
    """Progress on one line."""
    with suppress(OSError):
        print(f"\r{text:<110}\r", end="", flush=True)


def line(plan: Plan, result: Result) -> str:
    """One row of the table."""
    known = ("ok", "budget_exceeded", "budget_reserved")
    other = sum(number for name, number in result.outcomes.items() if name not in known)
    over = max(0, result.spent_nusd - result.limit_nusd)
    first = "never" if result.first_refusal_s is None else f"{result.first_refusal_s:.1f} s"
    return (
        f"{plan.mode:<9}{plan.fault:<10}{plan.proxies:>7}{result.outcomes['ok']:>9,}"
        f"{result.outcomes['budget_exceeded']:>10,}{result.outcomes['budget_reserved']:>10,}{other:>8,}"
        f"{result.spent_nusd / 1e9:>11.4f}{result.limit_nusd / 1e9:>11.4f}{over / 1e9:>13.6f}"
        f"{100 * over / result.limit_nusd:>8.3f}{100 * result.spent_nusd / result.limit_nusd:>9.2f}%{first:>13}"
        f"{result.asks / max(1, result.tries):>11.3f}{result.p99_wait_ms:>8.1f} ms"
    )


if __name__ == "__main__":
    main()
