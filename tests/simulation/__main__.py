"""Many seeds on all cores: `python -m tests.simulation --seeds 500`, one alone: `--seed N --profile P --trace`."""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.simulation.profiles import PROFILES
from tests.simulation.report import table, walls
from tests.simulation.run import Result, attempt, simulate
from tests.simulation.wall import CASES, drive

KEPT = Path(__file__).with_name("seeds.txt")
MIX = ("base", "harsh", "sixteen", "default-mode", "mixed", "base", "harsh", "lossy", "calm", "product")
"""Which profile each tenth of the seeds runs, unless one is named."""


def main() -> int:
    """Run what the command line asks for; 1 when a promise was broken."""
    options = _options()
    if options.seed is not None:
        return _alone(options.seed, options.profile or "base", trace=options.trace)
    names = [options.profile] if options.profile else MIX
    numbers = range(options.first, options.first + options.seeds)
    tasks = [(names[number % len(names)], number) for number in numbers]
    results = list(_all(tasks, options.processes, keep=not options.keep_nothing))
    sys.stdout.write("\n" + table(results) + "\n")
    if not options.profile and not options.no_walls:
        with multiprocessing.Pool(options.processes) as pool:
            sys.stdout.write("\n" + walls(pool.map(drive, CASES, chunksize=1)) + "\n")
    return 1 if any(result.broken for result in results) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds (default 100)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--profile", choices=sorted(PROFILES), help="one kind of world only")
    parser.add_argument("--seed", type=int, help="this one alone, in this process")
    parser.add_argument("--trace", action="store_true", help="with --seed: say everything that happens")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--keep-nothing", action="store_true", help="do not write failing seeds to seeds.txt")
    parser.add_argument("--no-walls", action="store_true", help="leave out the runs without faults")
    return parser.parse_args()


def _alone(seed: int, profile: str, *, trace: bool) -> int:
    world = simulate(seed, PROFILES[profile], trace=trace)
    sys.stdout.write(f"{profile} {seed}: every promise held\n")
    for name, count in sorted(world.counts.items()):
        sys.stdout.write(f"  {name}: {count}\n")
    return 0


def _all(tasks: list[tuple[str, int]], processes: int, *, keep: bool) -> Iterator[Result]:
    began = time.monotonic()
    broken = spent = limits = 0
    with multiprocessing.Pool(processes) as pool:
        for done, result in enumerate(pool.imap_unordered(_attempt, tasks), 1):
            spent, limits = spent + result.spent, limits + result.limits
            if result.broken:
                broken += 1
                _tell(result, keep=keep)
            used = f"{spent / limits:.2%}" if limits else "-"
            elapsed = time.monotonic() - began
            line = f"{done}/{len(tasks)} seeds, {broken} broken, {used} of exhausted budgets spent, {elapsed:.0f} s"
            sys.stderr.write(f"\r{line}  ")
            yield result
    sys.stderr.write("\n")


def _attempt(task: tuple[str, int]) -> Result:
    return attempt(*task)


def _tell(result: Result, *, keep: bool) -> None:
    command = f"python -m tests.simulation --seed {result.seed} --profile {result.profile} --trace"
    sys.stderr.write(f"\n{result.profile} {result.seed} BROKEN: {result.broken}\n  again: {command}\n")
    line = f"{result.profile} {result.seed}"
    if keep and line not in KEPT.read_text().splitlines():
        with KEPT.open("a") as kept:
            kept.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
