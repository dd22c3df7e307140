"""What keys may be beside plain: with a role, for some routes, with aliases and tags, in the overlap of secrets."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from services.proxy.domain.admission import Refused
from services.proxy.domain.paths import Route
from services.proxy.domain.prices import PriceBook
from services.proxy.forwarder import Forwarder
from services.proxy.front import FrontDoor
from services.proxy.journal import OpenRecord
from services.proxy.models import ModelPages
from services.proxy.realtime.sessions import Realtime
from services.proxy.till import lost_event
from shared.http import Health
from shared.ids import KeyId, OrgId, TeamId
from shared.policy import KeyRecord, OrgRecord, SecretRecord, TeamRecord
from shared.telemetry import Counter
from shared.topology import key_kv, org_kv, team_kv
from tests.support.data_plane import FREE_SECRET, HASHER, MASTER, ME, ROW, SECRET, DataPlane, chat, refuse
from tests.unit.asgi_driver import Exchange, http_scope, pieces

REPLY = {
    "choices": [{"message": {"content": "Hi"}}],
    "model": "gpt-4o-2024-08-06",
    "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
}
OLD, NEW = "sk-version-one", "sk-version-two"
ORG, TEAM, KEY = OrgId("o1"), TeamId("t1"), KeyId("k9")
MODELS = ["gpt-4o", "phi-4", "secret-model", "unpriced", "gpt-5", "mystery"]


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[DataPlane]:
    made = DataPlane(tmp_path / "journal")
    async with asyncio.timeout(20):
        yield made
    await made.close()


def give(plane: DataPlane, *, team: Any = None, org: Any = None, ends_s: int | None = None, **key: Any) -> None:
    """A key of a team with two versions of its secret."""
    ends = None if ends_s is None else plane.clock.now() + timedelta(seconds=ends_s)
    records = {
        org_kv(ORG): OrgRecord(seq=50, org_id=ORG, **(org or {})),
        team_kv(TEAM): TeamRecord(seq=50, team_id=TEAM, org_id=ORG, **(team or {})),
        key_kv(KEY): KeyRecord(seq=50, key_id=KEY, org_id=ORG, team_id=TEAM, newest=2, **key),
        HASHER.entries(OLD)[0]: SecretRecord(key_id=KEY, version=1, seq=50, not_after=ends),
        HASHER.entries(NEW)[0]: SecretRecord(key_id=KEY, version=2, seq=50),
    }
    for name, record in records.items():
        plane.directory._put_key(name, msgspec.json.encode(record))


async def call(
    plane: DataPlane, path: str = "/v1/chat/completions", body: bytes | None = None, method: str = "POST",
    secret: str = NEW, door: FrontDoor | None = None, **headers: str,
) -> Exchange:  # fmt: skip
    exchange = Exchange(pieces(chat() if body is None else body), plane.log)
    scope = http_scope(method, path, {"authorization": f"Bearer {secret}", **headers})
    await (door or plane.door)(scope, exchange.receive, exchange.send)
    return exchange


def error(answer: Exchange) -> tuple[int, str]:
    return answer.status, answer.error["code"]


# ---- roles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["admin", "org_admin", "team_admin", "viewer"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/azure/gpt-4o/openai/v1/chat/completions"])
async def test_a_key_with_a_role_calls_no_model(plane: DataPlane, role: str, path: str) -> None:
    give(plane, role=role, reach="team")
    answer = await call(plane, path)
    assert answer.status == 403
    assert "Mint a key without a role" in answer.body.decode()
    assert plane.quiet()
    assert not plane.upstream.requests


async def test_its_code_says_why(plane: DataPlane) -> None:
    give(plane, role="viewer", reach="all")
    assert error(await call(plane)) == (403, "role_key_on_data_plane")
    assert error(await call(plane, "/v1/models", method="GET")) == (403, "role_key_on_data_plane")


async def test_what_there_is_is_shown_to_roles_and_where_it_is_to_administrators(plane: DataPlane) -> None:
    give(plane, role="viewer", reach="team", team={"models": ("gpt-*",)})
    shown = json.loads((await call(plane, "/model/info", method="GET")).body)["data"]
    assert [item["model_name"] for item in shown] == ["gpt-4o", "gpt-5"]
    assert not any("api_base" in item["litellm_params"] for item in shown)
    give(plane, role="admin", reach="all")
    shown = json.loads((await call(plane, "/model/info", method="GET")).body)["data"]
    assert [item["model_name"] for item in shown] == MODELS
    assert all("api_base" in item["litellm_params"] for item in shown)


# ---- routes ------------------------------------------------------------------------------------------


async def test_a_key_for_some_routes_calls_no_others(plane: DataPlane) -> None:
    give(plane, allowed_routes=("/v1/embeddings", "info_routes"))
    answer = await call(plane, "/openai/deployments/gpt-4o/chat/completions")
    assert error(answer) == (403, "route_not_allowed")
    assert "/chat/completions" in answer.error["message"]
    assert "/v1/embeddings, info_routes" in answer.error["message"]
    assert (await call(plane, "/v1/models", method="GET")).status == 200
    assert (await call(plane, "/model/info", method="GET")).status == 200
    plane.upstream.json({"data": [], "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}})
    assert (await call(plane, "/embeddings", json.dumps({"model": "gpt-4o", "input": "x"}).encode())).status == 200


async def test_models_raw_paths_and_stored_objects_are_routes_too(plane: DataPlane) -> None:
    give(plane, allowed_routes=("/v1/chat/completions",))
    served: list[Route] = []

    async def serve(route: Route, *_: Any) -> None:
        served.append(route)
        raise Refused(418, "served", "it was")

    plane.door.stored = cast(Any, SimpleNamespace(serve=serve))
    for path in ("/v1/models", "/v1/models/gpt-4o", "/model/info", "/v1/files", "/v1/batches/b1", "/v1/responses/r1"):
        assert error(await call(plane, path, method="GET")) == (403, "route_not_allowed"), path
    assert error(await call(plane, "/azure/gpt-4o/openai/v1/chat/completions")) == (403, "route_not_allowed")
    assert not served
    give(plane, allowed_routes=("/v1/files*",))
    assert error(await call(plane, "/v1/files", method="GET")) == (418, "served")


# ---- aliases -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/v1/chat/completions", "fast"),
        ("/openai/deployments/fast/chat/completions", "other"),
        ("/v1/responses", "fast"),
        ("/v1/messages", "fast"),
        ("/v1/embeddings", "fast"),
        ("/azure_ai/fast/models/chat/completions", "fast"),
    ],
)
async def test_an_alias_is_the_model_it_stands_for(plane: DataPlane, path: str, named: str) -> None:
    give(plane, model_aliases={"fast": "phi-4"}, models=("phi-4",))
    plane.upstream.replies.append(refuse("connect"))
    body = {"model": named, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    if "embed" in path or "responses" in path:
        body = {"model": named, "input": "hi"}
    answer = await call(plane, path, json.dumps(body).encode())
    assert answer.status == 502, answer.body
    assert answer.headers["x-tundish-model"] == "phi-4"
    (request,) = plane.upstream.requests
    assert json.loads(request.body)["model"] == "phi-4-deployment"
    (event,) = plane.events()
    assert (event.model, event.deployment) == ("phi-4", "phi-4-deployment")


async def test_a_raw_path_may_name_the_alias_twice(plane: DataPlane) -> None:
    give(plane, model_aliases={"fast": "gpt-4o"})
    for inner in ("fast", "gpt-4o", "gpt-4o-deployment"):
        plane.upstream.json(REPLY)
        answer = await call(plane, f"/azure/fast/openai/deployments/{inner}/chat/completions")
        assert answer.status == 200, answer.body
        assert "/deployments/gpt-4o-deployment/" in plane.upstream.requests[-1].url
    answer = await call(plane, "/azure/fast/openai/deployments/phi-4/chat/completions")
    assert error(answer) == (404, "not_found")


async def test_the_narrowest_alias_counts_and_there_are_no_chains(plane: DataPlane) -> None:
    give(
        plane,
        model_aliases={"a": "b"},
        team={"model_aliases": {"a": "gpt-5", "b": "phi-4"}},
        org={"model_aliases": {"b": "gpt-4o", "c": "secret-model", "gpt-4o": "phi-4"}},
        models=("phi-4",),
    )
    assert error(await call(plane, body=chat(model="a"))) == (403, "model_not_allowed")
    answer = await call(plane, body=chat(model="c"))
    assert error(answer) == (403, "model_not_allowed")
    assert "'secret-model' (for this key also c)" in answer.error["message"]
    for named in ("b", "gpt-4o"):
        plane.upstream.json(REPLY)
        answer = await call(plane, body=chat(model=named))
        assert json.loads(answer.body)["model"] == REPLY["model"]
        assert answer.headers["x-tundish-model"] == "phi-4"


async def test_aliases_are_among_the_models_that_a_caller_sees(plane: DataPlane) -> None:
    give(
        plane,
        models=("phi-*", "gpt-5"),
        model_aliases={"fast": "phi-4", "gone": "nothing", "hidden": "secret-model", "gpt-4o": "gpt-5"},
    )
    for path in ("/v1/models", "/openai/models", "/anthropic/v1/models"):
        told = json.loads((await call(plane, path, method="GET")).body)
        assert [item["id"] for item in told["data"]] == ["gpt-4o", "phi-4", "gpt-5", "fast"], path
    assert json.loads((await call(plane, "/v1/models/fast", method="GET")).body)["id"] == "fast"
    assert error(await call(plane, "/v1/models/hidden", method="GET")) == (403, "model_not_allowed")
    assert (await call(plane, "/openai/models/fast", method="GET")).status == 200
    plain = json.loads((await call(plane, "/v1/models", method="GET", secret=FREE_SECRET)).body)
    assert "fast" not in [item["id"] for item in plain["data"]]


@pytest.mark.parametrize(
    ("models", "shown"),
    [
        (("gpt-*",), ["gpt-4o", "gpt-5"]), (("*",), MODELS), (("no-default-models",), []), ((), MODELS),
        (("*4*",), ["gpt-4o", "phi-4"]),
    ],
)  # fmt: skip
async def test_patterns_say_what_is_seen_and_called(
    plane: DataPlane, models: tuple[str, ...], shown: list[str]
) -> None:
    give(plane, models=models)
    told = json.loads((await call(plane, "/v1/models", method="GET")).body)
    assert [item["id"] for item in told["data"]] == shown
    plane.upstream.json(REPLY)
    assert (await call(plane)).status == (200 if "gpt-4o" in shown else 403)


# ---- usage -------------------------------------------------------------------------------------------


async def test_usage_carries_tags_of_all_scopes_once_and_the_version(plane: DataPlane) -> None:
    give(plane, tags=("a", "b"), team={"tags": ("b", "c")}, org={"tags": ("d", "a")})
    for secret, version in ((OLD, 1), (NEW, 2)):
        plane.upstream.json(REPLY)
        assert (await call(plane, secret=secret)).status == 200
        event = plane.events()[-1]
        assert (event.tags, event.secret_version) == (("a", "b", "c", "d"), version)
    plane.upstream.json(REPLY)
    await call(plane, secret=SECRET)
    assert (plane.events()[-1].tags, plane.events()[-1].secret_version) == (("d", "a"), 1)


async def test_a_call_that_dies_with_its_process_keeps_both(plane: DataPlane) -> None:
    give(plane, tags=("a",), team={"tags": tuple(f"t{number}" for number in range(80))})
    seen: list[bytes] = []

    async def look() -> None:
        segment = plane.journal._current
        seen.extend(segment.opens.values())

    plane.upstream.stream(look, b"data: [DONE]\n\n")
    await call(plane, secret=OLD)
    record = msgspec.json.decode(seen[0], type=OpenRecord)
    event = lost_event(record, instance=ME, n=1, source="recovery", clock=plane.clock)
    assert (event.tags[:2], len(event.tags), event.secret_version) == (("a", "t0"), 60, 1)
    assert b'"v":1' in seen[0]


# ---- overlap -----------------------------------------------------------------------------------------

TOLD = {"x-tundish-key-version": "1", "x-tundish-key-newest": "2"}


def overlap(answer: Exchange) -> dict[str, str]:
    return {
        name: value
        for name, value in answer.headers.items()
        if name.startswith("x-tundish-key-") and "spend" not in name
    }


async def test_every_answer_to_an_older_secret_says_so(plane: DataPlane) -> None:
    give(plane)
    plane.upstream.json(REPLY)
    assert overlap(await call(plane, secret=OLD)) == TOLD
    plane.upstream.stream(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n', b"data: [DONE]\n\n")
    streamed = await call(plane, body=chat(stream=True), secret=OLD)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert overlap(streamed) == TOLD
    plane.upstream.json({"error": {"message": "no"}}, status=400)
    assert overlap(await call(plane, secret=OLD)) == TOLD
    plane.upstream.replies.append(refuse("connect"))
    assert overlap(await call(plane, secret=OLD)) == TOLD
    assert overlap(await call(plane, body=b"{", secret=OLD)) == TOLD
    assert overlap(await call(plane, body=chat(model="nothing"), secret=OLD)) == TOLD
    assert overlap(await call(plane, "/v1/models", method="GET", secret=OLD)) == TOLD
    assert overlap(await call(plane, "/v1/models/nothing", method="GET", secret=OLD)) == TOLD
    tokens = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}).encode()
    assert overlap(await call(plane, "/v1/messages/count_tokens", tokens, secret=OLD)) == TOLD


async def test_the_newest_secret_is_told_nothing(plane: DataPlane) -> None:
    give(plane, collectable=True, ends_s=60)
    plane.upstream.json(REPLY)
    assert overlap(await call(plane)) == {}
    assert overlap(await call(plane, secret=SECRET, body=b"{")) == {}


async def test_its_end_and_the_way_to_the_next_one_are_told(plane: DataPlane) -> None:
    give(plane, collectable=True, ends_s=60)
    plane.upstream.json(REPLY)
    told = overlap(await call(plane, secret=OLD))
    ends = (plane.clock.now() + timedelta(seconds=60)).isoformat(timespec="seconds").replace("+00:00", "Z")
    assert told == {**TOLD, "x-tundish-key-ends": ends, "x-tundish-key-exchange": "true"}
    plane.clock.advance(60)
    assert error(await call(plane, secret=OLD)) == (401, "key_retired")


async def test_stored_objects_tell_it_too(plane: DataPlane) -> None:
    give(plane)

    async def serve(*_: Any) -> None:
        raise Refused(404, "not_found", "no such object")

    plane.door.stored = cast(Any, SimpleNamespace(serve=serve))
    assert overlap(await call(plane, "/v1/files/f1", method="GET", secret=OLD)) == TOLD


# ---- realtime ----------------------------------------------------------------------------------------


def realtime(plane: DataPlane) -> None:
    plane.door.realtime = Realtime(
        inference=plane.inference, till=plane.till, models=plane.inference.models, book=PriceBook([ROW])
    )


async def shake_hands(plane: DataPlane, model: str, secret: str = OLD) -> dict[str, Any]:
    exchange = Exchange([{"type": "websocket.connect"}])
    scope = {
        **http_scope("GET", "/v1/realtime", {"authorization": f"Bearer {secret}"}, f"model={model}".encode()),
        "type": "websocket", "subprotocols": [], "extensions": {"websocket.http.response": {}},
    }  # fmt: skip
    await plane.door(scope, exchange.receive, exchange.send)
    return {
        "status": exchange.status,
        "code": json.loads(exchange.sent[1]["body"])["error"]["code"],
        "overlap": overlap(exchange),
    }


async def test_a_handshake_is_judged_and_told_like_a_call(plane: DataPlane) -> None:
    realtime(plane)
    give(plane, model_aliases={"voice": "secret-model"}, models=("gpt-4o",))
    assert await shake_hands(plane, "voice") == {"status": 403, "code": "model_not_allowed", "overlap": TOLD}
    give(plane, allowed_routes=("/v1/chat/completions",))
    assert await shake_hands(plane, "gpt-4o") == {"status": 403, "code": "route_not_allowed", "overlap": TOLD}
    give(plane, role="viewer", reach="all")
    assert await shake_hands(plane, "gpt-4o") == {"status": 403, "code": "role_key_on_data_plane", "overlap": {}}


# ---- administration ----------------------------------------------------------------------------------


def door_of(plane: DataPlane, forwarder: Any, *, admin: bool = True) -> FrontDoor:
    return FrontDoor(
        inference=plane.inference,
        forwarder=cast(Forwarder, forwarder),
        health=Health(),
        pages=ModelPages(plane.models),
        calls=Counter("calls", "", ("endpoint",)),
        refused=plane.refused,
        admin=admin,
    )


class Passed:
    """A forwarder that only remembers."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def forward(self, route: Route, scope: Any, body: bytes, send: Any) -> None:
        self.paths.append(f"{scope['method']} {route.path}")
        raise Refused(418, "passed", "on")


@pytest.mark.parametrize(
    ("secret", "passes"), [(NEW, True), (MASTER, True), (SECRET, False), ("sk-unknown", True), (OLD, True)]
)
async def test_roles_pass_on_to_where_plain_keys_do_not(plane: DataPlane, secret: str, passes: bool) -> None:
    give(plane, role="viewer", reach="team")
    passed = Passed()
    for path in ("/spend/orgs", "/alerts", "/rotation/schedule"):
        answer = await call(plane, path, method="GET", secret=secret, door=door_of(plane, passed))
        assert error(answer) == ((418, "passed") if passes else (403, "not_allowed"))
    assert len(passed.paths) == 3 * passes


async def test_administration_switched_off_leaves_what_belongs_to_owners(plane: DataPlane) -> None:
    passed = Passed()
    door = door_of(plane, passed, admin=False)
    for path in ("/key/generate", "/key/k1/rotate", "/audit/verify", "/docs", "/openapi.json", "/organization/delete"):
        method = "GET" if path[1:2] in "aod" and path != "/organization/delete" else "POST"
        assert error(await call(plane, path, method=method, door=door, secret=MASTER)) == (404, "not_found"), path
    for path in ("/key/exchange", "/key/report-leak"):
        assert error(await call(plane, path, door=door)) == (418, "passed")
    assert passed.paths == ["POST /key/exchange", "POST /key/report-leak"]


async def test_methods_of_rows_are_told(plane: DataPlane) -> None:
    door = door_of(plane, Passed())
    answer = await call(plane, "/organization/delete", method="GET", door=door)
    assert (answer.status, answer.headers["allow"]) == (405, "POST, DELETE")
    assert error(await call(plane, "/organization/delete", method="DELETE", door=door)) == (418, "passed")
    answer = await call(plane, "/team/unknown", method="GET", door=door)
    assert error(answer) == (404, "not_supported")
    assert "docs/api.md" in answer.error["message"]
