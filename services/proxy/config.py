"""`config.yaml` in LiteLLM's format: read once, checked whole, every error with file, place and remedy."""

import logging
from collections.abc import Mapping
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
import yaml

from services.proxy.domain.deployments import Deployment, serverless, targets_of
from services.proxy.domain.facts import CAP_FIELDS, FactBook, ModelFacts, Sizes
from services.proxy.domain.prices import PriceBook
from shared.catalogue import load as load_catalogue
from shared.errors import SettingsError
from shared.money import NUSD_PER_USD
from shared.pricing import TOKENS_PER_PRICE, PriceRow, Rates

log = logging.getLogger(__name__)

CONFIG_BYTES_MAX = 4 * 1024 * 1024
MODELS_MAX = 5_000
ENVIRON = "os.environ/"
PROVIDERS = ("azure", "azure_ai")

PARAMS_KNOWN = {
    "model",
    "api_base",
    "api_key",
    "api_version",
    "base_model",
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "cache_creation_input_token_cost",
}
INFO_KNOWN = PARAMS_KNOWN - {"model", "api_base", "api_key", "api_version"} | {
    "id",
    "mode",
    "stream_usage",
    "max_input_tokens",
    "max_output_tokens",
    "output_cap_field",
}
TOKENS_MAX = 100_000_000
INSTEAD = {
    "general_settings": "the master key is TUNDISH_MASTER_KEY and the database TUNDISH_POSTGRES_URL",
    "litellm_settings": "see docs/configuration.md for the variables that there are",
    "router_settings": "deployments of one model are taken in turn",
    "environment_variables": "set them in the environment of the process",
    "timeout": "set TUNDISH_UPSTREAM_IDLE_S",
    "stream_timeout": "set TUNDISH_UPSTREAM_IDLE_S",
    "rpm": "the deployment's own limit answers 429, which is passed on",
    "tpm": "the deployment's own limit answers 429, which is passed on",
    "max_tokens": "callers set it; TUNDISH_DEFAULT_OUTPUT_TOKENS is assumed where they do not, and the model's own"
    " maximum is model_info.max_output_tokens",
    "drop_params": "requests are passed on as they are",
}
"""What to use in place of options of LiteLLM's that people are likely to have."""
SECTIONS = ("litellm_settings", "general_settings")
"""Sections of LiteLLM's whose keys are named one by one."""
BUDGETS = {
    "litellm_settings.max_budget": "set the max_budget of an organization with POST /organization/update",
    "litellm_settings.upperbound_key_generate_params": "set the max_budget of an organization or of teams, which their"
    " keys cannot pass",
    "litellm_settings.default_key_generate_params": "make a budget object with POST /budget/new and name it as the"
    " default_key_budget_id of teams",
    "litellm_params.max_budget": "set model_max_budget for this model on an organization, team or key",
}
"""Keys that would limit spend, and what does so here: to pass over one of them would leave spend without a limit."""
PRICE_KEYS = ("input_cost_per_token", "output_cost_per_token")

Table = Mapping[str, Any]


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says: deployments by public model name, in the order of the file."""

    models: dict[str, list[Deployment]]
    warnings: tuple[str, ...]


def load_config(path: Path, environ: Mapping[str, str], book: PriceBook) -> Config:
    """Read and check a config file. Raises SettingsError naming file, place and what to do."""
    try:
        with path.open("rb") as file:
            raw = file.read(CONFIG_BYTES_MAX + 1)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}): set TUNDISH_CONFIG") from error
    if len(raw) > CONFIG_BYTES_MAX:
        raise SettingsError(f"{path}: larger than {CONFIG_BYTES_MAX} bytes; is it the right file?")
    try:
        content: object = yaml.safe_load(raw)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid YAML: {error}") from error
    reader = _Reader(path, environ, book)
    try:
        return reader.read(content)
    except SettingsError:
        for warning in reader.warnings:  # a misspelt key is likely to be the cause
            log.warning("%s", warning)
        raise


class _Reader:
    """Walks the file; `place` is always the path of the value at hand, such as `model_list[0].model_name`."""

    def __init__(self, path: Path, environ: Mapping[str, str], book: PriceBook) -> None:
        self._path = path
        self._environ = environ
        self._book = book
        self._facts = FactBook(
            Sizes(model=entry.model, context_window=entry.context_window, max_output=entry.max_output)
            for entry in load_catalogue()
        )
        self.warnings: list[str] = []

    def read(self, content: object) -> Config:
        top = self._table(content, "the file")
        self._unknown(top, {"model_list", *(name for name in SECTIONS if _has_keys(top.get(name)))}, "")
        for section in SECTIONS:
            if _has_keys(top.get(section)):
                self._unknown(self._table(top[section], section), set(), section)
        entries = top.get("model_list")
        if not isinstance(entries, list) or not entries:
            raise self._error("model_list", "must be a list with at least one model")
        items = cast(list[object], entries)
        if len(items) > MODELS_MAX:
            raise self._error("model_list", f"has more than {MODELS_MAX} entries")
        models: dict[str, list[Deployment]] = {}
        for index, entry in enumerate(items):
            deployment = self._deployment(entry, f"model_list[{index}]")
            models.setdefault(deployment.model, []).append(deployment)
        return Config(models=models, warnings=tuple(self.warnings))

    def _deployment(self, entry: object, place: str) -> Deployment:
        table = self._table(entry, place)
        self._unknown(table, {"model_name", "litellm_params", "model_info"}, place)
        public = self._text(table, "model_name", place)
        inner = f"{place}.litellm_params"
        if "litellm_params" not in table:
            raise self._error(inner, "is missing; indent 'model', 'api_base' … below 'litellm_params:'")
        params = self._table(table["litellm_params"], inner)
        self._unknown(params, PARAMS_KNOWN, inner)
        info = self._table(table.get("model_info") or {}, f"{place}.model_info")
        self._unknown(info, INFO_KNOWN, f"{place}.model_info")
        provider, name = self._provider(self._text(params, "model", inner), f"{inner}.model")
        api_base = self._base(self._text(params, "api_base", inner), f"{inner}.api_base")
        if params.get("api_key") is None:
            raise self._error(
                f"{inner}.api_key",
                "is missing; this version reaches Foundry by key only: set it, best as os.environ/NAME",
            )
        api_key = self._text(params, "api_key", inner)
        version = self._text(params, "api_version", inner) if params.get("api_version") is not None else None
        prices = {**info, **params}
        row, fixed, how = self._price(prices, name, public, place)
        return Deployment(
            model=public,
            name=name,
            provider=provider,
            host=urlsplit(api_base).netloc,
            targets=targets_of(provider, name, api_base, version),
            headers=self._credential(api_key, api_base, f"{inner}.api_key"),
            row=row,
            fixed_price=fixed,
            priced_by=how,
            stream_usage=info.get("stream_usage", True) is not False,
            facts=self._model_facts(prices, row, name, public, f"{place}.model_info"),
            versions_row=None if fixed or row is None else self._book.versions(row),
        )

    def _model_facts(self, info: Table, row: PriceRow | None, name: str, public: str, place: str) -> ModelFacts:
        """What is known of the model: as the file says, else by the model whose price was found."""
        model = info.get("base_model")
        if model is None:
            found = row if row is not None and row.source == "catalogue" else self._book.resolve(None, name, public)[0]
            model = None if found is None else found.model
        cap_field = info.get("output_cap_field")
        if cap_field is not None and cap_field not in CAP_FIELDS:
            raise self._error(f"{place}.output_cap_field", f"must be {' or '.join(CAP_FIELDS)}")
        return self._facts.facts(
            None if model is None else str(model),
            context_window=self._tokens(info, "max_input_tokens", place),
            max_output=self._tokens(info, "max_output_tokens", place),
            cap_field=cap_field,
        )

    def _tokens(self, info: Table, key: str, place: str) -> int | None:
        value: object = info.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= TOKENS_MAX:
            raise self._error(f"{place}.{key}", f"{value!r} is not a number of tokens")
        return value

    def _credential(self, key: str, api_base: str, place: str) -> tuple[tuple[str, str], ...]:
        if not key.isascii() or not key.isprintable():
            raise self._error(place, "has characters that cannot stand in a header")
        return (("authorization", f"Bearer {key}"),) if serverless(api_base) else (("api-key", key),)

    def _price(self, keys: Table, name: str, public: str, place: str) -> tuple[PriceRow | None, bool, str]:
        given = [key for key in PRICE_KEYS if keys.get(key) is not None]
        if given:
            for key in PRICE_KEYS:
                if keys.get(key) is None and keys.get("mode") != "embedding":
                    self._warn(place, f"{key} is not set beside {given[0]}: those tokens are counted at no cost")
            rates = Rates(
                input=self._rate(keys, "input_cost_per_token", place) or 0,
                output=self._rate(keys, "output_cost_per_token", place) or 0,
                cached=self._rate(keys, "cache_read_input_token_cost", place),
                cache_write=self._rate(keys, "cache_creation_input_token_cost", place),
            )
            return PriceRow(model=name, rates=rates, source="config"), True, " and ".join(given)
        base = keys.get("base_model")
        if base is not None and self._book.exact(str(base)) is None:
            raise self._error(
                f"{place}.model_info.base_model",
                f"{base!r} is not in the price catalogue; use a name from it, or set input_cost_per_token and"
                " output_cost_per_token",
            )
        row, how = self._book.resolve(None if base is None else str(base), name, public)
        if row is None:
            self._warn(
                place,
                f"no price is known for {public!r}: its calls are refused until you set model_info.base_model, or"
                " input_cost_per_token and output_cost_per_token",
            )
        return row, False, how

    def _rate(self, keys: Table, key: str, place: str) -> int | None:
        """Nano-dollars per million tokens from LiteLLM's dollars per token."""
        value = keys.get(key)
        if value is None:
            return None
        try:
            amount = Decimal(str(value)) * NUSD_PER_USD * TOKENS_PER_PRICE
        except ArithmeticError as error:
            raise self._error(f"{place}.{key}", f"{value!r} is not a number of dollars per token") from error
        if isinstance(value, bool) or not amount.is_finite() or amount < 0 or amount != int(amount):
            raise self._error(f"{place}.{key}", f"{value!r} is not a price in dollars per token")
        return int(amount)

    def _provider(self, model: str, place: str) -> tuple[str, str]:
        provider, slash, name = model.partition("/")
        if not slash or provider not in PROVIDERS:
            what = f"the provider {provider!r}" if slash else "a model without provider"
            raise self._error(
                place,
                f"{model!r} names {what}; Tundish serves Azure AI Foundry only: use 'azure/<deployment>' for OpenAI"
                " models or 'azure_ai/<deployment>' for the rest of the catalogue",
            )
        if not name or len(name) > 200 or not name.isprintable():
            raise self._error(place, f"{model!r} names no deployment; use '{provider}/<deployment>'")
        return provider, name

    def _base(self, base: str, place: str) -> str:
        remedy = "is not a URL such as https://<resource>.openai.azure.com/ (no query, no user, no fragment)"
        if "@" in base:
            raise self._error(place, remedy)
        try:
            parts = urlsplit(base)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError as error:
            raise self._error(place, f"{base!r} {remedy}") from error
        if not good or not base.isprintable() or any(char in base for char in "?# \\"):
            raise self._error(place, f"{base!r} {remedy}")
        return base

    def _text(self, table: Table, key: str, place: str) -> str:
        """A text, with `os.environ/NAME` replaced by the variable."""
        value: object = table.get(key)
        place = f"{place}.{key}"
        if value is None or value == "":
            raise self._error(place, "is missing")
        if not isinstance(value, str):
            hint = "; put it in quotes" if not isinstance(value, (list, dict)) else ""
            raise self._error(place, f"must be a text{hint}")
        if not value.startswith(ENVIRON):
            return value
        name = value.removeprefix(ENVIRON)
        found = self._environ.get(name, "").strip()
        if not found:
            raise self._error(place, f"takes the environment variable {name}, which is not set: set it")
        return found

    def _table(self, value: object, place: str) -> Table:
        if not isinstance(value, dict):
            raise self._error(place, "must be a table of keys and values; check the indentation")
        return {str(key): item for key, item in cast(dict[object, Any], value).items()}

    def _unknown(self, table: Table, known: set[str], place: str) -> None:
        for key in table:
            if key not in known:
                self._refuse_budget(table[key], key, place)
                near = get_close_matches(key, known, n=1)
                instead = INSTEAD.get(key) or (
                    f"did you mean {near[0]!r}?" if near else INSTEAD.get(place, "remove it")
                )
                self._warn(f"{place}.{key}".removeprefix("."), f"not in force in this version, ignored; {instead}")

    def _refuse_budget(self, value: object, key: str, place: str) -> None:
        """Stop at a budget of the file that would not be enforced."""
        instead = BUDGETS.get(f"{place.rpartition('.')[2]}.{key}")
        if instead is not None and value not in (None, {}, []):
            raise self._error(
                f"{place}.{key}", f"is not enforced: budgets are set with the admin API; {instead}, and remove it here"
            )

    def _warn(self, place: str, text: str) -> None:
        self.warnings.append(f"{self._path}: {place}: {text}")

    def _error(self, place: str, text: str) -> SettingsError:
        return SettingsError(f"{self._path}: {place} {text}")


def _has_keys(value: object) -> bool:
    return isinstance(value, dict) and bool(cast(dict[object, object], value))
