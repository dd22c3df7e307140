"""Reading requests: for each operation the few facts of its body that decide its way and its price."""

from collections.abc import Callable

from services.proxy.domain.asked import Asked, BadRequest
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests.audio import read_sound, read_speech
from services.proxy.domain.requests.chat import read_chat
from services.proxy.domain.requests.completions import read_completions
from services.proxy.domain.requests.embeddings import read_embeddings
from services.proxy.domain.requests.images import read_edits, read_images
from services.proxy.domain.requests.messages import read_count_tokens, read_messages
from services.proxy.domain.requests.ocr import read_ocr
from services.proxy.domain.requests.reading import UNREADABLE, unreadable
from services.proxy.domain.requests.rerank import read_rerank
from services.proxy.domain.requests.responses import read_responses

JSON = "application/json"

_READERS: dict[Endpoint, Callable[[bytes, str | None], Asked]] = {
    Endpoint.CHAT: read_chat,
    Endpoint.COMPLETIONS: read_completions,
    Endpoint.EMBEDDINGS: read_embeddings,
    Endpoint.RESPONSES: read_responses,
    Endpoint.MESSAGES: read_messages,
    Endpoint.COUNT_TOKENS: read_count_tokens,
    Endpoint.IMAGES: read_images,
    Endpoint.SPEECH: read_speech,
    Endpoint.RERANK: read_rerank,
    Endpoint.OCR: read_ocr,
}
READ = frozenset([*_READERS, Endpoint.IMAGE_EDITS, Endpoint.TRANSCRIPTIONS, Endpoint.TRANSLATIONS])
"""Operations whose requests are read here."""


def read_request(body: bytes, endpoint: Endpoint, path_model: str | None, content_type: str = JSON) -> Asked:
    """The facts of a request's body that decide its way and its price. Raises BadRequest and nothing else.

    `path_model` is the model's public name where the path carries it, and stands above the body's.
    """
    try:
        if endpoint is Endpoint.CHAT:
            return read_chat(body, path_model)
        reader = _READERS.get(endpoint)
        if reader is not None:
            return reader(body, path_model)
        if endpoint is Endpoint.IMAGE_EDITS:
            return read_edits(body, path_model, content_type)
        if endpoint in READ:
            return read_sound(body, path_model, content_type, endpoint)
    except UNREADABLE as error:
        raise unreadable(error) from error
    raise BadRequest(f"'{endpoint}' takes no such request.", code="invalid_request_body")
