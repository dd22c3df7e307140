"""Stored objects against the Foundry simulator: its own shapes of files, batches and responses, billed to the token."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from deploy.simulator import Options, Simulator
from services.proxy.domain.objects import SealingTransform, open_request, owner_of
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.sse import FrameSplitter
from services.proxy.stored import background as module
from services.proxy.upstream import Reply, Upstream, UpstreamRequest
from tests.support.stored_world import BATCH_IN, BATCH_OUT, IN, OUT, SEAL, TEAM_A, TEAM_B, FakeReply, World, new_batch
from tests.unit.simulator_driver import KEY, ask, served

DEPLOYMENT = "gpt-4.1-mini"
URL = "/openai/v1/responses"


class SimulatorUpstream:
    """The simulator as an HTTP client's other end, in this very loop."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator

    @asynccontextmanager
    async def open(self, request: UpstreamRequest) -> AsyncGenerator[Reply]:
        parts = urlsplit(request.url)
        headers = {**dict(request.headers), **KEY}
        reply = await ask(
            self.simulator, parts.path, request.body, query=parts.query, headers=headers, method=request.method
        )
        yield FakeReply(reply.status, reply.body, 1_000)

    async def close(self) -> None:
        pass


class Scene(World):
    """The world with the simulator in it; one clock for both."""

    def __init__(self, root: Path) -> None:
        made = Simulator(Options())
        self.simulator = made
        super().__init__(root, upstream=cast(Upstream, SimulatorUpstream(made)))
        made_clock: Any = self.clock
        self.simulator = Simulator(Options(), made_clock)
        cast(SimulatorUpstream, self.upstream).simulator = self.simulator
        self.deployments["gpt"][0].name = DEPLOYMENT

    async def respond(self, key: str, **fields: Any) -> Any:
        """A response made by a call of a model: opened, sent, sealed as inference does it."""
        stored, caller = self.one.stored, self.caller(key)
        body = json.dumps({"model": DEPLOYMENT, **fields}).encode()
        unsealed = open_request(Endpoint.RESPONSES, body, stored.seal, owner_of(caller))
        reply = await ask(self.simulator, URL, unsealed.body, query="")
        assert reply.status == 200, reply.body
        transform = SealingTransform(stored.seal, owner_of(caller), self.deployments["gpt"][0].id)
        if not fields.get("stream"):
            return json.loads(transform.whole(reply.body))
        frames = FrameSplitter().feed(reply.body)
        return b"".join([*(transform.feed(frame) for frame in frames), transform.end()])

    async def billed(self) -> list[dict[str, Any]]:
        return (await served(self.simulator, ""))["calls"]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path / "journal")
    async with asyncio.timeout(30):
        yield made
    await made.close()


def lines(count: int, url: str = "/v1/chat/completions") -> bytes:
    out: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        text = f"hi [[sim prompt={number * 10} completion={number}]]"
        body = {"input": text} if "responses" in url else {"messages": [{"role": "user", "content": text}]}
        out.append({"custom_id": f"c{number}", "method": "POST", "url": url, "body": {"model": "gpt", **body}})
    return b"\n".join(json.dumps(one).encode() for one in out)


@pytest.mark.parametrize("url", ["/v1/chat/completions", "/v1/responses"])
async def test_a_batch(scene: Scene, url: str) -> None:
    name = (await scene.upload(TEAM_A, lines(5, url))).json["id"]
    begun = await scene.ask(TEAM_A, "POST", "/v1/batches", new_batch(name, endpoint=url))
    assert begun.status == 200, begun.body
    sealed = begun.json["id"]
    for _ in range(4):
        scene.clock.advance(60)
        await scene.one.watcher.tick()
    shown = (await scene.ask(TEAM_A, "GET", f"/v1/batches/{sealed}")).json
    assert (shown["id"], shown["input_file_id"], shown["status"]) == (sealed, name, "completed")
    assert shown["model"] == "gpt"
    calls = await scene.billed()
    assert len(calls) == 5
    expected = sum(call["usage"]["prompt"] * BATCH_IN + call["usage"]["completion"] * BATCH_OUT for call in calls)
    (event,) = scene.published()
    assert event.cost_nusd == expected
    assert (event.usage.prompt, event.tags) == (sum(call["usage"]["prompt"] for call in calls), ("lines:5",))
    output = await scene.ask(TEAM_A, "GET", f"/v1/files/{shown['output_file_id']}/content")
    told = [json.loads(line) for line in output.body.splitlines()]
    assert [line["custom_id"] for line in told] == ["c1", "c2", "c3", "c4", "c5"]
    if "responses" in url:
        assert SEAL.open("response", "team:team_a", told[0]["response"]["body"]["id"]) is not None
        assert (await scene.ask(TEAM_B, "GET", f"/v1/responses/{told[0]['response']['body']['id']}")).status == 404


async def test_a_response_and_what_follows_from_it(scene: Scene) -> None:
    one = await scene.respond(TEAM_A, input="hello [[sim completion=3]]")
    two = await scene.respond(TEAM_A, input="and then?", previous_response_id=one["id"])
    assert two["previous_response_id"] == one["id"]
    items = (await scene.ask(TEAM_A, "GET", f"/v1/responses/{two['id']}/input_items")).json
    assert items["data"]
    said = [{name: value for name, value in item.items() if name != "status"} for item in one["output"]]
    again = await scene.respond(TEAM_A, input=[*said, {"role": "user", "content": "once more"}])
    assert again["status"] == "completed"
    shown = (await scene.ask(TEAM_A, "GET", f"/v1/responses/{one['id']}")).json
    assert shown["output"] == one["output"]
    assert (await scene.ask(TEAM_A, "DELETE", f"/v1/responses/{one['id']}")).json["id"] == one["id"]
    assert (await scene.ask(TEAM_A, "GET", f"/v1/responses/{one['id']}")).status == 404


async def test_a_streamed_response(scene: Scene) -> None:
    told = (await scene.respond(TEAM_A, input="hello [[sim completion=9]]", stream=True)).decode()
    events = [json.loads(line.removeprefix("data: ")) for line in told.splitlines() if line.startswith("data: {")]
    names = {event["response"]["id"] for event in events if "response" in event}
    assert len(names) == 1
    items = {event["item_id"] for event in events if "item_id" in event}
    assert all(SEAL.open("item", "team:team_a", name) is not None for name in items)
    assert {item["id"] for item in events[-1]["response"]["output"]} == items
    assert (await scene.ask(TEAM_A, "GET", f"/v1/responses/{names.pop()}")).status == 200


async def test_a_response_in_the_background(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait(_nudge: asyncio.Event, _seconds: float) -> None:
        scene.clock.advance(0.05)
        await asyncio.sleep(0)

    monkeypatch.setattr(scene.one.background, "_wait", wait)
    monkeypatch.setattr(module, "POLL_FIRST_S", 0.0)
    call = await scene.call(scene.one, "limited", hold=10**6)
    body = {"model": DEPLOYMENT, "input": "hello [[sim completion=9]]", "background": True}
    reply = await ask(scene.simulator, URL, body, query="")
    assert reply.json["status"] == "queued"
    await scene.one.stored.background.begin(call, reply.body)
    for _ in range(1_000):
        if call.settled:
            break
        await asyncio.sleep(0)
    (event,) = scene.one.own_events()
    (billed,) = await scene.billed()
    usage = billed["usage"]
    assert event.cost_nusd == usage["prompt"] * IN + usage["completion"] * OUT
    assert event.measured == "reported"
