"""The tables of docs/windows.md say what the code does, and name every duration that people bring along."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.windows import WindowError, WindowSpec, parse_duration, window_at

PAGE = (Path(__file__).parents[2] / "docs" / "windows.md").read_text(encoding="utf-8")
CREATED = datetime(2026, 11, 22, 9, 17, 3, tzinfo=UTC)
BROUGHT_ALONG = (
    *("30d", "1mo", "monthly", "31d", "28d", "14d", "2w", "7d", "1w", "weekly", "1d", "daily", "24h", "5h", "hourly"),
    *("36h", "48h", "72h", "90m", "90s", "2mo", "1y", "30", "P30D", " 30d"),
)


def table(first_columns: str) -> list[list[str]]:
    """The cells of the table whose header begins with these columns."""
    _, _, rest = PAGE.partition(f"| {first_columns} |")
    assert rest, f"no table with the columns {first_columns}"
    lines = rest.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def duration_in(cell: str) -> str:
    found = re.fullmatch(r'`"?([^`"]+)"?`', cell)
    assert found is not None, cell
    return found[1]


def times(cells: list[str]) -> list[datetime]:
    return [datetime.fromisoformat(cell).replace(tzinfo=UTC) for cell in cells]


def next_starts(spec: WindowSpec, count: int = 3) -> list[datetime]:
    found: list[datetime] = []
    end = window_at(spec, spec.anchor).end
    while end is not None and len(found) < count:
        found.append(end)
        end = window_at(spec, end).end
    return found


DURATIONS = {duration_in(row[0]): row[1:4] for row in table("duration | first | second | third")}
ZONED = table("duration | zone | made (UTC)")


def test_every_duration_that_people_bring_along_is_in_the_table() -> None:
    assert set(BROUGHT_ALONG) <= set(DURATIONS)


@pytest.mark.parametrize("duration", DURATIONS)
def test_a_row_of_the_durations_is_what_the_code_does(duration: str) -> None:
    said = DURATIONS[duration]
    if said[0] == "refused":
        with pytest.raises(WindowError):
            parse_duration(duration)
        return
    assert next_starts(WindowSpec(anchor=CREATED, duration=duration)) == times(said)


@pytest.mark.parametrize("row", ZONED, ids=lambda row: f"{row[0]} {row[1]} {row[2]}")
def test_a_row_of_the_zones_is_what_the_code_does(row: list[str]) -> None:
    (made, *starts) = times(row[2:6])
    spec = WindowSpec(anchor=made, duration=duration_in(row[0]), zone=row[1])
    assert next_starts(spec) == starts
