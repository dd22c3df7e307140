"""Deployments in Foundry: where each is reached, by what name, and what it costs."""

from urllib.parse import quote, urlsplit

import msgspec

from services.proxy.domain.facts import ModelFacts
from services.proxy.domain.paths import Endpoint
from shared.pricing import PriceRow, dearest

CLASSIC_API_VERSION = "2024-10-21"
MODELS_API_VERSION = "2024-05-01-preview"
V1_API_VERSIONS = ("v1", "preview", "latest")
SERVED_MAX = 1_000
"""Models whose price is remembered for one deployment."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of a deployment: the URL, and the model name its body must carry (None: any)."""

    url: str
    body_model: str | None


class Deployment(msgspec.Struct, kw_only=True):
    """One deployment behind a public model name.

    `row` is its price until an answer names the model that served; `fixed_price` says that the configuration set it,
    so that no answer changes it. Money is held by `hold_row`, the dearest of all rows seen here, since a deployment may
    be served by one model now and by another in a moment. `versions_row` is dearer still: while no answer has named
    the model, strict budgets hold by the dearest of its versions. `headers` carry the credential.
    """

    model: str
    name: str
    provider: str
    host: str
    targets: dict[Endpoint, Target]
    headers: tuple[tuple[str, str], ...]
    row: PriceRow | None
    fixed_price: bool
    priced_by: str
    stream_usage: bool = True
    facts: ModelFacts = ModelFacts()
    hold_row: PriceRow | None = None
    versions_row: PriceRow | None = None
    served: dict[str, PriceRow] = msgspec.field(default_factory=dict[str, PriceRow])

    def __post_init__(self) -> None:
        if self.hold_row is None:
            self.hold_row = self.row

    def seen(self, model: str, row: PriceRow) -> None:
        """An answer named a model that is priced by this row: hold at least as much from now on."""
        if self.hold_row is not None:
            self.hold_row = dearest(self.hold_row, row)
        self.versions_row = None
        if len(self.served) < SERVED_MAX:
            self.served[model] = row


def targets_of(provider: str, name: str, api_base: str, api_version: str | None) -> dict[Endpoint, Target]:
    """The URLs of a deployment by operation, from the table of Foundry's surfaces.

    `azure`: the classic path, or the v1 path when the version is `v1`, `preview` or `latest`. `azure_ai`: the model
    inference path, or a serverless endpoint by its host.
    """
    base = api_base.rstrip("/")
    for tail in ("/v1", "/models", "/openai"):
        base = base.removesuffix(tail)
    if provider == "azure" and api_version not in V1_API_VERSIONS:
        version = quote(api_version or CLASSIC_API_VERSION, safe="")
        root = f"{base}/openai/deployments/{quote(name, safe='')}"
        return {
            operation: Target(url=f"{root}/{operation}?api-version={version}", body_model=None)
            for operation in (Endpoint.CHAT, Endpoint.EMBEDDINGS)
        }
    if provider == "azure":
        root, query = f"{base}/openai/v1", "" if api_version == "v1" else f"?api-version={api_version}"
    elif serverless(api_base):
        root, query = base, ""
    else:
        version = quote(api_version or MODELS_API_VERSION, safe="")
        root, query = f"{base}/models", f"?api-version={version}"
    return {
        operation: Target(url=f"{root}/{operation}{query}", body_model=name)
        for operation in (Endpoint.CHAT, Endpoint.EMBEDDINGS)
    }


def serverless(api_base: str) -> bool:
    """Whether a base URL is a serverless endpoint, which takes its key as a bearer token."""
    return (urlsplit(api_base).hostname or "").endswith(".models.ai.azure.com")
