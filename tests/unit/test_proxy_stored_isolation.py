"""One identity in Foundry, many teams: everything of team A that team B may try, on every route and in every field."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.proxy.domain.admission import Refused
from services.proxy.domain.objects import open_request, owner_of
from services.proxy.domain.paths import Endpoint
from tests.support.stored_world import LONE, SEAL, TEAM_A, TEAM_B, World, batch_input, chat_line, new_batch
from tests.unit.test_proxy_objects_opening import PLACES

ROUTES = [
    ("GET", "/v1/responses/{response}"),
    ("DELETE", "/v1/responses/{response}"),
    ("POST", "/v1/responses/{response}/cancel"),
    ("GET", "/v1/responses/{response}/input_items"),
    ("GET", "/openai/v1/responses/{response}"),
    ("GET", "/v1/files/{file}"),
    ("DELETE", "/v1/files/{file}"),
    ("GET", "/v1/files/{file}/content"),
    ("GET", "/v1/files/{output}"),
    ("DELETE", "/v1/files/{output}"),
    ("GET", "/v1/files/{output}/content"),
    ("GET", "/v1/files?after={file}"),
    ("GET", "/v1/batches/{batch}"),
    ("POST", "/v1/batches/{batch}/cancel"),
    ("GET", "/v1/batches?after={batch}"),
    ("GET", "/openai/batches/{batch}"),
]
ATTACKERS = (TEAM_B, LONE)
WAYS = ("as it is", "raw", "damaged", "as another kind", "never there")


class Loot:
    """All ids of team A, sealed and raw."""

    def __init__(self, sealed: dict[str, str], raw: dict[str, str]) -> None:
        self.sealed = sealed
        self.raw = raw

    def by(self, way: str) -> dict[str, str]:
        if way == "raw":
            return self.raw
        if way == "damaged":
            return {name: text[:-3] + "AAA" for name, text in self.sealed.items()}
        if way == "never there":
            return {name: f"{name}-0123456789" for name in self.sealed}
        if way == "as another kind":
            turned = [*list(self.sealed.values())[1:], next(iter(self.sealed.values()))]
            return dict(zip(self.sealed, turned, strict=True))
        return self.sealed


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path / "journal")
    async with asyncio.timeout(30):
        yield made
    await made.close()


async def loot(world: World) -> Loot:
    response, raw_response = world.response(TEAM_A)
    file = (await world.upload(TEAM_A, batch_input(1))).json["id"]
    raw_file = next(iter(world.foundry.files))
    batch = (await world.ask(TEAM_A, "POST", "/v1/batches", new_batch(file))).json["id"]
    raw_batch = next(iter(world.foundry.batches))
    raw_output = world.foundry.complete(raw_batch, [chat_line(1)])
    output = (await world.ask(TEAM_A, "GET", f"/v1/batches/{batch}")).json["output_file_id"]
    world.foundry.requests.clear()
    return Loot(
        {"response": response, "file": file, "batch": batch, "output": output},
        {"response": raw_response, "file": raw_file, "batch": raw_batch, "output": raw_output},
    )


@pytest.mark.parametrize("attacker", ATTACKERS)
@pytest.mark.parametrize("way", WAYS)
async def test_every_route_is_one_and_the_same_404(world: World, attacker: str, way: str) -> None:
    taken = await loot(world)
    never = await world.ask(attacker, "GET", "/v1/files/file-nobodyhasthis")
    before = json.dumps([world.foundry.responses, list(world.foundry.files), world.foundry.batches])
    for method, path in ROUTES:
        told = await world.ask(attacker, method, path.format(**taken.by(way)))
        assert (told.status, told.body) == (404, never.body), (method, path)
    assert world.foundry.requests == [], "Foundry is not even asked"
    assert json.dumps([world.foundry.responses, list(world.foundry.files), world.foundry.batches]) == before


@pytest.mark.parametrize("method_path", ROUTES, ids=[f"{method} {path}" for method, path in ROUTES])
async def test_the_owner_gets_in_where_others_do_not(world: World, method_path: tuple[str, str]) -> None:
    """The table above proves something only if the same requests work for team A."""
    taken = await loot(world)
    method, path = method_path
    assert (await world.ask(TEAM_A, method, path.format(**taken.sealed))).status == 200


@pytest.mark.parametrize("attacker", ATTACKERS)
@pytest.mark.parametrize("row", PLACES, ids=[row[0] for row in PLACES])
async def test_every_field_is_the_same_404(world: World, attacker: str, row: tuple[str, Endpoint, Any, Any]) -> None:
    _, endpoint, kind, content = row
    place = world.deployments["gpt"][0].id
    raw = {"response": "resp_upstream1", "file": "file-upstream1", "batch": "batch_upstream1"}.get(
        kind, "msg_upstream1"
    )
    for text in (SEAL.seal(kind, "team:team_a", place, raw), raw):
        body = json.dumps({"model": "gpt", **content}).replace("@", text).encode()
        with pytest.raises(Refused) as refused:
            open_request(endpoint, body, world.one.stored.seal, owner_of(world.caller(attacker)))
        assert refused.value.status == 404
    own = SEAL.seal(kind, "team:team_a", place, raw)
    body = json.dumps({"model": "gpt", **content}).replace("@", own).encode()
    assert raw.encode() in open_request(endpoint, body, world.one.stored.seal, owner_of(world.caller(TEAM_A))).body


@pytest.mark.parametrize("attacker", ATTACKERS)
async def test_bodies_of_batches_and_their_lines(world: World, attacker: str) -> None:
    taken = await loot(world)
    never = (await world.ask(attacker, "GET", "/v1/files/file-nobodyhasthis")).body
    for way in WAYS:
        ids = taken.by(way)
        for name in ("file", "output"):
            told = await world.ask(attacker, "POST", "/v1/batches", new_batch(ids[name]))
            assert (told.status, told.body) == (404, never), (way, name)
        lines = [
            batch_input(1, url="/v1/responses", input="x", previous_response_id=ids["response"]),
            batch_input(
                1, messages=[{"role": "user", "content": [{"type": "file", "file": {"file_id": ids["file"]}}]}]
            ),
        ]
        for line in lines:
            told = await world.upload(attacker, line)
            assert (told.status, told.body) == (404, never), way
    assert world.foundry.requests == []


@pytest.mark.parametrize("attacker", ATTACKERS)
async def test_lists_show_nothing_of_others(world: World, attacker: str) -> None:
    await loot(world)
    for path in ("/v1/files", "/v1/batches", "/v1/files?purpose=batch&limit=10000", "/v1/batches?order=asc"):
        assert (await world.ask(attacker, "GET", path)).json["data"] == []


async def test_a_deleted_object_of_ones_own_looks_like_one_that_never_was(world: World) -> None:
    taken = await loot(world)
    never = (await world.ask(TEAM_A, "GET", "/v1/files/file-nobodyhasthis")).body
    await world.ask(TEAM_A, "DELETE", f"/v1/files/{taken.sealed['output']}")
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
        told = await world.ask(TEAM_A, method, f"/v1/files/{taken.sealed['output']}{path}")
        assert (told.status, told.body) == (404, never)


async def test_two_keys_without_a_team_are_two_owners(world: World) -> None:
    sealed, _ = world.response(LONE)
    assert (await world.ask(LONE, "GET", f"/v1/responses/{sealed}")).status == 200
    for key in (TEAM_A, TEAM_B):
        assert (await world.ask(key, "GET", f"/v1/responses/{sealed}")).status == 404
