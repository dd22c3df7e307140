"""The auth service on real servers: mint, show, list, change."""

from collections.abc import AsyncGenerator
from datetime import datetime

import msgspec
import pytest

from services.auth.secret import checksum
from shared.access import SecretHasher
from shared.bus import Bucket, Bus
from shared.money import NUSD_PER_USD
from shared.policy import KeyRecord, Limits, OrgRecord, SecretRecord, TeamRecord
from shared.topology import KEYS_BUCKET, key_kv, org_kv, team_kv
from tests.support.auth import MASTER_KEY, Auth, auth_running, migrated, settings_for
from tests.support.servers import NatsServer

STORY = {
    "key_alias": "team-search",
    "models": ["gpt-4o", "text-embedding-3-large"],
    "max_budget": 200,
    "budget_duration": "30d",
    "tpm_limit": 100000,
    "rpm_limit": 500,
}


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


async def record(keys: Bucket, name: str, kind: type) -> object:
    entry = await keys.get(name)
    return None if entry is None else msgspec.json.decode(entry.value, type=kind)


async def test_the_call_of_the_story_and_what_the_proxies_see(auth: Auth, keys: Bucket) -> None:
    made = await auth.post("/key/generate", STORY)
    assert made["key"].startswith("sk-")
    assert checksum(made["key"][:-6]) == made["key"][-6:]
    assert made["key_name"] == f"sk-...{made['key'][-4:]}"
    assert made["token_id"] == made["token"]
    assert {name: made[name] for name in STORY} == STORY
    assert made["budget_thresholds"] == [80]
    assert made["warnings"] == []
    assert made["expires"] is None
    reset = datetime.fromisoformat(made["budget_reset_at"]) - datetime.fromisoformat(made["created_at"])
    assert reset.total_seconds() == 30 * 86_400, "30d rolls from creation"

    # Already now, without waiting: the answer means that the key is in force.
    hasher = SecretHasher({"p2": bytes.fromhex("ab" * 32)})
    [name] = hasher.entries(made["key"])
    secret = await record(keys, name, SecretRecord)
    assert isinstance(secret, SecretRecord)
    assert secret.key_id == made["token_id"]
    key = await record(keys, key_kv(secret.key_id), KeyRecord)
    assert isinstance(key, KeyRecord)
    assert key.models == ("gpt-4o", "text-embedding-3-large")
    assert key.seq < secret.seq, "the secret comes last"
    assert key.limits == Limits(rpm=500, tpm=100_000)
    [budget] = key.budgets
    assert budget.limit_nusd == 200 * NUSD_PER_USD
    assert budget.account.startswith("acct_")
    assert isinstance(await record(keys, org_kv("default"), OrgRecord), OrgRecord)


async def test_info_by_secret_id_or_hash(auth: Auth) -> None:
    made = await auth.post("/key/generate", STORY)
    digest = SecretHasher({"p2": bytes.fromhex("ab" * 32)}).digest(made["key"])
    for reference in (made["key"], made["token_id"], digest):
        answer = await auth.get("/key/info", {"key": reference})
        assert answer["key"] == reference
        assert answer["info"]["key_alias"] == "team-search"
        assert "key" not in answer["info"]
        assert answer["info"]["spend"] is None, "unknown is null"
        assert "ledger" in answer["warnings"][0]


async def test_a_virtual_key_reads_itself_and_nothing_else(auth: Auth) -> None:
    mine = await auth.post("/key/generate", {})
    other = await auth.post("/key/generate", {})
    for query in ({}, {"key": mine["key"]}, {"key": mine["token_id"]}):
        answer = await _info(auth, mine, query)
        assert answer["info"]["token_id"] == mine["token_id"]
    for reference in (other["key"], other["token_id"], "key_unknown"):
        error = (await _info(auth, mine, {"key": reference}, status=403))["error"]
        assert error["code"] == "not_allowed"
    for path, body in (("/key/generate", {}), ("/key/delete", {"keys": [other["token_id"]]}), ("/team/new", {})):
        answer = await auth.client.post(path, json=body, headers={"api-key": mine["key"]})
        assert answer.status_code == 403
    for path in ("/key/list", "/team/list", "/organization/list", "/metrics"):
        answer = await auth.client.get(path, headers={"authorization": f"Bearer {mine['key']}"})
        assert answer.status_code in (401, 403)


async def _info(auth: Auth, made: dict[str, str], query: dict[str, str], status: int = 200):
    return await auth.get("/key/info", query, status=status, key=made["key"])


async def test_nobody_gets_in_without_a_credential(auth: Auth) -> None:
    for headers in ({}, {"authorization": "Bearer sk-wrong"}, {"authorization": "Basic abc"}):
        for method, path in (("POST", "/key/generate"), ("GET", "/key/list"), ("POST", "/key/delete")):
            answer = await auth.client.request(method, path, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["type"] == "authentication_error"
    assert (await auth.client.get("/health/liveliness")).status_code == 200


async def test_teams_organizations_and_their_keys(auth: Auth, keys: Bucket) -> None:
    org = await auth.post(
        "/organization/new", {"organization_alias": "acme", "organization_id": "acme", "max_budget": 2000}
    )
    assert org["litellm_budget_table"]["max_budget"] == 2000
    team = await auth.post(
        "/team/new",
        {"team_alias": "search", "team_id": "t-search", "organization_id": "acme", "max_budget": 500,
         "soft_budget": 400, "budget_duration": "1mo", "budget_timezone": "Europe/Berlin", "rpm_limit": 9},
    )  # fmt: skip
    assert team["rpm_limit"] == 9
    assert team["budget_timezone"] == "Europe/Berlin"
    key = await auth.post("/key/generate", {"team_id": "t-search", "key_alias": "k1"})
    assert key["organization_id"] == "acme", "a key's organization is its team's"

    held = await record(keys, team_kv("t-search"), TeamRecord)
    assert isinstance(held, TeamRecord)
    assert held.budgets[0].soft_nusd == 400 * NUSD_PER_USD
    assert held.budgets[0].window.zone == "Europe/Berlin"

    info = await auth.get("/team/info", {"team_id": "t-search"})
    assert info["team_info"]["max_budget"] == 500
    assert [row["token_id"] for row in info["keys"]] == [key["token_id"]]
    assert [row["team_id"] for row in await auth.get("/team/list", {"organization_id": "acme"})] == ["t-search"]
    assert (await auth.get("/organization/info", {"organization_id": "acme"}))["teams"][0]["team_id"] == "t-search"
    assert {row["organization_id"] for row in await auth.get("/organization/list")} == {"default", "acme"}

    await auth.post("/team/new", {"team_id": "t-search"}, status=409)
    await auth.post("/team/new", {"team_alias": "search", "organization_id": "acme"}, status=409)
    await auth.post("/organization/new", {"organization_alias": "x", "organization_id": "acme"}, status=409)
    await auth.post("/organization/new", {"organization_alias": "x", "organization_id": "default"}, status=409)
    await auth.post("/key/generate", {"team_id": "nope"}, status=404)
    await auth.post("/key/generate", {"organization_id": "nope"}, status=404)
    await auth.post("/team/new", {"organization_id": "nope"}, status=404)
    wrong = await auth.post("/key/generate", {"team_id": "t-search", "organization_id": "default"}, status=400)
    assert wrong["error"]["param"] == "organization_id"
    await auth.get("/team/info", {"team_id": "nope"}, status=404)
    await auth.get("/organization/info", {"organization_id": "nope"}, status=404)


async def test_list_pages_and_filters(auth: Auth) -> None:
    await auth.post("/team/new", {"team_id": "t1"})
    made = [await auth.post("/key/generate", {"key_alias": f"a{n}"}) for n in range(3)]
    teamed = await auth.post("/key/generate", {"team_id": "t1", "key_alias": "a3"})
    page = await auth.get("/key/list", {"page": 1, "size": 3})
    assert page["total_count"] == 4
    assert page["total_pages"] == 2
    assert page["keys"] == [teamed["token_id"], made[2]["token_id"], made[1]["token_id"]]
    rest = await auth.get("/key/list", {"page": 2, "size": 3})
    assert rest["keys"] == [made[0]["token_id"]]
    assert (await auth.get("/key/list", {"team_id": "t1"}))["keys"] == [teamed["token_id"]]
    [row] = (await auth.get("/key/list", {"key_alias": "a1", "return_full_object": "true"}))["keys"]
    assert row["key_alias"] == "a1"
    assert (await auth.get("/key/list", {"organization_id": "none"}))["keys"] == []
    for query in ({"project_id": "u"}, {"size": "101"}, {"page": "0"}, {"page": "x"}, {"status": "dead"}):
        await _list_refused(auth, query)


async def _list_refused(auth: Auth, query: dict[str, str]) -> None:
    assert (await auth.get("/key/list", query, status=400))["error"]["param"] in query


async def test_update_changes_what_is_sent_and_clears_what_is_null(auth: Auth, keys: Bucket) -> None:
    made = await auth.post("/key/generate", {**STORY, "metadata": {"owner": "ada"}, "duration": "7d"})
    name = key_kv(made["token_id"])
    first = await record(keys, name, KeyRecord)
    assert isinstance(first, KeyRecord)

    changed = await auth.post("/key/update", {"key": made["key"], "max_budget": 300, "rpm_limit": None})
    assert changed["max_budget"] == 300
    assert (changed["rpm_limit"], changed["tpm_limit"]) == (None, 100_000)
    assert changed["metadata"] == {"owner": "ada"}
    assert changed["expires"] is not None
    second = await record(keys, name, KeyRecord)
    assert isinstance(second, KeyRecord)
    assert second.budgets[0].limit_nusd == 300 * NUSD_PER_USD
    assert second.budgets[0].account == first.budgets[0].account, "a changed limit keeps its account"
    assert second.budgets[0].window == first.budgets[0].window

    await auth.post("/key/update", {"key_alias": "team-search", "budget_duration": "1mo", "duration": None})
    third = await record(keys, name, KeyRecord)
    assert isinstance(third, KeyRecord)
    assert third.budgets[0].account != first.budgets[0].account, "a changed window is a new account"
    assert third.expires_at is None

    cleared = await auth.post(
        "/key/update",
        {"key": made["token_id"], "max_budget": None, "models": None, "key_alias": None, "metadata": None},
    )
    assert cleared["max_budget"] is None
    assert cleared["budget_duration"] is None
    assert cleared["models"] == []
    assert cleared["key_alias"] is None
    fourth = await record(keys, name, KeyRecord)
    assert isinstance(fourth, KeyRecord)
    assert fourth.budgets == ()
    assert fourth.models == ()

    for body in ({"team_id": "t"}, {"organization_id": "o"}, {"blocked": True}):
        error = (await auth.post("/key/update", {"key": made["token_id"], **body}, status=400))["error"]
        assert error["param"] in body
    await auth.post("/key/update", {"key": made["token_id"], "blocked": False, "organization_id": "default"})
    await auth.post("/key/update", {"models": []}, status=400)
    await auth.post("/key/update", {"key": "key_none"}, status=404)
    await auth.post("/key/update", {"key_alias": "none"}, status=404)


async def test_aliases_are_unique_among_the_living(auth: Auth) -> None:
    first = await auth.post("/key/generate", {"key_alias": "one"})
    other = await auth.post("/key/generate", {"key_alias": "two"})
    error = (await auth.post("/key/generate", {"key_alias": "one"}, status=409))["error"]
    assert error["param"] == "key_alias"
    await auth.post("/key/update", {"key": other["key"], "key_alias": "one"}, status=409)
    await auth.post("/key/delete", {"key_aliases": ["one"]})
    await auth.post("/key/update", {"key": other["key"], "key_alias": "one"})
    await auth.get("/key/info", {"key": first["key"]}, status=404)


async def test_a_secret_of_ones_own(auth: Auth) -> None:
    mine = "sk-my-own-secret-1"
    made = await auth.post("/key/generate", {"key": mine})
    assert made["key"] == mine
    assert (await _info(auth, made, {}))["info"]["token_id"] == made["token_id"]
    for text in (mine, MASTER_KEY, "sk-short", "no-prefix-but-long-enough", "sk-with space inside it"):
        answer = await auth.client.post(
            "/key/generate", json={"key": text}, headers={"authorization": f"Bearer {MASTER_KEY}"}
        )
        assert answer.status_code == (409 if text == mine else 400)
        assert answer.json()["error"]["param"] == "key"
        assert text not in answer.text, "a secret is never repeated in an error"
    await auth.post("/key/delete", {"keys": [mine]})
    await auth.post("/key/generate", {"key": mine}, status=409)


async def test_bodies_that_are_refused(auth: Auth) -> None:
    async def refused(path: str, content: bytes) -> dict[str, str]:
        answer = await auth.client.post(path, content=content, headers={"authorization": f"Bearer {MASTER_KEY}"})
        assert answer.status_code == 400, answer.text
        return answer.json()["error"]

    for content in (b"", b"[]", b"null", b"{", b"\xff", b"[" * 5000 + b"]" * 5000, b'{"max_budget": nan}'):
        assert (await refused("/key/generate", content))["code"] == "invalid_json"
    for content, param in (
        (b'{"max_budget": true}', "max_budget"),
        (b'{"max_budget": NaN}', "max_budget"),
        (b'{"max_budget": "5"}', "max_budget"),
        (b'{"max_budget": -1}', "max_budget"),
        (b'{"max_budget": 1e300}', "max_budget"),
        (b'{"max_budget": 1, "soft_budget": 2}', "soft_budget"),
        (b'{"budget_duration": "30d"}', "budget_duration"),
        (b'{"max_budget": 1, "budget_duration": "soon"}', "budget_duration"),
        (b'{"max_budget": 1, "budget_duration": "1mo", "budget_timezone": "Mars/Base"}', "budget_timezone"),
        (b'{"max_budget": 1, "budget_duration": "30h", "budget_timezone": "Europe/Berlin"}', "budget_timezone"),
        (b'{"duration": "0d"}', "duration"),
        (b'{"rpm_limit": -1}', "rpm_limit"),
        (b'{"rpm_limit": 1.5}', "rpm_limit"),
        (b'{"models": "gpt-4o"}', "models"),
        (b'{"models": [1]}', "models"),
        (b'{"models": ["gpt-**"]}', "models"),
        (b'{"metadata": {"a": "\\u0000"}}', "metadata"),
        (b'{"metadata": ' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}", "metadata"),
        (b'{"metadata": {"a": "' + b"x" * 17_000 + b'"}}', "metadata"),
        (b'{"key_alias": ""}', "key_alias"),
        (b'{"key_alias": "a\\u0000b"}', "key_alias"),
        (b'{"team_id": "a.b"}', "team_id"),
        (b'{"agent_id": "ada"}', "agent_id"),
        (b'{"tpd_limit": 1}', "tpd_limit"),
        (b'{"max_budgt": 1}', "max_budgt"),
    ):
        assert (await refused("/key/generate", content))["param"] == param, content
    await refused("/key/delete", b"{}")
    await refused("/key/delete", b'{"keys": [], "key_aliases": []}')
    await refused("/key/delete", b'{"keys": ["a"], "key_aliases": ["b"]}')
    await refused("/key/delete", msgspec.json.encode({"keys": ["a"] * 101}))
    await refused("/key/block", b"{}")
    await refused("/organization/new", b"{}")
    assert (await auth.get("/key/list"))["total_count"] == 0, "nothing was made of all this"
    nothing = {"user_id": None, "tags": [], "blocked": False, "aliases": {}, "spend": 0, "auto_rotate": False}
    await auth.post("/key/generate", nothing)


async def test_metrics_and_health(auth: Auth) -> None:
    await auth.post("/key/generate", {})
    page = await auth.client.get("/metrics", headers={"authorization": f"Bearer {MASTER_KEY}"})
    assert "tundish_auth_keys_minted_total 1" in page.text
    assert "tundish_auth_relay_lag_events 0" in page.text
    assert (await auth.client.get("/metrics")).status_code == 401
    report = (await auth.client.get("/health/readiness")).json()
    assert set(report["checks"]) == {"nats", "postgres", "relay", "mirror"}
