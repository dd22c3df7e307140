"""Files, batches and responses through the routes: what their owner gets, what Foundry gets, what is charged."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.proxy.domain.objects.records import ObjectRecord, Pending
from services.proxy.stored.watcher import CHARGED_COUNTS_MS
from services.proxy.upstream import UpstreamError
from shared.events import UsageRecorded
from shared.ids import KeyId, OrgId, TeamId
from shared.money import usd_text
from shared.policy import KeyRecord
from shared.topology import key_kv
from tests.support.stored_world import (
    BATCH_IN,
    BATCH_OUT,
    LONE,
    SEAL,
    STRICT,
    TEAM_A,
    TEAM_A2,
    TEAM_B,
    World,
    batch_input,
    chat_line,
    form,
    new_batch,
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path / "journal")
    async with asyncio.timeout(30):
        yield made
    await made.close()


# ---- files -------------------------------------------------------------------------------------------


async def test_an_upload_for_a_batch(world: World) -> None:
    told = await world.upload(TEAM_A, batch_input(3))
    assert told.status == 200
    (upstream,) = world.foundry.files
    assert told.json["id"] != upstream
    assert told.json["purpose"] == "batch"
    sent = [json.loads(line) for line in world.foundry.files[upstream][1].splitlines()]
    assert [line["custom_id"] for line in sent] == ["c0", "c1", "c2"]
    assert {line["body"]["model"] for line in sent} == {"gpt-deployment"}
    request = world.foundry.requests[-1]
    assert request.url == "https://one.example/openai/v1/files?api-version=preview"
    assert dict(request.headers)["api-key"] == "foundry-key-0123456789"
    back = await world.ask(TEAM_A2, "GET", f"/v1/files/{told.json['id']}/content")
    assert back.body == batch_input(3) + b"\n" or [json.loads(x) for x in back.body.splitlines()] == [
        json.loads(x) for x in batch_input(3).splitlines()
    ]
    assert back.headers["content-disposition"].startswith("attachment")


async def test_an_upload_for_something_else_passes_unread(world: World) -> None:
    told = await world.upload(TEAM_A, b"\x00\xffany bytes", "user_data", model="far")
    assert told.status == 200
    assert world.foundry.requests[-1].url.startswith("https://two.example/")
    back = await world.ask(TEAM_A, "GET", f"/v1/files/{told.json['id']}/content")
    assert (back.body, back.headers["content-type"]) == (b"\x00\xffany bytes", "application/octet-stream")
    kind, body = form(b"x", "user_data")
    named = await world.ask(TEAM_A, "POST", "/v1/files", body, content_type=kind, x_tundish_model="far")
    assert world.foundry.requests[-1].url.startswith("https://two.example/")
    assert named.status == 200
    await world.upload(TEAM_A, b"x", "user_data")
    assert world.foundry.requests[-1].url.startswith("https://one.example/")


async def test_lists_are_our_own_and_paged(world: World) -> None:
    names = []
    for index in range(5):
        world.clock.advance(1)
        names.append((await world.upload(TEAM_A, b"x", "user_data" if index else "assistants")).json["id"])
    asked = len(world.foundry.requests)
    first = (await world.ask(TEAM_A2, "GET", "/v1/files?limit=2")).json
    assert [one["id"] for one in first["data"]] == names[:2:-1]
    assert (first["has_more"], first["last_id"]) == (True, names[3])
    second = (await world.ask(TEAM_A, "GET", f"/v1/files?limit=9&after={first['last_id']}")).json
    assert [one["id"] for one in second["data"]] == names[2::-1]
    assert second["has_more"] is False
    oldest = (await world.ask(TEAM_A, "GET", "/v1/files?order=asc&limit=1")).json
    assert oldest["data"][0]["id"] == names[0]
    chosen = (await world.ask(TEAM_A, "GET", "/v1/files?purpose=assistants")).json
    assert [one["id"] for one in chosen["data"]] == names[:1]
    assert (await world.ask(TEAM_B, "GET", "/v1/files")).json["data"] == []
    assert (await world.ask(LONE, "GET", "/v1/files")).json["data"] == []
    assert len(world.foundry.requests) == asked, "Foundry is never asked for a list"
    for wrong in ("limit=0", "limit=x", "order=up", "limit=1&limit=2", "colour=red"):
        assert (await world.ask(TEAM_A, "GET", f"/v1/files?{wrong}")).status == 400


async def test_a_file_is_shown_and_deleted(world: World) -> None:
    name = (await world.upload(TEAM_A, b"x", "user_data")).json["id"]
    shown = await world.ask(TEAM_A2, "GET", f"/v1/files/{name}")
    assert (shown.status, shown.json["id"]) == (200, name)
    gone = await world.ask(TEAM_A, "DELETE", f"/v1/files/{name}")
    assert gone.json == {"id": name, "object": "file", "deleted": True}
    assert world.objects.content == {}
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
        assert (await world.ask(TEAM_A, method, f"/v1/files/{name}{path}")).status == 404


@pytest.mark.parametrize(
    ("data", "purpose", "fields", "status"),
    [
        (b"", "batch", {}, 400),
        (b"{}", "batch", {}, 400),
        (batch_input(1, model="none"), "batch", {}, 404),
        (b"x", "user_data", {"model": "none"}, 404),
        (b"x", "", {}, 400),
        (b"x", "user_data", {"colour": "red"}, 400),
    ],
)
async def test_uploads_that_are_refused(
    world: World, data: bytes, purpose: str, fields: dict[str, str], status: int
) -> None:
    assert (await world.upload(TEAM_A, data, purpose, **fields)).status == status
    assert world.foundry.requests == []


async def test_a_key_may_only_use_its_models(world: World) -> None:
    assert (await world.upload(LONE, batch_input(1, model="far"))).status == 403
    assert (await world.upload(LONE, b"x", "user_data", model="far")).status == 403


async def test_a_file_that_cannot_be_written_down_is_taken_back(world: World) -> None:
    world.objects.fail = ["lost"]
    told = await world.upload(TEAM_A, b"x", "user_data")
    assert (told.status, told.code) == (503, "objects_unavailable")
    assert world.foundry.files == {}


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (UpstreamError("connect", "x"), 502),
        (UpstreamError("timeout", "x"), 504),
        ((500, b""), 500),
        ((401, b'{"error":{"code":"401","message":"foundry-key-0123456789"}}'), 502),
        ((404, b'{"error":{"code":"404","message":"Resource not found"}}'), 502),
        ((302, b""), 502),
        ((200, b"<html>"), 502),
        ((200, b'{"id":"../../x"}'), 502),
        ((400, b'{"error":{"message":"file file-0123456789ab of one.example is bad","code":"bad"}}'), 400),
    ],
)
async def test_what_goes_wrong_in_foundry(
    world: World, failure: UpstreamError | tuple[int, bytes], status: int
) -> None:
    world.foundry.fail = [failure]
    told = await world.upload(TEAM_A, b"x", "user_data")
    assert told.status == status
    for secret in (b"foundry-key", b"one.example", b"file-0123456789ab"):
        assert secret not in told.body


async def test_a_refused_credential_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        world.foundry.fail = [(401, b'{"error":{"code":"PermissionDenied","message":"no"}}')]
        assert (await world.upload(TEAM_A, b"x", "user_data")).code == "upstream_auth_failed"
    assert caplog.text.count("callers get upstream_auth_failed") == 1
    assert "PermissionDenied" in caplog.text


# ---- batches -----------------------------------------------------------------------------------------


async def test_a_batch_from_its_input_to_its_bill(world: World) -> None:
    sealed, upstream = await world.start_batch(TEAM_A, metadata={"a": "b"})
    assert SEAL.open("batch", "team:team_a", sealed) is not None
    assert world.foundry.batches[upstream]["input_file_id"] in world.foundry.files
    await world.one.watcher.tick()
    assert world.published() == []
    output = world.foundry.complete(upstream, [chat_line(1, 10, 5), chat_line(2, 20, 7), b'{"response":null}'])
    shown = (await world.ask(TEAM_A2, "GET", f"/v1/batches/{sealed}")).json
    assert (shown["id"], shown["status"], shown["model"], shown["metadata"]) == (sealed, "completed", "gpt", {"a": "b"})
    assert output not in json.dumps(shown)
    await world.one.watcher.tick()
    (event,) = world.published()
    assert event.cost_nusd == 30 * BATCH_IN + 12 * BATCH_OUT
    assert (event.usage.input, event.usage.output, event.usage.tier) == (30, 12, "batch")
    assert (event.key_id, event.team_id, event.model, event.endpoint) == ("a1", "team_a", "gpt", "batches")
    assert (event.measured, event.outcome, event.serial, event.tags) == ("reported", "ok", None, ("lines:2",))
    assert event.price is not None
    assert world.one.watcher.waiting == 0
    lines = (await world.ask(TEAM_A, "GET", f"/v1/files/{shown['output_file_id']}/content")).body.splitlines()
    assert [json.loads(line).get("custom_id") for line in lines] == ["c1", "c2", None]
    listed = (await world.ask(TEAM_A, "GET", "/v1/batches")).json
    assert [(one["id"], one["status"]) for one in listed["data"]] == [(sealed, "completed")]
    for _ in range(3):
        world.clock.advance(600)
        await world.one.watcher.tick()
    assert len(world.published()) == 1


def renew_key(world: World, **more: Any) -> None:
    record = KeyRecord(seq=99, key_id=KeyId(TEAM_A), org_id=OrgId("o1"), team_id=TeamId("team_a"), **more)
    world.directory._put_key(key_kv(TEAM_A), msgspec.json.encode(record))


async def test_a_batch_by_an_alias_carries_the_tags_and_the_version_of_its_beginning(world: World) -> None:
    renew_key(world, model_aliases={"cheap": "gpt", "other": "mini"}, tags=("a", "b"), newest=4)
    mixed = batch_input(1, "cheap") + b"\n" + batch_input(1, "gpt")
    uploaded = await world.upload(TEAM_A, mixed)
    sent = world.foundry.files[next(iter(world.foundry.files))][1]
    assert [json.loads(line)["body"]["model"] for line in sent.splitlines()] == ["gpt-deployment"] * 2
    told = await world.ask(TEAM_A, "POST", "/v1/batches", new_batch(uploaded.json["id"]))
    assert (told.status, told.json["model"]) == (200, "gpt")
    renew_key(world, tags=("later",), newest=5)
    world.foundry.complete(next(iter(world.foundry.batches)), [chat_line(1)])
    world.clock.advance(60)
    await world.one.watcher.tick()
    (event,) = world.published()
    assert (event.model, event.tags, event.secret_version) == ("gpt", ("lines:1", "a", "b"), 4)


async def test_files_are_refused_and_placed_by_what_an_alias_stands_for(world: World) -> None:
    renew_key(world, model_aliases={"cheap": "gpt", "away": "far", "x": "mini"}, models=("gpt", "far"))
    assert (await world.upload(TEAM_A, batch_input(1, "x"))).code == "model_not_allowed"
    assert (await world.upload(TEAM_A, batch_input(1, "cheap") + b"\n" + batch_input(1, "away"))).status == 400
    await world.upload(TEAM_A, b"text", "assistants", model="away")
    assert "two.example" in world.foundry.requests[-1].url


async def test_a_cancelled_batch_is_charged_for_what_it_did(world: World) -> None:
    sealed, upstream = await world.start_batch(TEAM_A)
    assert (await world.ask(TEAM_A, "POST", f"/v1/batches/{sealed}/cancel")).json["status"] == "cancelling"
    world.foundry.complete(upstream, [chat_line(1)], "cancelled")
    world.clock.advance(60)
    await world.one.watcher.tick()
    (event,) = world.published()
    assert (event.outcome, event.cost_nusd) == ("client_gone", 10 * BATCH_IN + 5 * BATCH_OUT)


async def test_a_failed_batch_costs_nothing(world: World) -> None:
    _, upstream = await world.start_batch(TEAM_A)
    world.foundry.batches[upstream]["status"] = "failed"
    world.clock.advance(60)
    await world.one.watcher.tick()
    (event,) = world.published()
    assert (event.outcome, event.cost_nusd) == ("upstream_error", 0)


async def test_a_budget_must_cover_the_whole_file(tmp_path: Path) -> None:
    world = World(tmp_path / "journal", limit_nusd=500_000)
    name = (await world.upload("limited", batch_input(1_000))).json["id"]
    told = await world.ask("limited", "POST", "/v1/batches", new_batch(name))
    assert (told.status, told.code) == (402, "budget_exceeded")
    assert world.foundry.batches == {}
    assert world.pending.content == {}
    small = (await world.upload("limited", batch_input(1))).json["id"]
    assert (await world.ask("limited", "POST", "/v1/batches", new_batch(small))).status == 200
    assert sum(wallet.holds for wallet in world.one.treasury.bank.vault.wallets.values()) == 0
    (upstream,) = world.foundry.batches
    world.foundry.complete(upstream, [chat_line(1)])
    await world.one.watcher.tick()
    (event,) = world.published()
    assert [window.account for window in event.windows] == ["acc-key"]
    await world.close()


async def test_a_prompt_that_the_filter_refused_is_billed_with_the_batch(world: World) -> None:
    _, upstream = await world.start_batch(TEAM_A)
    refused = {"status_code": 400, "body": {"error": {"code": "content_filter", "message": "no"}}}
    failed = world.foundry.put_file(json.dumps({"custom_id": "c2", "response": refused}).encode(), "batch_output")
    world.foundry.complete(upstream, [chat_line(1)])
    world.foundry.batches[upstream]["error_file_id"] = failed["id"]
    world.clock.advance(60)
    await world.one.watcher.tick()
    events = {event.measured: event for event in world.published()}
    assert set(events) == {"reported", "estimated"}
    estimated = events["estimated"]
    assert estimated.usage.input > 0
    assert (estimated.cost_nusd, estimated.usage.output) == (estimated.usage.input * BATCH_IN, 0)
    assert events["reported"].cost_nusd == 10 * BATCH_IN + 5 * BATCH_OUT


async def under_way(tmp_path: Path, fits: float) -> tuple[World, str, int]:
    """A budget for so many batches of one file; the file, and what it is likely to cost."""
    world = World(tmp_path / "journal")
    name = (await world.upload("limited", batch_input(10))).json["id"]
    (record,) = [msgspec.json.decode(one.value, type=ObjectRecord) for one in world.objects.content.values()]
    world.enforcer.limit = int(record.estimate_nusd * fits)
    return world, name, record.estimate_nusd


async def test_batches_under_way_count_when_the_next_one_begins(tmp_path: Path) -> None:
    world, name, cost = await under_way(tmp_path, 2.5)
    told = [await world.ask("limited", "POST", "/v1/batches", new_batch(name)) for _ in range(4)]
    assert [one.status for one in told] == [200, 200, 402, 402]
    assert told[2].code == "budget_exceeded"
    assert f"work under way that is likely to cost {usd_text(2 * cost)}" in told[2].json["error"]["message"]
    assert told[2].json["error"]["budget"]["needed"] == 3 * cost / 1e9
    assert sum(wallet.holds for wallet in world.one.treasury.bank.vault.wallets.values()) == 0
    assert (await world.ask(LONE, "POST", "/v1/batches", new_batch(name))).status == 404
    for upstream in world.foundry.batches:
        world.foundry.complete(upstream, [chat_line(1, 1, 1)])
    world.clock.advance(60)
    await world.one.watcher.tick()
    assert world.one.watcher.waiting == 0
    again = await world.ask("limited", "POST", "/v1/batches", new_batch(name))
    assert again.status == 402, "the accounts may not show yet what has just been charged"
    world.clock.advance(CHARGED_COUNTS_MS / 1_000)
    again = await world.ask("limited", "POST", "/v1/batches", new_batch(name))
    assert again.status == 200, "what is charged is not under way any more"
    await world.close()


async def test_batches_at_once_do_not_begin_on_the_same_money(tmp_path: Path) -> None:
    world, name, _ = await under_way(tmp_path, 2.5)
    world.pending.on_put = lambda _key, _value: None  # the mirror is late
    told = await asyncio.gather(*(world.ask("limited", "POST", "/v1/batches", new_batch(name)) for _ in range(6)))
    assert 1 <= len(world.foundry.batches) <= 2
    assert {one.status for one in told} <= {200, 402, 429}
    assert sum(wallet.holds for wallet in world.one.treasury.bank.vault.wallets.values()) == 0
    await world.close()


async def test_a_batch_that_foundry_refused_is_not_under_way(tmp_path: Path) -> None:
    world, name, _ = await under_way(tmp_path, 1.5)
    world.foundry.fail.append((400, b'{"error":{"message":"no","code":"bad"}}'))
    assert (await world.ask("limited", "POST", "/v1/batches", new_batch(name))).status == 400
    assert (await world.ask("limited", "POST", "/v1/batches", new_batch(name))).status == 200
    assert (await world.ask("limited", "POST", "/v1/batches", new_batch(name))).status == 402
    await world.close()


async def test_only_work_of_the_same_budgets_counts_and_none_that_holds_its_own_money(world: World) -> None:
    entry = Pending(kind="response", state="open", budgets=world.caller("limited").budgets, estimate_nusd=7)
    watcher = world.one.watcher
    watcher.put("a", msgspec.json.encode(entry))
    watcher.put("b", msgspec.json.encode(msgspec.structs.replace(entry, kind="batch", state="creating")))
    watcher.put("c", msgspec.json.encode(msgspec.structs.replace(entry, state="running")))
    watcher.put("d", msgspec.json.encode(msgspec.structs.replace(entry, budgets=())))
    assert watcher.under_way(world.caller("limited").lineage("gpt").accounts) == 14
    assert watcher.under_way(world.caller(LONE).lineage("gpt").accounts) == 0


async def test_a_strict_budget_takes_no_batch(world: World) -> None:
    name = (await world.upload(STRICT, batch_input(1))).json["id"]
    told = await world.ask(STRICT, "POST", "/v1/batches", new_batch(name))
    assert (told.status, told.code) == (400, "unbounded_cost")
    assert world.foundry.batches == {}


@pytest.mark.parametrize(
    "more",
    [{"endpoint": "/v1/embeddings"}, {"endpoint": "/v1/files"}, {"colour": "red"}, {"input_file_id": 5}],
)
async def test_batches_that_are_refused(world: World, more: dict[str, object]) -> None:
    name = (await world.upload(TEAM_A, batch_input(1))).json["id"]
    assert (await world.ask(TEAM_A, "POST", "/v1/batches", {**new_batch(name), **more})).status == 400
    assert world.pending.content == {}


async def test_only_inputs_that_were_read_become_batches(world: World) -> None:
    name = (await world.upload(TEAM_A, batch_input(1), "user_data")).json["id"]
    assert (await world.ask(TEAM_A, "POST", "/v1/batches", new_batch(name))).code == "invalid_input_file"
    assert world.foundry.batches == {}


async def test_a_batch_whose_answer_was_lost_is_found_and_charged(world: World) -> None:
    name = (await world.upload(TEAM_A, batch_input(1))).json["id"]
    world.foundry.after = [UpstreamError("reset", "lost")]
    assert (await world.ask(TEAM_A, "POST", "/v1/batches", new_batch(name))).status == 502
    (upstream,) = world.foundry.batches
    world.foundry.batches[upstream]["created_at"] = int(world.clock.now().timestamp())
    world.clock.advance(31)
    await world.one.watcher.tick()
    assert len((await world.ask(TEAM_A, "GET", "/v1/batches")).json["data"]) == 1
    world.foundry.complete(upstream, [chat_line(1)])
    world.clock.advance(5)
    await world.one.watcher.tick()
    assert [event.cost_nusd for event in world.published()] == [10 * BATCH_IN + 5 * BATCH_OUT]


async def test_a_batch_that_never_was_is_forgotten(world: World) -> None:
    name = (await world.upload(TEAM_A, batch_input(1))).json["id"]
    for failure in (UpstreamError("connect", "x"), (400, b'{"error":{"message":"no","code":"x"}}')):
        world.foundry.fail = [failure]
        assert (await world.ask(TEAM_A, "POST", "/v1/batches", new_batch(name))).status >= 400
        assert world.pending.content == {}
    world.foundry.fail = [UpstreamError("timeout", "x")]
    await world.ask(TEAM_A, "POST", "/v1/batches", new_batch(name))
    for _ in range(70):
        world.clock.advance(60)
        await world.one.watcher.tick()
    assert world.pending.content == {}
    assert world.published() == []


async def test_nothing_begins_that_cannot_be_written_down(world: World) -> None:
    name = (await world.upload(TEAM_A, batch_input(1))).json["id"]
    with world.nats_away():
        assert (await world.ask(TEAM_A, "POST", "/v1/batches", new_batch(name))).status == 503
    assert world.foundry.batches == {}


async def test_an_output_is_not_deleted_before_it_is_charged(world: World) -> None:
    sealed, upstream = await world.start_batch(TEAM_A)
    world.foundry.complete(upstream, [chat_line(1)])
    shown = (await world.ask(TEAM_A, "GET", f"/v1/batches/{sealed}")).json
    world.foundry.fail = [(503, b"")]
    refused = await world.ask(TEAM_A, "DELETE", f"/v1/files/{shown['output_file_id']}")
    assert (refused.status, refused.code) == (409, "batch_not_charged")
    assert (await world.ask(TEAM_A, "DELETE", f"/v1/files/{shown['output_file_id']}")).status == 200
    assert [event.cost_nusd for event in world.published()] == [10 * BATCH_IN + 5 * BATCH_OUT]


async def test_an_output_that_is_gone_is_charged_at_the_estimate(world: World) -> None:
    _, upstream = await world.start_batch(TEAM_A)
    del world.foundry.files[world.foundry.complete(upstream, [chat_line(1)])]
    world.clock.advance(5)
    await world.one.watcher.tick()
    (event,) = world.published()
    assert event.measured == "lost"
    assert event.cost_nusd > 0


# ---- exactly once ------------------------------------------------------------------------------------


async def done(world: World) -> str:
    _, upstream = await world.start_batch(TEAM_A)
    world.foundry.complete(upstream, [chat_line(1)])
    world.clock.advance(60)
    return upstream


def costs(events: list[UsageRecorded]) -> list[int]:
    return [event.cost_nusd for event in events]


ONE = 10 * BATCH_IN + 5 * BATCH_OUT


async def test_two_watchers_at_once_charge_once(world: World) -> None:
    await done(world)
    other = world.process()
    await asyncio.gather(
        *(process.watcher.look(key) for process in world.processes for key in list(world.pending.content))
    )
    await other.watcher.tick()
    await world.one.watcher.tick()
    assert costs(world.published()) == [ONE]


@pytest.mark.parametrize("how", ["lost", "unacked"])
@pytest.mark.parametrize("writes", range(5))
async def test_a_watcher_that_dies_anywhere_is_followed_by_another(world: World, writes: int, how: str) -> None:
    """The watcher is cut off at each of its writes, before or after it took effect; it never comes back."""
    await done(world)
    world.pending.fail = [None] * writes + [how] + ["lost"] * 3
    await world.one.watcher.tick()
    world.pending.fail = []
    world.processes.remove(world.one)
    other = world.process()
    for _ in range(5):
        world.clock.advance(130)
        await other.watcher.tick()
    assert costs(world.published()) == [ONE]
    assert [event.n for event in world.published()] == [1]
    assert other.watcher.waiting == 0
    await world.one.close()


async def test_work_that_waits_in_the_slot_goes_first_and_numbers_are_dense(world: World) -> None:
    uploads = [await world.start_batch(TEAM_A) for _ in range(4)]
    for _, upstream in uploads:
        world.foundry.complete(upstream, [chat_line(1)])
    world.clock.advance(60)
    await world.one.watcher.tick()
    assert sorted(event.n for event in world.published()) == [1, 2, 3, 4]
    assert len({event.instance for event in world.published()}) == 1
    assert len({event.call_id for event in world.published()}) == 4


async def test_a_batch_of_a_key_that_is_gone_is_charged_to_the_budgets_it_had(world: World) -> None:
    name = (await world.upload("limited", batch_input(1))).json["id"]
    await world.ask("limited", "POST", "/v1/batches", new_batch(name))
    (upstream,) = world.foundry.batches
    world.foundry.complete(upstream, [chat_line(1)])
    world.directory._remove_key("k.limited")
    await world.one.watcher.tick()
    (event,) = world.published()
    assert [window.account for window in event.windows] == ["acc-key"]


# ---- responses ---------------------------------------------------------------------------------------


async def test_a_response_is_read_listed_cancelled_and_deleted(world: World) -> None:
    sealed, upstream = world.response(TEAM_A, output=[{"id": "msg_upstream1"}])
    shown = await world.ask(TEAM_A2, "GET", f"/v1/responses/{sealed}?include[]=x")
    assert (shown.status, shown.json["id"]) == (200, sealed)
    assert "include%5B%5D=x" in world.foundry.requests[-1].url
    items = (await world.ask(TEAM_A, "GET", f"/v1/responses/{sealed}/input_items?limit=5")).json
    assert SEAL.open("item", "team:team_a", items["first_id"]) is not None
    after = await world.ask(TEAM_A, "GET", f"/v1/responses/{sealed}/input_items?after={items['first_id']}")
    assert after.status == 200
    assert "after=msg_upstream1" in world.foundry.requests[-1].url
    assert (await world.ask(TEAM_A, "POST", f"/v1/responses/{sealed}/cancel")).json["status"] == "cancelled"
    gone = await world.ask(TEAM_A, "DELETE", f"/v1/responses/{sealed}")
    assert gone.json == {"id": sealed, "object": "response", "deleted": True}
    assert upstream not in world.foundry.responses
    assert (await world.ask(TEAM_A, "GET", f"/v1/responses/{sealed}")).status == 404


@pytest.mark.parametrize("query", ["stream=true", "starting_after=5", "colour=red", "include[]=a&include[]=b"])
async def test_what_is_not_served_of_a_response(world: World, query: str) -> None:
    sealed, _ = world.response(TEAM_A)
    assert (await world.ask(TEAM_A, "GET", f"/v1/responses/{sealed}?{query}")).status == 400
    assert world.foundry.requests == []


async def test_an_object_of_a_model_that_is_not_allowed_any_more(world: World) -> None:
    sealed, _ = world.response(LONE, model="far")
    assert (await world.ask(LONE, "GET", f"/v1/responses/{sealed}")).status == 403
