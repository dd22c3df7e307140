"""What kind of deployment an entry of the config file names: its model's family, and the surface it is called on.

Both are declared (`model_info.family`, `surface`, `base_model`, a prefix, the tail of `api_base`), or else guessed from
names, which is said. What an answer teaches later stands in `Deployment.learn`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args
from urllib.parse import urlsplit

import msgspec

from services.proxy.domain.deployments import V1_API_VERSIONS, Deployment, Surface
from services.proxy.domain.facts import CAP_FIELDS, ROUTERS, Declared, Family, family_of
from services.proxy.domain.surfaces import OF_MODE, base_of, narrows
from shared.errors import SettingsError

FAMILIES: tuple[Family, ...] = get_args(Family)
SURFACES: tuple[Surface, ...] = get_args(Surface)
API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?\Z")
SERVERLESS_HOSTS = (".models.ai.azure.com", ".inference.ai.azure.com")
REASONING_PREFIXES = ("o_series/", "gpt5_series/")
ROUTER_PREFIX = "model_router/"
PARTNERS = ("cohere", "mistral_ocr", "flux", "mai")
KIND_KEYS = {"family", "surface"}
FACT_KEYS = {
    "supports_reasoning",
    "refuses_sampling",
    "effort_with_tools",
    "adaptive_thinking",
    "max_input_tokens",
    "max_output_tokens",
    "output_cap_field",
}
TOKENS_MAX = 100_000_000
NAMED_MAX = 20
"""So many models are named in one line of the log."""

Table = Mapping[str, Any]
Fail = Callable[[str, str], SettingsError]
Warn = Callable[[str, str], None]


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a deployment. `model` is the model behind it (None: not known), `mode` what that model does
    where it was declared, `reasoning` whether that is said of it. `guessed`: the model is known by names at best;
    `family_guessed`: so is its family, and `discovered_by` is how that is known. `narrow`: what the family does not do
    is not served."""

    name: str
    family: Family
    surface: Surface
    model: str | None
    mode: str | None
    reasoning: bool | None
    discovered_by: str
    guessed: bool
    family_guessed: bool
    narrow: bool


class KindReader:
    """Reads the kind of one deployment after another. `mode_of` is the mode of a catalogue's model."""

    def __init__(self, mode_of: Callable[[str | None], str], fail: Fail, warn: Warn) -> None:
        self._mode_of = mode_of
        self._fail = fail
        self._warn = warn

    def read(
        self, provider: str, name: str, public: str, keys: Table, api_base: str, version: str | None, place: str
    ) -> Kind:
        """The kind of the deployment `name`; `keys` are those of both tables together. Raises SettingsError."""
        family = self._one_of(keys, "family", FAMILIES, place)
        surface = self._one_of(keys, "surface", SURFACES, place)
        prefix = next((word for word in (*REASONING_PREFIXES, ROUTER_PREFIX) if name.startswith(word)), "")
        name = name.removeprefix(prefix)
        base_model = keys.get("base_model")
        model = None if base_model is None else str(base_model)
        if prefix == ROUTER_PREFIX and model is None:
            model = ROUTERS[0]
        guessed = False
        if family is not None:
            how = "model_info.family"
        elif surface == "anthropic":
            family, how = "claude", "surface: anthropic"
        elif model is not None and family_of(model) != "unknown":
            family, how = family_of(model), f"base_model {model}" if base_model is not None else f"the prefix {prefix}"
        elif prefix:
            family, how = "openai", f"the prefix {prefix}"
        elif "/anthropic" in base_of(api_base)[1]:
            family, how = "claude", "the end of api_base"
        else:
            family, how, guessed = self._by_name(provider, name, public, place)
        surface = self._surface(provider, family, surface, api_base, version, place)
        mode = self._one_of(keys, "mode", tuple(OF_MODE), place)
        if mode is None and model is not None:
            mode = self._mode_of(model)
        return Kind(
            name=name,
            family=family,
            surface=surface,
            model=model,
            mode=mode if mode in OF_MODE else None,
            reasoning=self._reasoning(keys, prefix, place),
            discovered_by=how,
            guessed=model is None and not _routes(name) and not _routes(public),
            family_guessed=guessed,
            narrow=narrows(family, f"{name} {public}", guessed=guessed),
        )

    def declared(self, keys: Table, kind: Kind, place: str) -> Declared:
        """What the file says of the model itself. Raises SettingsError."""
        cap_field = keys.get("output_cap_field")
        if cap_field is not None and cap_field not in CAP_FIELDS:
            raise self._fail(f"{place}.output_cap_field", f"must be {' or '.join(CAP_FIELDS)}")
        mode = keys.get("mode")
        return Declared(
            context_window=self._tokens(keys, "max_input_tokens", place),
            max_output=self._tokens(keys, "max_output_tokens", place),
            cap_field=cap_field,
            mode=mode if isinstance(mode, str) else None,
            reasoning=kind.reasoning,
            refuses_sampling=self._told(keys, "refuses_sampling", place),
            effort_with_tools=self._told(keys, "effort_with_tools", place),
            adaptive_thinking=self._told(keys, "adaptive_thinking", place),
        )

    def _by_name(self, provider: str, name: str, public: str, place: str) -> tuple[Family, str, bool]:
        told: Family = family_of(name)
        word = "the deployment's name"
        if told == "unknown":
            told, word = family_of(public), "model_name"
        if provider == "azure":  # the prefix declares it: azure/ is for OpenAI's models
            if told == "claude":
                self._warn(place, f"azure/{name} is called as a model of OpenAI's; write azure_ai/{name} for Claude")
            return "openai", "the prefix azure/", False
        return told, f"{word} alone" if told != "unknown" else "nothing", True

    def _surface(
        self, provider: str, family: Family, told: str | None, api_base: str, version: str | None, place: str
    ) -> Surface:
        host = (urlsplit(api_base).hostname or "").lower()
        tail = base_of(api_base)[1]
        if told is not None:
            if (told == "anthropic") != (family == "claude") and told != "serverless":
                raise self._fail(f"{place}.surface", f"{told!r} does not go with the family {family!r}")
            if told == "providers" and family not in PARTNERS:
                raise self._fail(f"{place}.surface", f"'providers' is for the families {', '.join(PARTNERS)}")
            return next(surface for surface in SURFACES if surface == told)
        if family == "claude":
            return "anthropic"
        if host.endswith(SERVERLESS_HOSTS):
            return "serverless"
        if "/openai/v1" in tail:
            if version is not None and version not in V1_API_VERSIONS:
                self._warn(place, f"api_version {version} is not used: api_base ends with /openai/v1")
            return "v1"
        if "/models" in tail:
            return "models"
        if version in V1_API_VERSIONS:
            return "v1"
        if provider == "azure":
            return "classic"
        return "providers" if family in ("mistral_ocr", "mai") else "models"

    def _one_of(self, keys: Table, key: str, known: tuple[Any, ...], place: str) -> Any:
        value = keys.get(key)
        if value is None:
            return None
        if value not in known:
            raise self._fail(f"{place}.{key}", f"must be one of {', '.join(known)}")
        return value

    def _reasoning(self, keys: Table, prefix: str, place: str) -> bool | None:
        value = self._told(keys, "supports_reasoning", place)
        return True if prefix in REASONING_PREFIXES else value

    def _told(self, keys: Table, key: str, place: str) -> bool | None:
        """A fact that is said, or said not to be, or left open."""
        value = keys.get(key)
        if value is not None and not isinstance(value, bool):
            raise self._fail(f"{place}.{key}", "must be true or false")
        return value

    def _tokens(self, keys: Table, key: str, place: str) -> int | None:
        value: object = keys.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= TOKENS_MAX:
            raise self._fail(f"{place}.{key}", f"{value!r} is not a number of tokens")
        return value


def described(deployment: Deployment) -> str:
    """What kind of model a deployment is taken for, and how that is known."""
    text = f"deployment {deployment.name}: family {deployment.family}, known by {deployment.discovered_by}"
    text += f"; surface {deployment.surface}"
    if deployment.closed:
        text += "; a name is all that closes what other families do: set model_info.family to be sure"
    if deployment.guessed and deployment.model_name:
        text += f"; taken for {deployment.model_name}"
    return text


def guesses(deployments: Sequence[Deployment]) -> str:
    """Of which public models only names say what they are, in one line."""
    names = list(dict.fromkeys(item.model for item in deployments if item.guessed))
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    told = ", ".join(names[:NAMED_MAX])
    return f"guessed from names until they have answered: {told}{more}; set model_info.base_model to be sure"


def _routes(name: str) -> bool:
    return any(word in name.lower() for word in ROUTERS)


def checked_version(version: str, place: str, fail: Fail) -> str:
    """An `api_version` as Foundry has them. Raises SettingsError."""
    if version in V1_API_VERSIONS or API_VERSION.match(version):
        return version
    raise fail(place, f"{version!r} is no version: write a date such as '2024-10-21', or v1, preview or latest")
