"""The table at the end of a run of seeds."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from tests.simulation.run import Result
from tests.simulation.wall import Walled

COLUMNS = (
    "profile",
    "seeds",
    "broken",
    "steps",
    "calls",
    "grants",
    "elections",
    "crashes",
    "spent",
    "asks/call",
    "p99 wait",
)


def table(results: Iterable[Result]) -> str:
    """One line per profile: what happened, and how much of the exhausted budgets was spent."""
    by_profile: defaultdict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_profile[result.profile].append(result)
    rows = [COLUMNS, *(_row(name, found) for name, found in by_profile.items())]
    return _lay_out(rows)


def walls(found: list[Walled]) -> str:
    """One line per case without faults, beside the figures of the model that the rules were found with."""
    rows = [("case", "spent", "asks/call to 90 %", "90 to 99 %", "at once", "p99 wait", "model: spent, asks, asks")]
    rows += [
        (
            case.name,
            f"{case.spent:.2%}",
            f"{case.asks_to_90:.3f}",
            f"{case.asks_to_99:.2f}",
            f"{case.at_once:.1%}",
            f"{case.wait_p99_ms:.0f} ms",
            case.reference,
        )
        for case in found
    ]
    return _lay_out(rows)


def _row(name: str, results: list[Result]) -> tuple[str, ...]:
    total: Counter[str] = Counter()
    for result in results:
        total.update(result.counts)
    limits = sum(result.limits for result in results)
    waits = sorted(wait for result in results for wait in result.waits)
    return (
        name,
        str(len(results)),
        str(sum(bool(result.broken) for result in results)),
        f"{sum(result.steps for result in results):,}",
        f"{total['calls']:,}",
        f"{total['grants']:,}",
        f"{total['elections']:,}",
        f"{total['crashes']:,}",
        f"{sum(result.spent for result in results) / limits:.2%}" if limits else "-",
        f"{total['asks'] / max(1, total['calls']):.3f}",
        f"{waits[int(len(waits) * 0.99)]:.0f} ms" if waits else "-",
    )


def _lay_out(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
