"""Who the simulator lets in: keys and Entra tokens by surface, api-versions, and what the resource forbids."""

import base64
import json
from typing import Any

import pytest

from deploy.simulator import Options, Simulator
from tests.unit.simulator_driver import CHAT, KEY, NOW, VERSION, FixedClock, ask, chat

V1 = "/openai/v1/chat/completions"
MODELS = "/models/chat/completions"
SERVERLESS = "/v1/chat/completions"
CLAUDE = "/anthropic/v1/messages"
COGNITIVE, FOUNDRY, ML = "https://cognitiveservices.azure.com", "https://ai.azure.com", "https://ml.azure.com"
CLAUDE_BODY = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]}


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(Options(), FixedClock())


def token(**claims: Any) -> dict[str, str]:
    given = {
        "aud": COGNITIVE,
        "iss": "https://sts.windows.net/tenant/",
        "nbf": int(NOW.timestamp()) - 300,
        "exp": int(NOW.timestamp()) + 3600,
        "oid": "me",
        **claims,
    }
    parts = [{"alg": "RS256", "typ": "JWT", "kid": "stub"}, given]
    coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return {"authorization": f"Bearer {'.'.join(coded)}.sig", "anthropic-version": "2023-06-01"}


def body_of(path: str) -> dict[str, Any]:
    return CLAUDE_BODY if path == CLAUDE else chat(model="gpt-4o")


async def settings(simulator: Simulator, **changes: object) -> None:
    assert (await ask(simulator, "/_sim/settings", changes, query="", headers={})).status == 200


@pytest.mark.parametrize(
    ("path", "audiences"),
    [
        (CHAT, {COGNITIVE}),
        (V1, {COGNITIVE, FOUNDRY}),
        (MODELS, {COGNITIVE}),
        (SERVERLESS, {ML}),
        (CLAUDE, {FOUNDRY}),
        ("/providers/cohere/v2/rerank", {COGNITIVE}),
    ],
)
async def test_tokens_fit_by_audience(simulator: Simulator, path: str, audiences: set[str]) -> None:
    for audience in (COGNITIVE, COGNITIVE + "/", FOUNDRY, ML, "https://vault.azure.net"):
        reply = await ask(simulator, path, body_of(path), headers=token(aud=audience))
        assert (reply.status != 401) == (audience.rstrip("/") in audiences)
        if reply.status == 401:
            assert reply.json["statusCode"] == 401
            assert "audience is incorrect" in reply.json["message"]


async def test_tokens_end_and_begin(simulator: Simulator) -> None:
    now = int(NOW.timestamp())
    for claims in ({"exp": now}, {"nbf": now + 1}, {"iss": "https://evil.example/"}, {"aud": ["a"]}):
        assert (await ask(simulator, body=chat(), headers=token(**claims))).status == 401
    for sent in ("Bearer a.b.c", "Bearer " + "x" * 20_000, "Bearer e30.e30.x"):
        assert (await ask(simulator, body=chat(), headers={"authorization": sent})).status == 401
    assert (await ask(simulator, body=chat(), headers=token())).status == 200


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (CLAUDE, {"x-api-key": "sim-foundry-key"}, 200),
        (CLAUDE, {"api-key": "sim-foundry-key"}, 200),
        (CLAUDE, {"x-api-key": "wrong", "api-key": "sim-foundry-key"}, 401),
        (CLAUDE, {"authorization": "Bearer sim-foundry-key"}, 401),
        (SERVERLESS, {"authorization": "Bearer sim-foundry-key"}, 200),
        (SERVERLESS, {"api-key": "sim-foundry-key"}, 401),
        (SERVERLESS, {"authorization": "Bearer wrong"}, 401),
        (V1, {"x-api-key": "sim-foundry-key"}, 401),
    ],
)
async def test_keys_by_surface(simulator: Simulator, path: str, headers: dict[str, str], status: int) -> None:
    sent = {**headers, "anthropic-version": "2023-06-01"}
    assert (await ask(simulator, path, body_of(path), headers=sent)).status == status


@pytest.mark.parametrize(
    ("setting", "headers", "status", "says"),
    [
        ("keys_off", KEY, 403, "AuthenticationTypeDisabled"),
        ("network_off", KEY, 403, "Virtual Network"),
        ("blocked", KEY, 403, "temporarily blocked"),
        ("no_role", token(), 401, "PermissionDenied"),
    ],
)
async def test_what_the_resource_forbids(
    simulator: Simulator, setting: str, headers: dict[str, str], status: int, says: str
) -> None:
    await settings(simulator, **{setting: True})
    reply = await ask(simulator, body=chat(), headers=headers)
    assert (reply.status, says in reply.body.decode()) == (status, True)
    await ask(simulator, "/_sim/settings", method="DELETE", query="", headers={})
    assert (await ask(simulator, body=chat(), headers=headers)).status == 200


async def test_tokens_pass_where_keys_are_off_and_newer_words(simulator: Simulator) -> None:
    await settings(simulator, keys_off=True, new_wording=True)
    assert (await ask(simulator, body=chat(), headers=token())).status == 200
    assert "missing application credentials" in (await ask(simulator, body=chat(), headers={})).json["message"]
    await settings(simulator, no_role=True)
    assert "`me` lacks" in (await ask(simulator, body=chat(), headers=token())).json["error"]["message"]
    wrong = await ask(simulator, "/_sim/settings", {"colour": 1}, query="", headers={})
    assert wrong.status == 400


@pytest.mark.parametrize(
    ("path", "version", "found"),
    [
        (CHAT, "2024-10-21", True),
        (CHAT, "2025-04-01-preview", True),
        (CHAT, "2024-10-22", False),
        (CHAT, "2025-05-01-preview", False),
        (CHAT, "preview", False),
        (CHAT, "v1", False),
        (MODELS, "2024-05-01-preview", True),
        (V1, "latest", True),
        ("/openai/responses", "2025-04-01-preview", True),
        ("/openai/responses", "2024-10-21", False),
        ("/mai/v1/images/generations", "preview", True),
        ("/mai/v1/images/generations", "2024-10-21", False),
        (CLAUDE, "whatever", True),
    ],
)
async def test_versions_by_surface(simulator: Simulator, path: str, version: str, found: bool) -> None:
    headers = {**KEY, "anthropic-version": "2023-06-01"}
    reply = await ask(simulator, path, body_of(path), query=f"api-version={version}", headers=headers)
    assert (reply.status != 404) == found
    if not found:
        assert reply.json == {"error": {"code": "404", "message": "Resource not found"}}


async def test_every_answer_has_its_ids(simulator: Simulator) -> None:
    for path, query in ((CHAT, VERSION), ("/nowhere", ""), (CHAT, ""), ("/openai/v1/models", "")):
        method = "GET" if path.endswith("models") else "POST"
        reply = await ask(simulator, path, chat(), query=query, method=method)
        assert reply.headers["apim-request-id"] == reply.headers["x-request-id"]
        assert reply.headers["x-ms-region"] == "East US 2"
        assert reply.headers["x-ms-client-request-id"] == "Not-Set"
