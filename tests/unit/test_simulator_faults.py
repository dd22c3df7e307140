"""The simulator's faults do what they say, and its log bills what Foundry would bill."""

import json
from pathlib import Path

import pytest

from deploy.simulator import Options, Simulator
from deploy.simulator.served import ServedCall, ServedLog
from deploy.simulator.usage import Usage
from tests.unit.simulator_driver import CHAT, KEY, NOW, VERSION, FixedClock, ask, chat, fault, served

FOREVER = 600_000


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(Options(), FixedClock())


async def test_a_status_fault_hits_its_deployment_so_many_times(simulator: Simulator) -> None:
    await fault(simulator, deployment="gpt-4o-deployment", status=429, count=2)
    others = "/openai/deployments/phi-4/chat/completions"
    assert (await ask(simulator, others, chat())).status == 200
    replies = [await ask(simulator, body=chat()) for _ in range(3)]
    assert [reply.status for reply in replies] == [429, 429, 200]
    assert replies[0].json["error"]["code"] == "RateLimitReached"
    assert "gpt-4o-deployment for gpt-4o-2024-08-06 in East US 2" in replies[0].json["error"]["message"]
    assert replies[0].headers["retry-after"] == "1"
    assert replies[0].headers["x-ms-deployment-name"] == "gpt-4o-deployment"
    assert (await served(simulator))["total"] == 2


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (400, "content_filter"),
        (401, "invalid subscription key"),
        (403, "Firewall"),
        (404, "Resource not found"),
        (408, "Timeout"),
        (500, "server had an error"),
        (503, "overloaded"),
        (418, "told to answer 418"),
    ],
)
async def test_each_status_has_foundrys_body(simulator: Simulator, status: int, says: str) -> None:
    await fault(simulator, status=status)
    reply = await ask(simulator, body=chat())
    assert reply.status == status
    assert says in reply.body.decode()
    assert json.loads(reply.body)


async def test_a_test_may_give_headers_and_body_itself(simulator: Simulator) -> None:
    headers = {"Retry-After": "86400", "x-ms-region": "Mars"}
    await fault(simulator, status=429, count=1, headers=headers, body={"error": "mine"})
    reply = await ask(simulator, body=chat())
    assert (reply.headers["retry-after"], reply.headers["x-ms-region"]) == ("86400", "Mars")
    assert reply.json == {"error": "mine"}
    await fault(simulator, status=429, count=1, body="plain words")
    reply = await ask(simulator, body=chat())
    assert (reply.body, reply.headers["content-type"]) == (b"plain words", "text/plain; charset=utf-8")


async def test_html_redirect_and_empty_answers(simulator: Simulator) -> None:
    await fault(simulator, kind="html", count=1)
    html = await ask(simulator, body=chat())
    assert (html.status, html.headers["content-type"], html.body[:6]) == (502, "text/html", b"<html>")
    await fault(simulator, kind="redirect", count=1, headers={"location": "http://127.0.0.1:1/x"})
    moved = await ask(simulator, body=chat())
    assert (moved.status, moved.headers["location"]) == (307, "http://127.0.0.1:1/x")
    assert (await served(simulator))["total"] == 0
    await fault(simulator, kind="empty", count=2)
    for streamed in (False, True):
        empty = await ask(simulator, body=chat(stream=streamed))
        assert (empty.status, empty.body, empty.finished) == (200, b"", True)
    assert [call["fault"] for call in (await served(simulator))["calls"]] == ["empty", "empty"]


@pytest.mark.parametrize(("events", "billed"), [(0, None), (2, None), (4, 2), (9, 7)])
async def test_an_error_in_mid_stream_bills_what_came_before(
    simulator: Simulator, events: int, billed: int | None
) -> None:
    await fault(simulator, kind="midstream_error", after_events=events, count=1)
    reply = await ask(simulator, body=chat(stream=True))
    assert reply.status == 200
    assert len(reply.events) == events + 1
    assert reply.events[-1]["error"]["type"] == "server_error"
    calls = (await served(simulator))["calls"]
    assert [call["usage"]["completion"] for call in calls] == ([] if billed is None else [billed])


async def test_no_usage_leaves_it_out_but_bills(simulator: Simulator) -> None:
    await fault(simulator, kind="no_usage")
    plain = await ask(simulator, body=chat())
    assert "usage" not in plain.json
    streamed = await ask(simulator, body=chat(stream=True, stream_options={"include_usage": True}))
    assert [event.get("usage") for event in streamed.events[:-1]] == [None] * (len(streamed.events) - 1)
    embedded = await ask(simulator, "/openai/v1/embeddings", {"model": "e", "input": "a"})
    assert "usage" not in embedded.json
    calls = (await served(simulator))["calls"]
    assert [call["usage"].get("completion", 0) for call in calls] == [16, 16, 0]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_reset_cuts_the_answer_and_bills_it(simulator: Simulator, streamed: bool) -> None:
    await fault(simulator, kind="reset", count=1, after_events=3)
    cut = await ask(simulator, body=chat(stream=streamed))
    assert not cut.finished
    assert len(cut.parts) == (3 if streamed else 1)
    await fault(simulator, kind="reset", count=1, after_events=0)
    nothing = await ask(simulator, body=chat(stream=streamed))
    assert nothing.status == 0
    assert [call["completed"] for call in (await served(simulator))["calls"]] == [False, False]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_stall_lasts_for_its_time_or_until_the_reader_leaves(simulator: Simulator, streamed: bool) -> None:
    await fault(simulator, kind="stall", count=1, after_events=2)
    stalled = await ask(simulator, body=chat(stream=streamed), leave_after=2 if streamed else 1)
    assert not stalled.finished
    assert stalled.body
    await fault(simulator, kind="stall", count=1, after_events=2, delay_ms=1)
    resumed = await ask(simulator, body=chat(stream=streamed))
    assert resumed.finished
    assert len(resumed.body) > len(stalled.body)
    assert [call["completed"] for call in (await served(simulator))["calls"]] == [False, True]


async def test_a_slow_first_byte_sends_the_headers_first(simulator: Simulator) -> None:
    await fault(simulator, kind="slow_first_byte", count=1, delay_ms=FOREVER)
    left = await ask(simulator, body=chat(), leave_after=1)
    assert (left.status, left.body, left.finished) == (200, b"", False)
    await fault(simulator, kind="slow_first_byte", count=1, delay_ms=1)
    assert (await ask(simulator, body=chat())).json["usage"]


async def test_a_delay_comes_before_everything(simulator: Simulator) -> None:
    await fault(simulator, kind="delay", count=1, delay_ms=FOREVER)
    left = await ask(simulator, body=chat(), leave_after=0)
    assert (left.status, left.finished) == (0, False)
    await fault(simulator, kind="status", status=503, count=1, delay_ms=FOREVER)
    assert (await ask(simulator, body=chat(), leave_after=0)).status == 0
    await fault(simulator, kind="delay", count=1, delay_ms=1)
    assert (await ask(simulator, body=chat("[[sim delay_ms=1]]"))).finished
    assert [call["completed"] for call in (await served(simulator))["calls"]] == [False, True]


async def test_a_reader_that_leaves_is_billed_in_full(simulator: Simulator) -> None:
    text = f"[[sim completion=30 chunk_delay_ms={FOREVER}]]"
    reply = await ask(simulator, body=chat(text, stream=True), leave_after=1)
    assert (len(reply.parts), reply.finished) == (1, False)
    waited = await ask(simulator, body=chat(f"[[sim delay_ms={FOREVER}]]"), leave_after=0)
    assert waited.status == 0
    calls = (await served(simulator))["calls"]
    assert [(call["usage"]["completion"], call["completed"]) for call in calls] == [(30, False), (16, False)]


async def test_faults_are_listed_and_taken_away(simulator: Simulator) -> None:
    first = (await fault(simulator, deployment="a", status=500)).json
    second = (await fault(simulator, deployment="b", status=503, count=5)).json
    await ask(simulator, "/openai/deployments/b/chat/completions", chat())
    listed = (await ask(simulator, "/_sim/faults", method="GET", query="", headers={})).json["faults"]
    assert [(one["id"], one["count"], one["hits"]) for one in listed] == [
        (first["id"], None, 0),
        (second["id"], 4, 1),
    ]
    gone = await ask(simulator, "/_sim/faults", method="DELETE", query=f"id={first['id']}", headers={})
    assert gone.json == {"removed": 1}
    everything = await ask(simulator, "/_sim/faults", method="DELETE", query="", headers={})
    assert everything.json == {"removed": 1}
    assert (await ask(simulator, body=chat())).status == 200


async def test_a_deployments_own_fault_comes_before_that_of_all(simulator: Simulator) -> None:
    await fault(simulator, status=503)
    await fault(simulator, deployment="gpt-4o-deployment", status=429, count=1)
    assert [(await ask(simulator, body=chat())).status for _ in range(2)] == [429, 503]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"kind":"fire"}',
        b'{"status":99}',
        b'{"count":0}',
        b'{"colour":1}',
        '{"headers":{"a":"√"}}'.encode(),
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused(simulator: Simulator, body: bytes) -> None:
    reply = await ask(simulator, "/_sim/faults", body, query="", headers={})
    assert reply.status == 400
    assert reply.json["error"].startswith("not a fault: ")
    assert (await ask(simulator, body=chat())).status == 200


async def test_control_paths(simulator: Simulator) -> None:
    for path, method, query, status in [
        ("/_sim/health", "GET", "", 200),
        ("/_sim/health", "POST", "", 405),
        ("/_sim/nothing", "GET", "", 404),
        ("/_sim/served", "GET", "since=yesterday", 400),
    ]:
        assert (await ask(simulator, path, method=method, query=query, headers={})).status == status


async def test_the_served_log_is_read_by_number_and_cleared(simulator: Simulator) -> None:
    for _ in range(5):
        await ask(simulator, body=chat())
    page = await served(simulator, "since=1&limit=2")
    assert ([call["seq"] for call in page["calls"]], page["total"], page["more"]) == ([2, 3], 5, True)
    page = await served(simulator, "since=3")
    assert ([call["seq"] for call in page["calls"]], page["more"]) == ([4, 5], False)
    assert (await served(simulator, "since=9"))["calls"] == []
    one = page["calls"][0]
    assert one["at"] == NOW.isoformat().replace("+00:00", "Z")
    assert (one["completed"], one["stream"], one["status"], one["fault"]) == (True, False, 200, None)
    await ask(simulator, "/_sim/served", method="DELETE", query="", headers={})
    assert await served(simulator) == {"calls": [], "total": 0, "more": False}
    await ask(simulator, body=chat())
    assert (await served(simulator))["calls"][0]["seq"] == 1


def record(log: ServedLog, model: str = "m") -> None:
    log.add(
        ServedCall(
            seq=log.next_seq(),
            at=NOW,
            id="i",
            request_id="r",
            deployment="d",
            model=model,
            surface="v1",
            operation="chat",
            stream=False,
            status=200,
            usage=Usage(prompt=1),
            fault=None,
            client_request_id=None,
        )
    )


def test_the_log_keeps_the_last_calls_only() -> None:
    log = ServedLog(kept=3)
    for number in range(5):
        record(log, str(number))
    page = log.page(0)
    assert ([call.seq for call in page.calls], page.total) == ([3, 4, 5], 5)
    assert [call.seq for call in log.page(4).calls] == [5]


async def test_the_log_file_knows_a_call_before_its_first_byte(
    tmp_path: Path,
) -> None:
    path = tmp_path / "deep" / "served.jsonl"
    simulator = Simulator(Options(log=path), FixedClock())
    await fault(simulator, kind="reset", count=1, after_events=0)
    assert (await ask(simulator, body=chat())).status == 0
    await ask(simulator, CHAT, chat("[[sim completion=7]]"), query=VERSION, headers=KEY)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["seq"], line["usage"]["completion"]) for line in lines] == [(1, 16), (2, 7)]
    assert all("completed" not in line for line in lines)
    with path.open("ab") as torn:
        torn.write(b'{"seq":3,"at"')
    again = Simulator(Options(log=path), FixedClock())
    page = await served(again)
    assert ([call["seq"] for call in page["calls"]], page["total"]) == ([1, 2], 2)
    assert [call["completed"] for call in page["calls"]] == [None, None]
    await ask(again, body=chat())
    assert json.loads(path.read_text().splitlines()[-1])["seq"] == 3
    assert [call["seq"] for call in (await served(again, "since=2"))["calls"]] == [3]
    await ask(again, "/_sim/served", method="DELETE", query="", headers={})
    assert path.read_bytes() == b""
    simulator.served.close()
    again.served.close()


def test_damaged_lines_do_not_hide_calls(tmp_path: Path) -> None:
    path = tmp_path / "served.jsonl"
    log = ServedLog(path)
    for _ in range(6):
        record(log)
    log.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:1], b"rubbish\n", *lines[3:]]))
    again = ServedLog(path)
    assert [call.seq for call in again.page(0).calls] == [1, 4, 5, 6]
    assert [call.seq for call in again.page(4).calls] == [5, 6]
    again.close()
