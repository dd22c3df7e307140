"""Keys with roles, and what is out of their reach."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from shared.bus import Bucket, Bus
from shared.topology import KEYS_BUCKET
from tests.support.auth import Auth, auth_running, migrated, settings_for
from tests.support.minting import minted, record, two_orgs
from tests.support.servers import NatsServer


@pytest.fixture
async def auth(nats: NatsServer, database: str) -> AsyncGenerator[Auth, None]:
    async with auth_running(settings_for(nats, await migrated(database))) as auth:
        await auth.ready()
        yield auth


@pytest.fixture
async def keys(nats: NatsServer) -> AsyncGenerator[Bucket, None]:
    """The bucket as a proxy reads it."""
    bus = await Bus.open(nats.url_for("proxy"), user="proxy", name="test-proxy")
    yield Bucket(bus, KEYS_BUCKET)
    await bus.close()


async def test_roles_and_where_they_reach(auth: Auth, keys: Bucket) -> None:
    await two_orgs(auth)
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"key_type": "admin"}, "admin", "all"),
        ({"key_type": "viewer"}, "viewer", "all"),
        ({"key_type": "read_only", "organization_id": "acme"}, "viewer", "org"),
        ({"key_type": "viewer", "team_id": "search"}, "viewer", "team"),
        ({"key_type": "org_admin", "organization_id": "acme"}, "org_admin", "org"),
        ({"key_type": "management", "organization_id": "acme"}, "org_admin", "org"),
        ({"key_type": "team_admin", "team_id": "search"}, "team_admin", "team"),
        (
            {"key_type": "management", "team_id": "search", "allowed_routes": ["management_routes"]},
            "team_admin",
            "team",
        ),
    ]
    for body, role, reach in cases:
        made = await minted(auth, **body)
        assert (made["role"], made["key_type"]) == (role, role)
        held = await record(keys, made)
        assert (held.role, held.reach) == (role, reach), body
    for body in (
        {"key_type": "management"},
        {"key_type": "owner"},
        {"key_type": "admin", "organization_id": "acme"},
        {"key_type": "admin", "team_id": "search"},
        {"key_type": "org_admin"},
        {"key_type": "org_admin", "team_id": "search"},
        {"key_type": "team_admin"},
        {"key_type": "team_admin", "organization_id": "acme"},
    ):
        assert (await minted(auth, status=400, **body))["param"] == "key_type", body


async def test_a_key_with_a_role_has_nothing_for_calls(auth: Auth) -> None:
    cases: list[tuple[str, Any]] = [
        ("models", ["m"]),
        ("max_budget", 1),
        ("rpm_limit", 1),
        ("budget_id", "b"),
        ("aliases", {"a": "b"}),
        ("tags", ["t"]),
        ("model_max_budget", {"m": {"budget_limit": 1}}),
    ]
    for field, value in cases:
        error = await minted(auth, status=400, key_type="viewer", **{field: value})
        assert (error["code"], error["param"]) == ("field_not_supported", field)
    assert (await minted(auth, status=400, key_type="viewer", allowed_routes=["/v1/*"]))["param"] == "allowed_routes"
    assert (await minted(auth, status=400, allowed_routes=["management_routes"]))["param"] == "allowed_routes"
    made = await minted(auth, key_type="viewer", models=[], max_budget=None, metadata={"who": "eyes"})
    refused = await auth.post("/key/update", {"key": made["key"], "max_budget": 1}, status=400)
    assert refused["error"]["param"] == "max_budget"
    refused = await auth.post("/key/update", {"key": made["key"], "key_type": "admin"}, status=400)
    assert refused["error"]["param"] == "key_type"
    await auth.post("/key/update", {"key": made["key"], "key_type": "viewer", "key_alias": "eyes"})


async def test_nobody_gives_more_than_they_have(auth: Auth) -> None:
    await two_orgs(auth)
    org_admin = (await minted(auth, key_type="org_admin", organization_id="acme"))["key"]
    team_admin = (await minted(auth, key_type="team_admin", team_id="search", by=org_admin))["key"]
    viewer = (await minted(auth, key_type="viewer"))["key"]

    assert (await minted(auth, by=org_admin, key_type="admin", status=403))["code"] == "not_allowed"
    assert (await minted(auth, by=team_admin, key_type="org_admin", status=403))["code"] == "not_allowed"
    assert (await minted(auth, by=viewer, status=403))["code"] == "not_allowed"
    second = await minted(auth, by=org_admin, key_type="org_admin")
    assert second["organization_id"] == "acme", "where nothing is said, it is the own organization"
    eyes = await minted(auth, by=team_admin, key_type="viewer")
    assert (eyes["team_id"], eyes["organization_id"]) == ("search", "acme")
    assert (await minted(auth, by=team_admin))["team_id"] == "search"

    there = await minted(auth, by=org_admin, team_id="games", status=404)
    nowhere = await minted(auth, by=org_admin, team_id="gamez", status=404)
    assert there["message"].replace("games", "gamez") == nowhere["message"], "out of reach is as if it were not"
    there = await minted(auth, by=team_admin, organization_id="other", status=404)
    nowhere = await minted(auth, by=team_admin, organization_id="othez", status=404)
    assert there["message"].replace("other", "othez") == nowhere["message"]
    await minted(auth, by=team_admin, team_id="ads", status=404)
    await minted(auth, by=team_admin, organization_id="acme")


async def test_keys_out_of_reach_are_as_if_they_were_not(auth: Auth) -> None:
    await two_orgs(auth)
    mine = (await minted(auth, key_type="team_admin", team_id="search"))["key"]
    org = (await minted(auth, key_type="org_admin", organization_id="acme"))["key"]
    far = {
        "ads": await minted(auth, team_id="ads", key_alias="k-ads"),
        "org": await minted(auth, organization_id="acme", key_alias="k-org"),
        "games": await minted(auth, team_id="games", key_alias="k-games"),
        "none": await minted(auth, key_alias="k-none"),
    }
    dead = await minted(auth, team_id="ads", key_alias="k-dead")
    await auth.post("/key/delete", {"keys": [dead["key"]]})
    nothing = await auth.get("/key/info", {"key": "key_unknown"}, status=404, key=mine)
    for made in (*far.values(), dead):
        assert await auth.get("/key/info", {"key": made["token_id"]}, status=404, key=mine) == nothing
        assert await auth.post("/key/update", {"key": made["token_id"]}, status=404, key=mine) == nothing
        assert await auth.post("/key/block", {"key": made["token_id"]}, status=404, key=mine) == nothing
        assert await auth.post("/key/delete", {"keys": [made["token_id"]]}, status=404, key=mine) == nothing
    alias = await auth.get("/key/info", {"key_alias": "k-ads"}, status=404, key=mine)
    unknown = await auth.get("/key/info", {"key_alias": "k-adz"}, status=404, key=mine)
    assert alias["error"]["message"].replace("ads", "adz") == unknown["error"]["message"]
    for name in ("ads", "org"):
        await auth.get("/key/info", {"key": far[name]["token_id"]}, key=org)
    for name in ("games", "none"):
        await auth.get("/key/info", {"key": far[name]["token_id"]}, status=404, key=org)


async def test_an_organization_of_their_own_does_not_reach_the_keys_of_administrators(auth: Auth) -> None:
    """Keys with the reach `all` stand in the built-in organization."""
    admin = await minted(auth, key_type="admin", key_alias="root")
    local = await minted(auth, key_type="org_admin", organization_id="default", key_alias="local")
    plain = await minted(auth, key_alias="plain")
    await auth.get("/key/info", {"key": admin["token_id"]}, status=404, key=local["key"])
    await auth.post("/key/delete", {"keys": [admin["token_id"]]}, status=404, key=local["key"])
    listed = (await auth.get("/key/list", key=local["key"]))["keys"]
    assert set(listed) == {local["token_id"], plain["token_id"]}
    assert set((await auth.get("/key/aliases", key=local["key"]))["aliases"]) == {"local", "plain"}
    assert (await auth.get("/key/list", key=admin["key"]))["total_count"] == 3


async def test_lists_are_narrowed(auth: Auth) -> None:
    await two_orgs(auth)
    made = {team: await minted(auth, team_id=team, key_alias=f"k-{team}") for team in ("search", "ads", "games")}
    team_admin = await minted(auth, key_type="team_admin", team_id="search", key_alias="boss")
    org_admin = await minted(auth, key_type="org_admin", organization_id="acme", key_alias="chief")

    async def seen(by: str, **query: str) -> set[str]:
        found = await auth.get("/key/list", {"return_full_object": "true", **query}, key=by)
        assert found["total_count"] == len(found["keys"])
        return {row["key_alias"] for row in found["keys"]}

    assert await seen(team_admin["key"]) == {"k-search", "boss"}
    assert await seen(team_admin["key"], team_id="ads") == set()
    assert await seen(team_admin["key"], key_hash=made["games"]["token_id"]) == set()
    assert await seen(org_admin["key"]) == {"k-search", "k-ads", "boss", "chief"}
    assert await seen(org_admin["key"], organization_id="other") == set()


async def test_a_key_with_a_role_does_not_outlive_its_owner_and_its_end(auth: Auth) -> None:
    await two_orgs(auth)
    for user_id in ("u", "v"):
        await auth.post("/user/new", {"user_id": user_id, "auto_create_key": False})
        member = {"role": "admin", "user_id": user_id}
        await auth.post("/team/member_add", {"team_id": "search", "member": member})
    mine = await minted(auth, key_type="team_admin", team_id="search", user_id="u", duration="1h")
    body = {"key": mine["key"]}
    for change, field in (
        ({"user_id": None}, "user_id"),
        ({"user_id": "v"}, "user_id"),
        ({"duration": None}, "duration"),
        ({"duration": "2h"}, "duration"),
        ({"duration": "90d", "user_id": "u"}, "duration"),
    ):
        for path in ("/key/update", "/key/regenerate"):
            error = (await auth.post(path, {**body, **change}, key=mine["key"], status=403))["error"]
            assert (error["code"], error["param"]) == ("not_allowed", field), (path, change)
    bulk = await auth.post("/key/bulk_update", {"keys": [{**body, "user_id": None}]}, key=mine["key"])
    assert bulk["failed_updates"][0]["param"] == "user_id"
    shorter = await auth.post("/key/update", {**body, "duration": "30m", "user_id": "u"}, key=mine["key"])
    assert shorter["expires"] < mine["expires"]

    heir = await minted(auth, by=mine["key"], key_type="team_admin")
    assert heir["expires"] == shorter["expires"], "no later than who made it"
    assert any("the key that made it" in warning for warning in heir["warnings"])
    brief = await minted(auth, by=mine["key"], key_type="viewer", duration="5m")
    assert brief["expires"] < shorter["expires"]
    assert brief["warnings"] == []
    error = (await auth.post("/key/update", {"key": heir["token_id"], "duration": None}, key=mine["key"], status=403))[
        "error"
    ]
    assert error["param"] == "duration", "nor is it lengthened afterwards"

    application = await minted(auth, by=mine["key"], duration="90d")
    assert (application["warnings"], application["role"]) == ([], None)
    assert application["expires"] > shorter["expires"], "what administers nothing lives as long as it is told to"
    longer = await minted(auth, team_id="search", duration="30d")
    kept = await auth.post("/key/update", {"key": longer["token_id"], "duration": "20d"}, key=mine["key"])
    assert shorter["expires"] < kept["expires"] < longer["expires"], "what lives longer may be brought forward"

    ended = await auth.post("/team/member_delete", {"team_id": "search", "user_id": "u"})
    assert mine["token_id"] in ended["deleted_keys"]
    await auth.get("/key/list", key=mine["key"], status=401)


async def test_who_may_change_users_may_change_whose_a_key_is(auth: Auth) -> None:
    await two_orgs(auth)
    await auth.post("/user/new", {"user_id": "u", "user_role": "internal_user", "auto_create_key": False})
    member = {"role": "admin", "user_id": "u"}
    await auth.post("/team/member_add", {"team_id": "search", "member": member})
    mine = await minted(auth, key_type="team_admin", team_id="search", user_id="u", duration="1h")
    admin = (await minted(auth, key_type="admin"))["key"]
    free = await auth.post("/key/update", {"key": mine["token_id"], "user_id": None, "duration": None}, key=admin)
    assert (free["user_id"], free["expires"]) == (None, None)
    longer = await auth.post("/key/update", {"key": mine["token_id"], "duration": "90d"})
    assert longer["expires"] is not None
