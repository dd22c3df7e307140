"""Every error Foundry is known to send, by its name; faults by header; errors inside streams."""

import json

import pytest

from deploy.simulator import Options, Simulator
from deploy.simulator.fault_kinds import ERRORS
from tests.unit.simulator_driver import CHAT, KEY, FixedClock, ask, chat, fault, served

KNOWN = {
    "filter": (400, "content_filter_result"), "filter_inner": (400, "inner_error"),
    "filter_responses": (400, "content_filters"), "filter_image": (400, "contentFilter"),
    "bad_parameter": (400, "unsupported_parameter"), "context": (400, "context_length_exceeded"),
    "bad_key": (401, "invalid subscription key"), "bad_key_named": (401, "Unauthorized"),
    "no_key": (401, "missing subscription key"), "no_key_new": (401, "missing application credentials"),
    "bad_token": (401, "audience is incorrect"), "no_role": (401, "PermissionDenied"),
    "no_role_new": (401, "lacks the required data action"),
    "backend_auth": (401, "invalid_model_endpoint_authentication"), "keys_off": (403, "AuthenticationTypeDisabled"),
    "network": (403, "Firewall"), "blocked": (403, "temporarily blocked"), "no_deployment": (404, "DeploymentNotFound"),
    "no_path": (404, "Resource not found"), "wrong_api": (404, "api_not_supported"),
    "unavailable_model": (404, "unavailable_model"), "timeout": (408, "Timeout"),
    "rate_tokens": (429, "token rate limit"), "rate_calls": (429, "call rate limit"), "rate_older": (429, "9 seconds"),
    "rate_too_big": (429, "86400 seconds"), "rate_short": (429, "Try again in 2 seconds"),
    "rate_capacity": (429, "high demand"), "rate_partner": (429, "UserByModelByMinuteOutputTokens"),
    "rate_ptu": (429, '"429"'), "rate_bare": (429, "RateLimitReached"), "rate_minus": (429, "RateLimitReached"),
    "server_error": (500, "server had an error"), "server_error_gateway": (500, "activityId"),
    "overloaded": (503, "overloaded"), "overloaded_529": (529, "overloaded_error"),
    "serverless_missing": (404, "Serverless endpoint not found"),
}  # fmt: skip


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(Options(), FixedClock())


def test_all_kinds_are_tested() -> None:
    assert KNOWN.keys() == ERRORS.keys()


@pytest.mark.parametrize("kind", sorted(KNOWN))
async def test_each_kind_has_its_status_and_words(simulator: Simulator, kind: str) -> None:
    await fault(simulator, kind=kind, count=1)
    reply = await ask(simulator, body=chat())
    status, says = KNOWN[kind]
    assert reply.status == status
    assert says in reply.body.decode()
    assert json.loads(reply.body)
    assert reply.headers["apim-request-id"]
    assert (await served(simulator))["total"] == 0
    by_header = await ask(simulator, body=chat(), headers={**KEY, "x-sim-fault": kind})
    assert by_header.status == status
    assert (await ask(simulator, body=chat())).status == 200


async def test_the_headers_of_limits_mislead_as_the_real_ones_do(simulator: Simulator) -> None:
    headers = {
        kind: (await ask(simulator, body=chat(), headers={**KEY, "x-sim-fault": kind})).headers
        for kind in ("rate_tokens", "rate_bare", "rate_minus", "rate_partner", "rate_too_big", "rate_ptu")
    }
    assert (headers["rate_tokens"]["retry-after"], headers["rate_tokens"]["retry-after-ms"]) == ("1", "0")
    assert headers["rate_tokens"]["x-ratelimit-type"] == "Tokens"
    assert "retry-after" not in headers["rate_bare"]
    assert headers["rate_minus"]["x-ratelimit-remaining-tokens"] == "-1"
    assert headers["rate_partner"]["x-ratelimit-timeremaining"] == "33"
    assert headers["rate_too_big"]["retry-after"] == "86400"
    assert headers["rate_ptu"]["azure-openai-deployment-utilization"] == "100.0%"


async def test_a_header_asks_for_any_fault(simulator: Simulator) -> None:
    words = {**KEY, "x-sim-fault": "kind=midstream_error_done after_events=3"}
    reply = await ask(simulator, body=chat(stream=True), headers=words)
    assert reply.events[-1] == "[DONE]"
    assert reply.events[-2]["error"]["type"] == "server_error"
    for wrong in ("fire", "status=99", "colour=red"):
        reply = await ask(simulator, body=chat(), headers={**KEY, "x-sim-fault": wrong})
        assert (reply.status, reply.json["error"]["code"]) == (400, "sim_fault")


async def test_a_fault_of_one_operation_leaves_the_others(simulator: Simulator) -> None:
    await fault(simulator, kind="overloaded", operation="embeddings")
    assert (await ask(simulator, body=chat())).status == 200
    embed = await ask(simulator, "/openai/v1/embeddings", {"model": "e", "input": "a"})
    assert embed.status == 503
    await fault(simulator, kind="server_error", operation="models", count=1)
    listed = [await ask(simulator, "/openai/v1/models", method="GET", query="") for _ in range(2)]
    assert [reply.status for reply in listed] == [500, 200]


async def test_faults_speak_anthropics_dialect_where_they_are_told_to(simulator: Simulator) -> None:
    await ask(simulator, "/_sim/settings", {"claude_errors": "anthropic"}, query="", headers={})
    body = {"model": "claude-opus-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}]}
    headers = {**KEY, "anthropic-version": "2023-06-01", "x-sim-fault": "rate_partner"}
    reply = await ask(simulator, "/anthropic/v1/messages", body, query="", headers=headers)
    assert (reply.status, reply.json["error"]["type"]) == (429, "rate_limit_error")
    chatted = await ask(simulator, CHAT, chat(), headers={**KEY, "x-sim-fault": "rate_partner"})
    assert chatted.json["error"]["code"] == "RateLimitReached"
