"""Users and members: keys have owners, and end when their owners may not have them any more."""

from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from services.auth.domain import team, user
from services.auth.domain.stamp import Stamp
from services.auth.domain.team import TeamState
from services.auth.domain.user import UserState
from shared.bus import Bucket, Bus
from shared.events import AnyAuthEvent, KeyDeleted, TeamMembersChanged, UserCreated
from shared.ids import TeamId, UserId
from shared.policy import Revocation
from shared.topology import REVOKED_BUCKET, key_kv
from tests.support.auth import MASTER_KEY, Auth, auth_running, migrated, settings_for
from tests.support.eventually import eventually
from tests.support.servers import NatsServer


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


async def entry(bus: Bus, made: dict[str, Any]) -> str | None:
    found = await Bucket(bus, REVOKED_BUCKET).get(key_kv(made["token_id"]))
    return None if found is None else msgspec.json.decode(found.value, type=Revocation).kind


async def last_event(auth: Auth, stream: str) -> Any:
    return (await auth.service.parts.commits._store.load(stream))[-1]


async def works(auth: Auth, made: dict[str, Any]) -> bool:
    answer = await auth.client.get("/key/info", headers={"authorization": f"Bearer {made['key']}"})
    return answer.status_code == 200


async def test_a_user_with_a_key(auth: Auth) -> None:
    await auth.post("/organization/new", {"organization_id": "acme", "organization_alias": "acme"})
    await auth.post("/team/new", {"team_id": "t1", "organization_id": "acme"})
    made = await auth.post(
        "/user/new",
        {
            "user_id": "ann",
            "user_email": "Ann@example.com",
            "user_alias": "Ann",
            "teams": ["t1"],
            "organizations": ["acme"],
            "metadata": {"desk": 4},
            "key_alias": "ann-key",
        },
    )
    assert (made["user_id"], made["user_role"], made["teams"], made["key_alias"]) == (
        "ann",
        "internal_user",
        ["t1"],
        "ann-key",
    )
    assert (made["team_id"], made["warnings"]) == ("t1", [])
    assert await works(auth, made)
    info = await auth.get("/user/info", {"user_id": "ann"})
    assert info["user_info"]["user_email"] == "Ann@example.com"
    assert [(row["team_id"], row["role"]) for row in info["teams"]] == [("t1", "user")]
    assert [(row["token_id"], row["user_id"]) for row in info["keys"]] == [(made["token_id"], "ann")]
    by_address = await auth.get("/user/info", {"user_email": "ann@EXAMPLE.com"})
    assert by_address["user_id"] == "ann"

    taken = await auth.post("/user/new", {"user_email": "ANN@example.com"}, status=409)
    assert taken["error"]["code"] == "user_email_taken"
    await auth.post("/user/new", {"user_id": "ann"}, status=409)
    await auth.post("/user/new", {"teams": ["nope"]}, status=404)
    await auth.post("/user/new", {"organizations": ["nope"]}, status=404)
    for field in ("max_budget", "models", "rpm_limit", "budget_id"):
        error = (await auth.post("/user/new", {field: ["m"] if field == "models" else 5}, status=400))["error"]
        assert "put it on keys, teams and organizations" in error["message"]

    bare = await auth.post("/user/new", {"user_email": "bob@example.com", "auto_create_key": False})
    assert bare["key"] is None
    assert bare["user_id"].startswith("user_")
    await auth.post("/user/new", {"auto_create_key": False, "duration": "1d"}, status=400)
    everyone = await auth.get("/user/list")
    assert (everyone["total"], [row["user_id"] for row in everyone["users"]]) == (2, [bare["user_id"], "ann"])
    for query, ids in (
        ({"user_email": "BOB@"}, [bare["user_id"]]),
        ({"team": "t1"}, ["ann"]),
        ({"user_ids": "ann,nobody"}, ["ann"]),
        ({"role": "proxy_admin"}, []),
        ({"page": 2, "page_size": 1}, ["ann"]),
    ):
        assert [row["user_id"] for row in (await auth.get("/user/list", query))["users"]] == ids

    changed = await auth.post("/user/update", {"user_email": "bob@example.com", "user_alias": "Bob"})
    assert (changed["user_id"], changed["data"]["user_alias"]) == (bare["user_id"], "Bob")
    moved = await auth.post("/user/update", {"user_id": bare["user_id"], "user_email": "ann@example.com"}, status=409)
    assert moved["error"]["param"] == "user_email"


async def test_roles_of_users(auth: Auth) -> None:
    await auth.post("/team/new", {"team_id": "t1"})
    admin = await auth.post("/user/new", {"user_id": "root", "user_role": "proxy_admin"})
    assert admin["key_type"] == "admin"
    assert (await auth.get("/team/list", key=admin["key"]))[0]["team_id"] == "t1"
    reader = await auth.post("/user/new", {"user_id": "eve", "user_role": "proxy_admin_viewer"})
    assert reader["key_type"] == "viewer"
    await auth.post("/team/new", {}, key=reader["key"], status=403)
    await auth.post("/key/generate", {"user_id": "nobody"}, status=404)
    await auth.post("/key/generate", {"user_id": "root", "team_id": "t1"}, status=404)

    more = await auth.post("/key/generate", {"user_id": "root", "key_type": "admin"})
    plain = await auth.post("/key/generate", {"user_id": "root"})
    changed = await auth.post("/user/update", {"user_id": "root", "user_role": "internal_user"})
    assert sorted(changed["deleted_keys"]) == sorted([admin["token_id"], more["token_id"]])
    assert [await works(auth, one) for one in (admin, more, plain)] == [False, False, True]
    last = await last_event(auth, f"key:{more['token_id']}")
    assert isinstance(last, KeyDeleted)
    assert "user_role internal_user" in last.cause


async def test_members_come_and_go_with_their_keys(auth: Auth, proxy: Bus) -> None:
    await auth.post("/team/new", {"team_id": "t1"})
    await auth.post("/team/new", {"team_id": "t2"})
    added = await auth.post(
        "/team/member_add",
        {"team_id": "t1", "member": [{"role": "admin", "user_id": "ann"}, {"user_email": "bob@example.com"}]},
    )
    bob = added["updated_users"][1]["user_id"]
    assert added["updated_users"][1]["user_role"] == "internal_user"
    assert [(row["user_id"], row["role"]) for row in added["members_with_roles"]] == [("ann", "admin"), (bob, "user")]
    await auth.post("/team/member_add", {"team_id": "t2", "member": {"user_id": "ann", "role": "admin"}})
    again = await auth.post("/team/member_add", {"team_id": "t1", "member": {"user_email": "BOB@example.com"}})
    assert len(again["members_with_roles"]) == 2
    other = {"team_id": "t1", "member": {"user_id": "ann", "role": "user"}}
    assert (await auth.post("/team/member_add", other, status=409))["error"]["code"] == "already_member"
    mixed = {"team_id": "t1", "member": {"user_id": "ann", "user_email": "bob@example.com", "role": "admin"}}
    await auth.post("/team/member_add", mixed, status=400)
    await auth.post("/team/member_add", {"team_id": "t1", "member": {}}, status=400)
    for field in ("max_budget_in_team", "budget_duration", "allowed_models"):
        error = (await auth.post("/team/member_add", other | {field: 5}, status=400))["error"]
        assert (error["code"], error["param"]) == ("field_not_supported", field)

    here = await auth.post("/key/generate", {"team_id": "t1", "user_id": "ann"})
    boss = await auth.post("/key/generate", {"team_id": "t1", "user_id": "ann", "key_type": "team_admin"})
    there = await auth.post("/key/generate", {"team_id": "t2", "user_id": "ann"})
    service = await auth.post("/key/service-account/generate", {"team_id": "t1"})
    wrong = await auth.post("/key/generate", {"team_id": "t1", "user_id": bob, "key_type": "team_admin"}, status=400)
    assert "member with the role admin" in wrong["error"]["message"]

    lower = await auth.post("/team/member_update", {"team_id": "t1", "user_id": "ann", "role": "user"})
    assert (lower["role"], lower["deleted_keys"]) == ("user", [boss["token_id"]])
    assert [await works(auth, one) for one in (boss, here, there)] == [False, True, True]

    removed = await auth.post("/team/member_delete", {"team_id": "t1", "user_id": "ann"})
    assert removed["deleted_keys"] == [here["token_id"]]
    assert await entry(proxy, here) == "deleted"
    assert [await works(auth, one) for one in (here, there, service)] == [False, True, True]
    assert (await last_event(auth, f"key:{here['token_id']}")).cause == "the user ann was removed from the team t1"
    assert isinstance(await last_event(auth, "team:t1"), TeamMembersChanged)
    gone = await auth.post("/team/member_delete", {"team_id": "t1", "user_id": "ann"}, status=404)
    never = await auth.post("/team/member_delete", {"team_id": "t1", "user_id": "who"}, status=404)
    assert str(gone).replace("ann", "who") == str(never)
    await auth.post("/team/member_update", {"team_id": "t1", "user_id": "ann", "role": "admin"}, status=404)
    await auth.post("/key/generate", {"team_id": "t1", "user_id": "ann"}, status=404)

    bulk = await auth.post(
        "/team/bulk_member_add",
        {"team_id": "t1", "members": [{"user_id": "cyd"}, {"user_id": bob, "role": "admin"}, {"user_id": "a b"}]},
    )
    assert [result["success"] for result in bulk["results"]] == [True, False, False]
    assert (bulk["successful_additions"], bulk["failed_additions"]) == (1, 2)
    before = len(await auth.service.parts.commits._store.load("team:t1"))
    crowd = [{"user_id": f"crowd-{n}"} for n in range(20)]
    bulk = await auth.post("/team/bulk_member_add", {"team_id": "t1", "members": crowd})
    assert bulk["successful_additions"] == 20
    assert len(await auth.service.parts.commits._store.load("team:t1")) == before + 1, "one commit"
    last = await last_event(auth, "team:t1")
    assert [member.user_id for member in last.joined] == [one["user_id"] for one in crowd]


async def test_the_key_of_a_user_in_several_teams_or_with_a_role(auth: Auth) -> None:
    for team_id in ("t1", "t2"):
        await auth.post("/team/new", {"team_id": team_id})
    several = await auth.post("/user/new", {"teams": ["t1", "t2"]})
    assert several["team_id"] is None
    assert "none of the teams" in several["warnings"][0]
    admin = await auth.post("/user/new", {"teams": ["t1"], "user_role": "proxy_admin"})
    assert (admin["team_id"], admin["key_type"], admin["warnings"]) == (None, "admin", [])


async def test_a_deleted_user(auth: Auth, proxy: Bus) -> None:
    await auth.post("/team/new", {"team_id": "t1"})
    made = await auth.post("/user/new", {"user_id": "ann", "user_email": "ann@example.com", "teams": ["t1"]})
    in_team = await auth.post("/key/generate", {"user_id": "ann", "team_id": "t1"})
    await auth.post("/user/delete", {"user_ids": ["ann", "nobody"]}, status=404)
    assert await works(auth, made)
    answer = await auth.post("/user/delete", {"user_ids": ["ann"]})
    assert answer["deleted_users"] == ["ann"]
    assert sorted(answer["deleted_keys"]) == sorted([made["token_id"], in_team["token_id"]])
    assert await entry(proxy, in_team) == "deleted"
    assert [await works(auth, one) for one in (made, in_team)] == [False, False]
    assert (await auth.get("/team/info", {"team_id": "t1"}))["team_memberships"] == []
    await auth.get("/user/info", {"user_id": "ann"}, status=404)
    assert (await auth.get("/user/list"))["total"] == 0
    await auth.post("/user/new", {"user_id": "ann"}, status=409)
    await auth.post("/team/member_add", {"team_id": "t1", "member": {"user_id": "ann"}}, status=409)
    await auth.post("/user/new", {"user_id": "ann2", "user_email": "ANN@example.com"})


async def test_a_crash_between(nats: NatsServer, database: str) -> None:
    """Somebody left, or is gone, and nothing happened to their keys and memberships: the next start ends them."""
    settings = settings_for(nats, await migrated(database))
    async with auth_running(settings) as auth:
        await auth.ready()
        await auth.post("/team/new", {"team_id": "t1"})
        await auth.post("/user/new", {"user_id": "bob", "teams": ["t1"], "auto_create_key": False})
        left = await auth.post("/user/new", {"user_id": "ann", "teams": ["t1"]})
        own = await auth.post("/key/generate", {"user_id": "ann"})
        keys = {
            "left": left,
            "own": own,
            "gone": await auth.post("/key/generate", {"user_id": "bob"}),
        }

        def leave(state: TeamState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return team.decide_remove_members(state, "t1", [UserId("ann")], stamp)

        def delete(state: UserState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return user.decide_delete(state, "bob", stamp)

        await auth.service.parts.commits.team(TeamId("t1"), leave, actor="somebody")
        await auth.service.parts.commits.user(UserId("bob"), delete, actor="somebody")
    async with auth_running(settings) as auth:
        await auth.ready()

        async def ended() -> bool:
            deaths = [await last_event(auth, f"key:{keys[name]['token_id']}") for name in ("left", "gone")]
            members = await auth.get("/team/info", {"team_id": "t1"})
            return all(isinstance(death, KeyDeleted) for death in deaths) and members["team_memberships"] == []

        await eventually(ended)
        assert (await last_event(auth, f"key:{keys['gone']['token_id']}")).cause == "the user bob was deleted"
        assert [await works(auth, keys[name]) for name in ("left", "gone", "own")] == [False, False, True]


async def test_organizations_have_members(auth: Auth) -> None:
    for name in ("acme", "other"):
        await auth.post("/organization/new", {"organization_id": name, "organization_alias": name})
    joined = await auth.post(
        "/organization/member_add", {"organization_id": "acme", "member": [{"user_id": "ann"}, {"user_id": "bob"}]}
    )
    assert [row["organizations"] for row in joined["updated_users"]] == [["acme"], ["acme"]]
    await auth.post("/organization/member_add", {"organization_id": "other", "member": {"user_id": "ann"}})
    role = {"organization_id": "acme", "member": {"user_id": "ann", "role": "org_admin"}}
    assert "key_type" in (await auth.post("/organization/member_add", role, status=400))["error"]["message"]

    admin = (await auth.post("/key/generate", {"key_type": "org_admin", "organization_id": "acme"}))["key"]
    seen = await auth.get("/user/list", key=admin)
    assert {row["user_id"]: row["organizations"] for row in seen["users"]} == {"ann": ["acme"], "bob": ["acme"]}
    await auth.post("/organization/member_delete", {"organization_id": "acme", "user_id": "ann"})
    assert [row["user_id"] for row in (await auth.get("/user/list", key=admin))["users"]] == ["bob"]
    hidden = await auth.get("/user/info", {"user_id": "ann"}, key=admin, status=404)
    nobody = await auth.get("/user/info", {"user_id": "eve"}, key=admin, status=404)
    assert str(hidden).replace("ann", "eve") == str(nobody)
    await auth.post("/organization/member_add", role, key=admin, status=403)
    created = (await auth.service.parts.commits._store.load("user:bob"))[0]
    assert isinstance(created, UserCreated)
    assert created.actor == "master-key"


async def test_whose_user_is_seen(auth: Auth) -> None:
    """A team's administrator sees its members, and of them only what is the team's."""
    await auth.post("/team/new", {"team_id": "t1"})
    await auth.post("/team/new", {"team_id": "t2"})
    await auth.post("/user/new", {"user_id": "ann", "teams": ["t1", "t2"], "auto_create_key": False})
    await auth.post("/user/new", {"user_id": "bob", "teams": ["t2"], "auto_create_key": False})
    mine = await auth.post("/key/generate", {"team_id": "t1", "user_id": "ann"})
    await auth.post("/key/generate", {"team_id": "t2", "user_id": "ann"})
    boss = (await auth.post("/key/generate", {"team_id": "t1", "key_type": "team_admin"}))["key"]
    info = await auth.get("/user/info", {"user_id": "ann"}, key=boss)
    assert [row["team_id"] for row in info["teams"]] == ["t1"]
    assert [row["token_id"] for row in info["keys"]] == [mine["token_id"]]
    assert [row["user_id"] for row in (await auth.get("/user/list", key=boss))["users"]] == ["ann"]
    await auth.get("/user/info", {"user_id": "bob"}, key=boss, status=404)
    await auth.post("/team/member_delete", {"team_id": "t2", "user_id": "bob"}, key=boss, status=404)
    assert (await auth.post("/team/member_delete", {"team_id": "t1", "user_id": "ann"}, key=boss))["deleted_keys"]


ALICE = {
    "user_id": "alice",
    "user_email": "alice@corp.example",
    "user_alias": "Alice the Boss",
    "user_role": "proxy_admin",
    "metadata": {"salary": 1},
    "organizations": ["org-b"],
    "auto_create_key": False,
}
HIDDEN = (
    "user_alias",
    "user_role",
    "organizations",
    "metadata",
    "created_at",
    "created_by",
    "updated_at",
    "updated_by",
)


async def two_orgs(auth: Auth) -> dict[str, str]:
    """Organizations `org-a` with the team `a1`, and `org-b` with the user alice and the team `b1`; keys by role."""
    for org in ("org-a", "org-b"):
        await auth.post("/organization/new", {"organization_id": org, "organization_alias": org})
    await auth.post("/team/new", {"team_id": "a1", "organization_id": "org-a"})
    await auth.post("/team/new", {"team_id": "b1", "organization_id": "org-b"})
    await auth.post("/user/new", ALICE | {"teams": ["b1"]})
    keys: dict[str, str] = {}
    for name, body in {
        "team_a": {"key_type": "team_admin", "team_id": "a1"},
        "org_a": {"key_type": "org_admin", "organization_id": "org-a"},
        "org_b": {"key_type": "org_admin", "organization_id": "org-b"},
        "team_b": {"key_type": "team_admin", "team_id": "b1"},
    }.items():
        keys[name] = (await auth.post("/key/generate", body))["key"]
    return keys


@pytest.mark.parametrize("who", ["team_a", "org_a"])
async def test_adding_a_stranger_to_a_team_tells_nothing_of_them(auth: Auth, who: str) -> None:
    key = (await two_orgs(auth))[who]

    async def add(**member: str) -> dict[str, Any]:
        return await auth.post("/team/member_add", {"team_id": "a1", "member": member}, key=key)

    known, unknown = await add(user_id="alice"), await add(user_id="nobody")
    blank = dict.fromkeys(HIDDEN)
    assert known["updated_users"] == [{"user_id": "alice", "user_email": None, **blank}]
    assert unknown["updated_users"] == [{"user_id": "nobody", "user_email": None, **blank}]
    for member in (known | unknown)["members_with_roles"]:
        assert member["user_email"] is None
    for both in ({"user_id": "alice"}, {"user_id": "nobody"}, {"user_id": "bob"}):
        body = {"team_id": "a1", "member": both | {"user_email": "alice@corp.example"}}
        error = (await auth.post("/team/member_add", body, key=key, status=400))["error"]
        assert "both take a role that holds everywhere" in error["message"]
        bulk = {"team_id": "a1", "members": [body["member"]]}
        (result,) = (await auth.post("/team/bulk_member_add", bulk, key=key))["results"]
        assert (result["success"], result["user_id"]) == (False, both["user_id"])
    bulk = {"team_id": "a1", "members": [{"user_id": "alice"}]}
    (result,) = (await auth.post("/team/bulk_member_add", bulk, key=key))["results"]
    assert (result["user_id"], result["user_email"]) == ("alice", None)
    changed = {"team_id": "a1", "user_id": "alice", "role": "admin"}
    assert (await auth.post("/team/member_update", changed, key=key))["user_email"] is None

    info = await auth.get("/user/info", {"user_id": "alice"}, key=key)
    assert info["user_info"] == {"user_id": "alice", "user_email": None, **blank}
    assert [team["team_id"] for team in info["teams"]] == ["a1"]
    team = await auth.get("/team/info", {"team_id": "a1"}, key=key)
    assert [row["user_email"] for row in team["team_memberships"]] == [None, None]
    users = (await auth.get("/user/list", key=key))["users"]
    assert {row["user_id"]: row["user_email"] for row in users} == {"alice": None, "nobody": None}
    for query in ({"user_email": "alice@"}, {"role": "proxy_admin"}, {"role": "internal_user"}, {"team": "b1"}):
        assert (await auth.get("/user/list", query, key=key))["users"] == [], query
    body = {"team_id": "a1", "user_id": "nobody", "key_type": "team_admin"}
    refused = (await auth.post("/key/generate", body, key=key, status=400))["error"]
    assert "internal_user" not in refused["message"]


async def test_who_is_invited_by_address_is_shown_with_it(auth: Auth) -> None:
    """And nothing else of them, whether they were known or not."""
    keys = await two_orgs(auth)
    for address in ("ALICE@corp.example", "new@corp.example"):
        body = {"team_id": "a1", "member": {"user_email": address}}
        (row,) = (await auth.post("/team/member_add", body, key=keys["team_a"]))["updated_users"]
        assert row == {"user_id": row["user_id"], "user_email": address, **dict.fromkeys(HIDDEN)}
    team = await auth.get("/team/info", {"team_id": "a1"}, key=keys["team_a"])
    assert sorted(row["user_email"] for row in team["team_memberships"]) == ["alice@corp.example", "new@corp.example"]
    info = await auth.get("/user/info", {"user_id": "alice"}, key=keys["team_a"])
    assert info["user_info"]["user_email"] == "alice@corp.example"
    found = (await auth.get("/user/list", {"user_email": "ALICE@"}, key=keys["team_a"]))["users"]
    assert [row["user_id"] for row in found] == ["alice"]
    changed = {"team_id": "a1", "user_id": "alice", "role": "admin"}
    assert (await auth.post("/team/member_update", changed, key=keys["team_a"]))["user_email"] == "alice@corp.example"
    again = {"team_id": "a1", "member": {"user_id": "alice", "role": "admin"}}
    rows = (await auth.post("/team/member_add", again, key=keys["team_a"]))["members_with_roles"]
    assert rows[0]["user_email"] == "alice@corp.example"


async def test_a_user_is_seen_whole_everywhere_and_in_their_own_organization(auth: Auth) -> None:
    keys = await two_orgs(auth)
    for key in (MASTER_KEY, keys["org_b"]):
        row = (await auth.get("/user/info", {"user_id": "alice"}, key=key))["user_info"]
        assert {name: row[name] for name in ALICE if name != "auto_create_key"} == {
            name: value for name, value in ALICE.items() if name != "auto_create_key"
        }
        listed = await auth.get("/user/list", {"role": "proxy_admin", "user_email": "alice", "team": "b1"}, key=key)
        assert [one["user_id"] for one in listed["users"]] == ["alice"]
    row = (await auth.get("/user/info", {"user_id": "alice"}, key=keys["team_b"]))["user_info"]
    assert (row["user_email"], row["user_role"], row["metadata"]) == ("alice@corp.example", None, None)
