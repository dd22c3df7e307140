"""A secret that got out: found by itself, dead everywhere at once, and the key it belonged to goes on."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest

from services.auth.domain.leaking import LEAK_GRACE_S
from services.auth.rotation.configured import RotationSettings
from services.auth.rotation.exchanging import Exchanging
from services.auth.secret import mint
from shared.bus import Bucket, Bus, Tail
from shared.clock import SystemClock
from shared.events import KeyLeaked, decode_signal
from shared.ids import KeyId
from shared.policy import Revocation
from shared.topology import APPLIED_SUBJECT, KEYS_BUCKET, REVOKED_BUCKET, SIGNALS, key_kv
from tests.support.auth import Auth, auth_running, migrated, settings_for
from tests.support.eventually import eventually
from tests.support.servers import NatsServer, PostgresServer


@pytest.fixture
async def proxy(nats: NatsServer) -> AsyncGenerator[Bus, None]:
    bus = await Bus.open(nats.url_for("proxy"), user="proxy", name="test-proxy")
    yield bus
    await bus.close()


@pytest.fixture
async def auth(nats: NatsServer, database: str) -> AsyncGenerator[Auth, None]:
    async with auth_running(settings_for(nats, await migrated(database))) as auth:
        await auth.ready()
        yield auth


def name_of(auth: Auth, secret: str) -> str:
    return auth.service.parts.vault.names(secret)[0]


async def kind(bus: Bus, name: str) -> str | None:
    found = await Bucket(bus, REVOKED_BUCKET).get(name)
    return None if found is None else msgspec.json.decode(found.value, type=Revocation).kind


async def types(auth: Auth, key_id: str) -> list[str]:
    store = auth.service.parts.commits._store
    return [type(event).__name__ for event in await store.load(f"key:{key_id}")]


async def record_gone(bus: Bus, name: str) -> bool:
    return await Bucket(bus, KEYS_BUCKET).get(name) is None


async def leaks_told(nats: NatsServer, count: int) -> list[KeyLeaked]:
    """The signals of leaks that the stream has, once there are `count`."""
    bus = await Bus.open(nats.url, user="admin", name="test")
    found: list[KeyLeaked] = []
    async for batch in Tail(bus, SIGNALS, "signal.key.leaked.>").batches():
        for message in batch.messages:
            signal = decode_signal(message.data)
            assert isinstance(signal, KeyLeaked)
            found.append(signal)
        if len(found) >= count:
            break
    await bus.close()
    return found


async def mirrored(auth: Auth, secret: str) -> bool:
    return auth.service.parts.mirrored(secret) is not None


async def regenerated(auth: Auth, key_id: str, **body: Any) -> dict[str, Any]:
    return await auth.post(f"/key/{key_id}/regenerate", body)


@pytest.mark.parametrize("by", ["plaintext", "sha256", "stored", "id", "alias"])
async def test_a_leaked_secret_is_found_and_the_key_stays(auth: Auth, nats: NatsServer, proxy: Bus, by: str) -> None:
    made = await auth.post("/key/generate", {"key_alias": "search", "max_budget": 5})
    name = name_of(auth, made["key"])
    reference = {
        "plaintext": {"key": made["key"]},
        "sha256": {"key": sha256(made["key"].encode()).hexdigest()},
        "stored": {"key": name.rpartition(".")[2]},
        "id": {"key": made["token_id"]},
        "alias": {"key_alias": "search"},
    }[by]
    answer = await auth.post("/key/revoke", reference | {"leaked": True, "reason": "in a ticket"})
    assert (answer["token_id"], answer["versions"], answer["versions_left"]) == (made["token_id"], [1], [])
    assert answer["recorded"]
    assert answer["fleet"] == {"proxies": 0, "applied": 0, "ms": answer["fleet"]["ms"]}
    assert "regenerate" in answer["warnings"][0]
    assert await kind(proxy, name) == "leaked"
    assert await kind(proxy, key_kv(made["token_id"])) is None
    await eventually(lambda: record_gone(proxy, name))
    assert "KeySecretRetired" in await types(auth, made["token_id"])

    fresh = await regenerated(auth, made["token_id"])
    assert (fresh["max_budget"], fresh["key_alias"]) == (5, "search")
    assert fresh["key"] != made["key"]
    assert await kind(proxy, name_of(auth, fresh["key"])) is None

    (signal,) = await leaks_told(nats, 1)
    assert (signal.key_id, signal.version, signal.action) == (made["token_id"], 1, "revoked")
    assert made["key"] not in msgspec.json.encode(signal).decode()

    again = await auth.post("/key/revoke", {"key": made["key"], "leaked": True})
    assert again["versions"] == []
    assert again["versions_left"] == [2]
    assert "ended before" in again["warnings"][0]


async def test_without_a_leak_it_ends_all_the_same(auth: Auth, nats: NatsServer, proxy: Bus) -> None:
    made = await auth.post("/key/generate", {})
    fresh = await regenerated(auth, made["token_id"], grace_period="1h")
    answer = await auth.post("/key/revoke", {"key": made["key"]})
    assert (answer["versions"], answer["versions_left"], answer["leaked"]) == ([1], [2], False)
    assert await kind(proxy, name_of(auth, made["key"])) == "deleted"
    assert await kind(proxy, name_of(auth, fresh["key"])) is None
    await eventually(lambda: record_gone(proxy, name_of(auth, made["key"])))
    assert not await record_gone(proxy, name_of(auth, fresh["key"]))
    bus = await Bus.open(nats.url, user="admin", name="test")
    assert (await bus.stream_info(SIGNALS)).state.messages == 0
    await bus.close()


async def test_what_is_out_of_reach_is_not_there(auth: Auth) -> None:
    await auth.post("/organization/new", {"organization_id": "o1", "organization_alias": "One"})
    await auth.post("/team/new", {"team_id": "t1", "organization_id": "o1"})
    await auth.post("/team/new", {"team_id": "t2", "organization_id": "o1"})
    admin = await auth.post("/key/generate", {"key_type": "team_admin", "team_id": "t1"})
    other = await auth.post("/key/generate", {"team_id": "t2", "key_alias": "theirs"})
    own = await auth.post("/key/generate", {"team_id": "t1", "key_alias": "mine"})
    await eventually(lambda: mirrored(auth, admin["key"]))
    for path, body in (
        ("/key/revoke", {"key": other["token_id"], "leaked": True}),
        ("/key/block", {"key": other["token_id"]}),
        ("/key/unblock", {"key": other["token_id"]}),
        ("/key/delete", {"keys": [own["token_id"], other["token_id"]]}),
    ):
        error = (await auth.post(path, body, status=404, key=admin["key"]))["error"]
        missing = {
            name: ["key_unheard_of"] if name == "keys" else "key_unheard_of" for name in body if name != "leaked"
        }
        assert error == (await auth.post(path, missing, status=404, key=admin["key"]))["error"], path
    error = (await auth.post("/key/revoke", {"key_alias": "theirs"}, status=404, key=admin["key"]))["error"]
    assert error["message"] == "No key has the alias 'theirs'."
    assert (await auth.post("/key/revoke", {"key_alias": "mine"}, key=admin["key"]))["versions"] == [1]


async def test_anybody_may_report_what_they_found(auth: Auth, nats: NatsServer, proxy: Bus) -> None:
    made = [await auth.post("/key/generate", {"key_alias": f"a{n}"}) for n in range(3)]
    client = auth.client
    unknown = await client.post("/key/report-leak", json={"key": "sk-not-one-of-ours"})
    known = await client.post("/key/report-leak", json={"key": made[0]["key"], "source": "a colleague"})
    assert unknown.status_code == known.status_code == 200
    assert unknown.content == known.content == b'{"received":1}'
    tokens = [
        {"token": made[1]["key"], "type": "tundish", "url": "https://g.example/1", "source": "content"},
        {"token": "sk-not-one-of-ours", "type": "tundish", "url": "", "source": "commit"},
        {"token": made[2]["token_id"], "type": "tundish"},
    ]
    answer = await client.post("/key/report-leak", json=tokens)
    assert answer.json() == {"received": 3}
    for n, expected in ((0, "leaked"), (1, "leaked"), (2, None)):
        assert await kind(proxy, name_of(auth, made[n]["key"])) == expected, "only a plaintext proves anything"
    told = {signal.key_id: signal for signal in await leaks_told(nats, 2)}
    assert set(told) == {made[0]["token_id"], made[1]["token_id"]}
    signal = told[made[1]["token_id"]]
    assert (signal.found_at, signal.found_by, signal.reporter) == ("https://g.example/1", "content", "leak-report")
    refused = await client.post("/key/report-leak", json={"token": made[2]["key"]})
    assert refused.status_code == 400
    assert made[2]["key"] not in refused.text


async def test_without_postgres_a_leak_is_ended_and_recorded_later(
    auth: Auth, nats: NatsServer, postgres_server: PostgresServer, proxy: Bus
) -> None:
    made = [await auth.post("/key/generate", {"key_alias": f"a{n}"}) for n in range(4)]
    await eventually(lambda: mirrored(auth, made[3]["key"]))
    references = (
        {"key": made[0]["key"]},
        {"key": sha256(made[1]["key"].encode()).hexdigest()},
        {"key_alias": "a2"},
    )
    postgres_server.stop()
    try:
        for reference in references:
            answer = await auth.post("/key/revoke", reference | {"leaked": True})
            assert (answer["recorded"], answer["versions"], answer["versions_left"]) == (False, [1], [])
        assert (await auth.client.post("/key/report-leak", json={"key": made[3]["key"]})).status_code == 200
        assert (await auth.client.post("/key/report-leak", json={"key": "sk-unknown"})).status_code == 200
        for one in made:
            assert await kind(proxy, name_of(auth, one["key"])) == "leaked"
        assert len(await leaks_told(nats, 4)) == 4
    finally:
        postgres_server.start()
    await auth.ready()
    for one in made:
        await eventually(lambda one=one: record_gone(proxy, name_of(auth, one["key"])))
        assert "KeySecretRetired" in await types(auth, one["token_id"])
    info = await auth.get("/key/info", {"key": made[0]["token_id"]})
    assert info["info"]["versions"][0]["status"] == "leaked"
    log = await auth.get("/audit", {"object_id": made[3]["token_id"], "action": "revoked"})
    assert log["audit_logs"][0]["changed_by"] == "leak-report"
    assert "reported as leaked" in log["audit_logs"][0]["cause"]


async def test_a_report_rotates_where_that_is_wanted_and_possible(nats: NatsServer, database: str, proxy: Bus) -> None:
    settings = settings_for(nats, await migrated(database))
    rotation = RotationSettings(webhook_allow=(ip_network("127.0.0.0/8"),))
    settings = msgspec.structs.replace(settings, leak_action="rotate", rotation=rotation)
    async with auth_running(settings) as auth:
        await auth.ready()
        target = {"type": "webhook", "url": "http://127.0.0.1:9/k"}
        pushed = await auth.post(
            "/key/generate", {"rotation_delivery": [target, {"type": "exchange"}], "grace_period": "1h"}
        )
        plain = await auth.post("/key/generate", {"rotation_delivery": [{"type": "exchange"}]})
        for made in (pushed, plain):
            assert (await auth.client.post("/key/report-leak", json={"key": made["key"]})).status_code == 200
        assert await kind(proxy, name_of(auth, pushed["key"])) is None, "the owner's goes on for some minutes"
        assert await kind(proxy, name_of(auth, plain["key"])) == "leaked", "the finder could collect it, too"
        info = (await auth.get("/key/info", {"key": pushed["token_id"]}))["info"]
        (end,) = [datetime.fromisoformat(one["expires"]) for one in info["versions"] if one["version"] == 1]
        assert timedelta(0) < end - SystemClock().now() <= timedelta(seconds=LEAK_GRACE_S), "also undelivered"
        told = {signal.key_id: signal for signal in await leaks_told(nats, 2)}
        assert (told[pushed["token_id"]].action, told[pushed["token_id"]].old_ends_at) == ("rotated", end)
        assert (told[plain["token_id"]].action, told[plain["token_id"]].old_ends_at) == ("revoked", None)
        await auth.post("/key/exchange", {}, status=404, key=pushed["key"])

        assert (await auth.client.post("/key/report-leak", json={"key": pushed["key"]})).status_code == 200
        assert await kind(proxy, name_of(auth, pushed["key"])) == "leaked", "reported twice, it is over"
        assert (await types(auth, pushed["token_id"])).count("KeySecretMinted") == 2, "and renewed once"
        again = [one.action for one in await leaks_told(nats, 3) if one.key_id == pushed["token_id"]]
        assert again == ["rotated", "revoked"]

        listed = await auth.post("/key/generate", {"rotation_delivery": [target]})
        matches = [{"token": listed["key"], "type": "t", "url": f"https://x/{n}", "source": "s"} for n in range(3)]
        assert (await auth.client.post("/key/report-leak", json=matches)).status_code == 200
        assert await kind(proxy, name_of(auth, listed["key"])) is None, "found in three places, reported once"


async def test_a_newer_secret_makes_a_report_a_revocation(nats: NatsServer, database: str, proxy: Bus) -> None:
    settings = settings_for(nats, await migrated(database))
    rotation = RotationSettings(webhook_allow=(ip_network("127.0.0.0/8"),))
    settings = msgspec.structs.replace(settings, leak_action="rotate", rotation=rotation)
    async with auth_running(settings) as auth:
        await auth.ready()
        ways = [{"type": "webhook", "url": "http://127.0.0.1:9/k"}, {"type": "exchange"}]
        taken, shown = [await auth.post("/key/generate", {"rotation_delivery": ways}) for _ in range(2)]
        await eventually(lambda: mirrored(auth, taken["key"]))
        await auth.post(f"/key/{taken['token_id']}/rotate", {})
        second = await auth.post("/key/exchange", {}, key=taken["key"])
        fresh = await regenerated(auth, shown["token_id"], grace_period="1h")
        for made in (taken, shown):
            assert (await auth.client.post("/key/report-leak", json={"key": made["key"]})).status_code == 200
            assert await kind(proxy, name_of(auth, made["key"])) == "leaked"
        assert await kind(proxy, name_of(auth, second["key"])) == "leaked", "collected with it by the finder, perhaps"
        assert await kind(proxy, name_of(auth, fresh["key"])) is None
        assert {one.action for one in await leaks_told(nats, 3)} == {"revoked"}


async def test_a_report_is_one_question_to_the_database_and_lists_leave_room(
    auth: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await auth.post("/key/generate", {})
    await eventually(lambda: mirrored(auth, made["key"]))
    asked: list[int] = []
    busy, free = asyncio.Event(), asyncio.Event()
    views = auth.service.parts.views

    async def question(digests: Sequence[str]) -> dict[str, KeyId]:
        asked.append(len(digests))
        if len(digests) > 2:
            busy.set()
            await free.wait()
        return {}

    monkeypatch.setattr(views, "keys_of_digests", question)
    wrong = [f"{secret[:-1]}{'0' if secret[-1] != '0' else '1'}" for secret in (mint() for _ in range(5))]
    for body in ([{"token": text} for text in wrong], {"key": wrong[0]}):
        assert (await auth.client.post("/key/report-leak", json=body)).status_code == 200
    assert asked == [], "a wrong checksum needs no question"

    tokens = [{"token": f"sk-unknown-{n}"} for n in range(100)]
    lists = [asyncio.ensure_future(auth.client.post("/key/report-leak", json=tokens)) for _ in range(20)]
    await busy.wait()
    answer = await auth.client.post("/key/report-leak", json={"key": made["key"]})
    assert answer.status_code == 200, "an honest report finds its place"
    assert asked == [200], "one question at a time, whatever stands in them"
    free.set()
    answers = [(await one).status_code for one in lists]
    assert (answers.count(200), answers.count(429)) == (8, 12)
    assert asked == [200] * 8


async def test_who_reports_chooses_no_name_but_their_own(auth: Auth, nats: NatsServer) -> None:
    made = await auth.post("/key/generate", {})
    body = {"key": made["key"], "source": "master-key", "url": "https://x/\u202e<script>"}
    assert (await auth.client.post("/key/report-leak", json=body)).status_code == 200
    (signal,) = await leaks_told(nats, 1)
    assert (signal.reporter, signal.found_by, signal.found_at) == ("leak-report", "master-key", "https://x/<script>")


async def test_answers_tell_how_many_proxies_refuse_already(auth: Auth, proxy: Bus) -> None:
    made = await auth.post("/key/generate", {})
    bucket = Bucket(proxy, REVOKED_BUCKET)

    async def say(instance: str, revision: int) -> None:
        word = {"instance": instance, "revision": revision, "at_ms": 0}
        await proxy.send(APPLIED_SUBJECT, msgspec.json.encode(word))

    async def both_heard() -> bool:
        for instance in ("one", "two"):
            await say(instance, 10**6 if instance == "one" else 0)
        page = await auth.get_text("/metrics")
        return "tundish_auth_fleet_proxies 2" in page

    await eventually(both_heard)
    answer = await auth.post("/key/block", {"key": made["key"]})
    assert (answer["fleet"]["proxies"], answer["fleet"]["applied"]) == (2, 1)
    await say("two", 10**6)
    answer = await auth.post("/key/delete", {"keys": [made["token_id"]]})
    assert (answer["fleet"]["proxies"], answer["fleet"]["applied"]) == (2, 2)
    assert await bucket.get(key_kv(made["token_id"])) is not None
    page = await auth.get_text("/metrics")
    assert "tundish_auth_revocation_fleet_seconds_count 1" in page


async def test_one_entry_refuses_a_team_and_an_organization(auth: Auth, proxy: Bus) -> None:
    await auth.post("/organization/new", {"organization_id": "o1", "organization_alias": "One"})
    await auth.post("/team/new", {"team_id": "t1", "organization_id": "o1"})
    made = await auth.post("/key/generate", {"team_id": "t1", "key_type": "viewer"})
    await eventually(lambda: mirrored(auth, made["key"]))
    await auth.get("/key/list", key=made["key"])
    for what, field, name in (("team", "team_id", "t.t1"), ("organization", "organization_id", "o.o1")):
        identity = name[2:]
        answer = await auth.post(f"/{what}/block", {field: identity})
        assert answer["fleet"]["proxies"] == 0
        assert await kind(proxy, name) == "blocked"
        await auth.get("/key/list", key=made["key"], status=401)
        await auth.post(f"/{what}/unblock", {field: identity})
        assert await kind(proxy, name) is None
        await auth.get("/key/list", key=made["key"])
    await auth.post("/team/delete", {"team_ids": ["t1"]})
    assert await kind(proxy, "t.t1") == "deleted"
    await auth.get("/key/list", key=made["key"], status=401)
    await eventually(lambda: record_gone(proxy, name_of(auth, made["key"])))
    assert "KeyDeleted" in await types(auth, made["token_id"])


# ---- what was collected with a leaked secret ---------------------------------------------------------


async def collected(auth: Auth, **more: Any) -> tuple[str, str, str]:
    """A key whose second secret was collected with the first: (key id, first, second)."""
    body = {"rotation_delivery": [{"type": "exchange"}], "grace_period": "1h"} | more
    made = await auth.post("/key/generate", body)
    await auth.post(f"/key/{made['token_id']}/rotate", {})
    taken = await auth.post("/key/exchange", None, key=made["key"])
    return made["token_id"], made["key"], taken["key"]


async def statuses(auth: Auth, key_id: str) -> dict[int, str]:
    info = (await auth.get("/key/info", {"key": key_id}))["info"]
    return {one["version"]: one["status"] for one in info["versions"]}


@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("by", ["report", "revoke"])
async def test_what_was_collected_with_a_leaked_secret_dies_with_it(
    auth: Auth, nats: NatsServer, proxy: Bus, by: str, over: bool
) -> None:
    """Also where the leaked one was over by then: whoever has it could have collected before."""
    key_id, first, second = await collected(auth)
    await auth.post(f"/key/{key_id}/rotate", {})
    third = (await auth.post("/key/exchange", None, key=second))["key"]
    if over:
        assert (await auth.post("/key/revoke", {"key": first}))["versions_left"] == [2, 3]
        await eventually(lambda: record_gone(proxy, name_of(auth, first)))
    ended = [2, 3] if over else [1, 2, 3]
    if by == "report":
        assert (await auth.client.post("/key/report-leak", json={"key": first})).json() == {"received": 1}
    else:
        answer = await auth.post("/key/revoke", {"key": first, "leaked": True})
        assert (answer["versions"], answer["versions_left"], answer["recorded"]) == (ended, [], True)
        assert "regenerate" in answer["warnings"][-1]
    for secret in (second, third):
        assert await kind(proxy, name_of(auth, secret)) == "leaked", "before the answer"
        await eventually(lambda secret=secret: record_gone(proxy, name_of(auth, secret)))
        await auth.get("/key/info", key=secret, status=401)
    assert {one: (await statuses(auth, key_id))[one] for one in ended} == dict.fromkeys(ended, "leaked")
    assert sorted(signal.version for signal in await leaks_told(nats, len(ended))) == ended
    again = await auth.post("/key/revoke", {"key": first, "leaked": True})
    assert (again["versions"], again["versions_left"]) == ([], [])


async def test_what_was_regenerated_and_not_collected_survives_a_leak_of_the_one_before(auth: Auth, proxy: Bus) -> None:
    key_id, first, second = await collected(auth)
    fresh = await regenerated(auth, key_id, grace_period="1h")
    answer = await auth.post("/key/revoke", {"key": first, "leaked": True})
    assert (answer["versions"], answer["versions_left"]) == ([1, 2], [3])
    assert await kind(proxy, name_of(auth, second)) == "leaked"
    assert await kind(proxy, name_of(auth, fresh["key"])) is None


async def test_revoked_without_a_leak_what_was_collected_goes_on(auth: Auth, proxy: Bus) -> None:
    _, first, second = await collected(auth)
    assert (await auth.post("/key/revoke", {"key": first}))["versions_left"] == [2]
    assert await kind(proxy, name_of(auth, second)) is None


@pytest.mark.parametrize("moment", ["_until_in_force", "_take"])
async def test_of_an_exchange_and_a_report_at_once_nothing_works_after_the_report(
    auth: Auth, proxy: Bus, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The report is answered after the exchange let somebody in, or when it has taken what waited."""
    made = await auth.post("/key/generate", {"rotation_delivery": [{"type": "exchange"}], "grace_period": "1h"})
    await auth.post(f"/key/{made['token_id']}/rotate", {})
    whole = getattr(Exchanging, moment)

    async def with_a_report(self: Exchanging, *arguments: Any) -> None:
        await whole(self, *arguments)
        assert (await auth.client.post("/key/report-leak", json={"key": made["key"]})).status_code == 200

    monkeypatch.setattr(Exchanging, moment, with_a_report)
    late = await auth.client.post("/key/exchange", headers={"authorization": f"Bearer {made['key']}"})
    assert late.status_code in (401, 404), late.text
    ended = {1: "leaked", 2: "leaked"} if moment == "_take" else {1: "leaked", 2: "pending"}
    found = await statuses(auth, made["token_id"])
    assert found[1] == "leaked"
    assert found == ended or found[2] in ("leaked", "retired"), "given up, for nobody can have it"


async def test_without_postgres_what_was_collected_falls_when_it_is_back(
    auth: Auth, postgres_server: PostgresServer, proxy: Bus
) -> None:
    key_id, first, second = await collected(auth)
    await eventually(lambda: mirrored(auth, second))
    postgres_server.stop()
    try:
        answer = await auth.post("/key/revoke", {"key": first, "leaked": True})
        assert (answer["recorded"], answer["versions"]) == (False, [1])
        assert any("collected with what leaked go on" in warning for warning in answer["warnings"])
        assert await kind(proxy, name_of(auth, first)) == "leaked"
    finally:
        postgres_server.start()
    await auth.ready()
    await eventually(lambda: record_gone(proxy, name_of(auth, second)))
    assert await statuses(auth, key_id) == {1: "leaked", 2: "leaked"}


async def test_a_new_secret_does_not_make_good_one_that_was_collected(
    nats: NatsServer, database: str, proxy: Bus
) -> None:
    """With rotation as the answer to leaks: what the finder may have ends, delivered to the owner or not."""
    settings = settings_for(nats, await migrated(database))
    rotation = RotationSettings(webhook_allow=(ip_network("127.0.0.0/8"),))
    async with auth_running(msgspec.structs.replace(settings, leak_action="rotate", rotation=rotation)) as auth:
        await auth.ready()
        hook = {"type": "webhook", "url": "http://127.0.0.1:9/k"}
        _, first, second = await collected(auth, rotation_delivery=[hook, {"type": "exchange"}])
        assert (await auth.client.post("/key/report-leak", json={"key": first})).status_code == 200
        assert [await kind(proxy, name_of(auth, one)) for one in (first, second)] == ["leaked", "leaked"]
