"""Which price row a deployment is charged by."""

from datetime import date

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain.prices import ROUTED, PriceBook, reprice
from shared.catalogue import load, price_rows
from shared.pricing import PriceRow, Rates, Usage, price

NAMES = ["gpt-4o", "gpt-4o-mini", "gpt-4", "gpt-5", "gpt-5.1", "gpt-4o-2024-08-06", "Phi-4", "o1", "us/gpt-4o"]
BOOK = PriceBook(PriceRow(model=name, rates=Rates(input=1, output=index)) for index, name in enumerate(NAMES))


def found(row: PriceRow | None) -> str | None:
    return None if row is None else row.model


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt-4o", "gpt-4o"),
        ("GPT-4o", "gpt-4o"),
        ("azure/gpt-4o", "gpt-4o"),
        ("azure/us/gpt-4o", "us/gpt-4o"),
        ("azure_ai/phi-4", "Phi-4"),
        ("gpt-4o-deployment", None),
        ("gpt-4o ", None),
        ("", None),
        (None, None),
    ],
)
def test_exact_names(name: str | None, model: str | None) -> None:
    assert found(BOOK.exact(name)) == model


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt-4o-deployment", "gpt-4o"),
        ("gpt-4o-mini-deployment", "gpt-4o-mini"),
        ("gpt-4o-minimal", "gpt-4o"),
        ("gpt-4o_prod", "gpt-4o"),
        ("azure/gpt-4o-prod", "gpt-4o"),
        ("gpt-4oo", None),
        ("gpt-4omni-x", None),
        ("gpt-4-turbo", "gpt-4"),
        ("gpt-4.5-preview", None),
        ("gpt-5.1-codex", "gpt-5.1"),
        ("gpt-5.9-codex", None),
        ("gpt-4o.prod", "gpt-4o"),
        ("phi-4-deployment", "Phi-4"),
        ("my-gpt-4o", None),
        ("o1-deployment", "o1"),
        ("gpt-4o", None),
        ("", None),
        (None, None),
    ],
)
def test_the_longest_beginning_up_to_a_word_boundary(name: str | None, model: str | None) -> None:
    assert found(BOOK.by_prefix(name)) == model


@pytest.mark.parametrize(
    ("base", "deployment", "public", "model", "how"),
    [
        ("gpt-4", "gpt-4o", "gpt-5", "gpt-4", "base_model gpt-4"),
        (None, "gpt-4o", "gpt-5", "gpt-4o", "deployment name gpt-4o"),
        (None, "gpt-4o-prod", "gpt-5", "gpt-5", "model name gpt-5"),
        (None, "gpt-4o-prod", "gpt-5-prod", "gpt-4o", "the beginning of deployment name gpt-4o-prod"),
        (None, "prod", "gpt-5-prod", "gpt-5", "the beginning of model name gpt-5-prod"),
        (None, "prod", "fast", None, "nothing"),
    ],
)
def test_the_order_of_resolution(base: str | None, deployment: str, public: str, model: str | None, how: str) -> None:
    row, said = BOOK.resolve(base, deployment, public)
    assert (found(row), said) == (model, how)


@given(st.text(max_size=20), st.sampled_from(NAMES))
def test_a_prefix_is_never_a_part_of_a_word(tail: str, name: str) -> None:
    row = BOOK.by_prefix(name + tail)
    if row is not None:
        rest = (name + tail).lower()[len(row.model) :]
        assert not rest[:1].isalnum()


def test_the_catalogue_prices_the_story() -> None:
    book = PriceBook(row for entry in load() if (row := entry.price_row()) is not None)
    for deployment, public in (
        ("gpt-4o-deployment", "gpt-4o"),
        ("phi-4-deployment", "phi-4"),
        ("text-embedding-3-large-deployment", "text-embedding-3-large"),
    ):
        row, how = book.resolve(None, deployment, public)
        assert row is not None
        assert (row.model.lower(), how) == (public, f"model name {public}")


ZONED = PriceBook(
    PriceRow(model=name, rates=Rates(input=1, output=index))
    for index, name in enumerate(["gpt-4o", "eu/gpt-4o", "eu/gpt-4o-2024-05-13", "gpt-4o-2024-05-13", "gpt-4o-mini"])
)


@pytest.mark.parametrize(
    ("own", "answer", "model"),
    [
        ("gpt-4o", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("gpt-4o", "gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o", "something-else", "gpt-4o"),
        ("gpt-4o", "gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("eu/gpt-4o", "gpt-4o-2024-05-13", "eu/gpt-4o-2024-05-13"),
        ("eu/gpt-4o", "gpt-4o-2024-08-06", "eu/gpt-4o"),
        ("eu/gpt-4o", "gpt-4o-mini", "eu/gpt-4o"),
    ],
)
def test_what_served_is_priced_in_the_zone_of_the_deployment(own: str, answer: str, model: str) -> None:
    row = ZONED.exact(own)
    assert row is not None
    assert ZONED.served(answer, row).model == model


def test_the_dearest_version_of_a_model() -> None:
    book = PriceBook(row for entry in load() if (row := entry.price_row()) is not None)
    plain, dear = book.exact("gpt-4o"), book.exact("gpt-4o-2024-05-13")
    assert plain is not None
    assert dear is not None
    held = book.versions(plain)
    assert held.rates.output == dear.rates.output
    assert (dear.rates.output or 0) > (plain.rates.output or 0)
    assert held.rates.highest_input() == dear.rates.highest_input()
    assert book.versions(dear) == dear
    mini = book.exact("gpt-4o-mini")
    assert mini is not None
    assert book.versions(mini).rates.output == mini.rates.output


DAY = date(2026, 11, 23)
LISTED = price_rows(load(), DAY)


@pytest.mark.parametrize(
    ("name", "family", "model"),
    [
        ("azure/mistral-large-latest", "azure", "mistral-large-latest"),
        ("azure_ai/mistral-large-latest", "azure_ai", "mistral-large-latest"),
        ("mistral-large-latest", "azure", "mistral-large-latest"),
        ("azure_ai/gpt-4o", "azure", "gpt-4o"),
        ("azure_ai/model_router/my-router", "azure_ai", "model_router"),
        ("model_router/my-router", "azure_ai", "model_router"),
        ("prebuilt-layout", "azure_ai", "doc-intelligence/prebuilt-layout"),
        ("azure-tts-hd", "azure", "speech/azure-tts-hd"),
        ("dall-e-3", "azure", "dall-e-3"),
    ],
)
def test_names_of_the_catalogue(name: str, family: str, model: str) -> None:
    row = PriceBook(LISTED).exact(name)
    assert row is not None
    assert (row.family, row.model) == (family, model)


def test_a_family_is_kept_when_an_answer_names_the_model() -> None:
    book = PriceBook(LISTED)
    for family in ("azure", "azure_ai"):
        own = book.exact(f"{family}/gpt-5.5")
        assert own is not None
        served = book.served("gpt-5.5-2026-04-24", own)
        assert (served.family, served.model) == (family, "gpt-5.5-2026-04-24")
        other = book.served("grok-4", own)
        assert (other.family, other.model) == ("azure_ai", "grok-4")


@pytest.mark.parametrize("deployment", ["model-router", "model_router/mine", "model-router-prod"])
def test_a_router_is_held_at_the_dearest_and_charged_by_what_it_chose(deployment: str) -> None:
    book = PriceBook(LISTED)
    row, _ = book.resolve(None, deployment, "smart", "azure_ai")
    assert row is not None
    usage = Usage(input=1_000, cached=500, output=1_000)
    for name in ROUTED:
        chosen = book.served(name, row)
        plain = book.exact(name)
        assert plain is not None, name
        assert price(usage, chosen) == price(usage, plain) + 1_500 * 140
        assert price(usage, row) >= price(usage, chosen)
    assert book.served("a-model-nobody-knows", row) == row


class Priced:
    """What a deployment has of prices."""

    def __init__(self, row: PriceRow | None, book: PriceBook, *, fixed: bool = False) -> None:
        self.row = self.hold_row = row
        self.versions_row = None if row is None else book.versions(row)
        self.served: dict[str, PriceRow] = {}
        self.fixed_price = fixed


def dearer(row: PriceRow, factor: int) -> PriceRow:
    rates = Rates(input=(row.rates.input or 0) * factor, output=(row.rates.output or 0) * factor)
    return msgspec.structs.replace(row, rates=rates)


def test_a_day_with_other_prices_changes_what_deployments_cost() -> None:
    rows = [PriceRow(model=name, rates=Rates(input=10, output=20), family="azure") for name in ("a", "a-2026", "b")]
    book = PriceBook(rows)
    follows, fixed, unknown = Priced(rows[0], book), Priced(rows[0], book, fixed=True), Priced(None, book)
    follows.served = {"b": rows[2]}
    assert not reprice(follows, book)
    book.replace([dearer(rows[0], 3), rows[1], dearer(rows[2], 5)])
    assert reprice(follows, book)
    assert not reprice(fixed, book)
    assert not reprice(unknown, book)
    assert follows.row == dearer(rows[0], 3)
    assert follows.served == {"b": dearer(rows[2], 5)}
    assert follows.hold_row is not None
    assert follows.hold_row.rates.output == 100
    assert follows.versions_row is not None
    assert follows.versions_row.rates.output == 60
    assert fixed.row == rows[0]
    assert not reprice(follows, book)
