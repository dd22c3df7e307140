"""Teams and organizations that are blocked and deleted: all keys below refuse at once, and each gets its record."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

import services.auth as auth_package
from services.auth.domain import team
from shared.bus import Bucket, Bus
from shared.events import KeyDeleted, OrgBlocked, TeamBlocked, TeamDeleted
from shared.ids import TeamId
from shared.policy import Revocation
from shared.topology import KEYS_BUCKET, REVOKED_BUCKET, key_kv, org_kv, team_kv
from tests.support.auth import Auth, auth_running, migrated, settings_for
from tests.support.eventually import eventually
from tests.support.servers import NatsServer, PostgresServer


@pytest.fixture
async def auth(nats: NatsServer, database: str) -> AsyncGenerator[Auth, None]:
    async with auth_running(settings_for(nats, await migrated(database))) as auth:
        await auth.ready()
        yield auth


@pytest.fixture
async def proxy(nats: NatsServer) -> AsyncGenerator[Bus, None]:
    bus = await Bus.open(nats.url_for("proxy"), user="proxy", name="test-proxy")
    yield bus
    await bus.close()


async def entry(bus: Bus, name: str) -> str | None:
    found = await Bucket(bus, REVOKED_BUCKET).get(name)
    return None if found is None else msgspec.json.decode(found.value, type=Revocation).kind


async def events(auth: Auth, stream: str) -> list[Any]:
    return list(await auth.service.parts.commits._store.load(stream))


async def why(auth: Auth, made: dict[str, Any]) -> str:
    return (await auth.get("/key/info", key=made["key"], status=401))["error"]["message"]


async def mirrored(auth: Auth, made: dict[str, Any]) -> bool:
    return key_kv(made["token_id"]) in auth.service.parts.people.keys


async def world(auth: Auth) -> dict[str, dict[str, Any]]:
    """An organization with a team, a key in each, and one key elsewhere."""
    await auth.post("/organization/new", {"organization_id": "acme", "organization_alias": "acme"})
    await auth.post("/team/new", {"team_id": "t1", "organization_id": "acme", "team_alias": "one"})
    keys = {
        "team": await auth.post("/key/generate", {"team_id": "t1"}),
        "org": await auth.post("/key/generate", {"organization_id": "acme"}),
        "elsewhere": await auth.post("/key/generate", {}),
    }
    for made in keys.values():
        await eventually(lambda made=made: mirrored(auth, made))
    return keys


async def test_settings_of_scopes(auth: Auth) -> None:
    made = await auth.post(
        "/organization/new",
        {"organization_id": "acme", "organization_alias": "acme", "tags": ["a"], "model_aliases": {"fast": "mini"}},
    )
    assert (made["tags"], made["model_aliases"], made["blocked"]) == (["a"], {"fast": "mini"}, False)
    team = await auth.post(
        "/team/new",
        {
            "team_id": "t1",
            "organization_id": "acme",
            "tags": ["x", "y"],
            "model_aliases": {"big": "gpt"},
            "blocked": True,
            "members_with_roles": [
                {"role": "admin", "user_email": "ann@example.com"},
                {"role": "user", "user_id": "bob"},
            ],
        },
    )
    assert (team["tags"], team["model_aliases"], team["blocked"]) == (["x", "y"], {"big": "gpt"}, True)
    assert [(row["role"], row["user_email"]) for row in team["members_with_roles"]] == [
        ("admin", "ann@example.com"),
        ("user", None),
    ]
    changed = await auth.post("/team/update", {"team_id": "t1", "tags": None, "model_aliases": {}})
    assert (changed["tags"], changed["model_aliases"]) == ([], {})
    refused = await auth.post("/team/update", {"team_id": "t1", "blocked": False}, status=400)
    assert "/team/unblock" in refused["error"]["message"]
    taken = await auth.post("/organization/new", {"organization_alias": "acme"}, status=409)
    assert taken["error"]["code"] == "organization_alias_taken"
    for field, value in (
        ("team_member_budget", 5),
        ("members", ["x"]),
        ("default_team_member_models", ["m"]),
        ("team_member_permissions", ["/key/generate"]),
    ):
        error = (await auth.post("/team/new", {field: value}, status=400))["error"]
        assert (error["code"], error["param"]) == ("field_not_supported", field)
    page = await auth.get("/v2/team/list", {"page": 1, "page_size": 1, "organization_id": "acme"})
    assert (page["total"], page["total_pages"], page["teams"][0]["team_id"]) == (1, 1, "t1")
    assert (await auth.get("/v2/team/list", {"user_id": "bob"}))["total"] == 1
    assert (await auth.get("/v2/team/list", {"user_id": "nobody"}))["total"] == 0


async def test_block_and_unblock(auth: Auth, proxy: Bus) -> None:
    keys = await world(auth)
    for path, body, name, stream, kind in (
        ("/team", {"team_id": "t1"}, team_kv("t1"), "team:t1", TeamBlocked),
        ("/organization", {"organization_id": "acme"}, org_kv("acme"), "org:acme", OrgBlocked),
    ):
        blocked = await auth.post(f"{path}/block", body)
        assert (blocked["blocked"], blocked["fleet"]["proxies"]) == (True, 0)
        assert await entry(proxy, name) == "blocked"
        assert "revoked" in await why(auth, keys["team"])
        assert await entry(proxy, key_kv(keys["team"]["token_id"])) is None, "one entry for all"
        assert kind in [type(event) for event in await events(auth, stream)]
        again = await auth.post(f"{path}/block", body)
        assert again["blocked"]
        freed = await auth.post(f"{path}/unblock", body)
        assert (freed["blocked"], freed["warnings"]) == (False, [])
        assert await entry(proxy, name) is None
        assert (await auth.get("/key/info", key=keys["team"]["key"]))["key"] == keys["team"]["token_id"]
        await auth.post(f"{path}/unblock", body)
    assert (await auth.get("/key/info", key=keys["elsewhere"]["key"]))["info"]["status"] == "active"
    await auth.post("/organization/block", {"organization_id": "default"}, status=400)
    await auth.post("/organization/delete", {"organization_ids": ["default"]}, status=400)


async def test_a_deleted_team_takes_its_keys_along(auth: Auth, proxy: Bus) -> None:
    keys = await world(auth)
    more = [await auth.post("/key/generate", {"team_id": "t1"}) for _ in range(5)]
    await auth.post("/team/delete", {"team_ids": ["t1", "nope"]}, status=404)
    assert await entry(proxy, team_kv("t1")) is None, "all or none"
    answer = await auth.post("/team/delete", {"team_ids": ["t1"]})
    assert (answer["deleted_teams"], answer["recorded"]) == (["t1"], True)
    assert await entry(proxy, team_kv("t1")) == "deleted"
    for made in (keys["team"], *more):
        assert "revoked" in await why(auth, made) or "not known" in await why(auth, made)
        last = (await events(auth, f"key:{made['token_id']}"))[-1]
        assert isinstance(last, KeyDeleted)
        assert (last.cause, last.actor) == ("the team t1 was deleted", "master-key")
    assert (await auth.get("/key/info", key=keys["org"]["key"]))["info"]["status"] == "active"
    missing = await auth.get("/team/info", {"team_id": "t1"}, status=404)
    never = await auth.get("/team/info", {"team_id": "t2"}, status=404)
    assert str(missing).replace("t1", "t2") == str(never)
    assert await auth.get("/team/list") == []
    for path in ("/team/block", "/team/unblock", "/team/update", "/team/member_add"):
        body: dict[str, Any] = {"team_id": "t1"}
        body |= {"member": {"user_id": "x"}} if path.endswith("member_add") else {}
        await auth.post(path, body, status=404)
    await auth.post("/team/new", {"team_id": "t1", "organization_id": "acme"}, status=409)
    await auth.post("/team/new", {"team_id": "t3", "organization_id": "acme", "team_alias": "one"})
    await auth.post("/key/generate", {"team_id": "t1"}, status=404)

    async def gone() -> bool:
        return await Bucket(proxy, KEYS_BUCKET).get(key_kv(keys["team"]["token_id"])) is None

    await eventually(gone)


async def test_a_deleted_organization_takes_teams_and_keys_along(auth: Auth, proxy: Bus) -> None:
    keys = await world(auth)
    answer = await auth.client.request(
        "DELETE",
        "/organization/delete",
        json={"organization_ids": ["acme"]},
        headers={"authorization": "Bearer sk-master-0123456789abcdef"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["deleted_organizations"] == ["acme"]
    assert await entry(proxy, org_kv("acme")) == "deleted"
    last = (await events(auth, "team:t1"))[-1]
    assert isinstance(last, TeamDeleted)
    assert last.cause == "the organization acme was deleted"
    for name in ("team", "org"):
        await auth.get("/key/info", key=keys[name]["key"], status=401)
        last = (await events(auth, f"key:{keys[name]['token_id']}"))[-1]
        assert isinstance(last, KeyDeleted)
        assert last.cause == "the organization acme was deleted"
    assert (await auth.get("/key/info", key=keys["elsewhere"]["key"]))["info"]["status"] == "active"
    await auth.get("/organization/info", {"organization_id": "acme"}, status=404)
    assert [row["organization_id"] for row in await auth.get("/organization/list")] == ["default"]


async def test_without_postgres(auth: Auth, postgres_server: PostgresServer, proxy: Bus) -> None:
    keys = await world(auth)
    await auth.post("/team/new", {"team_id": "t2"})
    other = await auth.post("/key/generate", {"team_id": "t2"})
    await eventually(lambda: mirrored(auth, other))
    postgres_server.stop()
    try:
        deleted = await auth.post("/team/delete", {"team_ids": ["t1"]})
        assert (deleted["recorded"], deleted["deleted_teams"]) == (False, ["t1"])
        blocked = await auth.post("/team/block", {"team_id": "t2"})
        assert (blocked["recorded"], blocked["blocked"], blocked["organization_id"]) == (False, True, "default")
        assert "in force" in blocked["warnings"][0]
        await auth.post("/team/block", {"team_id": "nobody-knows"}, status=503)
        for made in (keys["team"], other):
            await eventually(lambda made=made: _refused(auth, made))
        assert await entry(proxy, team_kv("t1")) == "deleted"
    finally:
        postgres_server.start()

    async def recorded() -> bool:
        try:
            ended = await events(auth, f"key:{keys['team']['token_id']}")
            kept = await events(auth, "team:t2")
        except Exception:
            return False
        return isinstance(ended[-1], KeyDeleted) and isinstance(kept[-1], TeamBlocked)

    await eventually(recorded, within_s=60)
    assert "recorded later" in (await events(auth, "team:t1"))[-1].cause
    await auth.get("/team/info", {"team_id": "t1"}, status=404)
    await auth.ready()
    await auth.post("/team/unblock", {"team_id": "t2"})

    async def works() -> bool:
        return not await _refused(auth, other)

    await eventually(works)


async def _refused(auth: Auth, made: dict[str, Any]) -> bool:
    answer = await auth.client.get("/key/info", headers={"authorization": f"Bearer {made['key']}"})
    return answer.status_code == 401


async def test_a_crash_between(nats: NatsServer, database: str) -> None:
    """The team's event is there, those of its keys are not: the next start makes them."""
    settings = settings_for(nats, await migrated(database))
    async with auth_running(settings) as auth:
        await auth.ready()
        keys = await world(auth)
        parts = auth.service.parts
        await parts.revocations.write("deleted", [team_kv("t1")], "somebody")
        await parts.commits.team(TeamId("t1"), team.decide_delete, actor="somebody")
    async with auth_running(settings) as auth:

        async def ended() -> bool:
            last = (await events(auth, f"key:{keys['team']['token_id']}"))[-1]
            return isinstance(last, KeyDeleted) and last.actor == "somebody"

        await eventually(ended)
        await auth.ready()
        await auth.get("/key/info", key=keys["team"]["key"], status=401)


async def test_reach(auth: Auth) -> None:
    await world(auth)
    await auth.post("/organization/new", {"organization_id": "other", "organization_alias": "other"})
    await auth.post("/team/new", {"team_id": "far", "organization_id": "other"})
    org_admin = (await auth.post("/key/generate", {"key_type": "org_admin", "organization_id": "acme"}))["key"]
    team_admin = (await auth.post("/key/generate", {"key_type": "team_admin", "team_id": "t1"}))["key"]
    viewer = (await auth.post("/key/generate", {"key_type": "viewer", "organization_id": "acme"}))["key"]

    assert [row["team_id"] for row in await auth.get("/team/list", key=org_admin)] == ["t1"]
    assert [row["team_id"] for row in await auth.get("/team/list", {"organization_id": "other"}, key=org_admin)] == []
    assert [row["organization_id"] for row in await auth.get("/organization/list", key=viewer)] == ["acme"]
    for who in (org_admin, team_admin, viewer):
        far = await auth.get("/team/info", {"team_id": "far"}, key=who, status=404)
        none = await auth.get("/team/info", {"team_id": "non"}, key=who, status=404)
        assert str(far).replace("far", "non") == str(none)
        assert (await auth.get("/team/info", {"team_id": "t1"}, key=who))["team_id"] == "t1"
        await auth.post("/organization/update", {"organization_id": "acme", "max_budget": 5}, key=who, status=403)
        await auth.post("/organization/delete", {"organization_ids": ["acme"]}, key=who, status=403)
        await auth.post("/organization/acme/reset_spend", {}, key=who, status=403)
        await auth.post("/user/new", {}, key=who, status=403)
    await auth.get("/organization/info", {"organization_id": "acme"}, key=team_admin, status=403)
    await auth.post("/team/update", {"team_id": "t1", "max_budget": 5}, key=team_admin, status=403)
    await auth.post("/team/delete", {"team_ids": ["far"]}, key=org_admin, status=404)
    await auth.post("/team/new", {"organization_id": "other"}, key=org_admin, status=404)
    made = await auth.post("/team/new", {"team_id": "mine", "max_budget": 5}, key=org_admin)
    assert made["organization_id"] == "acme", "where else"
    assert made["created_by"].startswith("key_")
    await auth.post("/team/member_add", {"team_id": "t1", "member": {"user_id": "ann"}}, key=team_admin)
    await auth.post("/team/member_add", {"team_id": "mine", "member": {"user_id": "ann"}}, key=team_admin, status=404)
    await auth.post("/team/member_add", {"team_id": "t1", "member": {"user_id": "ann"}}, key=viewer, status=403)
    assert (await auth.post("/team/delete", {"team_ids": ["mine"]}, key=org_admin))["deleted_teams"] == ["mine"]


async def test_the_same_request_again(auth: Auth) -> None:
    headers = {"authorization": "Bearer sk-master-0123456789abcdef", "idempotency-key": "one"}
    first, second = [await auth.client.post("/team/new", json={"team_alias": "x"}, headers=headers) for _ in range(2)]
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert len(await auth.get("/team/list")) == 1


async def test_organizations_with_the_same_alias_from_before(database: str) -> None:
    """They stay as they are; the oldest has the alias, and no other takes it."""
    folder = Path(auth_package.__file__ or "").parent / "migrations"
    connection = await asyncpg.connect(database)
    try:
        for name in ("0001_event.sql", "0002_budgets.sql"):
            await connection.execute((folder / name).read_text())
        for n, alias in enumerate(("one", "one", "two")):
            await connection.execute(
                "INSERT INTO org_view (org_id, created_at, body) VALUES ($1, now() + $2 * interval '1 second', $3)",
                f"o{n}",
                n,
                f'{{"alias": "{alias}"}}',
            )
        await connection.execute((folder / "0003_people.sql").read_text())
        rows = await connection.fetch("SELECT alias FROM org_view ORDER BY org_id")
        assert [row["alias"] for row in rows] == ["one", None, "two"]
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("UPDATE org_view SET alias = 'one' WHERE org_id = 'o2'")
    finally:
        await connection.close()
