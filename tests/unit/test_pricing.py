"""Costs: exact integers, rounded once, never above the estimate."""

from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pricing import TOKENS_PER_PRICE, PriceRow, Rates, Usage, dearest, estimate, price, price_id

tokens = st.integers(0, 5_000_000)
amounts = st.integers(0, 200 * 10**9)
rates = st.builds(Rates, input=amounts, output=amounts, cached=st.none() | amounts, cache_write=st.none() | amounts)
usages = st.builds(Usage, input=tokens, cached=tokens, cache_write=tokens, output=tokens, reasoning=tokens)
flat_rows = st.builds(PriceRow, model=st.just("m"), rates=rates)


def tiered(base: Rates, above: int, steps: tuple[int, int, int]) -> PriceRow:
    """A row whose upper tier is nowhere cheaper, as every list price is."""
    input_step, output_step, cache_step = steps
    tier = Rates(
        input=base.input + input_step,
        output=base.output + output_step,
        cached=None if base.cached is None else base.cached + cache_step,
        cache_write=None if base.cache_write is None else base.cache_write + cache_step,
    )
    return PriceRow(model="m", rates=base, tier_above=above, tier=tier)


rows = flat_rows | st.builds(tiered, rates, tokens, st.tuples(amounts, amounts, amounts))


def exact(usage: Usage, row: PriceRow) -> Fraction:
    """The cost without rounding, by the book."""
    used = row.rates
    if row.tier is not None and row.tier_above is not None:
        used = row.tier if usage.input + usage.cached + usage.cache_write > row.tier_above else used
    cached = used.input if used.cached is None else used.cached
    write = used.input if used.cache_write is None else used.cache_write
    millionths = (
        usage.input * used.input + usage.cached * cached + usage.cache_write * write + usage.output * used.output
    )
    return Fraction(millionths, TOKENS_PER_PRICE)


@given(usages, rows)
def test_one_rounding_half_up(usage: Usage, row: PriceRow) -> None:
    cost, truth = price(usage, row), exact(usage, row)
    assert -Fraction(1, 2) < cost - truth <= Fraction(1, 2)
    assert isinstance(cost, int)


def test_half_a_nano_dollar_rounds_up_and_less_does_not() -> None:
    row = PriceRow(model="m", rates=Rates(input=500_000, output=499_999))
    assert price(Usage(input=1), row) == 1
    assert price(Usage(output=1), row) == 0
    assert price(Usage(input=1, output=1), row) == 1
    assert price(Usage(), row) == 0


@given(usages, rows)
def test_an_estimate_with_the_true_tokens_is_never_below_the_price(usage: Usage, row: PriceRow) -> None:
    assert estimate(usage.prompt, usage.output, row) >= price(usage, row)


@given(usages, tokens, tokens, rows)
def test_an_estimate_of_more_tokens_is_never_below_the_price(
    usage: Usage, more_input: int, more_output: int, row: PriceRow
) -> None:
    assert estimate(usage.prompt + more_input, usage.output + more_output, row) >= price(usage, row)


@given(usages, tokens, tokens, flat_rows)
def test_more_tokens_never_cost_less(usage: Usage, more_input: int, more_output: int, row: PriceRow) -> None:
    more = msgspec.structs.replace(usage, input=usage.input + more_input, output=usage.output + more_output)
    assert price(more, row) >= price(usage, row)


@given(usages, rows)
def test_reasoning_tokens_are_part_of_the_output_and_cost_nothing_more(usage: Usage, row: PriceRow) -> None:
    assert price(usage, row) == price(msgspec.structs.replace(usage, reasoning=0), row)


def test_a_long_prompt_is_billed_whole_by_its_tier() -> None:
    row = PriceRow(
        model="m",
        rates=Rates(input=1_000_000_000, output=2_000_000_000),
        tier_above=200,
        tier=Rates(input=3_000_000_000, output=4_000_000_000),
    )
    assert price(Usage(input=150, cached=50, output=1), row) == 200 * 1_000 + 2_000
    assert price(Usage(input=150, cached=51, output=1), row) == 201 * 3_000 + 4_000


def test_a_known_price() -> None:
    """gpt-4o at list price: $2.50, $1.25 cached and $10 per million tokens."""
    row = PriceRow(model="gpt-4o", rates=Rates(input=2_500_000_000, cached=1_250_000_000, output=10_000_000_000))
    assert price(Usage(input=1_000, cached=200, output=500), row) == 2_500_000 + 250_000 + 5_000_000


@given(rows, rows)
def test_an_id_names_one_content(first: PriceRow, second: PriceRow) -> None:
    assert (price_id(first) == price_id(second)) == (first == second)


def test_ids_do_not_change_between_versions() -> None:
    row = PriceRow(model="gpt-4o", rates=Rates(input=2_500_000_000, output=10_000_000_000))
    assert price_id(row) == price_id(msgspec.json.decode(msgspec.json.encode(row), type=PriceRow))
    assert len(price_id(row)) == 32


@pytest.mark.parametrize(("cached", "write", "highest"), [(None, None, 10), (5, None, 10), (5, 12, 12), (11, 0, 11)])
def test_the_dearest_prompt_token(cached: int | None, write: int | None, highest: int) -> None:
    assert Rates(input=10, output=1, cached=cached, cache_write=write).highest_input() == highest


@given(rows, rows, usages)
def test_the_dearest_of_two_rows_is_never_below_either(one: PriceRow, other: PriceRow, usage: Usage) -> None:
    row = dearest(one, other)
    held = estimate(usage.prompt, usage.output, row)
    assert held >= max(price(usage, one), price(usage, other))
    assert dearest(one, one) == one
