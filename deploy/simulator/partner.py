"""Partner models on their own paths: Cohere's rerank and embed, and what all partners share."""

from typing import Any
from zlib import crc32

import msgspec

from deploy.simulator import errors
from deploy.simulator.answers import Answer, Call, decode
from deploy.simulator.deployments import Deployment
from deploy.simulator.errors import FoundryError
from deploy.simulator.usage import Steering, Usage, steering, text_tokens

MAX_DOCUMENTS = 1_000
MAX_TEXTS = 96
DOCUMENTS_PER_UNIT = 100
TOKENS_PER_DOCUMENT = 500
TOKENS_PER_IMAGE = 1_000
EMBED_SIZES = (256, 512, 1024, 1536)


class RerankRequest(msgspec.Struct):
    """The fields of a rerank request that decide anything here. `v1`: Cohere's older answer."""

    query: str
    documents: list[str | dict[str, Any]]
    model: str | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    v1 = False

    @property
    def streamed(self) -> bool:
        """Never."""
        return False

    def answer(self, deployment: Deployment, call: Call) -> Answer:
        """The deployment's answer; raises Foundry's refusals."""
        check_vendor(deployment, call, "cohere", "rerank")
        return _rerank(self, deployment, call)


class RerankV1Request(RerankRequest):
    """The same on the legacy path."""

    v1 = True


class BrokenRerankRequest(RerankRequest):
    """The path that fails for every body."""

    def answer(self, deployment: Deployment, call: Call) -> Answer:
        """Never answers."""
        raise FoundryError(500, errors.server_error(call.request_id))


class EmbedInput(msgspec.Struct):
    """One mixed input of an embed request."""

    content: list[dict[str, Any]]


class EmbedRequest(msgspec.Struct):
    """The fields of a Cohere embed request that decide anything here. `v1`: Cohere's older answer."""

    texts: list[str] = []
    images: list[str] = []
    inputs: list[EmbedInput] = []
    model: str | None = None
    input_type: str | None = None
    embedding_types: list[str] | None = None
    output_dimension: int | None = None
    v1 = False

    @property
    def streamed(self) -> bool:
        """Never."""
        return False

    def answer(self, deployment: Deployment, call: Call) -> Answer:
        """The deployment's answer; raises Foundry's refusals."""
        check_vendor(deployment, call, "cohere", "embed")
        return _embed(self, deployment, call)


class EmbedV1Request(EmbedRequest):
    """The same on the legacy path."""

    v1 = True


def parse_rerank(body: bytes, content_type: bytes) -> RerankRequest:
    """The request of these bytes; raises a 400."""
    return decode(body, RerankRequest)


def parse_rerank_v1(body: bytes, content_type: bytes) -> RerankRequest:
    """The request of the legacy path; raises a 400."""
    return decode(body, RerankV1Request)


def parse_rerank_broken(body: bytes, content_type: bytes) -> RerankRequest:
    """The request of the path that fails for every body."""
    return decode(body, BrokenRerankRequest)


def parse_embed(body: bytes, content_type: bytes) -> EmbedRequest:
    """The request of these bytes; raises a 400."""
    return decode(body, EmbedRequest)


def parse_embed_v1(body: bytes, content_type: bytes) -> EmbedRequest:
    """The request of the legacy path; raises a 400."""
    return decode(body, EmbedV1Request)


KNOWN_TO_BE_OTHERS = ("gpt-", "o1", "o3", "o4", "claude", "text-embedding", "dall-e", "flux", "whisper", "tts", "phi-")


def check_vendor(deployment: Deployment, call: Call, vendor: str, operation: str) -> None:
    """Raise the 404 of a model that is not of the path's vendor. Names that nobody knows pass."""
    model = deployment.model.lower()
    other = "mistral" if vendor == "cohere" else "cohere"
    if model.startswith((*KNOWN_TO_BE_OTHERS, other)):
        raise errors.api_not_supported()
    if operation in ("chat", "embed") and "rerank" in model:
        raise errors.wrong_operation(operation, deployment.model)


def made_answer(call: Call, kind: str, usage: Usage, steer: Steering, body: dict[str, object]) -> Answer:
    """The answer with this body."""
    return Answer(
        id=f"{kind}-{call.serial}",
        usage=usage,
        charged=usage.prompt + usage.completion,
        body=msgspec.json.encode(body),
        delay_ms=steer.delay_ms,
        chunk_delay_ms=steer.chunk_delay_ms,
    )


def meta(version: str, billed: dict[str, int] | None) -> dict[str, object]:
    """The `meta` of a Cohere answer with what was billed; None leaves it out."""
    about: dict[str, object] = {"api_version": {"version": version}}
    if billed is not None:
        about["billed_units"] = billed
    return about


def _legacy_headers(deployment: Deployment, tokens: int) -> list[tuple[bytes, bytes]]:
    group = f"offer-{deployment.model.lower()}".encode("latin-1", "replace")
    return [(b"azureml-model-group", group), (b"num_tokens", b"%d" % tokens)]


def _rerank(request: RerankRequest, deployment: Deployment, call: Call) -> Answer:
    if not request.documents or len(request.documents) > MAX_DOCUMENTS:
        raise errors.invalid(f"'documents' must hold 1 to {MAX_DOCUMENTS} documents.", param="documents")
    if request.top_n is not None and request.top_n < 1:
        raise errors.invalid("'top_n' must be at least 1.", param="top_n")
    texts = [_document_text(one) for one in request.documents]
    steer = steering(request.query, call.caller.usage)
    sizes = [text_tokens(len(text) + len(request.query)) for text in texts]
    chunks = sum(max(1, -(-size // TOKENS_PER_DOCUMENT)) for size in sizes)
    units = -(-chunks // DOCUMENTS_PER_UNIT) if steer.queries is None else steer.queries
    scored = sorted(((_score(request.query, text), -place) for place, text in enumerate(texts)), reverse=True)
    results: list[dict[str, object]] = []
    for score, place in scored[: request.top_n]:
        result: dict[str, object] = {"index": -place, "relevance_score": score}
        if request.v1 and request.return_documents:
            result["document"] = {"text": texts[-place]}
        results.append(result)
    told = {"search_units": units} if call.with_usage and not steer.no_usage else None
    about = meta("1" if request.v1 else "2", told)
    body: dict[str, object] = {"id": call.request_id, "results": results, "meta": about}
    made = made_answer(call, "rerank", Usage(prompt=0, queries=units), steer, body)
    if request.v1:
        made.headers = _legacy_headers(deployment, sum(sizes))
    return made


def _document_text(document: str | dict[str, Any]) -> str:
    return document if isinstance(document, str) else str(document.get("text", document))


def _score(query: str, text: str) -> float:
    """Between 0 and 1: words shared, then a little by the text itself, so that the order is settled."""
    words = set(query.lower().split())
    shared = len(words & set(text.lower().split())) / (len(words) or 1)
    return round(shared * 0.9 + crc32(text.encode()) % 1000 / 10_000, 6)


def _embed(request: EmbedRequest, deployment: Deployment, call: Call) -> Answer:
    texts, images = _embed_inputs(request)
    if not texts and not images:
        raise errors.invalid("invalid request: one of texts, images or inputs must be set.", param="texts")
    if len(texts) + len(images) > MAX_TEXTS:
        raise errors.invalid(f"invalid request: at most {MAX_TEXTS} inputs.", param="texts")
    if request.input_type is None and not request.v1:
        raise errors.invalid("invalid request: input_type must be set.", param="input_type")
    size = request.output_dimension or 1024
    if request.output_dimension not in (None, *EMBED_SIZES):
        raise errors.invalid(f"output_dimension must be one of {EMBED_SIZES}.", param="output_dimension")
    steer = steering(texts[-1] if texts else None, call.caller.usage)
    text = sum(text_tokens(len(one)) for one in texts)
    image = steer.image_prompt or len(images) * TOKENS_PER_IMAGE
    prompt = text + image if steer.prompt is None else steer.prompt
    image = min(image, prompt)
    usage = Usage(prompt=prompt, image_prompt=image)
    billed = {"input_tokens": prompt - image} | ({"image_tokens": image, "images": len(images)} if image else {})
    told = billed if call.with_usage and not steer.no_usage else None
    vectors = [_vector(one, size) for one in [*texts, *images]]
    named = request.embedding_types is not None or not request.v1
    kinds = request.embedding_types or ["float"]
    body: dict[str, object] = {
        "id": call.request_id,
        "texts": texts,
        "embeddings": {kind: [_as_kind(vector, kind) for vector in vectors] for kind in kinds} if named else vectors,
        "meta": meta("1" if request.v1 else "2", told),
        "response_type": "embeddings_by_type" if named else "embeddings_floats",
    }
    made = made_answer(call, "embed", usage, steer, body)
    if request.v1:
        made.headers = _legacy_headers(deployment, prompt)
    return made


def _embed_inputs(request: EmbedRequest) -> tuple[list[str], list[str]]:
    texts, images = list(request.texts), list(request.images)
    for one in request.inputs:
        for part in one.content:
            if part.get("type") == "text":
                texts.append(str(part.get("text", "")))
            else:
                images.append(str(part.get("image_url", "")))
    return texts, images


def _vector(text: str, size: int) -> list[float]:
    """A vector that depends on the text alone, of length one."""
    seed = crc32(text.encode())
    signs = [1.0 if (seed * (place * 2 + 1) >> 7) & 1 else -1.0 for place in range(size)]
    return [round(sign / size**0.5, 8) for sign in signs]


def _as_kind(vector: list[float], kind: str) -> object:
    if kind == "float":
        return vector
    if kind in ("int8", "uint8"):
        return [(127 if value > 0 else -127) if kind == "int8" else (255 if value > 0 else 0) for value in vector]
    if kind in ("binary", "ubinary"):
        bits = [sum(1 << (7 - bit) for bit in range(8) if vector[at + bit] > 0) for at in range(0, len(vector), 8)]
        return [bit - 128 for bit in bits] if kind == "binary" else bits
    raise errors.invalid(f"embedding_types: '{kind}' is not known.", param="embedding_types")
