"""The table of everything the simulator answers: surfaces, their operations, other paths, websockets.

Three tables. OPERATIONS: what deployments do, by surface and the rest of the path. PATHS: requests that name
no deployment. SOCKETS: websockets. To add something, add its row.
"""

import re
from collections.abc import Callable
from functools import lru_cache

import msgspec

from deploy.simulator import (
    audio,
    batches,
    chat,
    completions,
    costs,
    embeddings,
    files,
    identity,
    images,
    keyvault,
    messages,
    models,
    partner,
    partner_text,
    realtime,
    responses,
    responses_store,
)
from deploy.simulator.answers import Request
from deploy.simulator.asks import Handler, SocketHandler

MAX_ROUTES_KEPT = 4_096
CLASSIC_PATTERN = re.compile(r"/openai/deployments/([^/]+)/(.+)\Z")


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a deployment can do: how its requests are read, and its name in Foundry's messages.

    `parse` gets the body and its content type, and raises FoundryError. `preview`: the undated api-version
    `preview` is taken too where a surface wants a dated one.
    """

    name: str
    title: str
    parse: Callable[[bytes, bytes], Request]
    preview: bool = False


class Surface(msgspec.Struct, frozen=True, kw_only=True):
    """One family of paths. `name` decides credentials and errors, `billed_as` stands in the served log.

    `versions`: which api-version it wants: `dated`, `preview` (dated previews only), `undated` (the word
    preview) or `any` (none needed).
    """

    name: str
    billed_as: str
    prefix: str
    versions: str


CLASSIC = Surface(name="classic", billed_as="classic", prefix="/openai/deployments/", versions="dated")
V1 = Surface(name="v1", billed_as="v1", prefix="/openai/v1/", versions="any")
ROOT = Surface(name="classic", billed_as="classic", prefix="/openai/", versions="preview")
MODELS = Surface(name="models", billed_as="models", prefix="/models/", versions="dated")
ANTHROPIC = Surface(name="anthropic", billed_as="anthropic", prefix="/anthropic/", versions="any")
PROVIDERS = Surface(name="providers", billed_as="providers", prefix="/providers/", versions="any")
MAI = Surface(name="mai", billed_as="mai", prefix="/mai/", versions="undated")
SERVERLESS = Surface(name="serverless", billed_as="serverless", prefix="/", versions="any")
FLUX = Surface(name="providers", billed_as="providers", prefix="/providers/blackforestlabs/v1/", versions="undated")
SURFACES = (CLASSIC, V1, ROOT, MODELS, ANTHROPIC, FLUX, PROVIDERS, MAI, SERVERLESS)
"""In the order in which prefixes are tried."""

CHAT = Operation(name="chat", title="ChatCompletions_Create", parse=chat.parse)
CHAT_MODELS = Operation(name="chat", title="ChatCompletions_Create", parse=chat.parse_models)
COMPLETIONS = Operation(name="completions", title="Completions_Create", parse=completions.parse)
EMBEDDINGS = Operation(name="embeddings", title="Embeddings_Create", parse=embeddings.parse)
IMAGE_EMBEDDINGS = Operation(name="embeddings", title="Embeddings_Create", parse=embeddings.parse_images)
RESPONSES = Operation(name="responses", title="Responses_Create", parse=responses.parse)
MESSAGES = Operation(name="messages", title="Messages_Create", parse=messages.parse)
COUNT_TOKENS = Operation(name="count_tokens", title="Messages_CountTokens", parse=messages.parse_count)

IMAGES = Operation(name="images", title="ImageGenerations_Create", parse=images.parse_generation, preview=True)
EDITS = Operation(name="edits", title="ImageEdits_Create", parse=images.parse_edit, preview=True)
FLUX_IMAGES = Operation(name="images", title="ImageGenerations_Create", parse=images.parse_flux)
TRANSCRIPTIONS = Operation(name="transcriptions", title="Transcriptions_Create", parse=audio.parse_transcription)
TRANSLATIONS = Operation(name="translations", title="Translations_Create", parse=audio.parse_translation)
SPEECH = Operation(name="speech", title="Speech_Create", parse=audio.parse_speech)
RERANK = Operation(name="rerank", title="Rerank_Create", parse=partner.parse_rerank)
RERANK_V1 = Operation(name="rerank", title="Rerank_Create", parse=partner.parse_rerank_v1)
RERANK_BROKEN = Operation(name="rerank", title="Rerank_Create", parse=partner.parse_rerank_broken)
EMBED = Operation(name="embeddings", title="Embed_Create", parse=partner.parse_embed)
EMBED_V1 = Operation(name="embeddings", title="Embed_Create", parse=partner.parse_embed_v1)
COHERE_CHAT = Operation(name="chat", title="Chat_Create", parse=partner_text.parse_chat)
COHERE_PARSE = Operation(name="parse", title="Parse_Create", parse=partner_text.parse_parse)
OCR = Operation(name="ocr", title="Ocr_Create", parse=partner_text.parse_ocr)

_OPENAI = {
    "chat/completions": CHAT,
    "completions": COMPLETIONS,
    "embeddings": EMBEDDINGS,
    "images/generations": IMAGES,
    "images/edits": EDITS,
    "audio/transcriptions": TRANSCRIPTIONS,
    "audio/translations": TRANSLATIONS,
    "audio/speech": SPEECH,
}
"""On classic and v1 alike."""

OPERATIONS: dict[Surface, dict[str, Operation]] = {
    CLASSIC: {**_OPENAI},
    V1: {**_OPENAI, "responses": RESPONSES},
    ROOT: {"responses": RESPONSES},
    MODELS: {
        "chat/completions": CHAT_MODELS,
        "embeddings": EMBEDDINGS,
        "images/embeddings": IMAGE_EMBEDDINGS,
        "v1/rerank": RERANK_BROKEN,
    },
    ANTHROPIC: {"v1/messages": MESSAGES, "v1/messages/count_tokens": COUNT_TOKENS},
    FLUX: dict.fromkeys(("flux-2-pro", "flux-2-flex", "flux-kontext-pro", "flux-pro-1.1"), FLUX_IMAGES),
    PROVIDERS: {
        "cohere/v2/rerank": RERANK,
        "cohere/v2/embed": EMBED,
        "cohere/v2/chat": COHERE_CHAT,
        "cohere/v2/parse": COHERE_PARSE,
        "mistral/azure/ocr": OCR,
    },
    MAI: {"v1/images/generations": IMAGES, "v1/images/edits": EDITS},
    SERVERLESS: {
        "chat/completions": CHAT,
        "v1/chat/completions": CHAT,
        "v1/rerank": RERANK_V1,
        "v1/embed": EMBED_V1,
    },
}
"""Surface → the rest of the path → operation. All are POST."""


class PathRow(msgspec.Struct, frozen=True, kw_only=True):
    """A request that names no deployment: `pattern` matches the whole decoded path.

    `surface` None: neither a key nor an api-version is asked for. `versioned` False waives the version only.
    A fault hits it when the fault's `operation` is `name`.
    """

    name: str
    method: str
    pattern: re.Pattern[str]
    handler: Handler
    surface: Surface | None = None
    versioned: bool = True


def _stored(name: str, method: str, rest: str, handler: Handler) -> list[PathRow]:
    """A path of stored objects, on v1 and below `/openai/` alike."""
    return [
        PathRow(name=name, method=method, pattern=re.compile(prefix + rest), handler=handler, surface=surface)
        for prefix, surface in (("/openai/v1/", V1), ("/openai/", CLASSIC))
    ]


def _responses(method: str, rest: str, handler: Handler) -> list[PathRow]:
    """A path of stored responses, on v1 and (dated previews only) below `/openai/`."""
    pattern = "responses/(?P<id>[^/]+)" + rest
    return [
        PathRow(
            name="responses",
            method=method,
            pattern=re.compile(surface.prefix + pattern),
            handler=handler,
            surface=surface,
        )
        for surface in (V1, ROOT)
    ]


def _open(name: str, method: str, pattern: str, handler: Handler) -> PathRow:
    """A path that checks its callers itself, or lets in everybody."""
    return PathRow(name=name, method=method, pattern=re.compile(pattern), handler=handler)


PATHS: list[PathRow] = [
    PathRow(name="models", method="GET", pattern=re.compile("/openai/v1/models"), handler=models.listed, surface=V1),
    PathRow(
        name="models",
        method="GET",
        pattern=re.compile("/openai/v1/models/(?P<id>[^/]+)"),
        handler=models.one,
        surface=V1,
    ),
    PathRow(name="models", method="GET", pattern=re.compile("/openai/models"), handler=models.listed, surface=CLASSIC),
    PathRow(
        name="models",
        method="GET",
        pattern=re.compile("/openai/models/(?P<id>[^/]+)"),
        handler=models.one,
        surface=CLASSIC,
    ),
    PathRow(name="info", method="GET", pattern=re.compile("/models/info"), handler=models.info, surface=MODELS),
    *_responses("GET", "", responses_store.get),
    *_responses("DELETE", "", responses_store.delete),
    *_responses("POST", "/cancel", responses_store.cancel),
    *_responses("GET", "/input_items", responses_store.input_items),
    *_stored("files", "POST", "files", files.create),
    *_stored("files", "GET", "files", files.list_all),
    *_stored("files", "GET", "files/([^/]+)", files.get),
    *_stored("files", "DELETE", "files/([^/]+)", files.delete),
    *_stored("files", "GET", "files/([^/]+)/content", files.content),
    *_stored("batches", "POST", "batches", batches.create),
    *_stored("batches", "GET", "batches", batches.list_all),
    *_stored("batches", "GET", "batches/([^/]+)", batches.get),
    *_stored("batches", "POST", "batches/([^/]+)/cancel", batches.cancel),
    _open("token", "POST", r"/([^/]+)/oauth2/v2\.0/token", identity.token),
    _open("discovery", "GET", r"/common/discovery/instance", identity.instances),
    _open("discovery", "GET", r"/([^/]+)/v2\.0/\.well-known/openid-configuration", identity.configuration),
    _open("imds", "GET", r"/metadata/identity/oauth2/token", identity.imds),
    _open("imds", "GET", r"/msi/token", identity.app_service),
    _open("vault", "GET", r"/secrets", keyvault.list_all),
    _open("vault", "PUT", r"/secrets/([^/]+)", keyvault.put),
    _open("vault", "GET", r"/secrets/([^/]+)/versions", keyvault.list_versions),
    _open("vault", "GET", r"/secrets/([^/]+)/?", keyvault.get),
    _open("vault", "GET", r"/secrets/([^/]+)/([0-9a-f]{32})", keyvault.get),
    _open("vault", "DELETE", r"/secrets/([^/]+)", keyvault.delete),
    _open("vault", "GET", r"/deletedsecrets/([^/]+)", keyvault.get_deleted),
    _open("vault", "DELETE", r"/deletedsecrets/([^/]+)", keyvault.purge),
    _open("vault", "POST", r"/deletedsecrets/([^/]+)/recover", keyvault.recover),
    _open("prices", "GET", r"/api/retail/prices", costs.prices),
    _open(
        "costs",
        "POST",
        r"/subscriptions/([^/]+)(?:/resource[gG]roups/[^/]+)?/providers/Microsoft\.CostManagement/query",
        costs.query,
    ),
]


class SocketRow(msgspec.Struct, frozen=True, kw_only=True):
    """A websocket: `pattern` matches the whole decoded path."""

    name: str
    pattern: re.Pattern[str]
    handler: SocketHandler


SOCKETS: list[SocketRow] = [
    SocketRow(name="realtime", pattern=re.compile(r"/openai/(v1/)?realtime"), handler=realtime.serve),
]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request for a deployment goes. `deployment` is None where the body (or host) names it."""

    surface: Surface
    operation: Operation
    deployment: str | None = None


@lru_cache(maxsize=MAX_ROUTES_KEPT)
def find_route(path: str) -> Route | None:
    """The route of a decoded path to a deployment's operation, or None."""
    surface = next((one for one in SURFACES if path.startswith(one.prefix)), SERVERLESS)
    if surface is CLASSIC:
        found = CLASSIC_PATTERN.match(path)
        operation = None if found is None else OPERATIONS[CLASSIC].get(found[2])
        if found is None or operation is None:
            return None
        return Route(surface=CLASSIC, operation=operation, deployment=found[1])
    operation = OPERATIONS[surface].get(path.removeprefix(surface.prefix))
    return None if operation is None else Route(surface=surface, operation=operation)


def find_path(method: str, path: str) -> tuple[PathRow, re.Match[str]] | None:
    """The row of a request that names no deployment, with the match of its path."""
    for row in PATHS:
        if row.method == method and (found := row.pattern.fullmatch(path)) is not None:
            return row, found
    return None


def find_socket(path: str) -> tuple[SocketRow, re.Match[str]] | None:
    """The row of a websocket, with the match of its path."""
    for row in SOCKETS:
        if (found := row.pattern.fullmatch(path)) is not None:
            return row, found
    return None
