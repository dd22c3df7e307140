"""Dollars at the edges, integers inside."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.money import NUSD_MAX, NUSD_PER_USD, MoneyError, nusd_from_usd, usd_from_nusd, usd_text


@pytest.mark.parametrize(
    ("written", "nusd"),
    [
        (0.05, 50_000_000),
        ("0.05", 50_000_000),
        (Decimal("0.05"), 50_000_000),
        (200, 200 * NUSD_PER_USD),
        (0, 0),
        (-0.0, 0),
        (1e-9, 1),
        (5e-10, 1),
        (4e-10, 0),
        (Decimal("1.0000000005"), 1_000_000_001),
        (0.1 + 0.2, 300_000_000),
        (1e15, NUSD_MAX),
    ],
)
def test_dollars_to_nano_dollars(written: float | str | Decimal, nusd: int) -> None:
    assert nusd_from_usd(written) == nusd


@pytest.mark.parametrize(
    "written",
    [float("nan"), float("inf"), float("-inf"), -1, -0.000001, "ten", "", "NaN", "Infinity", "sNaN", 1e16,
     "1e999999999", "1e-99999999999999999999", Decimal("sNaN")],
)  # fmt: skip
def test_what_is_no_amount_is_refused(written: float | str | Decimal) -> None:
    with pytest.raises(MoneyError):
        nusd_from_usd(written)


@given(st.integers(0, 4 * 10**15))
def test_an_amount_survives_its_way_through_json(nusd: int) -> None:
    assert nusd_from_usd(usd_from_nusd(nusd)) == nusd


@given(st.integers(-NUSD_MAX, NUSD_MAX))
def test_the_text_is_exact(nusd: int) -> None:
    text = usd_text(nusd)
    assert Decimal(text.replace("$", "")) * NUSD_PER_USD == nusd
    assert "e" not in text.lower()


def test_the_text_for_people() -> None:
    assert usd_text(50_000_000) == "$0.05"
    assert usd_text(123_000) == "$0.000123"
    assert usd_text(2_000 * NUSD_PER_USD) == "$2000.00"
    assert usd_text(-1) == "-$0.000000001"
