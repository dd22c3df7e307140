"""The scheduler's API for people: who may ask what, and how far they see."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import msgspec
import pytest

from services.scheduler.app import run
from services.scheduler.settings import load_settings
from shared.bus import Bucket
from shared.clock import SystemClock
from shared.events import BudgetExceeded, KeyDeleted, KeyLeaked, RotationFailed
from shared.ids import AccountId, EventId, KeyId, OrgId, TeamId, uuid7
from shared.policy import Reach, Role, ScopeKind
from shared.settings import Env
from shared.topology import REVOKED_BUCKET
from tests.support.eventually import eventually
from tests.support.role_keys import PEPPERS, give_all
from tests.support.servers import NatsServer, free_port
from tests.support.timetable import START, Town, issued, scheduled, team, told, town_of

MASTER = "sk-a-master-key-for-tests-0123456789"
LATER = START + timedelta(days=100 * 365)


class Door:
    """The internal port of a running scheduler."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def ask(self, path: str, key: str = MASTER, **query: str | int) -> httpx.Response:
        return await self.client.get(path, params=query, headers={"authorization": f"Bearer {key}"})

    async def get(self, path: str, key: str = MASTER, **query: str | int) -> Any:
        answer = await self.ask(path, key, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def ready(self) -> None:
        async def well() -> bool:
            return (await self.client.get("/health/readiness")).status_code == 200

        await eventually(well, unless=(httpx.TransportError,))


@asynccontextmanager
async def door(town: Town, nats_url: str | None = None) -> AsyncGenerator[Door, None]:
    port = free_port()
    env = {
        "TUNDISH_MASTER_KEY": MASTER,
        "TUNDISH_TOKEN": "token",
        "TUNDISH_PEPPERS": PEPPERS,
        "TUNDISH_NATS_URL": nats_url or town.nats.url_for("scheduler"),
        "TUNDISH_POSTGRES_URL": town.database,
        "TUNDISH_INTERNAL_PORT": str(port),
    }
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run(load_settings(Env(env)), SystemClock(), stop))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield Door(client)
        stop.set()


@pytest.fixture
async def town(nats: NatsServer, database: str) -> AsyncGenerator[Town, None]:
    async with town_of(nats, database) as made:
        yield made


async def seen(at: Door, path: str, key: str, field: str, **query: str | int) -> list[str]:
    return [row[field] for row in (await at.get(path, key, **query))["data"]]


async def test_the_schedule_is_narrowed_by_reach(town: Town) -> None:
    keys = await give_all(town.admin, "org_1", "team_1")
    await town.decided(
        *(issued("k_team"), scheduled("k_team", "30d", anchor=LATER)),
        *(issued("k_org", team_id="team_2"), scheduled("k_org", "60d", anchor=LATER)),
        *(issued("k_far", org_id="org_2", team_id=None), scheduled("k_far", "90d", anchor=LATER)),
    )
    async with door(town) as at:
        await at.ready()
        everything = ["k_team", "k_org", "k_far"]
        for name, expected in {
            "admin": everything,
            "viewer": everything,
            "org_admin": everything[:2],
            "org_viewer": everything[:2],
            "team_admin": everything[:1],
            "team_viewer": everything[:1],
        }.items():
            assert await seen(at, "/rotation/schedule", keys[name], "key_id") == expected, name
        page = await at.get("/rotation/schedule", size=2, page=2)
        assert [row["key_id"] for row in page["data"]] == ["k_far"]
        assert (page["total_count"], page["current_page"], page["total_pages"]) == (3, 2, 2)
        row = (await at.get("/rotation/schedule", key_id="k_team"))["data"][0]
        assert (row["rotation_interval"], row["interval_s"], row["overdue"]) == ("30d", 2_592_000, False)
        assert (row["key_alias"], row["organization_id"], row["team_id"]) == ("the k_team", "org_1", "team_1")
        assert row["key_rotation_at"] == (LATER + timedelta(days=30)).isoformat().replace("+00:00", "Z")
        assert row["last"] is None
        assert (await at.ask("/rotation/schedule", keys["caller"])).status_code == 403
        assert (await at.ask("/rotation/schedule", "sk-unknown")).status_code == 401
        assert (await at.ask("/rotation/schedule", limit=1)).json()["error"]["code"] == "unknown_parameter"


async def test_keys_of_administrators_are_not_shown_to_those_who_reach_less(town: Town) -> None:
    """A key with the reach `all` stands in `default`, one with the reach `org` beside the teams."""
    keys = await give_all(town.admin, "default", "team_1")
    reaches: dict[str, tuple[Role, Reach, str | None]] = {
        "k_all": ("admin", "all", None),
        "k_org": ("org_admin", "org", None),
        "k_wide": ("org_admin", "org", "team_1"),
        "k_team": ("team_admin", "team", "team_1"),
    }
    for number, (key_id, (role, reach, team_id)) in enumerate(reaches.items(), 1):
        made = issued(key_id, org_id="default", team_id=team_id)
        made = msgspec.structs.replace(made, role=role, reach=reach)
        await town.decided(made, scheduled(key_id, f"{number}d", anchor=LATER))
        leaked = KeyLeaked(**key_signal(key_id, "default", team_id), action="revoked", reporter="r")
        await town.signalled("key.leaked", "key", key_id, leaked)
        await town.signalled("budget.exceeded", "key", key_id, exceeded("key", key_id))
    await town.decided(KeyDeleted(**told(START), key_id=KeyId("k_all")))
    unknown = KeyLeaked(**key_signal("k_unknown", "default", "team_1"), action="revoked", reporter="r")
    await town.signalled("key.leaked", "key", "k_unknown", unknown)
    async with door(town) as at:
        await at.ready()
        for name, expected in {
            "admin": ["k_org", "k_wide", "k_team"],
            "org_admin": ["k_org", "k_wide", "k_team"],
            "org_viewer": ["k_org", "k_wide", "k_team"],
            "team_admin": ["k_team"],
            "team_viewer": ["k_team"],
        }.items():
            assert await seen(at, "/rotation/schedule", keys[name], "key_id") == expected, name
            told_of = [*(["k_all"] if name == "admin" else []), *expected]
            told_of += ["k_unknown"] if name == "admin" else []
            assert sorted(await seen(at, "/alerts", keys[name], "scope_id", kind="key")) == sorted(told_of), name
            spent = await seen(at, "/alerts", keys[name], "scope_id", kind="budget", scope="key:k_all")
            assert spent == (["k_all"] if name == "admin" else []), name


async def test_a_key_of_an_administrator_is_not_in_the_schedule_of_the_built_in_organization(town: Town) -> None:
    keys = await give_all(town.admin, "default", "team_1")
    made = msgspec.structs.replace(issued("k_all", org_id="default", team_id=None), role="admin", reach="all")
    await town.decided(made, scheduled("k_all", "1d", anchor=LATER))
    async with door(town) as at:
        await at.ready()
        assert await seen(at, "/rotation/schedule", keys["admin"], "key_id") == ["k_all"]
        for name in ("org_admin", "org_viewer", "team_admin"):
            page = await at.get("/rotation/schedule", keys[name], key_id="k_all")
            assert (page["data"], page["total_count"]) == ([], 0), name


async def test_status_and_metrics_take_the_reach_all(town: Town) -> None:
    keys = await give_all(town.admin, "org_1", "team_1")
    await town.decided(issued(), scheduled(anchor=LATER))
    async with door(town) as at:
        await at.ready()
        for path in ("/scheduler/status", "/metrics"):
            assert (await at.ask(path, keys["admin"])).status_code == 200
            for name in ("viewer", "org_admin", "team_admin", "org_viewer", "team_viewer", "caller"):
                assert (await at.ask(path, keys[name])).status_code == 403, name
        status = (await at.get("/scheduler/status"))["rotation"]
        assert (status["every_s"], status["scheduled"], status["overdue"], status["unpublished"]) == (1, 1, 0, 0)
        assert (status["position"], status["lag"], status["problem"]) == (2, 0, None)
        page = (await at.ask("/metrics")).text
        assert "tundish_scheduler_rotation_overdue_seconds 0" in page
        assert "tundish_scheduler_timetable_lag_messages 0" in page


async def test_a_revoked_role_key_is_refused_at_once(town: Town) -> None:
    keys = await give_all(town.admin, "org_1", "team_1")
    async with door(town) as at:
        await at.ready()
        assert (await at.ask("/alerts", keys["admin"])).status_code == 200
        entry = b'{"kind":"blocked","at":"2026-03-01T12:00:00Z","actor":"x","cause":""}'
        await Bucket(town.admin, REVOKED_BUCKET).put("k.admin", entry)

        async def refused() -> bool:
            return (await at.ask("/alerts", keys["admin"])).status_code == 401

        await eventually(refused)


async def test_without_nats_the_master_key_is_let_in_and_others_wait(town: Town) -> None:
    async with door(town, "nats://scheduler:x@127.0.0.1:1") as at:

        async def up() -> bool:
            return (await at.ask("/scheduler/status")).status_code == 200

        await eventually(up, unless=(httpx.TransportError,))
        assert (await at.ask("/rotation/schedule")).status_code == 200
        assert (await at.ask("/alerts")).status_code == 503
        assert (await at.ask("/rotation/schedule", "sk-some-role-key")).status_code == 503
        ready = await at.client.get("/health/readiness")
        assert ready.status_code == 503
        assert ready.json()["checks"]["nats"] == "not connected"


def exceeded(kind: ScopeKind, scope_id: str) -> BudgetExceeded:
    return BudgetExceeded(
        id=EventId(uuid7()),
        at=START,
        source="ledger",
        scope_kind=kind,
        scope_id=scope_id,
        account=AccountId("a"),
        window_index=0,
        window_start=START,
        window_end=None,
        limit_nusd=1,
        spent_nusd=1,
        alias=f"the {scope_id}",
    )


def key_signal(key_id: str, org_id: str, team_id: str | None) -> dict[str, Any]:
    return {
        "id": EventId(uuid7()),
        "at": START,
        "source": "auth",
        "key_id": KeyId(key_id),
        "org_id": OrgId(org_id),
        "team_id": None if team_id is None else TeamId(team_id),
    }


async def test_alerts_are_the_newest_signals_within_reach(town: Town) -> None:
    keys = await give_all(town.admin, "org_1", "team_1")
    await town.decided(
        team(), team("team_2"), issued("k_own"), issued("k_gone"), KeyDeleted(**told(START), key_id=KeyId("k_gone"))
    )
    spent: tuple[tuple[ScopeKind, str], ...] = (
        ("org", "org_1"), ("org", "org_2"), ("team", "team_1"), ("team", "team_2"), ("key", "k_gone"),
    )  # fmt: skip
    for kind, scope in spent:
        await town.signalled("budget.exceeded", kind, scope, exceeded(kind, scope))
    failed = RotationFailed(**key_signal("k_own", "org_1", "team_1"), target="webhook", reason="r", attempts=3)
    await town.signalled("rotation.failed", "key", "k_own", failed)
    leaked = KeyLeaked(**key_signal("k_far", "org_2", None), action="revoked", reporter="r")
    await town.signalled("key.leaked", "key", "k_far", leaked)
    async with door(town) as at:
        await at.ready()
        everything = ["k_far", "k_own", "k_gone", "team_2", "team_1", "org_2", "org_1"]
        org = ["k_own", "k_gone", "team_2", "team_1", "org_1"]
        mine = ["k_own", "k_gone", "team_1"]
        for name, expected in {
            "admin": everything, "viewer": everything, "org_admin": org, "org_viewer": org,
            "team_admin": mine, "team_viewer": mine,
        }.items():  # fmt: skip
            assert await seen(at, "/alerts", keys[name], "scope_id") == expected, name
        assert await seen(at, "/alerts", MASTER, "scope_id", kind="budget") == everything[2:]
        assert await seen(at, "/alerts", MASTER, "scope_id", kind="key.leaked") == ["k_far"]
        assert await seen(at, "/alerts", MASTER, "kind", scope="team:team_1") == ["budget.exceeded"]
        assert await seen(at, "/alerts", keys["team_admin"], "kind", scope="team:team_2") == []
        row = (await at.get("/alerts", kind="rotation"))["data"][0]
        assert row["signal"] == {
            "type": "rotation.failed.v1", "id": failed.id, "at": "2026-03-01T12:00:00Z", "source": "auth",
            "key_id": "k_own", "org_id": "org_1", "team_id": "team_1", "target": "webhook", "reason": "r",
            "attempts": 3,
        }  # fmt: skip
        assert (row["organization_id"], row["team_id"], row["position"]) == ("org_1", "team_1", 6)
        assert (await at.ask("/alerts", keys["caller"])).status_code == 403
        assert (await at.ask("/alerts", limit=1_001)).status_code == 400
        assert (await at.ask("/alerts", scope="team:*")).status_code == 400


@pytest.mark.parametrize("name", ["admin", "team_admin"])
async def test_alerts_are_read_page_by_page_without_gap_or_repetition(
    town: Town, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.scheduler.alerts.SCAN_MAX", 20)
    keys = await give_all(town.admin, "org_1", "team_1")
    await town.decided(team())
    for number in range(60):
        scope = "team_1" if number % 7 == 0 else f"other_{number}"
        await town.signalled("budget.exceeded", "team", scope, exceeded("team", scope))
    expected = [number + 1 for number in reversed(range(60)) if name == "admin" or number % 7 == 0]
    async with door(town) as at:
        await at.ready()
        found: list[int] = []
        before: int | None = None
        for _ in range(40):
            query = {"limit": 4} if before is None else {"limit": 4, "before": before}
            page = await at.get("/alerts", keys[name], **query)
            assert len(page["data"]) <= 4
            found += [row["position"] for row in page["data"]]
            before = page["next"]
            if before is None:
                break
        assert found == expected
