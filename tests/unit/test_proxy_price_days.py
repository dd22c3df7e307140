"""A running proxy goes over to new prices at midnight UTC."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from services.proxy.domain.prices import PriceBook
from services.proxy.price_days import PriceDays
from shared.catalogue import CatalogueRow, parse, price_rows
from shared.catalogue.loader import COLUMNS
from shared.pricing import PriceRow
from tests.support.clock import FakeClock

LINE = "azure,m,chat,{},,,,10,,,,,,,,,,R,{}"
USD = 10**9


def catalogue(*prices: tuple[str, str]) -> tuple[CatalogueRow, ...]:
    return parse([",".join(COLUMNS), *(LINE.format(price, day) for price, day in prices)])


class Priced:
    def __init__(self, row: PriceRow) -> None:
        self.row: PriceRow | None = row
        self.hold_row: PriceRow | None = row
        self.versions_row: PriceRow | None = row
        self.served: dict[str, PriceRow] = {"m-2026-01-01": row}
        self.fixed_price = False

    @property
    def input(self) -> int | None:
        assert self.row is not None
        return self.row.rates.input


def running(now: datetime) -> tuple[PriceDays, Priced, FakeClock]:
    rows = catalogue(("1", "2026-01-01"), ("3", "2026-03-01"), ("4", "2026-03-03"))
    clock = FakeClock(now)
    book = PriceBook(price_rows(rows, now.date()))
    row = book.exact("m")
    assert row is not None
    deployment = Priced(row)
    return PriceDays(book, rows, lambda: [deployment], clock), deployment, clock


def test_the_price_changes_on_its_day_and_on_no_other() -> None:
    days, deployment, clock = running(datetime(2026, 2, 27, 23, 59, tzinfo=UTC))
    said: list[tuple[int, int | None]] = []
    for _ in range(5):
        clock.at += timedelta(days=1)
        said.append((days.turn(), deployment.input))
        assert days.turn() == 0
    assert said == [(0, USD), (1, 3 * USD), (0, 3 * USD), (1, 4 * USD), (0, 4 * USD)]
    assert deployment.row == deployment.served["m-2026-01-01"] == deployment.versions_row


def test_a_clock_that_is_set_back_sets_prices_back() -> None:
    days, deployment, clock = running(datetime(2026, 3, 5, tzinfo=UTC))
    assert deployment.input == 4 * USD
    clock.at = datetime(2026, 1, 5, tzinfo=UTC)
    assert (days.turn(), deployment.input) == (1, USD)


async def test_it_turns_by_itself_after_midnight(monkeypatch: pytest.MonkeyPatch) -> None:
    days, deployment, clock = running(datetime(2026, 2, 28, 23, 59, 59, 999_000, tzinfo=UTC))
    turned = asyncio.Event()
    turn = days.turn

    def noticed() -> int:
        clock.at = datetime(2026, 3, 1, tzinfo=UTC)
        changed = turn()
        turned.set()
        return changed

    monkeypatch.setattr(days, "turn", noticed)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(days.run())
        await turned.wait()
        task.cancel()
    assert deployment.input == 3 * USD
