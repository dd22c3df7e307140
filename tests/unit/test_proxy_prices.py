"""Which price row a deployment is charged by."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain.prices import PriceBook
from shared.catalogue import load
from shared.pricing import PriceRow, Rates

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
    assert held.rates.output == dear.rates.output > plain.rates.output
    assert held.rates.highest_input() == dear.rates.highest_input()
    assert book.versions(dear) == dear
    mini = book.exact("gpt-4o-mini")
    assert mini is not None
    assert book.versions(mini).rates.output == mini.rates.output
