"""What one key may cost everybody: the size of what it writes, how much of it, and how fast."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from services.auth import keys_bucket, store, store_keys
from services.auth.api.pace import BURST
from services.auth.commits import Commits
from shared.bus import Bucket, Bus
from shared.errors import VersionConflict
from shared.topology import KEYS_BUCKET, key_kv, team_kv
from tests.support.auth import MASTER_KEY, Auth, auth_running, migrated, settings_for
from tests.support.minting import minted, record, two_orgs
from tests.support.servers import NatsServer

WIDE = "\N{GRINNING FACE}" * 190


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


async def test_no_way_leads_to_settings_that_do_not_fit(auth: Auth, keys: Bucket) -> None:
    await two_orgs(auth)
    admin = (await minted(auth, key_type="team_admin", team_id="search"))["key"]
    names = [f"{n:03}{WIDE}" for n in range(200)]
    aliases = {f"{n:03}{WIDE}": "m" for n in range(80)}
    key = (await minted(auth, team_id="search"))["token_id"]
    one = {"model_max_budget": {f"{n:02}{WIDE}": {"budget_limit": 1, "time_period": "1d"} for n in range(50)}}
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("/key/generate", {"models": names, "aliases": aliases}, "models"),
        ("/key/generate", one, "model_max_budget"),
        ("/key/update", {"key": key, "aliases": aliases}, "aliases"),
        ("/key/regenerate", {"key": key, "aliases": aliases}, "aliases"),
        ("/key/service-account/generate", {"team_id": "search", "aliases": aliases}, "aliases"),
    ]
    for path, body, field in cases:
        error = (await auth.post(path, body, key=admin, status=400))["error"]
        assert (error["code"], error["param"]) == ("invalid_value", field), path
    bulk = await auth.post("/key/bulk_update", {"keys": [{"key": key, "models": names}]}, key=admin)
    assert [item["param"] for item in bulk["failed_updates"]] == ["models"]
    for path, body, field in (
        ("/team/new", {"team_id": "x", "model_aliases": aliases}, "model_aliases"),
        ("/team/update", {"team_id": "search", "model_aliases": aliases}, "model_aliases"),
        ("/organization/new", {"organization_alias": "x", "model_aliases": aliases}, "model_aliases"),
        ("/organization/update", {"organization_id": "acme", "models": names}, "models"),
        ("/budget/new", {"budget_id": "b", **one}, "model_max_budget"),
    ):
        assert (await auth.post(path, body, status=400))["error"]["param"] == field, path
    made = await minted(auth, models=names[:40], aliases={"a": "m"}, metadata={"notes": "x" * 16_000})
    assert made["warnings"] == []
    assert (await record(keys, made)).models == tuple(names[:40])


async def test_a_record_that_does_not_fit_stops_no_other(
    auth: Auth, keys: Bucket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As one may stand in the log from before there was a bound."""
    await two_orgs(auth)
    key = await minted(auth, team_id="search")
    monkeypatch.setattr(keys_bucket, "VALUE_BYTES_MAX", 2_000)
    big = await minted(auth, models=[f"{n}" * 50 for n in range(10, 40)])
    assert await keys.get(key_kv(big["token_id"])) is None
    refused = await auth.post("/team/update", {"team_id": "search", "models": [f"{n}" * 50 for n in range(10, 40)]})
    assert refused["warnings"] == []
    assert await keys.get(team_kv("search")) is None
    assert f"the record {key_kv(big['token_id'])} has" in caplog.text
    assert (await record(keys, await minted(auth, key_alias="next"))).alias == "next"
    await auth.ready(but=("relay",))
    health = (await auth.client.get("/health/readiness")).json()["checks"]
    assert health["relay"].startswith("ok, but 2 records are too large")
    assert "tundish_auth_records_too_large 2" in await auth.get_text("/metrics")
    await auth.post("/team/update", {"team_id": "search", "models": []})
    assert await keys.get(team_kv("search")) is not None, "it is back as soon as it fits"
    assert (await record(keys, key)).team_id == "search"


async def test_many_changes_at_once_by_one_key_are_too_many(auth: Auth) -> None:
    await two_orgs(auth)
    admin = (await minted(auth, key_type="team_admin", team_id="search"))["key"]
    key = (await minted(auth, team_id="search"))["token_id"]
    other = (await minted(auth, key_type="team_admin", team_id="search"))["key"]
    entries = [{"key": key, "metadata": {"n": 1}}] + [{"key": "key_none"}] * 99
    for _ in range(BURST // 100):
        await auth.post("/key/bulk_update", {"keys": entries}, key=admin)
    answers = [
        await auth.client.post("/key/bulk_update", json={"keys": entries}, headers={"authorization": f"Bearer {admin}"})
        for _ in range(3)
    ]
    held = next(answer for answer in answers if answer.status_code == 429)
    assert held.json()["error"]["code"] == "too_many_changes"
    assert int(held.headers["retry-after"]) >= 1
    await auth.post("/key/update", {"key": key, "metadata": {"n": 2}}, key=other)
    await auth.post("/key/update", {"key": key, "metadata": {"n": 3}})
    await auth.get("/key/list", key=admin)
    await auth.post("/key/block", {"key": key}, key=admin)


async def test_a_team_and_an_organization_have_so_many_keys(auth: Auth, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (store, store_keys):
        monkeypatch.setattr(module, "LIVING_KEYS_MAX", 3)
    await two_orgs(auth)

    async def fill(**home: str) -> list[int]:
        """Five at once: the status of each."""
        answers = await asyncio.gather(
            *(
                auth.client.post("/key/generate", json=home, headers={"authorization": f"Bearer {MASTER_KEY}"})
                for _ in range(5)
            )
        )
        codes = {answer.json()["error"]["code"] for answer in answers if answer.status_code != 200}
        assert codes == {"too_many_keys"}
        return sorted(answer.status_code for answer in answers)

    assert await fill(team_id="search") == [200, 200, 200, 409, 409]
    assert await fill(organization_id="acme") == [200, 200, 200, 409, 409], "those of teams are not among them"
    assert await fill(team_id="ads") == [200, 200, 200, 409, 409]
    found = await auth.get("/key/list", {"team_id": "search"})
    await auth.post("/key/delete", {"keys": [found["keys"][0]]})
    await minted(auth, team_id="search")
    assert (await minted(auth, team_id="search", status=409))["param"] == "team_id"


async def test_who_is_never_fast_enough_is_told_to_come_again(auth: Auth, monkeypatch: pytest.MonkeyPatch) -> None:
    key = (await minted(auth))["token_id"]

    async def beaten(*_: Any, **_more: Any) -> None:
        raise VersionConflict(f"key:{key} was changed by somebody else")

    monkeypatch.setattr(Commits, "key", beaten)
    for path in ("/key/update", "/key/unblock", "/key/regenerate"):
        answer = await auth.client.post(
            path, json={"key": key}, headers={"authorization": f"Bearer {MASTER_KEY}", "idempotency-key": path}
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "busy"), path
        assert answer.headers["retry-after"] == "1"
