"""`Idempotency-Key` on a real table: done once, answered again, taken over, given up, forgotten."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from services.auth.api.operations import Ask, Body, Operation
from services.auth.api.pace import Pace
from services.auth.api.routes import routes
from services.auth.domain.fields.base import Fields
from services.auth.once import Once
from services.auth.store_database import Database
from services.auth.store_once import OnceStore
from shared.access import Gatekeeper, Right
from shared.clock import SystemClock
from shared.errors import ApiError, StoreUnavailable
from shared.http import Health, internal_app
from shared.ids import KeyId, OrgId, TeamId
from shared.pg import migrate
from shared.policy import KeyRecord
from shared.sealing import Sealer
from shared.telemetry import Metrics
from tests.support.servers import PostgresServer

MASTER_KEY = "sk-master-0123456789abcdef"
PEER_TOKEN = "token-of-scheduler-0123456789"
PEPPERS = {"p1": b"1" * 32}


class Thing(msgspec.Struct, frozen=True, kw_only=True):
    name: str = "a"


class Made(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    secret: str
    again: bool
    name: str


class Keys:
    """Two virtual keys, of which one has a role, and two secrets of the first."""

    def holder(self, secret: str) -> KeyRecord | None:
        plain = KeyRecord(seq=1, key_id=KeyId("key_plain"), org_id=OrgId("default"))
        boss = KeyRecord(
            seq=1,
            key_id=KeyId("key_boss"),
            org_id=OrgId("default"),
            team_id=TeamId("t"),
            role="team_admin",
            reach="team",
        )
        return {"sk-plain": plain, "sk-plain-2": plain, "sk-boss": boss}.get(secret)


@dataclass
class Bench:
    """Rows whose work is what a test says, on as many instances as a test wants."""

    database: Database
    url: str
    ran: int = 0
    fail: Callable[[Ask], Awaitable[None]] | None = None
    clients: list[httpx.AsyncClient] = field(default_factory=list)

    def instance(self, peppers: dict[str, bytes] = PEPPERS, database: Database | None = None) -> httpx.AsyncClient:
        once = Once(OnceStore(database or self.database), Sealer(peppers), SystemClock())
        gate = Gatekeeper(master_key=MASTER_KEY, peer_tokens={"scheduler": PEER_TOKEN}, keyring=Keys())

        async def make(ask: Ask) -> Made:
            self.ran += 1
            if self.fail is not None:
                await self.fail(ask)
            draws = ask.draws
            return Made(id=draws.short_id("thing"), secret=draws.secret(), again=draws.again, name=ask.body.name)

        body = Body(fields=Fields(known=("name",), refused={}), kind=Thing)
        base: dict[str, Any] = {"method": "POST", "summary": "Make", "body": body, "run": make, "answer": Made}
        rows = [
            Operation(path="/make", right=Right.KEY_WRITE, once=True, **base),
            Operation(path="/kill", right=Right.KEY_WRITE, once=True, without_store=True, **base),
            Operation(path="/own", who="keys", once=True, **base),
            Operation(path="/open", who="anybody", once=True, **base),
            Operation(path="/always", right=Right.KEY_WRITE, **base),
        ]
        found = routes(gate, once, Pace(SystemClock()), rows)
        app = internal_app(health=Health(), metrics=Metrics(), gate=gate, routes=found)
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://auth")  # pyright: ignore
        self.clients.append(client)
        return client

    async def sql(self, statement: str) -> list[Any]:
        connection = await asyncpg.connect(self.url, server_settings={"search_path": "auth"})
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()


@pytest.fixture
async def bench(database: str) -> AsyncGenerator[Bench, None]:
    await migrate(database, schema="auth", package="services.auth", progress=lambda _line: None)
    opened = Database(database)
    await opened.open()
    bench = Bench(opened, database)
    yield bench
    for client in bench.clients:
        await client.aclose()
    opened.close()


async def ask(
    client: httpx.AsyncClient, path: str = "/make", name: str = "a", key: str | None = "k", bearer: str = MASTER_KEY
) -> httpx.Response:
    headers = {"authorization": f"Bearer {bearer}"} | ({} if key is None else {"idempotency-key": key})
    return await client.post(path, json={"name": name}, headers=headers)


async def test_a_repeat_is_answered_byte_for_byte_and_done_once(bench: Bench) -> None:
    client = bench.instance()
    first, second = await ask(client), await ask(client)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.content == second.content
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["content-type"] == first.headers["content-type"] == "application/json"
    assert bench.ran == 1


async def test_the_other_instance_knows_it_too(bench: Bench) -> None:
    first, second = await ask(bench.instance()), await ask(bench.instance())
    assert (first.content, bench.ran) == (second.content, 1)


async def test_without_the_header_and_on_rows_without_it_everything_is_done(bench: Bench) -> None:
    client = bench.instance()
    assert len({(await ask(client, key=None)).json()["secret"] for _ in range(3)}) == 3
    assert len({(await ask(client, "/always")).json()["secret"] for _ in range(3)}) == 3
    assert await bench.sql("SELECT 1 FROM once") == []


async def test_another_request_under_the_same_key_is_refused(bench: Bench) -> None:
    client = bench.instance()
    await ask(client)
    other = await ask(client, name="b")
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert (await ask(client, "/kill")).status_code == 422
    assert (await ask(client)).headers["idempotency-replayed"] == "true"
    assert (await ask(client, name="b", key="k2")).status_code == 200


@pytest.mark.parametrize("key", ["", " ", "x" * 201, "tab\there", "caf\u00e9"])
async def test_a_header_that_is_no_key_is_refused(bench: Bench, key: str) -> None:
    headers = [("authorization", f"Bearer {MASTER_KEY}"), ("idempotency-key", key.encode("latin-1"))]
    answer = await bench.instance().post("/make", json={}, headers=headers)  # pyright: ignore
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_idempotency_key")
    assert bench.ran == 0


async def test_while_it_is_being_done_a_repeat_is_told_to_wait(bench: Bench) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def hold(_ask: Ask) -> None:
        arrived.set()
        await go_on.wait()

    bench.fail = hold
    one, other = bench.instance(), bench.instance()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(ask(one))
        await arrived.wait()
        busy = await ask(other)
        go_on.set()
    assert (busy.status_code, busy.json()["error"]["code"]) == (409, "idempotency_in_progress")
    assert busy.headers["retry-after"] == "1"
    assert (await ask(other)).content == first.result().content
    assert bench.ran == 1


async def test_what_may_be_done_twice_does_not_wait(bench: Bench) -> None:
    """A revocation is not held up by another attempt at it."""
    client = bench.instance()
    await ask(client, "/kill")
    await bench.sql("UPDATE once SET answer = NULL")
    assert (await ask(client, "/kill")).status_code == 200
    assert bench.ran == 2


async def test_many_at_once_do_it_once(bench: Bench) -> None:
    clients = [bench.instance(), bench.instance()]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(clients[n % 2])) for n in range(10)]
    answers = [task.result() for task in tasks]
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({answer.content for answer in answers if answer.status_code == 200}) == 1
    assert bench.ran == 1


@pytest.mark.parametrize(
    "died", [ApiError(503, "unavailable", "away"), StoreUnavailable("away"), RuntimeError("a defect")]
)
async def test_after_a_failure_a_repeat_goes_on_with_the_same_draws(bench: Bench, died: Exception) -> None:
    seen: list[str] = []

    async def fail_once(ask: Ask) -> None:
        seen.append(ask.draws.short_id("probe"))
        if len(seen) == 1:
            raise died

    bench.fail = fail_once
    client = bench.instance()
    assert (await ask(client)).status_code in (500, 503)
    again = (await ask(client)).json()
    assert again["again"] is True
    assert seen[0] == seen[1]


async def test_a_dead_process_leaves_its_claim_until_the_lease_ends(bench: Bench) -> None:
    """The row is what a process leaves behind that dies between its commit and its answer."""
    client = bench.instance()
    first = (await ask(client)).json()
    await bench.sql("UPDATE once SET answer = NULL")
    assert (await ask(client)).json()["error"]["code"] == "idempotency_in_progress"
    await bench.sql("UPDATE once SET lease_until = now() - interval '1 second'")
    second = (await ask(bench.instance())).json()
    assert (second["id"], second["secret"], second["again"]) == (first["id"], first["secret"], True)
    assert (await ask(client)).json() == second
    assert [row["attempts"] for row in await bench.sql("SELECT attempts FROM once")] == [2]


async def test_only_one_takes_over(bench: Bench) -> None:
    client = bench.instance()
    await ask(client)
    await bench.sql("UPDATE once SET answer = NULL, lease_until = now() - interval '1 second'")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(client)) for _ in range(6)]
    assert {task.result().status_code for task in tasks} <= {200, 409}
    assert bench.ran == 2


async def test_a_refusal_frees_the_key_for_a_corrected_request(bench: Bench) -> None:
    async def refuse(ask: Ask) -> None:
        if ask.body.name == "wrong":
            raise ApiError(409, "key_alias_taken", "key_alias: taken.", param="key_alias")

    bench.fail = refuse
    client = bench.instance()
    assert (await ask(client, name="wrong")).status_code == 409
    assert (await ask(client, name="right")).status_code == 200
    assert (
        await client.post("/make", content=b"{", headers={"authorization": f"Bearer {MASTER_KEY}"})
    ).status_code == 400


async def test_a_refusal_of_a_repeat_keeps_the_draws_of_the_first(bench: Bench) -> None:
    """What the first attempt did is not known: the key stays with its request."""
    client = bench.instance()
    first = (await ask(client)).json()
    await bench.sql("UPDATE once SET answer = NULL, lease_until = now()")

    async def refuse(_ask: Ask) -> None:
        raise ApiError(404, "team_not_found", "gone")

    bench.fail = refuse
    assert (await ask(client)).status_code == 404
    assert (await ask(client, name="b")).status_code == 422
    bench.fail = None
    assert (await ask(client)).json()["secret"] == first["secret"]


async def test_nobody_gets_the_answer_of_somebody_else(bench: Bench) -> None:
    client = bench.instance()
    answers = [await ask(client, "/make", bearer=bearer) for bearer in (MASTER_KEY, PEER_TOKEN, "sk-boss")]
    answers += [await ask(client, "/own", bearer=bearer) for bearer in ("sk-plain", "sk-plain-2")]
    answers += [await ask(client, "/open", bearer=bearer) for bearer in ("sk-plain", "sk-plain-2")]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["secret"] for answer in answers}) == len(answers)
    assert (await ask(client, "/own", bearer="sk-plain")).content == answers[3].content
    assert (await ask(client, "/make", bearer="sk-unknown")).status_code == 401
    assert (await ask(client, "/make", bearer="sk-plain")).status_code == 403


async def test_strangers_are_told_apart_by_what_they_send(bench: Bench) -> None:
    client = bench.instance()
    one, two, again = [
        await client.post("/open", json={"name": name}, headers={"idempotency-key": "k"}) for name in ("a", "b", "a")
    ]
    assert one.json()["secret"] != two.json()["secret"]
    assert again.content == one.content


async def test_nothing_can_be_read_in_the_table(bench: Bench, postgres_server: PostgresServer) -> None:
    answer = (await ask(bench.instance(), key="a-telling-key")).json()
    (row,) = await bench.sql("SELECT once::text AS all, seed, answer FROM once")
    for secret in (answer["secret"], answer["id"], "a-telling-key"):
        assert secret not in row["all"]
        assert secret.encode() not in row["answer"] + row["seed"]


async def test_after_its_time_a_key_is_free_and_its_row_goes(bench: Bench) -> None:
    client = bench.instance()
    first = await ask(client)
    await ask(client, key="other")
    (kept,) = await bench.sql("SELECT min(expires_at - now()) AS t FROM once")
    assert 590 <= kept["t"].total_seconds() <= 600
    await bench.sql("UPDATE once SET expires_at = now() - interval '1 second'")
    second = await ask(client, name="b")
    assert (second.status_code, second.json()["secret"] != first.json()["secret"]) == (200, True)
    assert await OnceStore(bench.database).sweep() == 1
    assert len(await bench.sql("SELECT 1 FROM once")) == 1


async def test_a_full_scope_is_told_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.auth.store_once.SCOPE_MAX", 2)
    client = bench.instance()
    for key in ("1", "2"):
        assert (await ask(client, key=key)).status_code == 200
    full = await ask(client, key="3")
    assert (full.status_code, full.headers["retry-after"]) == (429, "60")
    assert full.json()["error"]["code"] == "too_many_idempotency_keys"
    assert (await ask(client, key="1")).headers["idempotency-replayed"] == "true"
    assert (await ask(client, "/kill", key="4")).status_code == 200
    assert (await ask(client, key="1", bearer="sk-boss")).status_code == 200


async def test_without_postgres_only_what_needs_none_is_done(bench: Bench) -> None:
    client = bench.instance(database=Database("postgresql://nobody@127.0.0.1:9/none"))
    assert (await ask(client)).status_code == 503
    assert bench.ran == 0
    assert (await ask(client, "/kill")).status_code == 200
    assert (await ask(client, "/open")).status_code == 200


async def test_an_answer_under_a_lost_pepper_is_not_done_again_behind_ones_back(bench: Bench) -> None:
    await ask(bench.instance({"old": b"o" * 32}))
    lost = await ask(bench.instance())
    assert (lost.status_code, lost.json()["error"]["code"]) == (409, "idempotency_answer_lost")
    assert bench.ran == 1
    assert (await ask(bench.instance({"p1": b"1" * 32, "old": b"o" * 32}))).headers["idempotency-replayed"] == "true"
