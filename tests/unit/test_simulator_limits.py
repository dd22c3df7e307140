"""Limits the simulator keeps when it is told to: rate buckets, Claude's three, provisioned units, spill-over."""

from datetime import UTC, datetime
from typing import Any

import pytest

from deploy.simulator import Options, Simulator
from tests.unit.simulator_driver import CHAT, KEY, NOW, Reply, ask, chat, fault, served

CLAUDE = {"model": "claude-opus-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": "a"}]}


class HandClock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(NOW.timestamp() + self.seconds, UTC)

    def monotonic_ms(self) -> int:
        return int(self.seconds * 1000)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def simulator(clock: HandClock) -> Simulator:
    return Simulator(Options(), clock)


async def setup(simulator: Simulator, name: str = "gpt-4o-deployment", **fields: object) -> None:
    reply = await ask(simulator, "/_sim/deployments", {"deployment": name, **fields}, query="", headers={})
    assert reply.status == 200


async def one(simulator: Simulator, **fields: Any) -> Reply:
    return await ask(simulator, body=chat("abcd", **fields))


async def test_tokens_of_a_minute(simulator: Simulator, clock: HandClock) -> None:
    await setup(simulator, tpm=250)
    first = await one(simulator, max_tokens=96)
    assert (first.status, first.headers["x-ratelimit-remaining-tokens"]) == (200, "150")
    assert first.headers["x-ratelimit-limit-tokens"] == "250"
    assert "x-ratelimit-limit-requests" not in first.headers
    await one(simulator, max_tokens=96)
    clock.seconds = 20
    full = await one(simulator, max_tokens=96)
    assert (full.status, full.json["error"]["code"]) == (429, "RateLimitReached")
    assert "token rate limit" in full.json["error"]["message"]
    assert (full.headers["retry-after"], full.headers["x-ratelimit-type"]) == ("40", "Tokens")
    assert (await one(simulator, max_tokens=40)).status == 200
    clock.seconds = 60
    assert (await one(simulator, max_tokens=96)).status == 200
    big = await one(simulator, max_tokens=1000)
    assert (big.status, big.headers["retry-after"]) == (429, "86400")
    assert (await served(simulator))["total"] == 4


async def test_requests_of_ten_seconds(simulator: Simulator, clock: HandClock) -> None:
    await setup(simulator, rpm=12)
    assert [(await one(simulator)).status for _ in range(3)] == [200, 200, 429]
    await ask(simulator, "/_sim/settings", {"older_limits": True}, query="", headers={})
    full = await one(simulator)
    assert "have exceeded call rate limit" in full.json["error"]["message"]
    assert (full.headers["x-ratelimit-type"], full.headers["x-ratelimit-renewalperiod-requests"]) == ("Requests", "10")
    clock.seconds = 10
    assert (await one(simulator)).status == 200
    removed = await ask(simulator, "/_sim/deployments", method="DELETE", query="", headers={})
    assert removed.json == {"removed": 1}
    assert {(await one(simulator)).status for _ in range(9)} == {200}


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        ({"rpm": 1}, "UserByModelByMinute"),
        ({"itpm": 150}, "UserByModelByMinuteUncachedInputTokens"),
        ({"otpm": 20}, "UserByModelByMinuteOutputTokens"),
    ],
)
async def test_claudes_three_buckets(simulator: Simulator, limits: dict[str, int], kind: str) -> None:
    await setup(simulator, "claude-opus-4-5", **limits)
    await ask(simulator, "/_sim/settings", {"anthropic_limits": True}, query="", headers={})
    headers = {**KEY, "anthropic-version": "2023-06-01", "x-sim-usage": "prompt=150,cached=50"}
    replies = [await ask(simulator, "/anthropic/v1/messages", CLAUDE, query="", headers=headers) for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 429]
    assert any(name.startswith("anthropic-ratelimit-") for name in replies[0].headers)
    assert replies[1].headers["x-ratelimit-type"] == kind
    assert f"exceeded for {kind}" in replies[1].json["error"]["message"]


async def test_provisioned_units_leak(simulator: Simulator, clock: HandClock) -> None:
    await setup(simulator, ptu=1)
    first = await ask(simulator, body=chat("[[sim prompt=2000 cached=1000 completion=125]]"))
    assert first.headers["azure-openai-deployment-utilization"].endswith("%")
    assert not any(name.startswith("x-ratelimit") for name in first.headers)
    assert (await served(simulator))["calls"][0]["provisioned"] is True
    second = await ask(simulator, body=chat("[[sim prompt=2000 completion=0]]"))
    assert second.status == 200
    full = await one(simulator)
    assert (full.status, full.json["error"]["code"]) == (429, "429")
    assert int(full.headers["retry-after-ms"]) == 24_000
    clock.seconds = 24.1
    assert (await one(simulator)).status == 200


async def test_what_is_full_spills_over(simulator: Simulator) -> None:
    await setup(simulator, ptu=1, spillover="gpt-4o-standard")
    await ask(simulator, body=chat("[[sim prompt=9000]]"))
    spilled = await one(simulator)
    assert spilled.status == 200
    assert spilled.headers["x-ms-spillover-from-deployment"] == "gpt-4o-deployment"
    assert spilled.headers["x-ms-deployment-name"] == "gpt-4o-standard"
    assert spilled.headers["x-ms-spillover-error"] == "429"
    call = (await served(simulator))["calls"][-1]
    assert (call["deployment"], call["spilled_from"], call["provisioned"]) == (
        "gpt-4o-standard",
        "gpt-4o-deployment",
        False,
    )
    await fault(simulator, deployment="gpt-4o-standard", kind="overloaded", count=1)
    both = await one(simulator)
    assert (both.status, both.headers["x-ms-spillover-error"]) == (503, "429")


@pytest.mark.parametrize(("kind", "code"), [("server_error", 500), ("overloaded", 503), ("rate_ptu", 429)])
async def test_faults_of_provisioned_units_spill_over_by_header(simulator: Simulator, kind: str, code: int) -> None:
    await setup(simulator, ptu=100)
    wish = {**KEY, "x-ms-spillover-deployment": "gpt-4o-standard"}
    await fault(simulator, deployment="gpt-4o-deployment", kind=kind)
    assert (await one(simulator)).status == code
    spilled = await ask(simulator, CHAT, chat(), headers=wish)
    assert (spilled.status, spilled.headers["x-ms-spillover-error"]) == (200, str(code))
    await fault(simulator, deployment="gpt-4o-other", kind="bad_key")
    assert (await ask(simulator, CHAT, chat(), headers={**wish, "x-ms-spillover-deployment": "missing"})).status == code


async def test_a_context_too_long_for_provisioned_units_spills_over(simulator: Simulator) -> None:
    await setup(simulator, ptu=100, context=50, spillover="gpt-4o-standard")
    spilled = await one(simulator, max_tokens=60)
    assert (spilled.status, spilled.headers["x-ms-spillover-error"]) == (200, "400")
    await setup(simulator, ptu=100, context=50)
    refused = await one(simulator, max_tokens=60)
    assert refused.json["error"]["code"] == "context_length_exceeded"


async def test_a_deployment_is_set_up_and_listed(simulator: Simulator) -> None:
    await setup(simulator, "team-a", model="o3-2025-04-16")
    await setup(simulator, "team-b", missing=True)
    listed = await ask(simulator, "/_sim/deployments", method="GET", query="", headers={})
    assert [row["deployment"] for row in listed.json["deployments"]] == ["team-a", "team-b"]
    v1 = "/openai/v1/chat/completions"
    assert (await ask(simulator, v1, chat(model="team-a"))).json["model"] == "o3-2025-04-16"
    assert (await ask(simulator, v1, chat(model="team-b"))).status == 404
    for wrong in ({}, {"deployment": "a b"}, {"deployment": "a", "rpm": 0}):
        reply = await ask(simulator, "/_sim/deployments", wrong, query="", headers={})
        assert reply.status == 400


async def test_a_router_serves_another_model_and_says_so(simulator: Simulator) -> None:
    reply = await ask(simulator, "/openai/v1/chat/completions", chat(model="model-router"))
    assert reply.json["model"] == "gpt-4.1-mini-2025-04-14"
    assert (await served(simulator))["calls"][0]["routed"] is True
