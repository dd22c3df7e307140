"""Budgets and limits on real servers: what an admin sets is in the records that the proxies see, or refused by name."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
import pytest

from services.auth.domain.budget import BudgetPatch
from services.auth.domain.budget_object import BudgetState, DefineBudget, decide_change
from services.auth.domain.stamp import Stamp
from shared.bus import Bucket, Bus
from shared.clock import SystemClock
from shared.events import AnyAuthEvent
from shared.money import NUSD_PER_USD
from shared.policy import Budget, KeyRecord, Limits, OrgRecord, TeamRecord
from shared.topology import KEYS_BUCKET, key_kv, org_kv, team_kv
from tests.support.auth import MASTER_KEY, Auth, auth_running, migrated, settings_for
from tests.support.eventually import eventually
from tests.support.servers import NatsServer

T = TypeVar("T")

EVERYTHING: dict[str, Any] = {
    "max_budget": 100,
    "budget_duration": "1mo",
    "budget_timezone": "Europe/Berlin",
    "budget_limits": [
        {"budget_duration": "1d", "max_budget": 10, "budget_timezone": "Asia/Tokyo"},
        {"budget_duration": "1h", "max_budget": 2, "soft_budget": 1.5},
    ],
    "model_max_budget": {"gpt-4*": {"budget_limit": 3, "time_period": "1d"}},
    "budget_thresholds": [50, 90],
    "budget_mode": "strict",
    "rpm_limit": 60,
    "tpm_limit": 1000,
    "max_parallel_requests": 4,
    "model_rpm_limit": {"gpt-4*": 6},
    "model_tpm_limit": {"o3": 7},
}


@pytest.fixture
async def auth(nats: NatsServer, database: str) -> AsyncGenerator[Auth, None]:
    async with auth_running(settings_for(nats, await migrated(database))) as auth:
        await auth.ready()
        yield auth


@pytest.fixture
async def seen(nats: NatsServer) -> AsyncGenerator["Seen", None]:
    """The bucket as a proxy reads it."""
    bus = await Bus.open(nats.url_for("proxy"), user="proxy", name="test-proxy")
    yield Seen(Bucket(bus, KEYS_BUCKET))
    await bus.close()


class Seen:
    """Records of scopes, as they stand."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def key(self, key_id: str) -> KeyRecord:
        return await self._read(key_kv(key_id), KeyRecord)

    async def team(self, team_id: str) -> TeamRecord:
        return await self._read(team_kv(team_id), TeamRecord)

    async def org(self, org_id: str) -> OrgRecord:
        return await self._read(org_kv(org_id), OrgRecord)

    async def _read(self, name: str, kind: type[T]) -> T:
        entry = await self._bucket.get(name)
        assert entry is not None
        return msgspec.json.decode(entry.value, type=kind)


def terms(budgets: tuple[Budget, ...]) -> list[tuple[Any, ...]]:
    return [
        (budget.model, budget.window.duration, budget.window.zone, (budget.limit_nusd or 0) / NUSD_PER_USD)
        for budget in budgets
    ]


ACCOUNTS = [
    (None, "1mo", "Europe/Berlin", 100),
    (None, "1d", "Asia/Tokyo", 10),
    (None, "1h", "UTC", 2),
    ("gpt-4*", "1d", "UTC", 3),
]


async def test_everything_is_in_force_on_key_team_and_organization(auth: Auth, seen: Seen) -> None:
    key = await auth.post("/key/generate", EVERYTHING)
    team = await auth.post("/team/new", {"team_id": "t1", **EVERYTHING})
    org = await auth.post("/organization/new", {"organization_id": "o1", "organization_alias": "acme", **EVERYTHING})
    for record in (await seen.key(key["token_id"]), await seen.team("t1"), await seen.org("o1")):
        assert terms(record.budgets) == ACCOUNTS
        assert all(budget.strict and budget.thresholds == (50, 90) for budget in record.budgets)
        assert len({budget.account for budget in record.budgets}) == 4
        assert record.limits == Limits(rpm=60, tpm=1000, parallel=4)
        assert record.model_limits == {"gpt-4*": Limits(rpm=6), "o3": Limits(tpm=7)}
    for made in (key, team, org):
        plain = [name for name in EVERYTHING if name not in ("budget_limits", "model_max_budget")]
        assert {name: made[name] for name in plain} == {name: EVERYTHING[name] for name in plain}
        daily, hourly = made["budget_limits"]
        assert (daily["max_budget"], daily["budget_duration"], daily["budget_timezone"]) == (10, "1d", "Asia/Tokyo")
        assert (hourly["soft_budget"], hourly["budget_timezone"]) == (1.5, None)
        assert daily["reset_at"] is not None
        assert made["model_max_budget"]["gpt-4*"]["budget_limit"] == 3
        assert "pending" not in made
    assert org["litellm_budget_table"]["max_budget"] == 100


async def test_teams_and_organizations_are_updated_by_what_is_sent(auth: Auth, seen: Seen) -> None:
    await auth.post("/organization/new", {"organization_id": "o1", "organization_alias": "acme", "max_budget": 5})
    await auth.post("/team/new", {"team_id": "t1", "organization_id": "o1", "metadata": {"a": 1}, **EVERYTHING})
    first = await seen.team("t1")
    changed = await auth.post(
        "/team/update",
        {"team_id": "t1", "team_alias": "search", "max_budget": 200, "budget_limits": None, "rpm_limit": None,
         "model_tpm_limit": {}, "models": ["gpt-4o"], "organization_id": "o1"},
    )  # fmt: skip
    assert (changed["team_alias"], changed["metadata"], changed["max_budget"]) == ("search", {"a": 1}, 200)
    second = await seen.team("t1")
    assert terms(second.budgets) == [(None, "1mo", "Europe/Berlin", 200), ACCOUNTS[3]]
    assert [budget.account for budget in second.budgets] == [first.budgets[0].account, first.budgets[3].account]
    assert (second.models, second.limits) == (("gpt-4o",), Limits(tpm=1000, parallel=4))
    assert second.model_limits == {"gpt-4*": Limits(rpm=6)}
    for method in ("POST", "PATCH"):
        answer = await auth.client.request(
            method,
            "/organization/update",
            json={"organization_id": "o1", "organization_alias": method, "max_budget": len(method), "rpm_limit": 7},
            headers={"authorization": f"Bearer {MASTER_KEY}"},
        )
        assert answer.status_code == 200, answer.text
        org = await seen.org("o1")
        assert (org.alias, org.limits, org.budgets[0].limit_nusd) == (
            method,
            Limits(rpm=7),
            len(method) * NUSD_PER_USD,
        )
    for path, body, status in (
        ("/team/update", {"team_id": "t1", "organization_id": "default"}, 400),
        ("/team/update", {"team_id": "nope"}, 404),
        ("/team/update", {}, 400),
        ("/team/update", {"team_id": "t1", "blocked": True}, 400),
        ("/organization/update", {"organization_id": "nope"}, 404),
        ("/organization/update", {"organization_id": "o1", "organization_alias": None}, 400),
        ("/organization/update", {"organization_id": "o1", "max_budgt": 1}, 400),
    ):
        await auth.post(path, body, status=status)


async def test_what_a_change_did_beside_is_told(auth: Auth) -> None:
    key = (await auth.post("/key/generate", EVERYTHING))["key"]
    await auth.post("/team/new", {"team_id": "t1", **EVERYTHING})
    await auth.post("/organization/new", {"organization_id": "o1", "organization_alias": "acme", **EVERYTHING})
    for path, named in (
        ("/key/update", {"key": key}),
        ("/team/update", {"team_id": "t1"}),
        ("/organization/update", {"organization_id": "o1"}),
    ):
        assert (await auth.post(path, {**named, "max_budget": 90}))["warnings"] == []
        [text] = (await auth.post(path, {**named, "budget_timezone": "Asia/Tokyo"}))["warnings"]
        assert text.startswith("budget_timezone: ")
        gone = {"max_budget": None, "budget_limits": None, "model_max_budget": None}
        [text] = (await auth.post(path, {**named, **gone}))["warnings"]
        assert "budget_duration, budget_timezone, budget_thresholds, budget_mode" in text
    await auth.post("/budget/new", {"budget_id": "b1", "max_budget": 1, "budget_duration": "1d"})
    [text] = (await auth.post("/budget/update", {"budget_id": "b1", "budget_duration": "7d"}))["warnings"]
    assert text.startswith("budget_duration: ")


async def test_a_temporary_increase(auth: Auth, seen: Seen) -> None:
    made = await auth.post("/key/generate", {"max_budget": 10})
    until = SystemClock().now() + timedelta(days=1)
    ask = {"key": made["key"], "temp_budget_increase": 5, "temp_budget_expiry": until.isoformat()}
    changed = await auth.post("/key/update", ask)
    assert changed["temp_budget_increase"] == 5
    [budget] = (await seen.key(made["token_id"])).budgets
    assert budget.limit_at(until - timedelta(seconds=1)) == 15 * NUSD_PER_USD
    assert budget.limit_at(until) == 10 * NUSD_PER_USD
    info = (await auth.get("/key/info", {"key": made["key"]}))["info"]
    assert (info["max_budget"], info["temp_budget_increase"]) == (10, 5)
    for half in ("temp_budget_increase", "temp_budget_expiry"):
        error = (await auth.post("/key/update", {"key": made["key"], half: ask[half]}, status=400))["error"]
        assert error["param"].startswith("temp_budget_")
    cleared = {"key": made["key"], "temp_budget_increase": None, "temp_budget_expiry": None}
    assert (await auth.post("/key/update", cleared))["temp_budget_increase"] is None


# ---- budget objects ------------------------------------------------------------------------------------


async def test_a_budget_object_lives_in_all_its_scopes(auth: Auth, seen: Seen) -> None:
    made = await auth.post("/budget/new", {"budget_id": "b1", **_without_model_limits(EVERYTHING), "rpm_limit": 50})
    assert (made["budget_id"], made["version"], made["rpm_limit"], made["max_budget"]) == ("b1", 1, 50, 100)
    assert "reset_at" not in made["budget_limits"][0], "an object has no windows of its own"
    key = await auth.post("/key/generate", {"budget_id": "b1", "rpm_limit": 20})
    await auth.post("/team/new", {"team_id": "t1", "budget_id": "b1"})
    await auth.post("/organization/new", {"organization_id": "o1", "organization_alias": "a", "budget_id": "b1"})
    assert (key["budget_id"], key["max_budget"], key["rpm_limit"]) == ("b1", 100, 20)
    assert key["litellm_budget_table"]["rpm_limit"] == 50
    records = (await seen.key(key["token_id"]), await seen.team("t1"), await seen.org("o1"))
    assert [record.limits.rpm for record in records] == [20, 50, 50], "the lower of two is in force"
    for record in records:
        assert terms(record.budgets) == ACCOUNTS
    assert len({budget.account for record in records for budget in record.budgets}) == 12, "each spends its own"

    changed = await auth.post("/budget/update", {"budget_id": "b1", "max_budget": 70, "budget_limits": None})
    assert (changed["version"], changed["warnings"]) == (2, [])
    assert changed["attached"] == {
        "keys": 1, "teams": 1, "organizations": 1, "default_of_teams": 0, "behind": 0,
    }  # fmt: skip
    after = (await seen.key(key["token_id"]), await seen.team("t1"), await seen.org("o1"))
    for before, record in zip(records, after, strict=True):
        assert terms(record.budgets) == [(None, "1mo", "Europe/Berlin", 70), ACCOUNTS[3]]
        assert [item.account for item in record.budgets] == [before.budgets[0].account, before.budgets[3].account]
    assert (await auth.post("/budget/update", {"budget_id": "b1", "max_budget": 70}))["version"] == 2

    [row] = await auth.post("/budget/info", {"budgets": ["b1", "unknown"]})
    assert row == (await auth.get("/budget/list"))[0]
    fields = await auth.get("/budget/settings", {"budget_id": "b1"})
    settings = {field["field_name"]: field["field_value"] for field in fields}
    assert (settings["max_budget"], settings["rpm_limit"]) == (70, 50)

    error = (await auth.post("/budget/delete", {"id": "b1"}, status=409))["error"]
    assert (error["code"], "1 keys, 1 teams and 1 organizations" in error["message"]) == ("budget_in_use", True)
    await auth.post("/key/delete", {"keys": [key["key"]]})
    await auth.post("/team/update", {"team_id": "t1", "budget_id": None})
    own = await auth.post("/organization/update", {"organization_id": "o1", "budget_id": None, "max_budget": 1})
    assert (own["budget_id"], own["max_budget"]) == (None, 1)
    assert (await seen.team("t1")).budgets == ()
    assert (await seen.team("t1")).limits == Limits()
    assert (await auth.post("/budget/delete", {"id": "b1"}))["deleted"]
    assert await auth.get("/budget/list") == []
    await auth.post("/budget/delete", {"id": "b1"}, status=404)
    assert (await auth.post("/budget/new", {"budget_id": "b1", "max_budget": 1}))["version"] == 3


def _without_model_limits(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if not name.startswith("model_") or "max" in name}


async def test_budget_objects_that_are_refused(auth: Auth) -> None:
    await auth.post("/budget/new", {"budget_id": "b1", "max_budget": 5})
    generated = await auth.post("/budget/new", {"soft_budget": 5})
    assert generated["budget_id"].startswith("budget_")
    cases: list[tuple[str, dict[str, Any], int, str | None]] = [
        ("/budget/new", {"budget_id": "b1", "max_budget": 5}, 409, "budget_id"),
        ("/budget/new", {"budget_id": "a b", "max_budget": 5}, 400, "budget_id"),
        ("/budget/new", {}, 400, "max_budget"),
        ("/budget/new", {"max_budget": 5, "budget_reset_at": "2026-03-01T00:00:00Z"}, 400, "budget_reset_at"),
        ("/budget/new", {"max_budget": 5, "tpd_limit": 1}, 400, "tpd_limit"),
        ("/budget/update", {"budget_id": "nope", "max_budget": 5}, 404, "budget_id"),
        ("/budget/update", {"max_budget": 5}, 400, "budget_id"),
        ("/budget/update", {"budget_id": "b1", "max_budget": None}, 400, "max_budget"),
        ("/budget/info", {"budgets": []}, 400, "budgets"),
        ("/budget/delete", {}, 400, "id"),
        ("/key/generate", {"budget_id": "nope"}, 404, "budget_id"),
        ("/key/generate", {"budget_id": "b1", "max_budget": 5}, 400, "max_budget"),
        ("/key/generate", {"budget_id": "b1", "model_max_budget": {"m": {"max_budget": 1}}}, 400, "model_max_budget"),
        ("/team/new", {"default_key_budget_id": "nope"}, 404, "default_key_budget_id"),
    ]
    for path, body, status, param in cases:
        error = (await auth.post(path, body, status=status))["error"]
        assert error["param"] == param, (path, body)
    made = await auth.post("/key/generate", {"budget_id": "b1"})
    error = (await auth.post("/key/update", {"key": made["key"], "soft_budget": 1}, status=400))["error"]
    assert "budget object 'b1'" in error["message"]
    await auth.get("/budget/settings", {"budget_id": "nope"}, status=404)
    await auth.get("/budget/list", key=made["key"], status=403)
    await auth.post("/budget/new", {"max_budget": 1}, key=made["key"], status=403)


async def test_new_keys_of_a_team_get_its_default_budget(auth: Auth, seen: Seen) -> None:
    await auth.post("/budget/new", {"budget_id": "b1", "max_budget": 5})
    team = await auth.post("/team/new", {"team_id": "t1", "default_key_budget_id": "b1"})
    assert team["default_key_budget_id"] == "b1"
    given = await auth.post("/key/generate", {"team_id": "t1", "rpm_limit": 3})
    assert (given["budget_id"], given["max_budget"]) == ("b1", 5)
    own = await auth.post("/key/generate", {"team_id": "t1", "max_budget": 9})
    assert (own["budget_id"], own["max_budget"]) == (None, 9)
    assert (await auth.post("/key/generate", {"max_budget": 9}))["budget_id"] is None
    await auth.post("/key/update", {"key": given["key"], "budget_id": None})
    error = (await auth.post("/budget/delete", {"id": "b1"}, status=409))["error"]
    assert "1 teams give it to new keys" in error["message"]
    await auth.post("/team/update", {"team_id": "t1", "default_key_budget_id": None})
    await auth.post("/budget/delete", {"id": "b1"})
    bare = await auth.post("/key/generate", {"team_id": "t1"})
    assert (await seen.key(bare["token_id"])).budgets == ()


async def test_a_change_that_was_cut_off_is_finished_after_a_restart(
    nats: NatsServer, database: str, seen: Seen
) -> None:
    """The new version is committed and the process dies before any scope took it over."""
    settings = settings_for(nats, await migrated(database))
    async with auth_running(settings) as auth:
        await auth.ready()
        await auth.post("/budget/new", {"budget_id": "b1", "max_budget": 5})
        keys = [(await auth.post("/key/generate", {"budget_id": "b1"}))["token_id"] for _ in range(3)]
        dead = (await auth.post("/key/generate", {"budget_id": "b1"}))["token_id"]
        await auth.post("/key/delete", {"keys": [dead]})

        def decide(state: BudgetState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            command = DefineBudget(budget_id="b1", patch=BudgetPatch(limit_nusd=NUSD_PER_USD))
            return decide_change(state, command, stamp)

        await auth.service.parts.tasks.close()  # the loops are gone, as after a crash
        await auth.service.parts.commits.budget("b1", decide, actor="ada")
        [row] = await auth.post("/budget/info", {"budgets": ["b1"]})
        assert (row["attached"]["keys"], row["attached"]["behind"]) == (3, 3)
    async with auth_running(settings) as auth:
        await auth.ready()

        async def followed() -> bool:
            [row] = await auth.post("/budget/info", {"budgets": ["b1"]})
            return row["attached"]["behind"] == 0

        await eventually(followed)
        await auth.ready()
        for key_id in keys:

            async def seen_so(key_id: str = key_id) -> bool:
                [budget] = (await seen.key(key_id)).budgets
                return budget.limit_nusd == NUSD_PER_USD

            await eventually(seen_so)
        assert (await auth.get("/key/info", {"key": keys[0]}))["info"]["updated_by"] == "ada"


async def test_a_key_is_named_by_its_alias_too(auth: Auth) -> None:
    made = await auth.post("/key/generate", {"key_alias": "search"})
    assert (await auth.get("/key/info", {"key_alias": "search"}))["info"]["token_id"] == made["token_id"]
    assert (await auth.post("/key/block", {"key_alias": "search"}))["blocked"]
    assert not (await auth.post("/key/unblock", {"key_alias": "search"}))["blocked"]
    for body in ({}, {"key": made["key"], "key_alias": "search"}):
        await auth.post("/key/block", body, status=400)
    await auth.post("/key/block", {"key_alias": "nobody"}, status=404)
    await auth.get("/key/info", {"key_alias": "search"}, key=made["key"], status=403)
