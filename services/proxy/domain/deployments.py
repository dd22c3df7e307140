"""Deployments in Foundry: where each is reached, by what name, and what it costs."""

from hashlib import sha256
from typing import Literal

import msgspec

from services.proxy.domain.facts import Declared, FactBook, Family, ModelFacts, family_of
from services.proxy.domain.paths import Endpoint
from shared.pricing import PriceRow, dearest

CLASSIC_API_VERSION = "2024-10-21"
MODELS_API_VERSION = "2024-05-01-preview"
V1_API_VERSIONS = ("v1", "preview", "latest")
SERVED_MAX = 1_000
"""Models whose price is remembered for one deployment."""
SECRET_CHARS_MIN = 8
"""Shorter header values (versions, flags) are no secrets."""


Translation = Literal["chat_to_messages", "messages_to_chat"]
Surface = Literal["classic", "v1", "models", "serverless", "anthropic", "providers"]


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """How a deployment serves an endpoint: the URL, and the operation that is spoken there.

    `body_model` is the name its body must carry (None: any). `translation` is set where the caller's dialect is not
    the deployment's. `headers` go out with every such request, beside the credential. `exact`: no parameter is renamed
    or dropped on the way.
    """

    url: str
    wire: Endpoint
    body_model: str | None = None
    translation: Translation | None = None
    headers: tuple[tuple[str, str], ...] = ()
    exact: bool = False


class Deployment(msgspec.Struct, kw_only=True):
    """One deployment behind a public model name.

    `row` is its price until an answer names the model that served; `fixed_price` says that the configuration set it,
    so that no answer changes it. Money is held by `hold_row`, the dearest of all rows seen here, since a deployment may
    be served by one model now and by another in a moment. `versions_row` is dearer still: while no answer has named
    the model, strict budgets hold by the dearest of its versions. `headers` carry the credential.

    `ways` are what it can do, by what callers ask for. `id` is the same after every restart as long as the deployment
    is the same; `base` the address of its resource. `model_name` is the model behind it as far as it is known;
    `guessed`: from names alone, so that the first answer may teach better. `discovered_by` says how the family is
    known, `family_guessed` that it is from a name, `closed` that such a family closes ways. `declared` are facts that
    the configuration sets.
    """

    model: str
    name: str
    provider: str
    host: str
    headers: tuple[tuple[str, str], ...]
    row: PriceRow | None
    fixed_price: bool
    priced_by: str
    stream_usage: bool = True
    facts: ModelFacts = ModelFacts()
    hold_row: PriceRow | None = None
    versions_row: PriceRow | None = None
    served: dict[str, PriceRow] = msgspec.field(default_factory=dict[str, PriceRow])
    ways: dict[Endpoint, Way] = msgspec.field(default_factory=dict[Endpoint, Way])
    id: str = ""
    base: str = ""
    family: Family = "unknown"
    surface: Surface = "classic"
    drop_params: bool = False
    unpriced: bool = False
    model_name: str | None = None
    discovered_by: str = ""
    guessed: bool = False
    family_guessed: bool = False
    closed: bool = False
    declared: Declared = Declared()

    def __post_init__(self) -> None:
        if self.hold_row is None:
            self.hold_row = self.row
        if not self.id:
            self.id = deployment_id(self.model, self.name, self.base or self.host)

    def seen(self, model: str, row: PriceRow) -> None:
        """An answer named a model that is priced by this row: hold at least as much from now on."""
        if self.hold_row is not None:
            self.hold_row = dearest(self.hold_row, row)
        self.versions_row = None
        if len(self.served) < SERVED_MAX:
            self.served[model] = row

    def learn(self, served_model: str, book: FactBook) -> None:
        """An answer named a model: what was only guessed of it is known from now on.

        Names that say nothing (the deployment's own, those of no known family) teach nothing. What can be asked for
        stays as it was.
        """
        if not self.guessed or served_model == self.name:
            return
        family = family_of(served_model)
        if family == "unknown":
            return
        self.guessed = False
        self.facts = book.facts(served_model, self.declared)
        self.model_name = served_model
        if self.family_guessed:
            self.family = family
            self.family_guessed = False
            self.discovered_by = f"the answer that named {served_model}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that may stand in no answer: the host, the resource's name, and the credential."""
        host = self.host.rpartition(":")[0] if self.host.rpartition(":")[2].isdecimal() else self.host
        values = (value.removeprefix("Bearer ") for _, value in self.headers)
        return (self.host, host, *(value for value in values if len(value) >= SECRET_CHARS_MIN))


def deployment_id(model: str, name: str, base: str) -> str:
    """A short name for a deployment that callers may see."""
    return sha256(f"{model}\n{name}\n{base}".encode()).hexdigest()[:12]
