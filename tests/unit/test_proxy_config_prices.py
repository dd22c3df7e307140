"""Prices in `config.yaml`: every key of LiteLLM's that a call can be charged by, and clear words for the rest."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest

from services.proxy.config.prices import PRICE_KEYS, REFUSED, Priced, PriceReader
from services.proxy.domain.price_keys import CLASS_OF, KEYS_OF, TOKEN_CLASSES, price_keys
from services.proxy.domain.prices import PriceBook
from shared.catalogue import load, price_rows
from shared.errors import SettingsError
from shared.pricing import BATCH, FLEX, PRIORITY, PriceRow, Rates, Service, Usage, price
from tests.support.usages import usage_of

BOOK = PriceBook(price_rows(load(), date(2026, 11, 23)))
PLACE = "model_list[0]"


class Read:
    """Reads one deployment's prices, and keeps what was warned of."""

    def __init__(self, params: Mapping[str, object] | None = None, info: Mapping[str, object] | None = None) -> None:
        self.warnings: list[str] = []
        reader = PriceReader(BOOK, self._fail, lambda place, text: self.warnings.append(f"{place}: {text}"))
        self.priced: Priced = reader.read(
            {"model": "azure/gpt-5.5", **(params or {})}, dict(info or {}), "gpt-5.5", "gpt-5.5", PLACE
        )

    @property
    def row(self) -> PriceRow:
        assert self.priced.row is not None
        return self.priced.row

    @staticmethod
    def _fail(place: str, text: str) -> SettingsError:
        return SettingsError(f"{Path('config.yaml')}: {place} {text}")


def mistake(params: Mapping[str, object], info: Mapping[str, object] | None = None) -> str:
    with pytest.raises(SettingsError) as error:
        Read(params, info)
    return str(error.value)


@pytest.mark.parametrize("key", sorted(CLASS_OF))
def test_each_key_prices_its_class(key: str) -> None:
    name = CLASS_OF[key]
    row = Read({"input_cost_per_token": 0, "output_cost_per_token": 0, key: "0.002"}).row
    units = 1_000 if name == "milliseconds" else 1
    assert price(usage_of({name: 3 * units, **({"output": 3} if name == "reasoning" else {})}), row) == 6_000_000


def test_without_keys_the_catalogue_counts_and_nothing_is_fixed() -> None:
    read = Read()
    assert (read.row.model, read.priced.fixed, read.warnings) == ("gpt-5.5", False, [])


def test_main_prices_take_the_place_of_the_catalogues_row() -> None:
    read = Read({"input_cost_per_token": 1e-6, "output_cost_per_token": "2e-6"})
    assert read.row == PriceRow(model="gpt-5.5", rates=Rates(input=10**9, output=2 * 10**9), source="config")
    assert (read.priced.fixed, read.priced.how) == (True, "input_cost_per_token and output_cost_per_token")


def test_prices_of_rarer_classes_alone_change_the_catalogues_row() -> None:
    read = Read({}, {"cache_read_input_token_cost": 1e-7, "input_cost_per_token_priority": 2e-5})
    usual = Read().row
    assert read.row.rates.cached == 10**8
    assert read.row.rates.input == usual.rates.input
    assert read.row.services[PRIORITY].rates.input == 20 * 10**9
    assert read.row.services[BATCH] == usual.services[BATCH]
    assert (read.row.source, read.priced.fixed) == ("config", True)
    assert "over deployment name gpt-5.5" in read.priced.how


def test_a_change_of_an_unknown_price_is_refused() -> None:
    reader = PriceReader(BOOK, Read._fail, lambda place, text: None)
    with pytest.raises(SettingsError, match=r"model_info\.cache_read_input_token_cost changes a price that"):
        reader.read({"model": "azure/fast"}, {"cache_read_input_token_cost": 1}, "fast", "fast", PLACE)


def test_litellm_params_go_before_model_info() -> None:
    both = Read(
        {"input_cost_per_token": 1e-6, "output_cost_per_token": 0}, {"input_cost_per_token": 5e-6, "mode": "chat"}
    )
    assert both.row.rates.input == 10**9


def test_context_tiers_and_service_tiers() -> None:
    row = Read(
        {
            "input_cost_per_token": 1e-6,
            "output_cost_per_token": 2e-6,
            "cache_read_input_token_cost": 1e-7,
            "input_cost_per_token_above_200k_tokens": 3e-6,
            "input_cost_per_token_flex": 5e-7,
            "output_cost_per_token_batches": 1e-6,
            "input_cost_per_token_above_200k_tokens_flex": 15e-7,
        }
    ).row
    usd = 10**9
    assert row.tier_above == 200_000
    assert row.tier == Rates(input=3 * usd, output=2 * usd, cached=usd // 10)
    flex = row.services[FLEX]
    assert flex.rates == Rates(input=usd // 2, output=2 * usd, cached=usd // 10)
    assert flex.tier is not None
    assert (flex.tier.input, flex.tier.output) == (3 * usd // 2, 2 * usd)
    assert row.services[BATCH].rates.output == usd
    assert price(Usage(input=10, tier=FLEX), row) == 5_000
    assert price(Usage(input=10, tier=PRIORITY), row) == 10_000


def test_units_that_a_call_counts_once_have_one_price() -> None:
    same = Read({"input_cost_per_second": 0.0001, "output_cost_per_second": 0.0001}).row
    assert price(Usage(milliseconds=2_000), same) == 200_000
    one = Read({"input_cost_per_second": 0.0001, "output_cost_per_second": 0}).row
    assert price(Usage(milliseconds=2_000), one) == 200_000
    said = mistake({"input_cost_per_second": 0.0001, "output_cost_per_second": 0.0002})
    assert f"{PLACE}.litellm_params.output_cost_per_second" in said
    assert "differ" in said


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_what_cannot_be_charged_is_refused_by_name(key: str) -> None:
    assert key in PRICE_KEYS
    said = mistake({}, {key: 0.01})
    assert f"{PLACE}.model_info.{key} is a price that calls cannot be charged by here; {REFUSED[key]}" in said


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("input_cost_per_tokn", "did you mean 'input_cost_per_token'?"),
        ("output_cost_per_image_priority", "cannot be charged by"),
        ("input_cost_per_token_above_0k_tokens", "cannot be charged by"),
    ],
)
def test_a_misspelt_price_stops_the_start(key: str, says: str) -> None:
    assert says in mistake({key: 1e-6})


def test_two_thresholds_are_one_too_many() -> None:
    keys = {"input_cost_per_token_above_128k_tokens": 1e-6, "output_cost_per_token_above_200k_tokens": 1e-6}
    assert "output_cost_per_token_above_200k_tokens is a second threshold beside 128000" in mistake(keys)


@pytest.mark.parametrize("value", ["x", -1e-6, True, [], float("nan"), float("inf"), "1e999999999", "1e-18", 1e9])
@pytest.mark.parametrize("key", ["input_cost_per_token", "ocr_cost_per_page", "annotation_cost_per_page"])
def test_odd_values_name_file_place_and_remedy(key: str, value: object) -> None:
    said = mistake({}, {key: value})
    assert said.startswith(f"config.yaml: {PLACE}.model_info.{key} ")
    assert "write" in said


def test_half_a_token_price_is_said_at_once() -> None:
    (warning,) = Read({"output_cost_per_token": 1e-6}).warnings
    assert "input_cost_per_token is not set beside output_cost_per_token" in warning
    assert Read({"output_cost_per_token": 1e-6}).row.missing(Usage(input=1)) == "input"
    assert Read({"input_cost_per_token": 1e-6}, {"mode": "embedding"}).warnings == []


def test_pages_that_are_annotated_may_have_another_price() -> None:
    row = Read({"ocr_cost_per_page": 0.001, "annotation_cost_per_page": 0.003}).row
    assert price(Usage(pages=2), row) == 2_000_000
    assert price(Usage(pages=2, kind="annotated"), row) == 6_000_000


def test_the_provider_decides_between_models_of_one_name() -> None:
    def inputs(model: str) -> int | None:
        reader = PriceReader(BOOK, Read._fail, lambda place, text: None)
        row = reader.read({"model": model}, {}, model.partition("/")[2], "latest", PLACE).row
        return None if row is None else row.rates.input

    assert inputs("azure/mistral-large-latest") == 8 * 10**9
    assert inputs("azure_ai/mistral-large-latest") == 2 * 10**9


def test_what_is_shown_is_what_is_read() -> None:
    """`/model/info` speaks the language of the config: its keys, put into a file, give the same prices."""
    for row in price_rows(load(), date(2026, 11, 23)):
        keys = price_keys(row)
        if row.kinds or row.fee or row.model == "container":
            continue
        assert set(keys) <= PRICE_KEYS
        if row.tier_above is None and not row.services:
            assert Read(keys).row.rates == row.rates, row.model


def test_the_shown_prices_of_a_model() -> None:
    row = BOOK.exact("azure/gpt-5.5")
    assert row is not None
    keys = price_keys(row)
    assert keys["input_cost_per_token"] == 5e-06
    assert keys["output_cost_per_token_above_272k_tokens"] == 4.5e-05
    assert keys["cache_read_input_token_cost_priority"] == 1.25e-06
    assert keys["input_cost_per_token_batches"] == 2.5e-06
    assert keys["code_interpreter_cost_per_session"] == 0.033
    whisper, ocr = BOOK.exact("whisper"), BOOK.exact("mistral-ocr-4-0")
    assert whisper is not None
    assert ocr is not None
    assert price_keys(whisper) == {"input_cost_per_second": 0.0001}
    assert price_keys(ocr) == {"ocr_cost_per_page": 0.004, "annotation_cost_per_page": 0.005}
    service = Service(rates=Rates(input=0))
    assert price_keys(PriceRow(model="m", rates=Rates(), services={"scale": service}, fee=1)) == {
        "input_cost_per_token_scale": 0,
        "router_cost_per_token": 1e-15,
    }


def test_every_class_has_keys() -> None:
    assert set(KEYS_OF) == set(Rates.__struct_fields__)
    assert set(TOKEN_CLASSES) | {"images", "milliseconds", "characters", "queries", "pages", "sessions"} == set(KEYS_OF)
