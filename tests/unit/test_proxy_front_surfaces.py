"""The front door beside inference: refusals in each dialect, models, stored objects, WebSockets, what is missing."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.proxy.domain.admission import Caller, Refused
from services.proxy.domain.paths import Route
from services.proxy.forwarder import Forwarder
from services.proxy.front import FrontDoor
from services.proxy.models import ModelPages
from shared.http import Health
from shared.telemetry import Counter
from tests.support.data_plane import MASTER, SECRET, DataPlane
from tests.unit.asgi_driver import Exchange, http_scope, pieces

VISIBLE = ["gpt-4o", "phi-4", "unpriced", "gpt-5", "mystery"]


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[DataPlane]:
    made = DataPlane(tmp_path / "journal")
    async with asyncio.timeout(20):
        yield made
    await made.close()


async def call(
    plane: DataPlane, path: str | bytes, method: str = "GET", secret: str | None = SECRET, **headers: str
) -> Exchange:
    if secret is not None:
        headers["authorization"] = f"Bearer {secret}"
    exchange = Exchange(pieces(b"{}"), plane.log)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    await plane.door(http_scope(method, path, headers), exchange.receive, exchange.send)
    return exchange


def error(answer: Exchange) -> dict[str, Any]:
    return json.loads(answer.body)["error"]


async def test_refusals_speak_the_callers_dialect(plane: DataPlane) -> None:
    for path in ("/v1/messages", "/anthropic/v1/messages", "/v1/messages/count_tokens"):
        answer = await call(plane, path, "POST", secret=None)
        said = json.loads(answer.body)
        assert answer.status == 401
        assert said["type"] == "error"
        assert (said["error"]["type"], said["error"]["code"]) == ("authentication_error", "missing_api_key")
        assert said["request_id"] == answer.headers["x-tundish-call-id"]
    openai = await call(plane, "/v1/responses", "POST", secret=None)
    assert error(openai)["type"] == "authentication_error"
    assert "type" not in json.loads(openai.body)


async def test_every_refusal_has_an_id_of_its_own(plane: DataPlane) -> None:
    answers = [
        await call(plane, "/v1/chat/completions", "POST", secret=None),
        await call(plane, "/v1/chat/completions", "POST"),
        await call(plane, "/v1/chat/completions", "GET"),
        await call(plane, "/v1/nowhere"),
    ]
    assert [answer.status for answer in answers] == [401, 400, 405, 404]
    ids = {answer.headers["x-tundish-call-id"] for answer in answers}
    assert len({UUID(one) for one in ids}) == 4
    assert "request_id" not in json.loads(answers[0].body)


@pytest.mark.parametrize(
    ("path", "secret", "passes"),
    [("/spend/logs", SECRET, False), ("/ledger/status", SECRET, False), ("/spend/logs", MASTER, True),
     ("/spend/logs", "sk-wrong", True), ("/key/info", SECRET, True)],
)  # fmt: skip
async def test_a_good_key_that_would_administer_is_told_so(
    plane: DataPlane, path: str, secret: str, passes: bool
) -> None:
    passed: list[Route] = []

    async def forward(route: Route, scope: Any, body: bytes, send: Any) -> None:
        passed.append(route)
        raise Refused(418, "passed", "on")

    door = FrontDoor(
        inference=plane.inference,
        forwarder=cast(Forwarder, SimpleNamespace(forward=forward)),
        health=Health(),
        pages=ModelPages(plane.models),
        calls=Counter("calls", "", ("endpoint",)),
        refused=plane.refused,
    )
    exchange = Exchange(pieces(b""), plane.log)
    await door(http_scope("GET", path, {"authorization": f"Bearer {secret}"}), exchange.receive, exchange.send)
    assert (exchange.status, error(exchange)["code"]) == ((418, "passed") if passes else (403, "not_allowed"))
    assert len(passed) == passes


async def test_methods_are_checked_in_both_dialects(plane: DataPlane) -> None:
    answer = await call(plane, "/v1/messages", "GET")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert json.loads(answer.body)["type"] == "error"
    both = await call(plane, "/v1/files", "PUT")
    assert (both.status, both.headers["allow"]) == (405, "POST, GET")
    for method in ("HEAD", "OPTIONS"):
        assert (await call(plane, "/v1/chat/completions", method)).status == 405


@pytest.mark.parametrize(
    "path", ["/v1/assistants", "/v1/threads", "/openai/vector_stores", "/v1/conversations", "/v1/fine_tuning/jobs",
             "/v1/evals", "/v1/containers", "/v1/uploads", "/v1/moderations", "/v1/videos", "/anthropic/v1/complete"]
)  # fmt: skip
async def test_what_is_not_offered_is_404_and_says_so(plane: DataPlane, path: str) -> None:
    answer = await call(plane, path, "POST")
    assert (answer.status, error(answer).get("code")) == (404, "not_supported")
    assert "offered" in error(answer)["message"]
    assert (json.loads(answer.body).get("type") == "error") == path.startswith("/anthropic")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/azure/gpt-4o/openai/v1/files/f", "/azure_ai/phi-4/openai/v1/responses/r"])
async def test_raw_paths_are_only_posted_to(plane: DataPlane, path: str, method: str) -> None:
    answer = await call(plane, path, method)
    assert (answer.status, error(answer)["code"]) == (404, "not_supported")


async def test_models_as_openai_shows_them(plane: DataPlane) -> None:
    for path in ("/v1/models", "/models", "/openai/v1/models"):
        answer = json.loads((await call(plane, path)).body)
        assert answer["object"] == "list"
        assert [(item["id"], item["object"]) for item in answer["data"]] == [(name, "model") for name in VISIBLE]
    one = json.loads((await call(plane, "/v1/models/gpt-4o")).body)
    assert (one["id"], one["owned_by"]) == ("gpt-4o", "tundish")
    hidden = await call(plane, "/v1/models/secret-model")
    assert hidden.status in (403, 404)
    assert (await call(plane, "/v1/models", secret=None)).status == 401


async def test_models_as_anthropic_shows_them(plane: DataPlane) -> None:
    told = await call(plane, "/v1/models", anthropic_version="2023-06-01")
    for answer in (told, await call(plane, "/anthropic/v1/models")):
        page = json.loads(answer.body)
        assert (page["has_more"], page["first_id"], page["last_id"]) == (False, "gpt-4o", "mystery")
        assert page["data"][0] == {
            "type": "model", "id": "gpt-4o", "display_name": "gpt-4o", "created_at": "2026-01-01T00:00:00Z",
        }  # fmt: skip
    one = json.loads((await call(plane, "/anthropic/v1/models/gpt-4o")).body)
    assert one["type"] == "model"
    missing = await call(plane, "/v1/models/none", anthropic_version="2023-06-01")
    assert missing.status == 403  # a key that may use named models is not told which others there are
    assert json.loads(missing.body)["error"]["type"] == "permission_error"


async def test_models_as_azure_shows_them(plane: DataPlane) -> None:
    page = json.loads((await call(plane, "/openai/models?api-version=2024-10-21".partition("?")[0])).body)
    assert page["data"][0]["capabilities"]["chat_completion"] is True
    assert page["data"][0]["status"] == "succeeded"
    assert json.loads((await call(plane, "/openai/models/phi-4")).body)["id"] == "phi-4"


async def test_info_of_models_in_litellms_shape(plane: DataPlane) -> None:
    for path in ("/model/info", "/v1/model/info", "/v2/model/info"):
        body = (await call(plane, path)).body
        assert b"foundry" not in body.replace(b"foundry_", b"")
        entries = {item["model_name"]: item for item in json.loads(body)["data"]}
        assert list(entries) == VISIBLE
        gpt = entries["gpt-4o"]
        assert gpt["litellm_params"] == {"model": "azure/gpt-4o-deployment"}
        info = gpt["model_info"]
        assert info["id"] == plane.models["gpt-4o"][0].id
        assert (info["input_cost_per_token"], info["output_cost_per_token"]) == (2.5e-6, 1e-5)
        assert (info["max_input_tokens"], info["max_output_tokens"]) == (128_000, 16_384)
        assert entries["unpriced"]["model_info"]["input_cost_per_token"] is None
        assert entries["gpt-5"]["model_info"]["supports_reasoning"] is True
    assert json.loads(body)["total_count"] == len(VISIBLE)
    groups = json.loads((await call(plane, "/model_group/info")).body)["data"]
    assert [item["model_group"] for item in groups] == VISIBLE
    assert (groups[0]["providers"], groups[0]["output_cost_per_token"]) == (["azure"], 1e-5)


async def test_the_administrator_sees_all_models_and_where_they_are_but_no_key(plane: DataPlane) -> None:
    body = (await call(plane, "/model/info", secret=MASTER)).body
    assert b"foundry-key" not in body
    entries = {item["model_name"]: item for item in json.loads(body)["data"]}
    assert entries["secret-model"]["litellm_params"]["api_base"] == "https://foundry.example"
    assert (await call(plane, "/v1/models", secret=MASTER)).status == 403


class Recorder:
    """Stands in for stored objects and realtime sessions."""

    def __init__(self, *, raises: Exception | None = None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.raises = raises

    async def serve(self, route: Route, scope: Any, receive: Any, send: Any, caller: Caller | None = None) -> None:
        self.calls.append((route, caller))
        if self.raises is not None:
            raise self.raises
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "websocket.accept"})


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/responses/r1"), ("DELETE", "/openai/responses/r1"), ("POST", "/v1/responses/r1/cancel"),
     ("GET", "/v1/responses/r1/input_items"), ("POST", "/v1/files"), ("GET", "/openai/files"),
     ("GET", "/v1/files/f/content"), ("POST", "/v1/batches"), ("POST", "/batches/b/cancel")],
)  # fmt: skip
async def test_stored_objects(plane: DataPlane, method: str, path: str) -> None:
    nothing = await call(plane, path, method)
    assert (nothing.status, error(nothing)["code"]) == (404, "not_supported")
    stored = Recorder()
    plane.door.stored = stored
    assert (await call(plane, path, method, secret=None)).status == 401
    assert stored.calls == []
    assert (await call(plane, path, method)).status == 204
    ((route, caller),) = stored.calls
    assert caller.key_id == "k1"
    assert route.object_id in (None, "r1", "f", "b")
    plane.door.stored = Recorder(raises=Refused(404, "not_found", "No such object."))
    assert (await call(plane, path, method)).status == 404
    plane.door.draining = True
    assert (await call(plane, path, method)).status == 503


async def test_realtime_by_http_is_told_how(plane: DataPlane) -> None:
    answer = await call(plane, "/v1/realtime")
    assert (answer.status, answer.headers["upgrade"]) == (426, "websocket")
    assert "WebSocket" in error(answer)["message"]


def socket_scope(path: str, *, words: bool) -> dict[str, Any]:
    scope = http_scope("GET", path, {})
    extensions = {"websocket.http.response": {}} if words else None
    return {**scope, "type": "websocket", "subprotocols": [], "extensions": extensions}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [("/v1/chat/completions", 404, "not_supported"), ("/v1/realtime", 404, "not_supported"),
     ("/nothing", 404, "not_found"), ("/v1/../realtime", 400, "bad_path")],
)  # fmt: skip
async def test_sockets_that_are_refused(plane: DataPlane, path: str, status: int, code: str) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    await plane.door(socket_scope(path, words=True), receive, send)
    assert [message["type"] for message in sent] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert sent[0]["status"] == status
    assert json.loads(sent[1]["body"])["error"]["code"] == code
    sent.clear()
    await plane.door(socket_scope(path, words=False), receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": code}]


async def test_sockets_of_realtime_are_served(plane: DataPlane) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    for path in ("/realtime", "/v1/realtime", "/openai/realtime", "/openai/v1/realtime"):
        plane.door.realtime = Recorder()
        await plane.door(socket_scope(path, words=True), receive, send)
    assert sent == [{"type": "websocket.accept"}] * 4
    sent.clear()
    plane.door.realtime = Recorder(raises=Refused(401, "missing_api_key", "No key."))
    await plane.door(socket_scope("/v1/realtime", words=True), receive, send)
    assert sent[0]["status"] == 401


async def test_any_path_and_header_gets_an_answer_that_is_no_failure(plane: DataPlane) -> None:
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.binary(max_size=60),
        st.sampled_from([b"", b"/", b"/v1/", b"/openai/deployments/", b"/azure/gpt-4o/", b"/v1/responses/"]),
        st.sampled_from(["GET", "DELETE", "OPTIONS", "BREW"]),
        st.dictionaries(
            st.sampled_from([b"authorization", b"api-key", b"x-api-key", b"anthropic-version", b"content-length"]),
            st.binary(max_size=30),
            max_size=3,
        ),
    )
    def check(path: bytes, prefix: bytes, method: str, headers: dict[bytes, bytes]) -> None:
        exchange = Exchange(pieces(b"x"), plane.log)
        scope = http_scope(method, prefix + path, {})
        scope["headers"] = list(headers.items())
        coroutine = plane.door(scope, exchange.receive, exchange.send)
        with pytest.raises(StopIteration):
            coroutine.send(None)
        assert exchange.status < 500
        assert b"foundry.example" not in exchange.body
        assert b"foundry-key" not in exchange.body

    check()
