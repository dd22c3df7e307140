"""Costs: exact integers, every class once, rounded once, never above the estimate."""

from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pricing import (
    BASE,
    BATCH,
    CLASSES,
    FLEX,
    FRESH,
    KIND_CLASSES,
    OUTPUT_CLASSES,
    PRIORITY,
    PROMPT_CLASSES,
    STANDARD,
    TOKENS_PER_PRICE,
    PriceRow,
    Rates,
    Service,
    Usage,
    dearest,
    estimate,
    price,
    price_id,
)
from tests.support.usages import usage_of

KINDS = (
    "", "hd/1024-x-1024", "standard/1024-x-1024", "standard/1024-x-1792", "auto/auto", "auto/1024-x-1792",
    "low/1024-x-1024", "annotated",
)  # fmt: skip
tokens = st.integers(0, 5_000_000)
counts = st.just(0) | tokens
amounts = st.integers(0, 200 * 10**9)
unknown = st.none() | amounts
text_rates = st.builds(
    Rates,
    input=amounts,
    output=amounts,
    cached=unknown,
    cache_write=unknown,
    cache_write_1h=unknown,
    reasoning=unknown,
)
all_rates = st.builds(Rates, **dict.fromkeys(Rates.__struct_fields__, unknown))
services = st.dictionaries(
    st.sampled_from([BATCH, FLEX, PRIORITY]), st.builds(Service, rates=all_rates, tier=st.none() | all_rates)
)
tiers = st.sampled_from([STANDARD, BATCH, FLEX, PRIORITY, "scale"])
text_usages = st.builds(
    Usage, input=tokens, cached=tokens, cache_write=tokens, cache_write_1h=counts, output=tokens, reasoning=tokens
)
usages = st.builds(Usage, **dict.fromkeys([*CLASSES, "reasoning"], counts), tier=tiers, kind=st.sampled_from(KINDS))
text_rows = st.builds(PriceRow, model=st.just("m"), rates=text_rates, fee=st.just(0) | amounts)
rows = st.builds(
    PriceRow,
    model=st.just("m"),
    rates=all_rates,
    tier_above=st.none() | tokens,
    tier=st.none() | all_rates,
    services=services,
    kinds=st.dictionaries(st.sampled_from(KINDS[1:]), amounts),
    fee=st.just(0) | amounts,
)


def stepped(base: PriceRow, above: int, step: int) -> PriceRow:
    """A row whose upper tier is nowhere cheaper, as every list price is."""
    dearer = {name: None if rate is None else rate + step for name, rate in msgspec.structs.asdict(base.rates).items()}
    return msgspec.structs.replace(base, tier_above=above, tier=Rates(**dearer))


stepped_rows = text_rows | st.builds(stepped, text_rows, tokens, amounts)


def of_kind(row: PriceRow, kind: str) -> int | None:
    """By the book: a kind's own price, or that of what `auto` means."""
    meant = {"auto/auto": "standard/1024-x-1024", "auto/1024-x-1792": "standard/1024-x-1792"}
    return row.kinds.get(kind, row.kinds.get(meant.get(kind, kind)))


def exact(usage: Usage, row: PriceRow) -> Fraction:
    """The cost without rounding, by the book: one class after the other, each by its own rate or its base's."""
    service = row.services.get(usage.tier)
    used, high = (row.rates, row.tier) if service is None else (service.rates, service.tier)
    prompt = sum(getattr(usage, name) for name in PROMPT_CLASSES)
    if row.tier_above is not None and high is not None and prompt > row.tier_above:
        used = high

    def rate(name: str) -> int:
        if name in KIND_CLASSES and (each := of_kind(row, usage.kind)) is not None:
            return each
        own = getattr(used, name)
        if own is None and name in FRESH:
            own = getattr(used, FRESH[name])
        if own is not None:
            return own
        return rate(BASE[name]) if name in BASE else 0

    thought = min(usage.reasoning, usage.output)
    counted = {name: getattr(usage, name) for name in CLASSES} | {
        "output": usage.output - thought,
        "reasoning": thought,
    }
    millionths = sum(count * rate(name) for name, count in counted.items()) + prompt * row.fee
    return Fraction(millionths, TOKENS_PER_PRICE)


@given(usages, rows)
def test_every_class_once_and_one_rounding_half_up(usage: Usage, row: PriceRow) -> None:
    cost, truth = price(usage, row), exact(usage, row)
    assert -Fraction(1, 2) < cost - truth <= Fraction(1, 2)
    assert isinstance(cost, int)
    assert cost >= 0


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_alone_has_its_price(name: str) -> None:
    row = PriceRow(model="m", rates=Rates(**{name: 3_000_000}))
    assert price(usage_of({name: 7}), row) == 21
    assert price(usage_of({name: 7}, tier=PRIORITY), row) == 21
    others = usage_of({other: 5 for other in CLASSES if other != name and name not in _bases_of(other)} | {name: 7})
    assert price(others, row) == 21


def _bases_of(name: str) -> set[str]:
    found = {FRESH[name]} if name in FRESH else set[str]()
    while name in BASE:
        name = BASE[name]
        found.add(name)
    return found


def test_half_a_nano_dollar_rounds_up_and_less_does_not() -> None:
    row = PriceRow(model="m", rates=Rates(input=500_000, output=499_999))
    assert price(Usage(input=1), row) == 1
    assert price(Usage(output=1), row) == 0
    assert price(Usage(input=1, output=1), row) == 1
    assert price(Usage(), row) == 0


@given(text_usages, stepped_rows)
def test_an_estimate_with_the_true_tokens_is_never_below_the_price(usage: Usage, row: PriceRow) -> None:
    assert estimate(usage.prompt, usage.output, row) >= price(usage, row)


@given(text_usages, tokens, tokens, stepped_rows)
def test_an_estimate_of_more_tokens_is_never_below_the_price(
    usage: Usage, more_input: int, more_output: int, row: PriceRow
) -> None:
    assert estimate(usage.prompt + more_input, usage.output + more_output, row) >= price(usage, row)


@given(text_usages, tokens, tokens, text_rows)
def test_more_tokens_never_cost_less(usage: Usage, more_input: int, more_output: int, row: PriceRow) -> None:
    usage = msgspec.structs.replace(usage, reasoning=0)
    more = msgspec.structs.replace(usage, input=usage.input + more_input, output=usage.output + more_output)
    assert price(more, row) >= price(usage, row)


def test_reasoning_is_part_of_the_output_and_costs_nothing_more() -> None:
    row = PriceRow(model="m", rates=Rates(input=1, output=2_000_000))
    assert price(Usage(output=10, reasoning=4), row) == price(Usage(output=10), row) == 20
    apart = PriceRow(model="m", rates=Rates(input=1, output=2_000_000, reasoning=5_000_000))
    assert price(Usage(output=10, reasoning=4), apart) == 6 * 2 + 4 * 5
    assert price(Usage(output=10, reasoning=99), apart) == 10 * 5


def test_a_class_without_a_price_takes_that_of_its_base() -> None:
    row = PriceRow(model="m", rates=Rates(input=2_000_000, output=3_000_000, cache_write=4_000_000))
    usage = Usage(cached=1, cache_write_1h=1, audio_cached=1, image_input=1, audio_output=1, image_output=1)
    assert row.missing(usage) is None
    assert price(usage, row) == 2 + 4 + 2 + 2 + 3 + 3


@pytest.mark.parametrize("name", CLASSES)
def test_what_has_no_price_is_named(name: str) -> None:
    usage = usage_of({name: 1})
    assert PriceRow(model="m", rates=Rates()).missing(usage) == name
    known = PriceRow(model="m", rates=Rates(**{name: 0}))
    assert known.missing(usage) is None
    assert known.missing(Usage()) is None


@given(usages, rows)
def test_a_usage_lacks_a_price_exactly_where_no_rate_leads_to_one(usage: Usage, row: PriceRow) -> None:
    rates = row.rates_for(usage.prompt, usage.tier)
    lacking = [
        name
        for name in CLASSES
        if getattr(usage, name)
        and rates.rate(name) is None
        and not (name in KIND_CLASSES and of_kind(row, usage.kind) is not None)
    ]
    assert row.missing(usage) == (lacking[0] if lacking else None)


def test_pieces_cost_what_their_kind_costs() -> None:
    row = PriceRow(model="m", rates=Rates(pages=1_000_000), kinds={"hd/1-x-1": 9_000_000, "annotated": 5_000_000})
    assert price(Usage(images=2, kind="hd/1-x-1"), row) == 18
    assert row.missing(Usage(images=2, kind="low/1-x-1")) == "images"
    assert (price(Usage(pages=2), row), price(Usage(pages=2, kind="annotated"), row)) == (2, 10)


def test_auto_is_what_foundry_makes_of_it() -> None:
    kinds = {"standard/1024-x-1024": 4_000_000, "standard/1024-x-1792": 8_000_000}
    row = PriceRow(model="d", rates=Rates(), kinds=kinds)
    assert price(Usage(images=1, kind="auto/auto"), row) == 4
    assert price(Usage(images=1, kind="auto/1024-x-1792"), row) == 8
    assert price(Usage(images=1, kind="standard/auto"), row) == 4
    for kind in ("hd/auto", "auto/512-x-512", "auto"):
        assert row.missing(Usage(images=1, kind=kind)) == "images"
    own = msgspec.structs.replace(row, kinds={**row.kinds, "auto/auto": 1_000_000})
    assert price(Usage(images=1, kind="auto/auto"), own) == 1


@pytest.mark.parametrize(
    ("rates", "sound", "picture"),
    [
        (Rates(input=9_000_000), 9, 9),
        (Rates(input=9_000_000, cached=2_000_000), 2, 2),
        (Rates(input=9_000_000, cached=2_000_000, audio_input=30_000_000), 30, 2),
        (Rates(input=9_000_000, cached=2_000_000, image_input=5_000_000), 2, 5),
        (Rates(input=9_000_000, cached=2_000_000, audio_input=30_000_000, audio_cached=1_000_000), 1, 2),
    ],
)
def test_sound_and_pictures_in_the_cache_cost_what_is_known_of_them(rates: Rates, sound: int, picture: int) -> None:
    row = PriceRow(model="m", rates=rates)
    assert (price(Usage(audio_cached=1), row), price(Usage(image_cached=1), row)) == (sound, picture)


def test_a_fee_goes_on_top_of_the_whole_prompt() -> None:
    row = PriceRow(model="m", rates=Rates(input=1_000_000, cached=0, output=1_000_000), fee=3_000_000)
    usage = Usage(input=10, cached=5, output=2)
    assert price(usage, row) == 10 + 2 + 45
    assert estimate(15, 2, row) == 15 * 4 + 2


def test_a_service_tier_has_its_own_rates_and_its_own_long_prompts() -> None:
    row = PriceRow(
        model="m",
        rates=Rates(input=10_000_000),
        tier_above=100,
        tier=Rates(input=20_000_000),
        services={BATCH: Service(rates=Rates(input=5_000_000), tier=Rates(input=7_000_000))},
    )
    assert price(Usage(input=100, tier=BATCH), row) == 500
    assert price(Usage(input=101, tier=BATCH), row) == 707
    assert price(Usage(input=101, tier="scale"), row) == price(Usage(input=101), row) == 2020


def test_a_long_prompt_is_billed_whole_by_its_tier() -> None:
    row = PriceRow(
        model="m",
        rates=Rates(input=1_000_000_000, output=2_000_000_000),
        tier_above=200,
        tier=Rates(input=3_000_000_000, output=4_000_000_000),
    )
    assert price(Usage(input=150, cached=50, output=1), row) == 200 * 1_000 + 2_000
    assert price(Usage(input=150, cached=51, output=1), row) == 201 * 3_000 + 4_000
    assert price(Usage(input=150, audio_input=51), row) == 201 * 3_000


def test_a_known_price() -> None:
    """gpt-4o at list price: $2.50, $1.25 cached and $10 per million tokens."""
    row = PriceRow(model="gpt-4o", rates=Rates(input=2_500_000_000, cached=1_250_000_000, output=10_000_000_000))
    assert price(Usage(input=1_000, cached=200, output=500), row) == 2_500_000 + 250_000 + 5_000_000


@given(rows, rows)
def test_an_id_names_one_content(first: PriceRow, second: PriceRow) -> None:
    assert (price_id(first) == price_id(second)) == (first == second)


@given(rows, usages)
def test_ids_and_usages_do_not_change_on_the_wire(row: PriceRow, usage: Usage) -> None:
    assert price_id(row) == price_id(msgspec.json.decode(msgspec.json.encode(row), type=PriceRow))
    assert len(price_id(row)) == 32
    assert msgspec.json.decode(msgspec.json.encode(usage), type=Usage) == usage


def test_what_earlier_versions_wrote_is_understood() -> None:
    usage = b'{"input":5,"cached":0,"cache_write":0,"output":7,"reasoning":0}'
    assert msgspec.json.decode(usage, type=Usage) == Usage(input=5, output=7)
    row = b'{"model":"m","rates":{"input":1,"output":2,"cached":null,"cache_write":null},"tier_above":null,"tier":null}'
    assert msgspec.json.decode(row, type=PriceRow) == PriceRow(model="m", rates=Rates(input=1, output=2))


@given(usages)
def test_prompt_and_completion_are_sums_of_their_classes(usage: Usage) -> None:
    assert usage.prompt == sum(getattr(usage, name) for name in PROMPT_CLASSES)
    assert usage.completion == sum(getattr(usage, name) for name in OUTPUT_CLASSES)


@pytest.mark.parametrize(
    ("cached", "write", "hour", "highest"),
    [(None, None, None, 10), (5, None, None, 10), (5, 12, None, 12), (11, 0, None, 11), (1, 12, 20, 20)],
)
def test_the_dearest_prompt_token(cached: int | None, write: int | None, hour: int | None, highest: int) -> None:
    rates = Rates(input=10, output=1, cached=cached, cache_write=write, cache_write_1h=hour)
    assert rates.highest_input() == highest


@given(rows, rows, usages)
def test_the_dearest_of_two_rows_is_never_below_either(one: PriceRow, other: PriceRow, usage: Usage) -> None:
    row = dearest(one, other)
    assert price(usage, row) >= max(price(usage, one), price(usage, other))
    assert dearest(one, one) == one


@given(stepped_rows, stepped_rows, text_usages)
def test_an_estimate_by_the_dearest_is_never_below_either(one: PriceRow, other: PriceRow, usage: Usage) -> None:
    held = estimate(usage.prompt, usage.output, dearest(one, other))
    assert held >= max(price(usage, one), price(usage, other))
