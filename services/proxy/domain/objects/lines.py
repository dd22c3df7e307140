"""Files of batches, line by line: made ready for Foundry on the way in, made the caller's again on the way out."""

from collections.abc import Callable, Iterator, Mapping

import msgspec

from services.proxy.domain.admission import Refused
from services.proxy.domain.asked import Asked, BadRequest
from services.proxy.domain.deployments import Deployment
from services.proxy.domain.holds.estimate import likely
from services.proxy.domain.objects.opening import Unsealed, open_request
from services.proxy.domain.objects.positions import (
    Found,
    Object,
    as_object,
    in_chat_reply,
    in_chat_request,
    in_response,
)
from services.proxy.domain.objects.seal import Seal
from services.proxy.domain.objects.sealing import SealingTransform, as_text
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.refused import no_price
from services.proxy.domain.requests import read_request
from services.proxy.domain.requests.writing import outgoing_fields
from services.proxy.domain.unpriced import check_tools
from shared.pricing import BATCH, PriceRow, price

LINES_MAX = 100_000
LINE_BYTES_MAX = 4 * 1024 * 1024
CUSTOM_ID_MAX = 512
LINE_FIELDS = frozenset({"custom_id", "method", "url", "body"})

_URLS = {
    "chat/completions": Endpoint.CHAT,
    "completions": Endpoint.COMPLETIONS,
    "embeddings": Endpoint.EMBEDDINGS,
    "responses": Endpoint.RESPONSES,
}
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)

Fields = dict[str, msgspec.Raw]
_fields: msgspec.json.Decoder[Fields] = msgspec.json.Decoder(dict[str, msgspec.Raw])


class BatchFile(msgspec.Struct, frozen=True, kw_only=True):
    """A batch's input made ready: the bytes for Foundry, and what all of its lines are likely to cost together.

    `prompt_tokens` is the mean of a line, for answers that do not say what they used.
    """

    body: bytes
    lines: int
    endpoint: Endpoint
    estimate_nusd: int
    prompt_tokens: int


class BadLine(BadRequest):
    """A line of a batch's input that is not taken; the text names the line and what is wrong with it."""

    def __init__(self, number: int, error: BadRequest | Refused) -> None:
        message = error.message if isinstance(error, Refused) else str(error)
        super().__init__(f"Line {number} of the file: {message}", code=error.code, param=error.param)
        self.status = error.status if isinstance(error, Refused) else 400


def endpoint_of(url: str) -> Endpoint:
    """The operation that a batch's `endpoint` or a line's `url` names. Raises BadRequest."""
    known = _URLS.get(url.removeprefix("/openai").removeprefix("/v1").removeprefix("/"))
    if known is None:
        raise BadRequest(
            f"'{url[:100]}' is not served in batches; /v1/chat/completions, /v1/completions, /v1/embeddings and"
            " /v1/responses are.",
            param="url",
        )
    return known


def first_model(data: bytes) -> str:
    """The public model of the first line: that of all. Raises BadRequest."""
    for number, line in _split(data):
        try:
            fields = _fields.decode(line)
            model = as_text(_fields.decode(fields["body"]).get("model"))
        except (KeyError, *_UNREADABLE) as error:
            raise BadLine(number, BadRequest("it is no request; send custom_id, method, url and body.")) from error
        if not model:
            raise BadLine(number, BadRequest("'body.model' is missing: name the model.", param="model"))
        return model
    raise BadRequest("The file has no lines.", code="empty_file", param="file")


class LineOpener:
    """Makes the lines of one file ready for the deployment that will run them.

    `aliases` are the caller's other names for models.
    """

    def __init__(
        self,
        *,
        deployment: Deployment,
        row: PriceRow,
        seal: Seal,
        owner: str,
        base_of: Callable[[str], str],
        default_output: int,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self._deployment = deployment
        self._row = row
        self._seal = seal
        self._owner = owner
        self._base_of = base_of
        self._default_output = default_output
        self._aliases = aliases or {}

    def open(self, data: bytes) -> BatchFile:
        """The whole file. Raises BadLine, or BadRequest for the file itself. Slow: 20 µs and more for each line."""
        out: list[bytes] = []
        endpoint: Endpoint | None = None
        total = prompt = 0
        for number, line in _split(data):
            try:
                wire, body, nusd, tokens = self._line(line)
                if endpoint not in (None, wire):
                    raise BadRequest("all lines of a file must have the same 'url'.", param="url")
            except (BadRequest, Refused) as error:
                if isinstance(error, Refused) and error.status == 404:
                    raise  # one and the same answer wherever the id stood
                raise BadLine(number, error) from error
            endpoint = wire
            out.append(body)
            total, prompt = total + nusd, prompt + tokens
        if endpoint is None:
            raise BadRequest("The file has no lines.", code="empty_file", param="file")
        body = b"\n".join(out) + b"\n"
        return BatchFile(
            body=body, lines=len(out), endpoint=endpoint, estimate_nusd=total, prompt_tokens=prompt // len(out)
        )

    def _line(self, line: bytes) -> tuple[Endpoint, bytes, int, int]:
        try:
            fields = _fields.decode(line)
            custom, url, body = as_text(fields.get("custom_id")), as_text(fields.get("url")), fields.get("body")
        except _UNREADABLE as error:
            raise BadRequest(f"it is not valid JSON: {error}.", code="invalid_json") from error
        for name in fields:
            if name not in LINE_FIELDS and name.lower() in LINE_FIELDS:
                raise BadRequest(f"the field '{name[:60]}' is not written as '{name.lower()}'.", param=name.lower())
        if custom is None or len(custom) > CUSTOM_ID_MAX or url is None or body is None:
            raise BadRequest("it must have a custom_id, a method, a url and a body.")
        if as_text(fields.get("method")) != "POST":
            raise BadRequest("its method must be POST.", param="method")
        endpoint = endpoint_of(url)
        unsealed = open_request(endpoint, bytes(body), self._seal, self._owner)
        self._check_place(unsealed)
        asked = read_request(unsealed.body, endpoint, None)
        if self._aliases.get(asked.model, asked.model) != self._deployment.model:
            raise BadRequest(
                f"its model is {asked.model[:100]!r}, that of the first line {self._deployment.model!r}: a file is for"
                " one model.",
                param="model",
            )
        if asked.background or asked.stream:
            raise BadRequest("neither 'background' nor 'stream' means anything in a batch: leave it out.")
        inner = outgoing_fields(unsealed.body, model=self._deployment.name, inject_usage=False)
        fields["body"] = msgspec.Raw(msgspec.json.encode(inner))
        nusd, tokens = self._estimate(asked, unsealed.body)
        return endpoint, msgspec.json.encode(fields), nusd, tokens

    def _check_place(self, unsealed: Unsealed) -> None:
        here = self._deployment
        elsewhere = unsealed.deployment not in (None, here.id)
        if elsewhere or any(self._base_of(one) != here.base for one in unsealed.resources):
            raise BadRequest("it names responses or files that the deployment of this batch cannot see.")

    def _estimate(self, asked: Asked, body: bytes) -> tuple[int, int]:
        usage = likely(asked, body, self._deployment.facts, self._row, self._default_output)
        usage = msgspec.structs.replace(usage, tier=BATCH)
        if asked.hosted and not self._deployment.unpriced:
            check_tools(asked.hosted, self._row)
        missing = self._row.missing(usage)
        if missing is not None and not self._deployment.unpriced:
            raise no_price(self._deployment, asked.endpoint, missing)
        return price(usage, self._row), usage.prompt


class LineSealer:
    """Makes lines of a batch's files the caller's again: ids sealed, the model's public name, all else unchanged."""

    def __init__(self, *, deployment: Deployment, seal: Seal, owner: str) -> None:
        self._name, self._model = deployment.name, deployment.model
        self._transform = SealingTransform(seal, owner, deployment.id)

    def line(self, line: bytes) -> bytes:
        """One line, without its end; what is no line of a batch stays as it is."""
        try:
            fields = _fields.decode(line)
            holder = self._holder(fields)
            if holder is None:
                return self._transform.whole(line)
            body = bytes(holder["body"])
            told = self._body(body)
            if told == body:
                return line
            holder["body"] = msgspec.Raw(told)
            if holder is not fields:
                fields["response"] = msgspec.Raw(msgspec.json.encode(holder))
            return msgspec.json.encode(fields)
        except _UNREADABLE:
            return line

    def _holder(self, fields: Fields) -> Fields | None:
        """The object whose `body` is a request or a reply."""
        if "body" in fields:
            return fields
        response = fields.get("response")
        if response is None or not bytes(response).startswith(b"{"):
            return None
        inner = _fields.decode(response)
        return inner if "body" in inner else None

    def _body(self, body: bytes) -> bytes:
        body = self._transform.exchange(body, _in_body)
        fields = _fields.decode(body)
        if as_text(fields.get("model")) != self._name or self._name == self._model:
            return body
        fields["model"] = msgspec.Raw(msgspec.json.encode(self._model))
        return msgspec.json.encode(fields)


def _in_body(value: object) -> Iterator[Found]:
    """The ids in the body of a line: a request's, or a reply's."""
    document: Object = as_object(value) or {}
    yield from in_chat_request(document.get("messages"))
    yield from in_chat_reply(document)
    if "choices" not in document:
        yield from in_response(document)


def _split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers. Raises BadRequest for more or longer ones than are taken."""
    start, number, found = 0, 0, 0
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        number += 1
        line = data[start:end].strip()
        start = end + 1
        if not line:
            continue
        found += 1
        if found > LINES_MAX:
            raise BadRequest(f"The file has more than {LINES_MAX} lines.", code="too_many_lines", param="file")
        if len(line) > LINE_BYTES_MAX:
            raise BadRequest(f"Line {number} of the file is longer than {LINE_BYTES_MAX} bytes.", param="file")
        yield number, line
