"""The audit log: who changed what, and that nobody can change it unseen."""

from collections.abc import AsyncGenerator
from typing import Any

import asyncpg
import msgspec
import pytest

from services.auth.domain.chain import GENESIS, linked
from services.auth.store_audit import RETURNED
from shared.bus import Bus
from shared.bus.apply import apply
from shared.pg import migrations_of
from shared.topology import AUTH
from tests.support.auth import Auth, auth_running, migrated, settings_for
from tests.support.eventually import eventually
from tests.support.servers import NatsServer


@pytest.fixture
async def auth(nats: NatsServer, database: str) -> AsyncGenerator[Auth, None]:
    async with auth_running(settings_for(nats, await migrated(database))) as auth:
        await auth.ready()
        yield auth


async def relayed(auth: Auth) -> None:
    """Wait until the stream has every event of the table."""
    head = await auth.service.parts.commits._store.head()

    async def done() -> bool:
        return auth.service.parts.relay.applied >= head

    await eventually(done)


async def tamper(database: str, *statements: str) -> None:
    """What a superuser could do: without triggers and constraints."""
    connection = await asyncpg.connect(database)
    try:
        await connection.execute("SET search_path TO auth; SET session_replication_role = replica")
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def logs(auth: Auth, **query: Any) -> list[dict[str, Any]]:
    return (await auth.get("/audit", query))["audit_logs"]


async def test_each_change_shows_who_what_and_the_fields_before_and_after(auth: Auth) -> None:
    made = await auth.post("/key/generate", {"key_alias": "search", "max_budget": 5, "metadata": {"owner": "Ada"}})
    key_id = made["token_id"]
    await auth.post("/key/update", {"key": key_id, "max_budget": 9, "models": ["gpt-4o"]})
    await auth.post("/key/block", {"key": key_id})
    await auth.post("/key/unblock", {"key": key_id})
    await auth.post(f"/key/{key_id}/regenerate", {})
    await auth.post("/key/delete", {"keys": [key_id]})
    found = await logs(auth, object_id=key_id, page_size=100)
    assert {entry["table_name"] for entry in found} == {"LiteLLM_VerificationToken"}
    assert {entry["changed_by"] for entry in found} == {"master-key"}
    by_action: dict[str, list[dict[str, Any]]] = {}
    for entry in reversed(found):
        by_action.setdefault(entry["action"], []).append(entry)
    created = by_action["created"][0]
    assert created["before_value"] == {}
    assert created["updated_values"]["key_alias"] == "search"
    assert created["updated_values"]["metadata"] == {"owner": "Ada"}
    changes = {name: value for entry in by_action["updated"] for name, value in entry["updated_values"].items()}
    before = {name: value for entry in by_action["updated"] for name, value in entry["before_value"].items()}
    assert (changes["max_budget"], changes["models"]) == (9.0, ["gpt-4o"])
    assert (before["max_budget"], before["models"]) == (5.0, [])
    assert by_action["blocked"][0]["updated_values"]["blocked"] is True
    assert by_action["unblocked"][0]["before_value"]["blocked"] is True
    assert by_action["rotated"][0]["updated_values"]["version"] == 2
    assert by_action["revoked"][0]["updated_values"]["reason"] == "replaced"
    assert by_action["deleted"][0]["updated_values"]["deleted"] is True
    text = msgspec.json.encode(found).decode()
    for digest in auth.service.parts.vault.digests(made["key"]):
        assert digest not in text
    assert made["key"] not in text


async def test_filters_and_pages(auth: Auth) -> None:
    await auth.post("/team/new", {"team_id": "t1"})
    made = await auth.post("/key/generate", {"team_id": "t1"})
    other = await auth.post("/key/generate", {})
    await auth.post("/key/block", {"key": other["token_id"]})
    of_team = await logs(auth, team_id="t1")
    assert {entry["object_id"] for entry in of_team} == {"t1", made["token_id"]}
    assert [entry["object_id"] for entry in await logs(auth, action="blocked")] == [other["token_id"]]
    assert {entry["table_name"] for entry in await logs(auth, table_name="team")} == {"LiteLLM_TeamTable"}
    assert await logs(auth, table_name="LiteLLM_TeamTable") == await logs(auth, table_name="team")
    assert await logs(auth, changed_by="nobody") == []
    middle = (await logs(auth, action="blocked"))[0]["updated_at"]
    assert len(await logs(auth, start=middle)) == 1
    everything = await auth.get("/audit", {"page_size": 100})
    assert len(await logs(auth, end=middle, page_size=100)) == everything["total"] - 1
    pages = [await auth.get("/audit", {"page_size": 2, "page": page}) for page in (1, 2)]
    assert pages[0]["total_pages"] == -(-everything["total"] // 2)
    positions = [entry["position"] for page in pages for entry in page["audit_logs"]]
    assert positions == sorted(positions, reverse=True)
    for query in ({"action": "x"}, {"table_name": "x"}, {"start": "x"}, {"page_size": 101}, {"object": "x"}):
        await auth.get("/audit", query, status=400)


async def test_a_part_of_the_log_for_who_administers_a_part(auth: Auth) -> None:
    await auth.post("/organization/new", {"organization_id": "o1", "organization_alias": "One"})
    for team in ("t1", "t2"):
        await auth.post("/team/new", {"team_id": team, "organization_id": "o1"})
    one = await auth.post("/key/generate", {"team_id": "t1"})
    await auth.post("/key/generate", {"team_id": "t2"})
    await auth.post("/key/generate", {"key_type": "admin"})
    viewer = await auth.post("/key/generate", {"team_id": "t1", "key_type": "viewer"})
    org = await auth.post("/key/generate", {"organization_id": "o1", "key_type": "org_admin"})
    await relayed(auth)
    seen = (await auth.get("/audit", {"page_size": 100}, key=viewer["key"]))["audit_logs"]
    assert {entry["object_id"] for entry in seen} == {"t1", one["token_id"], viewer["token_id"]}
    outside = await auth.get("/audit", {"team_id": "t2"}, key=viewer["key"])
    assert outside["audit_logs"] == []
    seen = (await auth.get("/audit", {"page_size": 100}, key=org["key"]))["audit_logs"]
    assert {"o1", "t1", "t2"} <= {entry["object_id"] for entry in seen}
    assert "default" not in {entry["object_id"] for entry in seen}
    await auth.get("/audit/verify", status=403, key=org["key"])
    lines = (await auth.get_text("/audit/export", key=viewer["key"])).splitlines()
    assert len(lines) == 1 + (await auth.get("/audit", key=viewer["key"]))["total"]


async def test_all_of_it_in_pieces(auth: Auth) -> None:
    for n in range(4):
        await auth.post("/key/generate", {"key_alias": f"a{n}"})
    total = (await auth.get("/audit"))["total"]
    rows: list[dict[str, Any]] = []
    position: int | None = 0
    while position is not None:
        text = await auth.get_text(f"/audit/export?position={position}&limit=3")
        *found, last = [msgspec.json.decode(line) for line in text.splitlines()]
        rows += found
        position = last["next"]
    assert [row["position"] for row in rows] == list(range(1, total + 1))


async def verified(auth: Auth, **query: str) -> dict[str, Any]:
    await relayed(auth)
    return await auth.get("/audit/verify", query)


async def some(auth: Auth) -> dict[str, Any]:
    for n in range(3):
        await auth.post("/key/generate", {"key_alias": f"a{n}", "metadata": {"text": 'ü "quoted" \\ text'}})
    whole = await verified(auth)
    assert (whole["ok"], whole["broken_at"], whole["next"]) == (True, None, None)
    assert whole["events"] == whole["in_stream"] == whole["head"]["position"] > 6
    return whole


async def test_a_changed_row_is_found_and_named(auth: Auth, database: str) -> None:
    await some(auth)
    await tamper(database, "UPDATE event SET actor = 'somebody-else' WHERE position = 4")
    found = await verified(auth)
    assert (found["ok"], found["broken_at"], found["head"]["position"]) == (False, 4, 3)


async def test_a_removed_row_is_found(auth: Auth, database: str) -> None:
    await some(auth)
    await tamper(database, "DELETE FROM event WHERE position = 3", "DELETE FROM chain WHERE position = 3")
    found = await verified(auth)
    assert (found["ok"], found["broken_at"]) == (False, 3)
    assert "missing" in found["what"]


async def forge(database: str) -> None:
    """Compute the chain anew, as somebody would who knows how."""
    connection = await asyncpg.connect(database)
    try:
        await connection.execute("SET search_path TO auth; SET session_replication_role = replica")
        found = await connection.fetch(
            f"SELECT position, {RETURNED}, org_id, team_id FROM event JOIN chain USING (position) ORDER BY position"
        )
        mark = GENESIS
        for row in found:
            mark = linked(mark, (*row["texts"], row["org_id"], row["team_id"]))
            await connection.execute("UPDATE chain SET hash = $1 WHERE position = $2", mark, row["position"])
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "forgery",
    [
        "UPDATE event SET body = jsonb_set(body, '{actor}', '\"forged\"'), actor = 'forged' WHERE position = 2",
        "UPDATE event SET actor = 'forged' WHERE position = 2",
        "UPDATE event SET stream_id = 'key:another' WHERE position = 2",
    ],
)
async def test_a_chain_that_was_made_anew_is_found_by_the_stream(auth: Auth, database: str, forgery: str) -> None:
    await some(auth)
    await tamper(database, forgery)
    await forge(database)
    found = await verified(auth)
    assert (found["ok"], found["broken_at"]) == (False, 2)
    assert "stream" in found["what"]


async def test_where_the_stream_was_made_anew_as_well_an_anchor_finds_it(
    auth: Auth, database: str, nats: NatsServer
) -> None:
    whole = await some(auth)
    anchor = f"{whole['head']['position']}:{whole['head']['hash']}"
    assert (await verified(auth, anchor=anchor))["ok"]
    await tamper(
        database,
        "UPDATE event SET body = jsonb_set(body, '{actor}', '\"forged\"'), actor = 'forged' WHERE position = 2",
    )
    await forge(database)
    admin = await Bus.open(nats.url, user="admin", name="test")
    await admin.api(f"STREAM.DELETE.{AUTH}", b"")
    await apply(admin, replicas=1, progress=lambda _line: None)
    await admin.close()
    await auth.post("/key/generate", {})  # which the relay cannot put behind what it knew

    async def written_anew() -> bool:
        found = await auth.get("/audit/verify")
        return bool(found["ok"]) and found["in_stream"] == found["events"]

    await eventually(written_anew)
    found = await auth.get("/audit/verify", {"anchor": anchor})
    assert (found["ok"], found["broken_at"]) == (False, whole["head"]["position"])
    assert "anchor" in found["what"]
    for bad in ("x", "1:ab", "0:" + "0" * 64):
        await auth.get("/audit/verify", {"anchor": bad}, status=400)


async def test_removed_last_rows_are_found_by_the_stream_and_by_an_anchor(auth: Auth, database: str) -> None:
    whole = await some(auth)
    last = whole["head"]["position"]
    anchor = f"{last}:{whole['head']['hash']}"
    await tamper(database, f"DELETE FROM event WHERE position >= {last - 1}")
    found = await auth.get("/audit/verify")
    assert (found["ok"], found["broken_at"]) == (False, last - 1)
    await tamper(database, f"DELETE FROM chain WHERE position >= {last - 1}")
    found = await auth.get("/audit/verify")
    assert (found["ok"], found["broken_at"]) == (False, last - 1)
    assert "AUTH" in found["what"]
    found = await auth.get("/audit/verify", {"anchor": anchor})
    assert not found["ok"]


async def test_it_goes_on_from_a_position(auth: Auth) -> None:
    whole = await some(auth)
    last = whole["head"]["position"]
    rest = await verified(auth, after=str(last - 2))
    assert (rest["ok"], rest["events"], rest["in_stream"], rest["head"]) == (True, 2, 2, whole["head"])
    assert not (await verified(auth, after="100000"))["ok"]


async def test_events_from_before_the_log_are_chained_by_the_migration(nats: NatsServer, database: str) -> None:
    async with auth_running(settings_for(nats, await migrated(database))) as auth:
        await auth.ready()
        await auth.post("/team/new", {"team_id": "t1"})
        await auth.post("/key/generate", {"team_id": "t1", "metadata": {"text": 'ü "quoted" \\ text'}})
        before = await chain(database)
        await tamper(database, "DROP TABLE chain", "DROP INDEX event_by_actor", "DROP INDEX event_by_time")
        connection = await asyncpg.connect(database)
        await connection.execute("SET search_path TO auth")
        async with connection.transaction():
            sql = next(text for _, name, text in migrations_of("services.auth") if name == "0006_audit.sql")
            await connection.execute(sql)
        await connection.close()
        assert await chain(database) == before
        assert (await verified(auth))["ok"]


async def chain(database: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(database)
    try:
        return [tuple(row) for row in await connection.fetch("SELECT * FROM auth.chain ORDER BY position")]
    finally:
        await connection.close()
