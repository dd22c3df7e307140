"""Keys on real servers: settings, imports, owners, lists, and what is asked twice."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from hashlib import sha256
from typing import Any, cast

import pytest

from services.auth.commits import Decide
from services.auth.domain.key import living
from services.auth.domain.key_state import KeyState
from services.auth.domain.renewing import decide_rehash
from services.auth.draws import Draws
from services.auth.keys.managing import Keys
from services.auth.rows.keys import status_of
from services.auth.schemas.keys import GenerateKey
from services.auth.store_keys import KeyFilter, KeyStatus
from shared.access import Principal, SecretHasher
from shared.bus import Bucket, Bus
from shared.errors import ApiError
from shared.telemetry import Metrics
from shared.topology import KEYS_BUCKET, secret_kv
from tests.support.auth import MASTER_KEY, Auth, auth_running, migrated, settings_for
from tests.support.minting import minted, record
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


# ---- settings ----------------------------------------------------------------------------------------


async def test_everything_that_is_set_on_a_key_reaches_the_proxies(auth: Auth, keys: Bucket) -> None:
    body: dict[str, Any] = {
        "models": ["gpt-4o*", "no-default-models"],
        "aliases": {"fast": "gpt-4o-mini"},
        "tags": ["batch", "cost-7"],
        "allowed_routes": ["/v1/chat/completions", "anthropic_routes"],
    }
    made = await minted(auth, **body)
    assert {name: made[name] for name in body} == body
    assert (made["key_type"], made["role"], made["user_id"]) == ("default", None, None)
    held = await record(keys, made)
    assert (held.models, held.model_aliases) == (("gpt-4o*", "no-default-models"), {"fast": "gpt-4o-mini"})
    assert (held.tags, held.allowed_routes) == (("batch", "cost-7"), ("/v1/chat/completions", "anthropic_routes"))

    cleared = {"aliases": None, "tags": [], "allowed_routes": None}
    changed = await auth.post("/key/update", {"key": made["token_id"], **cleared})
    assert (changed["aliases"], changed["tags"], changed["allowed_routes"]) == ({}, [], [])
    assert changed["models"] == body["models"]
    held = await record(keys, made)
    assert (held.model_aliases, held.tags, held.allowed_routes) == ({}, (), ())

    plain = await minted(auth, key_type="llm_api")
    assert (plain["key_type"], plain["allowed_routes"]) == ("llm_api", ["llm_api_routes"])


async def test_how_a_key_is_renewed_is_shown_and_checked(auth: Auth) -> None:
    made = await minted(auth, auto_rotate=True, rotation_interval="30d", rotation_delivery=[{"type": "exchange"}])
    assert (made["auto_rotate"], made["rotation_interval"], made["grace_period"]) == (True, "30d", "24h")
    assert made["rotation_delivery"] == [{"type": "exchange"}]
    assert made["key_rotation_at"] is not None
    assert (await minted(auth, status=400, auto_rotate=True, rotation_interval="30d"))["code"] == "no_delivery"
    wrong = await minted(auth, status=400, rotation_delivery=[{"type": "exchange", "bucket": "x"}])
    assert wrong["param"] == "rotation_delivery"
    assert "use type, vault" in wrong["message"]
    vault = {"type": "key_vault", "vault": "https://kv1.vault.azure.net", "secret": "s"}
    assert (await minted(auth, status=400, rotation_delivery=[vault]))["param"] == "rotation_delivery"
    off = await auth.post("/key/update", {"key": made["key"], "auto_rotate": False})
    assert (off["auto_rotate"], off["key_rotation_at"]) == (False, None)


async def test_a_key_imported_by_its_hash(auth: Auth) -> None:
    text = "sk-of-the-old-gateway-1234"
    digest = sha256(text.encode()).hexdigest()
    made = await minted(auth, key_hash=digest, key_name="sk-...1234", key_alias="moved")
    assert (made["key"], made["key_name"]) == (None, "sk-...1234")
    assert (await auth.get("/key/info", key=text))["info"]["key_alias"] == "moved", "the old secret works"
    for reference in (text, digest):
        assert (await auth.get("/key/info", {"key": reference}))["info"]["token_id"] == made["token_id"]
    assert (await minted(auth, key_hash=digest.upper(), status=409))["param"] == "key_hash"
    assert (await minted(auth, key=text, status=409))["param"] == "key"
    master = sha256(MASTER_KEY.encode()).hexdigest()
    for body, param in (
        ({"key_hash": master}, "key_hash"),
        ({"key_hash": "abc"}, "key_hash"),
        ({"key_hash": digest, "key": text}, "key_hash"),
        ({"key_name": "sk-...1234"}, "key_name"),
        ({"key_hash": sha256(b"sk-name").hexdigest(), "key_name": "sk-name"}, "key_name"),
    ):
        assert (await minted(auth, status=400, **body))["param"] == param
    assert (await auth.get("/key/list"))["total_count"] == 1


# ---- owners ------------------------------------------------------------------------------------------


async def test_keys_of_users(auth: Auth, keys: Bucket) -> None:
    await auth.post("/team/new", {"team_id": "search"})
    for user, role in (("ada", "internal_user"), ("bob", "internal_user"), ("eve", "proxy_admin_viewer")):
        await auth.post("/user/new", {"user_id": user, "user_role": role, "auto_create_key": False})
    await auth.post("/team/member_add", {"team_id": "search", "member": {"user_id": "ada", "role": "admin"}})

    made = await minted(auth, user_id="ada", team_id="search")
    assert made["user_id"] == "ada"
    assert (await record(keys, made)).user_id == "ada"
    assert (await minted(auth, user_id="bob"))["user_id"] == "bob", "a key without a team takes no membership"
    assert (await minted(auth, user_id="bob", team_id="search", status=404))["param"] == "user_id"
    assert (await minted(auth, user_id="nobody", status=404))["param"] == "user_id"
    assert (await minted(auth, user_id="ada", team_id="search", key_type="team_admin"))["role"] == "team_admin"
    assert (await minted(auth, user_id="bob", key_type="admin", status=400))["param"] == "user_id"
    assert (await minted(auth, user_id="eve", key_type="admin", status=400))["param"] == "user_id"
    assert (await minted(auth, user_id="eve", key_type="viewer"))["user_id"] == "eve"

    await auth.post("/key/update", {"key": made["key"], "user_id": "bob"}, status=404)
    gone = await auth.post("/key/update", {"key": made["key"], "user_id": None})
    assert gone["user_id"] is None
    listed = await auth.get("/key/list", {"user_id": "bob", "return_full_object": "true"})
    assert [row["user_id"] for row in listed["keys"]] == ["bob"]


async def test_service_accounts(auth: Auth) -> None:
    await auth.post("/team/new", {"team_id": "search"})
    made = await auth.post("/key/service-account/generate", {"team_id": "search", "key_alias": "nightly"})
    assert (made["team_id"], made["user_id"]) == ("search", None)
    for body, param in (({}, "team_id"), ({"team_id": "search", "user_id": "ada"}, "user_id")):
        answer = await auth.post("/key/service-account/generate", body, status=400)
        assert answer["error"]["param"] == param


# ---- reading several ---------------------------------------------------------------------------------


async def test_the_status_of_a_key_and_the_filter_by_it_agree(auth: Auth) -> None:
    names = ("active", "blocked", "revoked", "leaked", "ended", "both", "again", "deleted", "expired")
    made = {name: await minted(auth, key_alias=name, duration="1h" if name == "expired" else None) for name in names}
    for name in ("revoked", "leaked", "both", "again"):
        await auth.post("/key/revoke", {"key_alias": name, "leaked": name == "leaked"})
    for name in ("blocked", "both"):
        await auth.post("/key/block", {"key_alias": name})
    await auth.post("/key/regenerate", {"key_alias": "again"})
    await auth.post("/key/delete", {"key_aliases": ["deleted"]})
    await auth.post("/key/regenerate", {"key_alias": "ended", "grace_period": "1h"})
    await auth.post("/key/revoke", {"key": made["ended"]["key"], "leaked": True})

    async def seen(**query: str) -> dict[str, str]:
        found = await auth.get("/key/list", {"return_full_object": "true", **query})
        return {row["key_alias"]: row["status"] for row in found["keys"]}

    expected = {
        "active": {"active", "ended", "again", "expired"},
        "blocked": {"blocked"},
        "revoked": {"revoked", "leaked", "both"},
        "deleted": {"deleted"},
        "expired": set[str](),
    }
    for status, aliases in expected.items():
        assert await seen(status=status) == dict.fromkeys(aliases, status)
    views, later = auth.service.parts.views, auth.service.parts.clock.now() + timedelta(hours=2)
    for status in expected:
        states, _ = await views.keys(KeyFilter(status=cast("KeyStatus", status)), page=1, size=100, now=later)
        assert {status_of(state, later) for state in states} <= {status}
        assert ("expired" in {state.alias for state in states}) == (status == "expired")


async def test_a_key_stays_where_it_is(auth: Auth) -> None:
    await auth.post("/team/new", {"team_id": "search"})
    await auth.post("/organization/new", {"organization_id": "acme", "organization_alias": "acme"})
    in_team, in_org = await minted(auth, team_id="search"), await minted(auth, organization_id="acme")
    bare = await minted(auth)
    for made, field, wanted in (
        (in_team, "team_id", None),
        (in_team, "team_id", "other"),
        (bare, "team_id", "search"),
        (in_org, "organization_id", None),
        (bare, "organization_id", "acme"),
    ):
        for path in ("/key/update", "/key/regenerate"):
            answer = await auth.post(path, {"key": made["key"], field: wanted}, status=400)
            assert (answer["error"]["code"], answer["error"]["param"]) == ("not_supported", field)
    await auth.post("/key/update", {"key": bare["key"], "team_id": None, "organization_id": None})
    await auth.post("/key/update", {"key": in_team["key"], "team_id": "search"})


async def test_filters_and_orders_of_the_list(auth: Auth) -> None:
    made = {name: await minted(auth, key_alias=name) for name in ("beta", "alpha", "Gamma_1")}
    brief = await minted(auth, key_alias="brief", duration="1h")
    await auth.post("/key/block", {"key_alias": "beta"})
    await auth.post("/key/delete", {"key_aliases": ["alpha"]})

    async def seen(**query: str) -> list[str]:
        found = await auth.get("/key/list", {"return_full_object": "true", **query})
        return [row["key_alias"] for row in found["keys"]]

    assert await seen() == ["brief", "Gamma_1", "beta"]
    assert await seen(status="active") == ["brief", "Gamma_1"]
    assert await seen(status="blocked") == ["beta"]
    assert await seen(status="revoked") == []
    assert await seen(status="deleted") == ["alpha"]
    assert await seen(status="expired") == []
    assert await seen(sort_by="key_alias", sort_order="asc") == ["beta", "brief", "Gamma_1"]
    assert await seen(sort_by="expires") == ["brief", "Gamma_1", "beta"]
    assert await seen(sort_by="updated_at")  # any order that is told
    assert await seen(key_alias="gamma") == []
    assert await seen(key_alias="gamma", substring_matching="true") == ["Gamma_1"]
    assert await seen(search="a_1") == ["Gamma_1"]
    assert await seen(search="%") == []
    digest = SecretHasher({"p2": bytes.fromhex("ab" * 32)}).digest(brief["key"])
    for reference in (digest, sha256(brief["key"].encode()).hexdigest(), brief["token_id"]):
        assert await seen(key_hash=reference) == ["brief"]
    assert await seen(key_hash="f" * 64) == []
    assert await seen(key_hash=made["Gamma_1"]["token_id"], status="revoked") == []
    for query in (
        {"sort_by": "spend"},
        {"sort_order": "up"},
        {"status": "none"},
        {"expires": "1d"},
        {"expand": "user"},
    ):
        assert (await auth.get("/key/list", query, status=400))["error"]["param"] in query
    assert len(await seen(include_team_keys="true", include_created_by_keys="false")) == 3
    await auth.get("/key/list", {"user_id": "u", "include_team_keys": "true"}, status=400)
    aliases = await auth.get("/key/aliases", {"size": "2"})
    assert (aliases["total_count"], aliases["total_pages"], len(aliases["aliases"])) == (3, 2, 2)
    assert (await auth.get("/key/aliases", {"search": "GAMMA"}))["aliases"] == ["Gamma_1"]


async def test_several_keys_with_their_versions(auth: Auth) -> None:
    first, second = await minted(auth, key_alias="one"), await minted(auth, key_alias="two")
    answer = await auth.post("/v2/key/info", {"keys": [second["key"], "key_unknown", first["token_id"]]})
    assert answer["key"] == [second["key"], "key_unknown", first["token_id"]]
    assert [row["key_alias"] for row in answer["info"]] == ["two", "one"]
    assert answer["not_found"] == ["key_unknown"]
    assert [row["spend"] for row in answer["info"]] == [None, None], "the ledger is away"
    [version] = answer["info"][0]["versions"]
    assert (version["version"], version["status"], version["last_used"]) == (1, "current", None)
    assert version["key_name"] == second["key_name"]
    by_alias = await auth.post("/v2/key/info", {"key_aliases": ["one"]})
    assert by_alias["info"][0]["token_id"] == first["token_id"]
    for body in ({}, {"keys": ["a"] * 101}):
        await auth.post("/v2/key/info", body, status=400)


async def test_health_of_the_key_that_asks(auth: Auth) -> None:
    made = await minted(auth, duration="1h")
    answer = await auth.post("/key/health", {}, key=made["key"])
    assert (answer["key"], answer["token_id"]) == ("healthy", made["token_id"])
    assert (answer["version"], answer["newest"], answer["expires"]) == (1, 1, made["expires"])
    await auth.post("/key/health", {}, status=400)
    await auth.post("/key/block", {"key": made["key"]})
    await auth.post("/key/health", {}, status=401, key=made["key"])


# ---- several changes, and the same one twice ---------------------------------------------------------


async def test_bulk_update_does_what_can_be_done(auth: Auth) -> None:
    one, two = await minted(auth, key_alias="one"), await minted(auth, key_alias="two")
    answer = await auth.post(
        "/key/bulk_update",
        {
            "keys": [
                {"key": one["key"], "max_budget": 5, "tags": ["a"]},
                {"key": "key_unknown", "max_budget": 5},
                {"key_alias": "two", "max_budget": -5},
                {"key_alias": "two", "rpm_limit": 7},
                {"key_alias": "two", "bogus": 1},
                {},
            ]
        },
    )
    assert answer["total_requested"] == 6
    assert [entry["key"] for entry in answer["successful_updates"]] == [one["key"], "two"]
    assert [entry["key_info"]["max_budget"] for entry in answer["successful_updates"]] == [5, None]
    assert [entry["param"] for entry in answer["failed_updates"]] == ["key", "max_budget", "bogus", "key"]
    assert [entry["key"] for entry in answer["failed_updates"]] == ["key_unknown", "two", "two", None]
    assert (await auth.get("/key/info", {"key": two["key"]}))["info"]["rpm_limit"] == 7
    await auth.post("/key/bulk_update", {"keys": [{}] * 101}, status=400)
    await auth.post("/key/bulk_update", {"keys": ["x"]}, status=400)


async def test_a_repeated_request_for_a_key_finds_the_one_it_made(auth: Auth) -> None:
    """As after a crash between commit and answer: the second attempt draws the same."""
    parts, caller = auth.service.parts, Principal(role="admin", actor="test")
    minted = Metrics().counter("minted", "Minted.")
    keys = Keys(parts, reserved=frozenset(), minted=minted, couriers=parts.couriers, signing=parts.signing)
    request = GenerateKey(key_alias="once", max_budget=5, key="sk-my-own-secret-77", blocked=True)

    def draws(*, again: bool) -> Draws:
        return Draws(seed=b"s" * 32, began_ms=1_700_000_000_000, again=again)

    first = await keys.generate(request, caller, draws(again=False))
    second = await keys.generate(request, caller, draws(again=True))
    assert (second.token_id, second.key, second.created_at) == (first.token_id, first.key, first.created_at)
    assert second.warnings == []
    plain = GenerateKey(key_alias="drawn")
    one, two = [await keys.generate(plain, caller, Draws(seed=b"t" * 32, again=again)) for again in (False, True)]
    assert (one.key, one.token_id) == (two.key, two.token_id)
    assert (await auth.get("/key/list"))["total_count"] == 2
    await auth.post("/key/delete", {"key_aliases": ["once"]})
    with pytest.raises(ApiError) as refusal:
        await keys.generate(request, caller, draws(again=True))
    assert refusal.value.status == 404


async def test_a_secret_that_is_stored_anew_stays_taken(auth: Auth, keys: Bucket) -> None:
    made = await minted(auth, key="sk-my-own-secret-78")
    parts = auth.service.parts
    state = await parts.views.key(made["token_id"])
    assert state is not None
    old = (state.secrets[0].label, state.secrets[0].digest)
    new = ("p1", parts.vault.hasher.digest(made["key"], "p1"))

    def rehash(before: tuple[str, str], after: tuple[str, str]) -> Decide[KeyState]:
        return lambda state, stamp: decide_rehash(living(state), before, after, stamp)

    for before, after in ((old, new), (new, old)):
        change = await parts.commits.key(state.key_id, rehash(before, after), actor="test")
        assert await parts.relay.applied_in_time(change.position)
        assert await keys.get(secret_kv(*after)) is not None
        assert await keys.get(secret_kv(*before)) is None
    assert (await auth.get("/key/info", key=made["key"]))["info"]["token_id"] == made["token_id"]
    assert (await minted(auth, key=made["key"], status=409))["param"] == "key"
