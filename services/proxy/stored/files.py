"""Files: uploaded, listed, read and deleted by their owner. Every line of a batch's input is read before it is sent."""

import asyncio
import contextlib

import msgspec

from services.proxy.answers import BINARY_TYPE, LINES_TYPE, attachment, head
from services.proxy.body import read_body
from services.proxy.domain.admission import Refused, check_model
from services.proxy.domain.asked import BadRequest, Form, Part
from services.proxy.domain.deployments import Deployment
from services.proxy.domain.objects.lines import BatchFile, LineOpener, LineSealer, first_model
from services.proxy.domain.objects.records import ObjectRecord
from services.proxy.domain.objects.seal import Kind, Opened, is_upstream_id
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests.multipart import form_of, text_of
from services.proxy.stored.desk import Desk, Visit, named, page, unwritable, visible
from services.proxy.stored.foundry import FILE_BYTES_MAX, Answer, lines_of
from services.proxy.stored.watcher import Watcher
from services.proxy.upstream import Reply, UpstreamError
from shared.errors import BusError
from shared.pricing import PriceRow, Rates

SHOWN: dict[str, Kind] = {"id": "file"}
PURPOSES_MAX = 64
LISTED_MAX = 10_000
BATCH_PURPOSES = ("batch", "batch_output")
FIELDS = ("file", "purpose", "model", "expires_after[anchor]", "expires_after[seconds]")
FILENAME_MAX = 200
SEND_TIMEOUT_S = 60.0
MODEL_HEADER = b"x-tundish-model"


class _File(msgspec.Struct):
    id: str = ""
    purpose: str = ""
    filename: str = ""


class _Upload(msgspec.Struct, frozen=True, kw_only=True):
    """What a form uploads."""

    purpose: str
    filename: str
    data: bytes
    model: str | None
    others: tuple[tuple[str, str], ...]


class Files:
    """The routes of files."""

    def __init__(self, desk: Desk, watcher: Watcher) -> None:
        self._desk = desk
        self._watcher = watcher

    async def create(self, visit: Visit) -> None:
        """Upload a file. Its deployment is that of its lines' model, else of the model that form or header name, else
        the first that the caller may use and that has files."""
        visit.only()
        upload = await self._upload(visit)
        if upload.purpose == "batch":
            deployment, ready = await self._batch_input(visit, upload)
        else:
            deployment, ready = self._plain(visit, upload), None
        content_type, body = form_body(upload, upload.data if ready is None else ready.body, visit.call_id)
        answer = await self._desk.foundry.fetch(
            deployment, Endpoint.FILES, method="POST", body=body, content_type=content_type, call_id=visit.call_id
        )
        if not answer.good:
            await self._desk.bad(visit, answer, deployment, stored=False)
            return
        await self._record(visit, upload, deployment, ready, answer)
        await self._desk.good(visit, visible(self._desk, visit, answer.body, deployment.id, SHOWN), answer)

    async def list(self, visit: Visit) -> None:
        """The caller's own files, from our records."""
        await self._desk.good(visit, await page(self._desk, visit, "file", SHOWN, LISTED_MAX, LISTED_MAX))

    async def get(self, visit: Visit) -> None:
        """What is known of a file."""
        visit.only()
        opened, deployment = self._desk.open(visit, "file")
        answer = await self._desk.foundry.fetch(deployment, Endpoint.FILES, opened.upstream, call_id=visit.call_id)
        if not answer.good:
            await self._desk.bad(visit, answer, deployment)
            return
        with contextlib.suppress(BusError):
            await self._desk.records.said(visit.owner, opened, answer.body)
        await self._desk.good(visit, visible(self._desk, visit, answer.body, deployment.id, SHOWN), answer)

    async def delete(self, visit: Visit) -> None:
        """Delete a file and its record; not the output of a batch that is not charged yet."""
        visit.only()
        opened, deployment = self._desk.open(visit, "file")
        await self._charge_first(visit, deployment)
        answer = await self._desk.foundry.fetch(
            deployment, Endpoint.FILES, opened.upstream, method="DELETE", call_id=visit.call_id
        )
        if not answer.good and answer.status != 404:
            await self._desk.bad(visit, answer, deployment)
            return
        try:
            await self._desk.records.remove(visit.owner, opened)
        except BusError as error:
            raise unwritable(error) from error
        if not answer.good:
            await self._desk.bad(visit, answer, deployment)
            return
        await self._desk.good(visit, visible(self._desk, visit, answer.body, deployment.id, SHOWN), answer)

    async def content(self, visit: Visit) -> None:
        """The bytes of a file; lines of batches with the caller's ids and the model's public name."""
        visit.only()
        desk = self._desk
        opened, deployment = desk.open(visit, "file")
        told = await desk.foundry.fetch(deployment, Endpoint.FILES, opened.upstream, call_id=visit.call_id)
        if not told.good:
            await desk.bad(visit, told, deployment)
            return
        file = msgspec.json.decode(told.body, type=_File)
        async with desk.foundry.open(
            deployment, Endpoint.FILES, opened.upstream, "content", call_id=visit.call_id
        ) as reply:
            if reply.status != 200:
                body = await reply.chunk() or b""
                await desk.bad(visit, Answer(status=reply.status, body=body, headers=[]), deployment)
                return
            lines = file.purpose in BATCH_PURPOSES
            headers = [attachment(file.filename), named(visit)]
            await visit.send(head(200, LINES_TYPE if lines else BINARY_TYPE, headers))
            try:
                if lines:
                    await self._send_lines(visit, reply, deployment)
                else:
                    await self._send_bytes(visit, reply)
            except UpstreamError as error:  # the head is out: breaking off is the only way to say it
                raise RuntimeError(f"the content of a file broke off: {error}") from error

    # ---- inside --------------------------------------------------------------------------------------

    async def _upload(self, visit: Visit) -> _Upload:
        """Read the form. Raises Refused, BadRequest."""
        body = await read_body(visit.headers, visit.receive, self._desk.body_bytes_max, self._desk.patience)
        form = form_of(body, visit.headers.get(b"content-type", b"").decode("latin-1"))
        for part in form.parts:
            if part.name not in FIELDS:
                raise BadRequest(f"The field '{part.name[:60]}' is not served in uploads.", param=part.name[:60])
        file = _one_file(form)
        purpose = text_of(form, body, "purpose")
        if not purpose or len(purpose) > PURPOSES_MAX:
            raise BadRequest("'purpose' is missing: say what the file is for, such as 'batch'.", param="purpose")
        header = visit.headers.get(MODEL_HEADER)
        model = text_of(form, body, "model") or (None if header is None else header.decode("latin-1"))
        others = [(name, text_of(form, body, name)) for name in FIELDS[3:]]
        return _Upload(
            purpose=purpose,
            filename=(file.filename or "file")[:FILENAME_MAX],
            data=body[file.start : file.end],
            model=model,
            others=tuple((name, text) for name, text in others if text is not None),
        )

    def _plain(self, visit: Visit, upload: _Upload) -> Deployment:
        """The deployment on whose resource a file goes that is no batch's input."""
        model = upload.model
        if model is not None:
            model = visit.caller.resolved(model)
            check_model(visit.caller, model, model in self._desk.places)
        deployment = self._desk.places.first(visit.caller, Endpoint.FILES, model)
        if deployment is None:
            raise _not_offered(model, "files")
        return deployment

    async def _batch_input(self, visit: Visit, upload: _Upload) -> tuple[Deployment, BatchFile]:
        """Read every line for the deployment that will run them. Raises Refused, BadRequest."""
        desk = self._desk
        model = visit.caller.resolved(first_model(upload.data))
        check_model(visit.caller, model, model in desk.places)
        deployment = desk.places.first(visit.caller, Endpoint.BATCHES, model)
        if deployment is None or Endpoint.FILES not in deployment.ways:
            raise _not_offered(model, "batches")
        row = deployment.hold_row or deployment.row
        if row is None and not deployment.unpriced:
            raise Refused(
                503,
                "price_unknown",
                f"No price is known for the model '{model}', so it is not served.",
                kind="server_error",
                headers=((b"x-should-retry", b"false"),),
            )
        opener = LineOpener(
            deployment=deployment,
            row=row or PriceRow(model=model, rates=Rates(), source="unpriced"),
            seal=desk.seal,
            owner=visit.owner,
            base_of=desk.places.base,
            default_output=desk.default_output,
            aliases=visit.caller.aliases,
        )
        return deployment, await asyncio.to_thread(opener.open, upload.data)

    async def _record(
        self, visit: Visit, upload: _Upload, deployment: Deployment, ready: BatchFile | None, answer: Answer
    ) -> None:
        """Write the file down, or take it back."""
        file = msgspec.json.decode(answer.body, type=_File)
        if not is_upstream_id(file.id):
            raise UpstreamError("reset", "Foundry's answer to an upload names no file")
        record = ObjectRecord(
            kind="file",
            deployment=deployment.id,
            upstream=file.id,
            model=deployment.model,
            key_id=visit.caller.key_id,
            org_id=visit.caller.org_id,
            team_id=visit.caller.team_id,
            created_at=self._desk.clock.now(),
            said=msgspec.Raw(answer.body),
            purpose=upload.purpose,
            filename=upload.filename,
            lines=0 if ready is None else ready.lines,
            endpoint="" if ready is None else str(ready.endpoint),
            estimate_nusd=0 if ready is None else ready.estimate_nusd,
            prompt_tokens=0 if ready is None else ready.prompt_tokens,
        )
        try:
            opened = Opened(kind="file", deployment=deployment.id, upstream=file.id)
            await self._desk.records.create(visit.owner, opened, record)
        except BusError as error:
            with contextlib.suppress(UpstreamError):
                await self._desk.foundry.fetch(deployment, Endpoint.FILES, file.id, method="DELETE")
            raise unwritable(error) from error

    async def _charge_first(self, visit: Visit, deployment: Deployment) -> None:
        """Before a file goes: charge the batches that are done, since one of them may have written it."""
        for key, pending in self._watcher.of(visit.owner):
            if pending.kind != "batch" or self._desk.places.base(pending.deployment) != deployment.base:
                continue
            if await self._watcher.look(key) == "failed":
                raise Refused(
                    409,
                    "batch_not_charged",
                    "A batch of yours is not charged yet, and this file may be its output. Try again shortly.",
                    headers=((b"retry-after", b"5"),),
                )

    async def _send_lines(self, visit: Visit, reply: Reply, deployment: Deployment) -> None:
        sealer = LineSealer(deployment=deployment, seal=self._desk.seal, owner=visit.owner)
        async for line in lines_of(reply):
            await _send(visit, sealer.line(line) + b"\n", more=True)
        await _send(visit, b"", more=False)

    async def _send_bytes(self, visit: Visit, reply: Reply) -> None:
        size = 0
        while (chunk := await reply.chunk()) is not None:
            size += len(chunk)
            if size > FILE_BYTES_MAX:
                raise UpstreamError("reset", f"the file is larger than {FILE_BYTES_MAX} bytes")
            await _send(visit, chunk, more=True)
        await _send(visit, b"", more=False)


def form_body(upload: _Upload, data: bytes, unique: str) -> tuple[str, bytes]:
    """The form for Foundry: its content type and its bytes. Raises BadRequest if the data holds our boundary."""
    boundary = f"tundish-{unique}"
    if boundary.encode() in data:
        raise BadRequest("The file cannot be sent on: upload it again.", param="file")
    out: list[bytes] = []
    for name, text in (("purpose", upload.purpose), *upload.others):
        out.append(
            b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
            % (boundary.encode(), name.encode(), text.encode())
        )
    out.append(
        b'--%b\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" % (boundary.encode(), _plain_name(upload.filename).encode())
    )
    return f"multipart/form-data; boundary={boundary}", b"".join((*out, data, f"\r\n--{boundary}--\r\n".encode()))


def _plain_name(filename: str) -> str:
    """A file's name as a form may carry it between quotes."""
    return "".join("_" if char in '"\\' or not char.isprintable() else char for char in filename)


def _one_file(form: Form) -> Part:
    found = [part for part in form.parts if part.name == "file"]
    if len(found) != 1:
        raise BadRequest("Send exactly one part named 'file'.", code="missing_file", param="file")
    return found[0]


def _not_offered(model: str | None, what: str) -> Refused:
    whose = "any model of this key" if model is None else f"the model '{model}'"
    return Refused(400, "not_offered", f"No deployment of {whose} offers {what}.", param="model")


async def _send(visit: Visit, data: bytes, *, more: bool) -> None:
    if data or not more:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await visit.send({"type": "http.response.body", "body": data, "more_body": more})
