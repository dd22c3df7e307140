"""Embeddings of texts, token ids and pictures."""

import msgspec

from services.proxy.domain.asked import Asked
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests.reading import model_of


class _Embeddings(msgspec.Struct):
    model: str | None = None
    input: msgspec.Raw = msgspec.Raw()


_body = msgspec.json.Decoder(_Embeddings)


def read_embeddings(body: bytes, path_model: str | None) -> Asked:
    """Embeddings. Raises BadRequest, and whatever msgspec raises for what is no JSON."""
    said = _body.decode(body)
    model = model_of(path_model or said.model)
    return Asked(model=model, endpoint=Endpoint.EMBEDDINGS, output_cap=0, input=said.input)
