"""Who may ask the bookkeeper what, how far they see, and when versions of secrets were last used."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from shared.events import KeyDeleted, TeamDeleted
from shared.ids import KeyId, OrgId, TeamId
from shared.policy import ScopeKind
from tests.support.books import Town, eventually, town_of
from tests.support.ledger import (
    EPOCH,
    KEY,
    ORG,
    TEAM,
    budget,
    budget_set,
    event_id,
    key_issued,
    org_created,
    team_created,
    used,
    window,
)
from tests.support.role_keys import give_all
from tests.support.servers import NatsServer

TEAM_2, ORG_2 = TeamId("team_2"), OrgId("org_2")
MATE, NEAR, FAR = KeyId("key_mate"), KeyId("key_near"), KeyId("key_far")
EVERYWHERE = ("admin", "viewer")
ORG_WIDE = ("org_admin", "org_viewer")
TEAM_WIDE = ("team_admin", "team_viewer")
ROLES = (*EVERYWHERE, *ORG_WIDE, *TEAM_WIDE)


@pytest.fixture
async def town(nats: NatsServer, database: str) -> AsyncIterator[Town]:
    async with town_of(nats, database) as town:
        yield town


async def asked(town: Town, path: str, key: str, **params: str | int) -> Any:
    assert town.http is not None
    return await town.http.get(path, params=params, headers={"authorization": f"Bearer {key}"})


async def seen(town: Town, path: str, key: str, field: str, **params: str | int) -> list[str]:
    answer = await asked(town, path, key, **params)
    assert answer.status_code == 200, answer.text
    return [row[field] for row in answer.json()["data"]]


async def settled(town: Town) -> None:
    async def mirrored() -> bool:
        return await town.says("mirror") == "ok"

    await eventually(mirrored)


async def busy(town: Town) -> None:
    """Four keys in two organizations have spent: 4 for the dearest, 1 for the cheapest."""
    await town.decided(
        *(org_created(), org_created(ORG_2), team_created(), team_created(TEAM_2)),
        *(key_issued(), key_issued(MATE), key_issued(NEAR, TEAM_2), key_issued(FAR, None, ORG_2)),
    )
    await town.use(
        used(1, 1, key=KEY),
        used(2, 2, key=MATE),
        used(3, 3, key=NEAR, team=TEAM_2),
        used(4, 4, key=FAR, team=None, org=ORG_2),
    )
    await town.hold(4)


async def test_spend_is_narrowed_by_reach(town: Town) -> None:
    keys = await give_all(town.admin, ORG, TEAM)
    async with town.books():
        await settled(town)
        await busy(town)
        gone: dict[str, Any] = {"id": event_id(), "at": EPOCH, "source": "auth", "actor": "test"}
        await town.decided(KeyDeleted(**gone, key_id=MATE), TeamDeleted(**gone, team_id=TEAM_2))
        expected: dict[str, dict[tuple[str, ...], list[object]]] = {
            "/spend/keys key_id": {
                EVERYWHERE: [FAR, NEAR, MATE, KEY], ORG_WIDE: [NEAR, MATE, KEY], TEAM_WIDE: [MATE, KEY],
            },
            "/spend/teams team_id": {EVERYWHERE: [TEAM, TEAM_2], ORG_WIDE: [TEAM, TEAM_2], TEAM_WIDE: [TEAM]},
            "/spend/orgs organization_id": {EVERYWHERE: [ORG, ORG_2], ORG_WIDE: [ORG], TEAM_WIDE: []},
            "/spend/logs n": {EVERYWHERE: [4, 3, 2, 1], ORG_WIDE: [3, 2, 1], TEAM_WIDE: [2, 1]},
        }  # fmt: skip
        for question, answers in expected.items():
            path, field = question.split()
            for names, rows in answers.items():
                for name in names:
                    assert await seen(town, path, keys[name], field) == rows, (path, name)
            assert (await asked(town, path, keys["caller"])).status_code == 403
            assert (await asked(town, path, "sk-unknown")).status_code == 401
        page = (await asked(town, "/spend/keys", keys["team_admin"], size=1, page=2)).json()
        assert ([row["key_id"] for row in page["data"]], page["total_count"], page["total_pages"]) == ([KEY], 2, 2)
        org = (await town.get("/spend/orgs"))["data"][0]
        assert (org["organization_alias"], org["spend_nusd"], org["calls"]) == ("the org", 6, 3)


async def test_a_filter_finds_nothing_beyond_the_reach(town: Town) -> None:
    keys = await give_all(town.admin, ORG, TEAM)
    async with town.books():
        await settled(town)
        await busy(town)
        assert await seen(town, "/spend/logs", keys["org_admin"], "n", key_id=FAR) == []
        assert await seen(town, "/spend/logs", keys["org_admin"], "n", organization_id=ORG_2) == []
        assert await seen(town, "/spend/logs", keys["team_admin"], "n", team_id=TEAM_2) == []
        assert await seen(town, "/spend/logs", keys["team_admin"], "n", key_id=MATE) == [2]
        assert await seen(town, "/spend/logs", keys["admin"], "n", organization_id=ORG_2) == [4]


async def test_corrections_are_narrowed_and_ordered_by_few(town: Town) -> None:
    keys = await give_all(town.admin, ORG, TEAM)
    scopes: tuple[tuple[ScopeKind, str], ...] = (("key", KEY), ("team", TEAM), ("org", ORG), ("key", FAR))
    async with town.books():
        await settled(town)
        await busy(town)
        for kind, scope_id in scopes:
            await town.decided(budget_set(budget(scope_id, 100, kind=kind, account=f"a:{scope_id}")))
        for kind, scope_id in scopes:
            account = {"account": f"a:{scope_id}", "index": 0, "to_nusd": 7}
            order: dict[str, Any] = {"scope_kind": kind, "scope_id": scope_id, "accounts": [account]}

            async def taken(order: dict[str, Any] = order) -> bool:
                assert town.http is not None
                return (await town.http.post("/spend/correct", json=order)).status_code == 200

            await eventually(taken)
        path = "/spend/corrections"
        every = [FAR, ORG, TEAM, KEY]
        for names, rows in {EVERYWHERE: every, ORG_WIDE: every[1:], TEAM_WIDE: every[2:]}.items():
            for name in names:
                assert await seen(town, path, keys[name], "scope_id") == rows, name
        assert await seen(town, path, keys["org_admin"], "scope_id", scope_kind="key", scope_id=FAR) == []
        assert town.http is not None
        for name in (*ROLES[1:], "caller"):
            headers = {"authorization": f"Bearer {keys[name]}"}
            answer = await town.http.post("/spend/correct", json={}, headers=headers)
            assert answer.status_code == 403, name
        headers = {"authorization": f"Bearer {keys['admin']}"}
        assert (await town.http.post("/spend/correct", json={}, headers=headers)).status_code == 400


async def test_operating_takes_the_reach_all(town: Town) -> None:
    keys = await give_all(town.admin, ORG, TEAM)
    async with town.books():
        await settled(town)
        for path in ("/ledger/status", "/metrics"):
            assert (await asked(town, path, keys["admin"])).status_code == 200
            for name in (*ROLES[1:], "caller"):
                assert (await asked(town, path, keys[name])).status_code == 403, (path, name)
        for name in (*ORG_WIDE, *TEAM_WIDE, "caller"):
            answer = await asked(town, "/spend/balance", keys[name], scope_kind="org", scope_id=ORG)
            assert answer.status_code == 403, name


async def versions(town: Town, key: str = KEY) -> dict[str, str]:
    return (await town.get("/spend/balance", scope_kind="key", scope_id=key))["versions"]


async def test_the_last_use_of_each_version_is_known_and_comes_back_from_the_log(town: Town) -> None:
    async with town.books():
        await town.use(
            used(1, 1, window("a:key_1"), secret_version=1),
            used(2, 1, secret_version=2),
            used(3, 1, secret_version=1),
            used(4, 1),
            used(5, 1, key=MATE, secret_version=7),
        )
        await town.hold(5)
        await town.use(used(6, 1, secret_version=2, started_at=EPOCH - timedelta(days=1)))
        await town.hold(6)
        expected = {"1": "2026-11-01T00:00:03Z", "2": "2026-11-01T00:00:02Z"}
        assert await versions(town) == expected
        assert await versions(town, MATE) == {"7": "2026-11-01T00:00:05Z"}
        team = await town.get("/spend/balance", scope_kind="team", scope_id=TEAM)
        assert team["versions"] == {}
        rows = (await town.get("/spend/logs", key_id=KEY))["data"]
        assert [row["secret_version"] for row in rows] == [2, 0, 1, 2, 1]
        await town.value("DELETE FROM secret_use WHERE version = 1")
        await town.value("UPDATE secret_use SET last_at = now() RETURNING 1")
        assert (await town.rebuild(check=True))["equal"]
        job = await town.rebuild(check=False)
        assert (job["state"], job["equal"]) == ("done", True)
        assert await versions(town) == expected
        assert await town.value("SELECT count(*) FROM secret_use") == 3


async def test_a_message_that_comes_twice_moves_no_last_use(town: Town) -> None:
    async with town.books():
        event = used(1, 1, secret_version=1)
        await town.use(event)
        await town.use(event, used(2, 1, secret_version=1, started_at=EPOCH))
        await town.hold(2)
        assert await versions(town) == {"1": "2026-11-01T00:00:01Z"}
