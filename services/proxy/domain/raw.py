"""The raw routes: which of Foundry's own paths may be called behind a deployment, and where they lead.

`/azure/{model}/…` and `/azure_ai/{model}/…` pass a body on in Foundry's own words. The URL is made of the deployment's
resource and a row of this table, never of the caller's path; a segment that names a deployment must name this one.
Rows that reach stored objects, other deployments or management do not exist, nor do those whose replies do not say what
they used (`models/images/embeddings`, which counts words and pictures as one).
"""

import re
from collections.abc import Iterator
from urllib.parse import quote

import msgspec

from services.proxy.domain.deployments import CLASSIC_API_VERSION, MODELS_API_VERSION, Deployment, Family, Way
from services.proxy.domain.paths import Endpoint

API_VERSION = re.compile(r"(\d{4}-\d{2}-\d{2}(-preview)?|v1|preview|latest)\Z")
PREVIEW = "preview"
ANTHROPIC = (("anthropic-version", "2023-06-01"),)


class RawOperation(msgspec.Struct, frozen=True, kw_only=True):
    """A row: how the request is read and the reply metered, the path below the resource, and which models have it.

    `own`: the deployment's own way of the endpoint is taken. `version` is the API version where the caller names none
    (None: no version in the URL). `named`: the body carries the deployment's name.
    """

    reads: Endpoint
    wire: Endpoint
    path: str = ""
    own: bool = False
    version: str | None = None
    named: bool = True
    families: tuple[Family, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


OPENAI_OPERATIONS = (
    Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS, Endpoint.IMAGES, Endpoint.IMAGE_EDITS,
    Endpoint.TRANSCRIPTIONS, Endpoint.TRANSLATIONS, Endpoint.SPEECH,
)  # fmt: skip
"""What a deployment of an OpenAI model does without storing anything."""

DEPLOYMENT = "{deployment}"


def _azure() -> Iterator[tuple[str, RawOperation]]:
    for wire in OPENAI_OPERATIONS:
        yield wire, RawOperation(reads=wire, wire=wire, own=True)
        yield f"openai/v1/{wire}", RawOperation(reads=wire, wire=wire, path=f"openai/v1/{wire}")
        classic = f"openai/deployments/{DEPLOYMENT}/{wire}"
        yield classic, RawOperation(reads=wire, wire=wire, path=classic, version=CLASSIC_API_VERSION, named=False)


def _azure_ai() -> Iterator[tuple[str, RawOperation]]:
    for wire in (Endpoint.CHAT, Endpoint.EMBEDDINGS):
        yield wire, RawOperation(reads=wire, wire=wire, own=True)
        yield f"models/{wire}", RawOperation(reads=wire, wire=wire, path=f"models/{wire}", version=MODELS_API_VERSION)
        yield f"openai/v1/{wire}", RawOperation(reads=wire, wire=wire, path=f"openai/v1/{wire}")
    for wire in (Endpoint.MESSAGES, Endpoint.COUNT_TOKENS):
        path = f"anthropic/v1/{wire}"
        yield path, RawOperation(reads=wire, wire=wire, path=path, families=("claude",), headers=ANTHROPIC)
    for name, wire in (
        ("rerank", Endpoint.RERANK),
        ("embed", Endpoint.EMBEDDINGS),
        ("chat", Endpoint.CHAT),
        ("parse", Endpoint.OCR),
    ):
        path = f"providers/cohere/v2/{name}"
        metered = Endpoint.RAW if wire is Endpoint.CHAT else wire
        yield path, RawOperation(reads=wire, wire=metered, path=path, families=("cohere",))
    yield "rerank", RawOperation(reads=Endpoint.RERANK, wire=Endpoint.RERANK, own=True)
    yield "ocr", RawOperation(reads=Endpoint.OCR, wire=Endpoint.OCR, own=True)
    path = "providers/mistral/azure/ocr"
    yield path, RawOperation(reads=Endpoint.OCR, wire=Endpoint.OCR, path=path, families=("mistral_ocr",))
    for model in ("flux-2-pro", "flux-2-flex", "flux-kontext-pro", "flux-pro-1.1"):
        path = f"providers/blackforestlabs/v1/{model}"
        yield (
            path,
            RawOperation(reads=Endpoint.IMAGES, wire=Endpoint.IMAGES, path=path, version=PREVIEW, families=("flux",)),
        )
    for wire in (Endpoint.IMAGES, Endpoint.IMAGE_EDITS):
        path = f"mai/v1/{wire}"
        yield wire, RawOperation(reads=wire, wire=wire, own=True)
        yield path, RawOperation(reads=wire, wire=wire, path=path, version=PREVIEW, families=("mai",))


TABLE: dict[str, dict[str, RawOperation]] = {"azure": dict(_azure()), "azure_ai": dict(_azure_ai())}


def raw_operation(provider: str, rest: str) -> tuple[RawOperation, str | None] | None:
    """The row of a path behind `/{provider}/{model}/`, and the deployment that the path names; None: not offered."""
    table = TABLE.get(provider, {})
    known = table.get(rest)
    if known is not None:
        return known, None
    head = "openai/deployments/"
    if not rest.startswith(head):
        return None
    name, _, operation = rest.removeprefix(head).partition("/")
    known = table.get(f"{head}{DEPLOYMENT}/{operation}")
    return None if known is None or not name else (known, name)


APART: tuple[Family, ...] = ("claude", "mistral_ocr", "flux", "mai")
"""Families that have paths of their own and none of the common ones."""


def raw_way(operation: RawOperation, deployment: Deployment, version: str | None) -> Way | None:
    """Where a row leads for a deployment; None where its kind of model has no such path."""
    if operation.own:
        way = deployment.ways.get(operation.reads)
        return msgspec.structs.replace(way, exact=True) if way is not None and way.translation is None else None
    if deployment.family not in operation.families if operation.families else deployment.family in APART:
        return None
    path = operation.path.replace(DEPLOYMENT, quote(deployment.name, safe=""))
    chosen = version if version is not None and API_VERSION.match(version) else operation.version
    return Way(
        url=f"{deployment.base}/{path}" + (f"?api-version={chosen}" if chosen else ""),
        wire=operation.wire,
        body_model=deployment.name if operation.named else None,
        headers=operation.headers,
        exact=True,
    )


def offered(provider: str) -> str:
    """The paths of a provider, for the text of a refusal."""
    return ", ".join(sorted(TABLE.get(provider, {})))
