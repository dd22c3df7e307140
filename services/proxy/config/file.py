"""`config.yaml` in LiteLLM's format: read once, checked whole, every error with file, place and remedy."""

import logging
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
import yaml

from services.proxy.config.instead import BUDGETS, INSTEAD
from services.proxy.config.kinds import FACT_KEYS, KIND_KEYS, Kind, KindReader, checked_version, described, guesses
from services.proxy.config.prices import PRICE_KEYS, Priced, PriceReader, like_a_price
from services.proxy.domain.deployments import Deployment, deployment_id
from services.proxy.domain.facts import FactBook, Sizes
from services.proxy.domain.prices import PriceBook
from services.proxy.domain.surfaces import base_of, ways_of
from shared.catalogue import load as load_catalogue
from shared.errors import SettingsError
from shared.pricing import PriceRow, Rates

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
    "drop_params",
    "extra_headers",
    "unpriced",
    *KIND_KEYS,
    *PRICE_KEYS,
}
INFO_KNOWN = PARAMS_KNOWN - {"model", "api_base", "api_key", "api_version", "extra_headers"} | {
    "id",
    "mode",
    "stream_usage",
    *FACT_KEYS,
}
SECTIONS = ("litellm_settings", "general_settings")
"""Sections of LiteLLM's whose keys are named one by one."""
SETTINGS_KNOWN = {"litellm_settings": {"drop_params"}, "general_settings": set[str]()}
HEADERS_MAX = 16
HEADER_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")
HEADERS_RESERVED = (
    "authorization", "api-key", "x-api-key", "cookie", "host", "connection", "keep-alive", "te", "trailer", "upgrade",
    "transfer-encoding", "content-type", "content-length", "content-encoding", "accept-encoding", "expect",
    "anthropic-version", "x-ms-client-request-id", "x-ms-spillover-deployment",
)  # fmt: skip
"""Headers that the gateway sets itself, or that would change who serves a call without its price being known."""
DEPLOYMENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
Table = Mapping[str, Any]


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says: deployments by public model name, in the order of the file. `facts` is what the catalogue
    knows of models, for what answers teach later."""

    models: dict[str, list[Deployment]]
    warnings: tuple[str, ...]
    facts: FactBook


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
        config = reader.read(content)
    except SettingsError:
        for warning in reader.warnings:  # a misspelt key is likely to be the cause
            log.warning("%s", warning)
        raise
    items = [item for deployments in config.models.values() for item in deployments]
    for item in items:
        log.info("%s", described(item))
    if any(item.guessed for item in items):
        log.info("%s", guesses(items))
    return config


class _Reader:
    """Walks the file; `place` is always the path of the value at hand, such as `model_list[0].model_name`."""

    def __init__(self, path: Path, environ: Mapping[str, str], book: PriceBook) -> None:
        self._path = path
        self._environ = environ
        self._book = book
        self._prices = PriceReader(book, self._error, self._warn)
        self._facts = FactBook(
            Sizes(model=entry.model, context_window=entry.context_window, max_output=entry.max_output, mode=entry.mode)
            for entry in load_catalogue()
        )
        self._kinds = KindReader(self._facts.mode, self._error, self._warn)
        self._drop_params = False
        self._ids: dict[str, str] = {}
        self.warnings: list[str] = []

    def read(self, content: object) -> Config:
        top = self._table(content, "the file")
        self._unknown(top, {"model_list", *(name for name in SECTIONS if _has_keys(top.get(name)))}, "")
        for section in SECTIONS:
            if _has_keys(top.get(section)):
                self._unknown(self._table(top[section], section), SETTINGS_KNOWN[section], section)
        settings = top.get("litellm_settings")
        if _has_keys(settings):
            self._drop_params = self._flag(self._table(settings, "litellm_settings"), "drop_params", "litellm_settings")
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
        return Config(models=models, warnings=tuple(self.warnings), facts=self._facts)

    def _deployment(self, entry: object, place: str) -> Deployment:
        table = self._table(entry, place)
        self._unknown(table, {"model_name", "litellm_params", "model_info"}, place)
        public = self._text(table, "model_name", place)
        self._refuse_wildcard(public, f"{place}.model_name")
        inner = f"{place}.litellm_params"
        if "litellm_params" not in table:
            raise self._error(inner, "is missing; indent 'model', 'api_base' … below 'litellm_params:'")
        params = self._table(table["litellm_params"], inner)
        self._unknown(_but_prices(params), PARAMS_KNOWN, inner)
        info = self._table(table.get("model_info") or {}, f"{place}.model_info")
        self._unknown(_but_prices(info), INFO_KNOWN, f"{place}.model_info")
        target = self._text(params, "model", inner)
        self._refuse_wildcard(target, f"{inner}.model")
        provider, name = self._provider(target, f"{inner}.model")
        api_base = self._base(self._text(params, "api_base", inner), f"{inner}.api_base")
        if params.get("api_key") is None:
            raise self._error(
                f"{inner}.api_key",
                "is missing; this version reaches Foundry by key only: set it, best as os.environ/NAME",
            )
        api_key = self._text(params, "api_key", inner)
        version: str | None = None
        if params.get("api_version") is not None:
            version = checked_version(self._text(params, "api_version", inner), f"{inner}.api_version", self._error)
        keys = {**info, **params}
        kind = self._kinds.read(provider, name, public, keys, api_base, version, f"{place}.model_info")
        unpriced = self._unpriced(keys, place)
        priced = self._priced(params, info, kind, public, place, unpriced=unpriced)
        row = priced.row
        base = base_of(api_base)[0]
        declared = self._kinds.declared(keys, kind, f"{place}.model_info")
        model_name = kind.model or self._model_by_name(row, kind, public)
        return Deployment(
            id=self._id(info, deployment_id(public, kind.name, base), f"{place}.model_info"),
            model=public,
            name=kind.name,
            provider=provider,
            host=urlsplit(api_base).netloc,
            base=base,
            family=kind.family,
            surface=kind.surface,
            ways=ways_of(
                provider,
                kind.name,
                api_base,
                version,
                kind.family,
                kind.surface,
                model=kind.model,
                mode=kind.mode,
                narrow=kind.narrow,
            ),
            headers=(
                *self._credential(api_key, kind, f"{inner}.api_key"),
                *self._extra_headers(params.get("extra_headers"), f"{inner}.extra_headers"),
            ),
            row=row,
            fixed_price=priced.fixed,
            priced_by=priced.how,
            unpriced=unpriced,
            drop_params=self._flag(keys, "drop_params", inner, self._drop_params),
            stream_usage=info.get("stream_usage", True) is not False,
            facts=self._facts.facts(model_name, declared),
            declared=declared,
            model_name=model_name,
            discovered_by=kind.discovered_by,
            guessed=kind.guessed,
            family_guessed=kind.family_guessed,
            closed=kind.family_guessed and kind.narrow,
            versions_row=None if priced.fixed or row is None else self._book.versions(row),
        )

    def _priced(self, params: Table, info: Table, kind: Kind, public: str, place: str, *, unpriced: bool) -> Priced:
        """The price of a deployment; one without any, where that is allowed."""
        if kind.model is not None and params.get("base_model") is None and info.get("base_model") is None:
            info = {**info, "base_model": kind.model}
        told = len(self.warnings)
        priced = self._prices.read(params, info, kind.name, public, place)
        if priced.row is None and unpriced:
            del self.warnings[told:]
            self._warn(place, f"no price is known for {public!r}, and unpriced: allow is set: its calls cost nothing")
            row = PriceRow(model=kind.name, rates=Rates(), source="unpriced")
            return Priced(row=row, fixed=False, how="nothing (unpriced: allow)")
        return priced

    def _unpriced(self, keys: Table, place: str) -> bool:
        value = keys.get("unpriced")
        if value not in (None, "allow", "refuse"):
            raise self._error(f"{place}.model_info.unpriced", "must be allow, or refuse (which is the default)")
        return value == "allow"

    def _id(self, info: Table, own: str, place: str) -> str:
        """The id of the file, else our own; two deployments have two."""
        given: object = info.get("id")
        if given is not None and not (isinstance(given, str) and DEPLOYMENT_ID.match(given)):
            raise self._error(f"{place}.id", "must be a text of at most 64 letters, digits, '-', '_' and '.'")
        found = given if isinstance(given, str) else own
        if self._ids.setdefault(found, own) != own:
            raise self._error(f"{place}.id", f"{found!r} is the id of another deployment; every deployment has its own")
        return found

    def _extra_headers(self, value: object, place: str) -> tuple[tuple[str, str], ...]:
        """Headers that go out with every call, such as a key of a gateway before Foundry."""
        if value is None:
            return ()
        table = self._table(value, place)
        if len(table) > HEADERS_MAX:
            raise self._error(place, f"has more than {HEADERS_MAX} headers")
        found: dict[str, str] = {}
        for key in table:
            name, text = key.lower(), self._text(table, key, place)
            if not HEADER_NAME.match(name) or name in HEADERS_RESERVED:
                raise self._error(f"{place}.{key}", "is a header that cannot be set here; remove it")
            if not text.isascii() or not text.isprintable():
                raise self._error(f"{place}.{key}", "has characters that cannot stand in a header")
            found[name] = text
        return tuple(found.items())

    def _flag(self, table: Table, key: str, place: str, default: bool = False) -> bool:
        value = table.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._error(f"{place}.{key}", "must be true or false")
        return value

    def _model_by_name(self, row: PriceRow | None, kind: Kind, public: str) -> str | None:
        """The model whose price was found by names, or would be."""
        if row is None or row.source != "catalogue":
            row = self._book.resolve(None, kind.name, public)[0]
        return None if row is None else row.model

    def _credential(self, key: str, kind: Kind, place: str) -> tuple[tuple[str, str], ...]:
        if not key.isascii() or not key.isprintable():
            raise self._error(place, "has characters that cannot stand in a header")
        if kind.surface == "serverless":
            return (("authorization", f"Bearer {key}"),)
        return (("x-api-key" if kind.surface == "anthropic" else "api-key", key),)

    def _refuse_wildcard(self, name: str, place: str) -> None:
        if "*" in name:
            raise self._error(
                place,
                f"{name!r} is a wildcard, and wildcards are not served: list the deployments, each in an entry of its"
                " own",
            )

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
        if "/openai/deployments" in parts.path:
            raise self._error(place, "names a deployment; write only the resource, and the deployment in 'model'")
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


def _but_prices(table: Table) -> Table:
    """The keys that are no prices: those are read, or refused, where prices are."""
    return {key: value for key, value in table.items() if value is None or not like_a_price(key)}


def _has_keys(value: object) -> bool:
    return isinstance(value, dict) and bool(cast(dict[object, object], value))
