"""Foundry's surfaces: by which URL a deployment does what, and what it cannot do at all.

A resource serves its models on several families of paths. Which one a deployment is called on (`surface`) and what kind
of model it is (`family`) decide its ways; what neither can do has no way, and is refused before money is held.
"""

import re
from collections.abc import Iterable
from urllib.parse import quote

from services.proxy.domain.deployments import (
    CLASSIC_API_VERSION,
    MODELS_API_VERSION,
    V1_API_VERSIONS,
    Deployment,
    Family,
    Surface,
    Way,
)
from services.proxy.domain.paths import DEPLOYMENT_OPERATIONS, STORED, Endpoint

ANTHROPIC_HEADERS = (("anthropic-version", "2023-06-01"),)
PREVIEW = "preview"
TAILS = (
    "/chat/completions", "/v1/messages", "/openai/v1", "/anthropic/v1", "/openai", "/anthropic", "/models", "/v1",
)  # fmt: skip
"""What people put behind a resource's address: it names a surface, and is no part of the address."""
_PROJECT = re.compile(r"/api/projects/[^/]+\Z")
_CHATS = frozenset({Endpoint.CHAT, Endpoint.MESSAGES, Endpoint.COUNT_TOKENS})
_RESPONSES = frozenset({Endpoint.RESPONSES, Endpoint.RESPONSE, Endpoint.RESPONSE_CANCEL, Endpoint.RESPONSE_ITEMS})
_BATCHING = frozenset(
    {
        Endpoint.FILES,
        Endpoint.FILE,
        Endpoint.FILE_CONTENT,
        Endpoint.BATCHES,
        Endpoint.BATCH,
        Endpoint.BATCH_CANCEL,
    }
)
OF_FAMILY: dict[Family, frozenset[Endpoint]] = {
    "claude": _CHATS,
    "cohere": _CHATS | {Endpoint.EMBEDDINGS, Endpoint.RERANK, Endpoint.OCR},
    "mistral_ocr": frozenset({Endpoint.OCR}),
    "flux": frozenset({Endpoint.IMAGES, Endpoint.IMAGE_EDITS}),
    "mai": frozenset({Endpoint.IMAGES, Endpoint.IMAGE_EDITS}),
    "open": _CHATS | _RESPONSES | {Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS},
}
"""What a family of models does; families that are not named here do everything that their surface does."""
ALONE: tuple[Family, ...] = ("claude", "mistral_ocr", "flux", "mai")
"""Families whose surfaces no other model has: they are called there or nowhere."""
OF_MODE: dict[str, frozenset[Endpoint]] = {
    "chat": _CHATS | _RESPONSES | _BATCHING,
    "responses": _RESPONSES | _BATCHING,
    "completion": frozenset({Endpoint.COMPLETIONS}) | _BATCHING,
    "embedding": frozenset({Endpoint.EMBEDDINGS}) | _BATCHING,
    "image_generation": frozenset({Endpoint.IMAGES, Endpoint.IMAGE_EDITS}),
    "audio_transcription": frozenset({Endpoint.TRANSCRIPTIONS, Endpoint.TRANSLATIONS, Endpoint.REALTIME}),
    "audio_speech": frozenset({Endpoint.SPEECH}),
    "realtime": frozenset({Endpoint.REALTIME}),
    "rerank": frozenset({Endpoint.RERANK}),
    "ocr": frozenset({Endpoint.OCR}),
}
"""What a model of a catalogue's mode does."""
FLUX_PATHS = (
    ("flux-2-flex", "flux-2-flex"),
    ("flux-2-pro", "flux-2-pro"),
    ("flux-kontext", "flux-kontext-pro"),
    ("flux-1-kontext", "flux-kontext-pro"),
    ("flux-1-1", "flux-pro-1.1"),
    ("flux-pro-1-1", "flux-pro-1.1"),
)
"""Words of model names, with dashes for dots, and the path each has among Black Forest Labs'."""


def base_of(api_base: str) -> tuple[str, str]:
    """The address of a resource, and the tail that was cut off it (empty: none)."""
    base, cut = api_base.rstrip("/"), ""
    while True:
        tail = next((tail for tail in TAILS if base.endswith(tail)), None)
        if tail is None:
            break
        base, cut = base.removesuffix(tail), tail + cut
    project = _PROJECT.search(base)
    return (base[: project.start()] if project else base).rstrip("/"), cut


def narrows(family: Family, name: str, *, guessed: bool) -> bool:
    """Whether a family decides what a deployment cannot do.

    One that was guessed, from `name` or from none, closes ways only where its models have a surface of their own; of
    Cohere's these are those that rerank.
    """
    return not guessed or family in ALONE or (family == "cohere" and "rerank" in name.lower())


def ways_of(
    provider: str,
    name: str,
    api_base: str,
    api_version: str | None,
    family: Family,
    surface: Surface,
    *,
    model: str | None = None,
    mode: str | None = None,
    narrow: bool = True,
) -> dict[Endpoint, Way]:
    """All that a deployment can do, by what callers ask for.

    `model` is the name of the model behind it, where it is known (else its own name stands in); `mode` that model's
    mode in the catalogue, where it was declared. `narrow`: what the family does not do has no way. URLs of single
    stored objects have `{id}` where the id belongs.
    """
    base, tail = base_of(api_base)
    version = api_version if api_version in V1_API_VERSIONS else None
    if surface == "serverless":
        ways = _serverless(base, "/v1" if tail.startswith("/v1") else "", name, family)
    elif surface == "anthropic":
        ways = _claude(base, name)
    elif family in ("mistral_ocr", "flux", "mai"):
        ways = {}  # these have paths of their own, and no others
    elif surface == "v1":
        ways = _v1(base, name, version)
    elif surface == "classic":
        ways = _classic(base, name, api_version)
    else:
        ways = _v1(base, name, version)
        ways.update(_models(base, name, None if version else api_version))
    ways.update(_partner(base, name, (model or name).lower(), family, surface))
    _translated(ways)
    allowed = OF_FAMILY.get(family) if narrow else None
    declared = OF_MODE.get(mode or "")
    return {
        endpoint: way
        for endpoint, way in ways.items()
        if (allowed is None or endpoint in allowed) and (declared is None or endpoint in declared)
    }


def serves(deployment: Deployment) -> list[Endpoint]:
    """What a deployment is known to do, in order: of its ways those of its model's family and mode.

    A guess closes no way, so that more may be tried than this list has; one that leaves nothing is passed over.
    """
    facts = (OF_FAMILY.get(deployment.family), OF_MODE.get(deployment.facts.mode))
    known = [way for way in sorted(deployment.ways) if all(does is None or way in does for does in facts)]
    return known or sorted(deployment.ways)


def _classic(base: str, name: str, api_version: str | None) -> dict[Endpoint, Way]:
    """Deployments have their own paths; what has none there is called at the resource, in dated previews, or else on
    v1, which every resource has too."""
    version = CLASSIC_API_VERSION if api_version is None or api_version in V1_API_VERSIONS else api_version
    if version.endswith("-preview"):
        ways = _stored(f"{base}/openai", f"?api-version={quote(version, safe='')}", name)
        query = f"?api-version={quote(version, safe='')}&deployment={quote(name, safe='')}"
        ways[Endpoint.REALTIME] = Way(url=f"{_socket(base)}/openai/realtime{query}", wire=Endpoint.REALTIME)
    else:
        ways = _v1(base, name, None)
    ways.update(_deployment(base, name, version, DEPLOYMENT_OPERATIONS))
    return ways


def _deployment(base: str, name: str, version: str | None, operations: Iterable[Endpoint]) -> dict[Endpoint, Way]:
    root = f"{base}/openai/deployments/{quote(name, safe='')}"
    query = f"?api-version={quote(version or CLASSIC_API_VERSION, safe='')}"
    return {operation: Way(url=f"{root}/{operation}{query}", wire=operation) for operation in operations}


def _v1(base: str, name: str, version: str | None) -> dict[Endpoint, Way]:
    root, query = f"{base}/openai/v1", "" if version in (None, "v1") else f"?api-version={version}"
    ways = {
        operation: Way(url=f"{root}/{operation}{query}", wire=operation, body_model=name)
        for operation in DEPLOYMENT_OPERATIONS
    }
    ways.update(_stored(root, query, name))
    socket = f"{_socket(base)}/openai/v1/realtime?model={quote(name, safe='')}"
    ways[Endpoint.REALTIME] = Way(url=socket, wire=Endpoint.REALTIME)
    return ways


def _stored(root: str, query: str, name: str) -> dict[Endpoint, Way]:
    """Responses, files and batches, which stand beside the deployments."""
    ways = {endpoint: Way(url=f"{root}/{endpoint}{query}", wire=endpoint) for endpoint in STORED}
    ways[Endpoint.RESPONSES] = Way(url=f"{root}/responses{query}", wire=Endpoint.RESPONSES, body_model=name)
    return ways


def _models(base: str, name: str, api_version: str | None) -> dict[Endpoint, Way]:
    query = f"?api-version={quote(api_version or MODELS_API_VERSION, safe='')}"
    return {
        operation: Way(url=f"{base}/models/{operation}{query}", wire=operation, body_model=name)
        for operation in (Endpoint.CHAT, Endpoint.EMBEDDINGS)
    }


def _serverless(base: str, prefix: str, name: str, family: Family) -> dict[Endpoint, Way]:
    ways = {
        operation: Way(url=f"{base}{prefix}/{operation}", wire=operation, body_model=name)
        for operation in (Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS)
    }
    if family == "cohere":
        ways[Endpoint.RERANK] = Way(url=f"{base}/v1/rerank", wire=Endpoint.RERANK, body_model=name)
    return ways


def _claude(base: str, name: str) -> dict[Endpoint, Way]:
    ways = {
        endpoint: Way(url=f"{base}/anthropic/v1/{endpoint}", wire=endpoint, body_model=name, headers=ANTHROPIC_HEADERS)
        for endpoint in (Endpoint.MESSAGES, Endpoint.COUNT_TOKENS)
    }
    ways[Endpoint.CHAT] = Way(
        url=ways[Endpoint.MESSAGES].url,
        wire=Endpoint.MESSAGES,
        body_model=name,
        translation="chat_to_messages",
        headers=ANTHROPIC_HEADERS,
    )
    return ways


def _partner(base: str, name: str, model: str, family: Family, surface: Surface) -> dict[Endpoint, Way]:
    """What models of partners do on paths of their own."""
    if surface in ("serverless", "anthropic"):
        return {}
    if family == "cohere":
        root = f"{base}/providers/cohere/v2"
        return {
            Endpoint.RERANK: Way(url=f"{root}/rerank", wire=Endpoint.RERANK, body_model=name),
            Endpoint.OCR: Way(url=f"{root}/parse", wire=Endpoint.OCR, body_model=name),
        }
    if family == "mistral_ocr":
        url = f"{base}/providers/mistral/azure/ocr"
        return {Endpoint.OCR: Way(url=url, wire=Endpoint.OCR, body_model=name)}
    if family == "mai":
        return {
            endpoint: Way(url=f"{base}/mai/v1/{endpoint}?api-version={PREVIEW}", wire=endpoint, body_model=name)
            for endpoint in (Endpoint.IMAGES, Endpoint.IMAGE_EDITS)
        }
    return _flux(base, name, model, surface) if family == "flux" else {}


def _flux(base: str, name: str, model: str, surface: Surface) -> dict[Endpoint, Way]:
    """FLUX.2 has only its maker's path; older ones also speak as OpenAI's image models do."""
    words = model.replace(".", "-").replace("_", "-")
    path = next((path for word, path in FLUX_PATHS if word in words), None)
    if path is not None and (surface == "providers" or path.startswith("flux-2")):
        url = f"{base}/providers/blackforestlabs/v1/{path}?api-version={PREVIEW}"
        # The maker's path takes pictures to edit in the same JSON, so an OpenAI upload has no way there.
        return {Endpoint.IMAGES: Way(url=url, wire=Endpoint.IMAGES, body_model=name)}
    return _deployment(base, name, PREVIEW, (Endpoint.IMAGES, Endpoint.IMAGE_EDITS))


def _translated(ways: dict[Endpoint, Way]) -> None:
    """Messages for what speaks chat completions; their tokens are counted here, since nobody there does."""
    chat = ways.get(Endpoint.CHAT)
    if chat is None or chat.wire is not Endpoint.CHAT:
        return
    ways[Endpoint.MESSAGES] = Way(
        url=chat.url, wire=Endpoint.CHAT, body_model=chat.body_model, translation="messages_to_chat"
    )
    ways[Endpoint.COUNT_TOKENS] = Way(url="", wire=Endpoint.COUNT_TOKENS)


def _socket(base: str) -> str:
    """An address for WebSockets."""
    return "ws" + base.removeprefix("http")
