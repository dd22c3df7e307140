"""Stored objects with everything real but Foundry, NATS and the enforcer: two teams and two resources of Foundry's."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter_ns
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from services.proxy.body import Patience
from services.proxy.call import Call
from services.proxy.catalog import PriceRegister
from services.proxy.directory import Directory
from services.proxy.domain.admission import Caller, Refused
from services.proxy.domain.asked import Asked, BadRequest
from services.proxy.domain.deployments import Deployment, Way
from services.proxy.domain.errors.failures import failure_of_refusal
from services.proxy.domain.errors.words import error_body
from services.proxy.domain.holds.estimate import Need
from services.proxy.domain.holds.prepare import Prepared
from services.proxy.domain.objects import Places, Seal
from services.proxy.domain.paths import Endpoint, route_of
from services.proxy.domain.prices import PriceBook
from services.proxy.journal import Journal
from services.proxy.publisher import Publisher
from services.proxy.stored.background import Background
from services.proxy.stored.objects import StoredObjects
from services.proxy.till import Till
from services.proxy.treasury import Treasury
from services.proxy.upstream import Reply, Upstream, UpstreamError, UpstreamRequest
from shared.access import SecretHasher
from shared.bus import Bus
from shared.events import UsageRecorded
from shared.ids import AccountId, InstanceId, KeyId, OrgId, TeamId
from shared.policy import Budget, KeyRecord, OrgRecord, TeamRecord
from shared.pricing import BATCH, PriceRow, Rates, Service
from shared.tasks import Supervisor
from shared.topology import allot_subject, key_kv, org_kv, team_kv
from shared.windows import WindowSpec
from tests.fakes.bus import FakeBus
from tests.fakes.enforcer import ACCOUNT, FakeEnforcer
from tests.fakes.shelf import FakeShelf
from tests.support.clock import FakeClock
from tests.unit.asgi_driver import Exchange, http_scope, pieces

ME = InstanceId("00000000-instance-me")
ROW = PriceRow(
    model="gpt-5-mini",
    rates=Rates(input=2_000_000_000, output=8_000_000_000),
    services={BATCH: Service(rates=Rates(input=1_000_000_000, output=4_000_000_000))},
)
IN, OUT, BATCH_IN, BATCH_OUT = 2_000, 8_000, 1_000, 4_000
SEAL = Seal({"p1": b"1" * 32})
TEAM_A, TEAM_A2, TEAM_B, LONE, STRICT = "a1", "a2", "b1", "lone", "strict"
"""Keys: two of team A, one of team B, one without a team, one of team A with a strict budget."""

STORED_ENDPOINTS = (Endpoint.RESPONSES, Endpoint.FILES, Endpoint.BATCHES)


def deployment(model: str, name: str, host: str) -> Deployment:
    root = f"https://{host}/openai/v1"
    return Deployment(
        model=model,
        name=name,
        provider="azure",
        host=host,
        headers=(("api-key", "foundry-key-0123456789"),),
        row=ROW,
        fixed_price=True,
        priced_by="test",
        base=f"https://{host}",
        ways={one: Way(url=f"{root}/{one}?api-version=preview", wire=one) for one in STORED_ENDPOINTS},
    )


class FakeReply:
    """A reply in pieces of a few bytes."""

    def __init__(self, status: int, body: bytes, piece: int) -> None:
        self.status = status
        self._body = body
        self._piece = piece

    def header(self, name: str) -> str | None:
        return {"content-type": "application/json", "apim-request-id": "r1"}.get(name)

    async def chunk(self) -> bytes | None:
        head, self._body = self._body[: self._piece], self._body[self._piece :]
        return head or None


class FakeFoundry:
    """Responses, files and batches of Foundry's in memory, for all teams together. `fail` are scripted failures."""

    def __init__(self) -> None:
        self.responses: dict[str, dict[str, Any]] = {}
        self.files: dict[str, tuple[dict[str, Any], bytes]] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.requests: list[UpstreamRequest] = []
        self.fail: list[UpstreamError | tuple[int, bytes] | None] = []
        self.after: list[UpstreamError] = []
        self.piece = 50
        self._made = 0

    def name(self, prefix: str) -> str:
        self._made += 1
        return f"{prefix}upstream{self._made:08d}"

    @asynccontextmanager
    async def open(self, request: UpstreamRequest) -> AsyncGenerator[Reply]:
        self.requests.append(request)
        failure = self.fail.pop(0) if self.fail else None
        if isinstance(failure, UpstreamError):
            raise failure
        status, body = failure or self._answer(request)
        if self.after:
            raise self.after.pop(0)
        yield FakeReply(status, body, self.piece)

    async def close(self) -> None:
        pass

    def _answer(self, request: UpstreamRequest) -> tuple[int, bytes]:
        parts = urlsplit(request.url)
        path = [unquote(one) for one in parts.path.removeprefix("/openai/v1/").split("/")]
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        assert query.pop("api-version") == "preview"
        try:
            answer = getattr(self, f"_{path[0]}")(request, path[1:], query)
        except KeyError:
            text = f"No such object: {path[1]}"
            return 404, json.dumps({"error": {"message": text, "code": "not_found"}}).encode()
        return 200, answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def _responses(self, request: UpstreamRequest, path: list[str], query: dict[str, str]) -> Any:
        found = self.responses[path[0]]
        if request.method == "DELETE":
            del self.responses[path[0]]
            return {"id": path[0], "object": "response", "deleted": True}
        if path[1:] == ["cancel"]:
            found["status"] = "cancelled"
        if path[1:] == ["input_items"]:
            assert query.get("after", "msg_upstream").startswith("msg_upstream")
            return {"object": "list", "data": [{"id": "msg_upstream1", "content": "hi"}], "first_id": "msg_upstream1"}
        return found

    def _files(self, request: UpstreamRequest, path: list[str], _query: dict[str, str]) -> Any:
        if request.method == "POST" and not path:
            return self.add_file(request.body)
        shown, data = self.files[path[0]]
        if path[1:] == ["content"]:
            return data
        if request.method == "DELETE":
            del self.files[path[0]]
            return {"id": path[0], "object": "file", "deleted": True}
        return shown

    def add_file(self, form: bytes, purpose: str = "") -> dict[str, Any]:
        boundary = form[: form.index(b"\r\n")]
        parts = [part.split(b"\r\n\r\n", 1) for part in form.split(boundary)[1:-1]]
        fields = {re.findall(rb'name="([^"]*)"', head)[0].decode(): data[:-2] for head, data in parts}
        return self.put_file(fields["file"], purpose or fields["purpose"].decode())

    def put_file(self, data: bytes, purpose: str) -> dict[str, Any]:
        made: dict[str, Any] = {
            "id": self.name("file-"), "object": "file", "bytes": len(data), "created_at": 1, "filename": "f.jsonl",
            "purpose": purpose, "status": "processed",
        }  # fmt: skip
        self.files[made["id"]] = (made, data)
        return made

    def _batches(self, request: UpstreamRequest, path: list[str], _query: dict[str, str]) -> Any:
        if request.method == "POST" and not path:
            asked = json.loads(request.body)
            self.files[asked["input_file_id"]]
            made: dict[str, Any] = {
                "id": self.name("batch_"), "object": "batch", "status": "validating", "model": "gpt-deployment",
                "output_file_id": None, "error_file_id": None, "created_at": 1_772_366_400, **asked,
            }  # fmt: skip
            self.batches[made["id"]] = made
            return made
        if not path:
            return {"object": "list", "data": list(self.batches.values())[::-1], "has_more": False}
        found = self.batches[path[0]]
        if path[1:] == ["cancel"]:
            found["status"] = "cancelling"
        return found

    def complete(self, batch: str, lines: list[bytes], status: str = "completed") -> str:
        """The batch is done; the id of its output file."""
        made = self.put_file(b"\n".join(lines) + b"\n", "batch_output")
        self.batches[batch].update(status=status, output_file_id=made["id"])
        return made["id"]


def chat_line(number: int, prompt: int = 10, output: int = 5) -> bytes:
    body = {
        "model": "gpt-5-mini-2025", "choices": [],
        "usage": {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output},
    }  # fmt: skip
    return json.dumps({"custom_id": f"c{number}", "response": {"status_code": 200, "body": body}}).encode()


def batch_input(lines: int = 2, model: str = "gpt", url: str = "/v1/chat/completions", **body: Any) -> bytes:
    content = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 10, **body}
    return b"\n".join(
        json.dumps({"custom_id": f"c{n}", "method": "POST", "url": url, "body": content}).encode() for n in range(lines)
    )


def form(data: bytes, purpose: str = "batch", **fields: str) -> tuple[str, bytes]:
    out = b"".join(
        b'--B\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), text.encode())
        for name, text in {"purpose": purpose, **fields}.items()
    )
    out += b'--B\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n' + data + b"\r\n--B--\r\n"
    return "multipart/form-data; boundary=B", out


class Told:
    """What a caller got."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.status = status
        self.body = body
        self.headers = headers

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json["error"]["code"]


class Process:
    """One proxy process: stored objects with a till of their own, over buckets that all processes share."""

    def __init__(self, world: "World", root: Path, name: str) -> None:
        self.world = world
        bus = cast(Bus, world.bus)
        self.instance = InstanceId(f"{ME}-{name}")
        self.journal = Journal(root, self.instance)
        self.publisher = Publisher(bus, self.journal, 1)
        self.tasks = Supervisor()
        self.treasury = Treasury(bus, world.directory, world.clock, self.instance, 1)
        book = PriceBook([ROW])
        self.till = Till(
            journal=self.journal,
            publisher=self.publisher,
            treasury=self.treasury,
            register=PriceRegister(bus, [ROW]),
            book=book,
            clock=world.clock,
            instance=self.instance,
        )
        self.stored = StoredObjects(
            bus=bus,
            upstream=world.upstream,
            places=world.places,
            seal=SEAL,
            directory=world.directory,
            treasury=self.treasury,
            till=self.till,
            book=book,
            clock=world.clock,
            tasks=self.tasks,
            patience=Patience(60),
            body_bytes_max=1_000_000,
            default_output_tokens=100,
            exceeded_status=402,
            objects=world.objects,
            pending=world.pending,
        )
        self.watcher = self.stored.watcher
        self.watcher.load({key: entry.value for key, entry in world.pending.content.items()})

    @property
    def background(self) -> Background:
        return self.stored.background

    def own_events(self) -> list[UsageRecorded]:
        """What its till has settled."""
        waiting = self.publisher._lanes[0].waiting
        return [msgspec.json.decode(event, type=UsageRecorded) for _, event, _ in waiting]

    async def close(self) -> None:
        await self.treasury.stop()
        await self.tasks.close()
        self.journal.close(remove=True)


class World:
    """All that processes share, and one process."""

    def __init__(self, root: Path, limit_nusd: int = 10**12, upstream: Upstream | None = None) -> None:
        self.clock = FakeClock()
        self.enforcer = FakeEnforcer(self.clock, limit_nusd)
        self.bus = FakeBus(responders={allot_subject(0): self.enforcer})
        self.directory = Directory(cast(Bus, self.bus), SecretHasher({"p1": b"1" * 32}), 1)
        self.load_keys()
        self.foundry = FakeFoundry()
        self.upstream = upstream or cast(Upstream, self.foundry)
        self.deployments = {
            "gpt": [deployment("gpt", "gpt-deployment", "one.example")],
            "mini": [deployment("mini", "mini-deployment", "one.example")],
            "far": [deployment("far", "far-deployment", "two.example")],
        }
        self.places = Places(self.deployments)
        self.objects, self.pending = FakeShelf(), FakeShelf(on_put=self.heard, on_remove=self.unheard)
        self.root = root
        self.processes: list[Process] = []
        self.made = 0
        self.one = self.process()

    def process(self) -> Process:
        self.made += 1
        made = Process(self, self.root, f"{self.made}")
        self.processes.append(made)
        return made

    def heard(self, key: str, value: bytes) -> None:
        for process in self.processes:
            process.watcher.put(key, value)

    def unheard(self, key: str) -> None:
        for process in self.processes:
            process.watcher.remove(key)

    def load_keys(self) -> None:
        org = OrgId("o1")
        records: dict[str, object] = {
            org_kv(org): OrgRecord(seq=1, org_id=org),
            team_kv("team_a"): TeamRecord(seq=1, team_id=TeamId("team_a"), org_id=org),
            team_kv("team_b"): TeamRecord(seq=1, team_id=TeamId("team_b"), org_id=org),
        }
        for key, team, strict in (
            (TEAM_A, "team_a", None), (TEAM_A2, "team_a", None), (TEAM_B, "team_b", None), (LONE, None, None),
            (STRICT, "team_a", True), ("limited", "team_a", False),
        ):  # fmt: skip
            budgets = () if strict is None else (_budget(key, strict),)
            records[key_kv(key)] = KeyRecord(
                seq=2, key_id=KeyId(key), org_id=org, team_id=None if team is None else TeamId(team), budgets=budgets,
                models=("gpt", "mini") if key == "lone" else (),
            )  # fmt: skip
        self.directory._load_keys({name: msgspec.json.encode(record) for name, record in records.items()})
        self.directory._load_revoked({})
        self.directory.keys._loaded.set()
        self.directory.keys.fresh = True
        self.directory.revoked._loaded.set()

    def caller(self, key: str) -> Caller:
        found = self.directory.current(key)
        assert found is not None
        return found

    async def ask(
        self,
        key: str,
        method: str,
        path: str,
        body: bytes | dict[str, Any] = b"",
        *,
        process: Process | None = None,
        **headers: str,
    ) -> Told:
        """One request; refusals are answered as the front door does."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        raw, _, query = path.partition("?")
        route = route_of(raw.encode())
        assert route is not None, path
        exchange = Exchange(pieces(data))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        scope = http_scope(method, raw, named, query.encode())
        stored = (process or self.one).stored
        try:
            await stored.serve(route, scope, exchange.receive, exchange.send, self.caller(key))
        except Refused as refused:
            return Told(refused.status, error_body("openai", failure_of_refusal(refused)), {})
        except BadRequest as error:
            refused = Refused(400, error.code, str(error), param=error.param)
            return Told(400, error_body("openai", failure_of_refusal(refused)), {})
        assert exchange.finished
        return Told(exchange.status, exchange.body, exchange.headers)

    async def upload(self, key: str, data: bytes, purpose: str = "batch", **fields: str) -> Told:
        kind, body = form(data, purpose, **fields)
        return await self.ask(key, "POST", "/v1/files", body, content_type=kind)

    async def start_batch(self, key: str, lines: int = 2, **more: Any) -> tuple[str, str]:
        """Upload and begin; the sealed id and Foundry's."""
        uploaded = await self.upload(key, batch_input(lines))
        assert uploaded.status == 200, uploaded.body
        told = await self.ask(key, "POST", "/v1/batches", new_batch(uploaded.json["id"], **more))
        assert told.status == 200, told.body
        return told.json["id"], list(self.foundry.batches)[-1]

    def response(self, key: str, status: str = "completed", model: str = "gpt", **more: Any) -> tuple[str, str]:
        """A response that Foundry has of a key's; the sealed id and Foundry's."""
        name = self.foundry.name("resp_")
        self.foundry.responses[name] = {"id": name, "object": "response", "status": status, "output": [], **more}
        owner = self.caller(key)
        place = self.deployments[model][0].id
        return SEAL.seal("response", f"team:{owner.team_id}" if owner.team_id else f"key:{key}", place, name), name

    async def call(self, process: Process, key: str, *, hold: int = 0) -> Call:
        """A call that has begun, with its money held."""
        caller = self.caller(key)
        lineage = caller.lineage("gpt")
        route = route_of(b"/v1/responses")
        assert route is not None
        asked = Asked(model="gpt", endpoint=Endpoint.RESPONSES, background=True)
        made = self.deployments["gpt"][0]
        need = Need(prompt=3, output=100, amount=hold, most=hold)
        prepared = Prepared(url="", body=b"", row=ROW, need=need, guess=3, output_max=100)
        call = Call(
            caller=caller, lineage=lineage, route=route, asked=asked, deployment=made,
            way=made.ways[Endpoint.RESPONSES], prepared=prepared, started_ns=perf_counter_ns(),
        )  # fmt: skip
        if lineage.accounts:
            call.hold = await process.treasury.hold(caller, lineage, hold, hold)
            call.held_nusd = call.hold.amount
        process.till.open(call)
        return call

    def published(self) -> list[UsageRecorded]:
        """What went to the log by way of the slots, each number once."""
        seen: dict[tuple[str, int], UsageRecorded] = {}
        for message in self.bus.stored:
            for event in msgspec.json.decode(message.data, type=list[UsageRecorded]):
                known = seen.setdefault((event.instance, event.n), event)
                assert known == event, "a number means one event"
        return list(seen.values())

    @contextmanager
    def nats_away(self) -> Generator[None]:
        self.objects.away = self.pending.away = True
        yield
        self.objects.away = self.pending.away = False

    async def close(self) -> None:
        for process in self.processes:
            await process.close()


def new_batch(file_id: str, **more: Any) -> dict[str, Any]:
    return {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h", **more}


def _budget(key: str, strict: bool) -> Budget:
    return Budget(
        account=AccountId(ACCOUNT),
        scope_kind="key",
        scope_id=key,
        window=WindowSpec(anchor=datetime(2026, 1, 1, tzinfo=UTC)),
        limit_nusd=1,
        strict=strict,
    )


async def settle_down() -> None:
    """Let tasks that are ready run."""
    for _ in range(20):
        await asyncio.sleep(0)
