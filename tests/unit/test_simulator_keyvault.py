"""The simulator's Key Vault: the challenge, versions, soft delete, refusals."""

import re

import httpx
import pytest

from deploy.simulator import Options, Simulator
from deploy.simulator.identity import mint
from tests.unit.simulator_driver import NOW, FixedClock, Reply, ask
from tests.unit.simulator_server import running

QUERY = "api-version=7.4"
NOW_S = int(NOW.timestamp())
TOKEN = mint("https://vault.azure.net", NOW_S, 3_600, "c")


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(Options(), FixedClock())


async def call(
    simulator: Simulator, method: str, path: str, body: object = None, token: str = TOKEN, query: str = QUERY
) -> Reply:
    headers = {"host": "kv1.vault.azure.net"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    return await ask(simulator, path, body, query=query, method=method, headers=headers)


async def test_every_put_makes_a_version(simulator: Simulator) -> None:
    body = {"value": "sk-1", "contentType": "text/plain", "tags": {"team": "search"}, "attributes": {"exp": NOW_S + 9}}
    first = (await call(simulator, "PUT", "/secrets/team-search", body)).json
    second = (await call(simulator, "PUT", "/secrets/team-search", {"value": "sk-2"})).json
    assert first["id"].startswith("https://kv1.vault.azure.net/secrets/team-search/")
    assert len(first["id"].rpartition("/")[2]) == 32
    assert first["attributes"] == {
        "enabled": True, "exp": NOW_S + 9, "created": NOW_S, "updated": NOW_S,
        "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90,
    }  # fmt: skip
    assert (await call(simulator, "GET", "/secrets/team-search")).json == second
    version = first["id"].rpartition("/")[2]
    assert (await call(simulator, "GET", f"/secrets/team-search/{version}")).json["value"] == "sk-1"
    listed = (await call(simulator, "GET", "/secrets/team-search/versions")).json["value"]
    assert [one["id"] for one in listed] == [first["id"], second["id"]]
    assert "value" not in listed[0]
    (named,) = (await call(simulator, "GET", "/secrets")).json["value"]
    assert named["id"] == "https://kv1.vault.azure.net/secrets/team-search"


async def test_a_deleted_secret_can_come_back_or_go_for_good(simulator: Simulator) -> None:
    await call(simulator, "PUT", "/secrets/a", {"value": "1"})
    gone = (await call(simulator, "DELETE", "/secrets/a")).json
    assert gone["recoveryId"] == "https://kv1.vault.azure.net/deletedsecrets/a"
    assert "value" not in gone
    assert (await call(simulator, "GET", "/secrets/a")).status == 404
    again = await call(simulator, "PUT", "/secrets/a", {"value": "2"})
    assert (again.status, again.json["error"]["innererror"]["code"]) == (409, "ObjectIsDeletedButRecoverable")
    assert (await call(simulator, "GET", "/deletedsecrets/a")).status == 200
    assert (await call(simulator, "POST", "/deletedsecrets/a/recover")).status == 200
    assert (await call(simulator, "GET", "/secrets/a")).json["value"] == "1"
    await call(simulator, "DELETE", "/secrets/a")
    assert (await call(simulator, "DELETE", "/deletedsecrets/a")).status == 204
    assert (await call(simulator, "PUT", "/secrets/a", {"value": "2"})).status == 200
    for method, path in (("DELETE", "/secrets/b"), ("GET", "/deletedsecrets/b"), ("DELETE", "/deletedsecrets/b"),
                         ("POST", "/deletedsecrets/b/recover"), ("GET", "/secrets/b")):  # fmt: skip
        missing = await call(simulator, method, path)
        assert (missing.status, missing.json["error"]["code"]) == (404, "SecretNotFound")


async def test_the_challenge_says_where_to_get_a_token(simulator: Simulator) -> None:
    refused = await call(simulator, "PUT", "/secrets/a", token="")
    assert (refused.status, refused.json["error"]["code"]) == (401, "Unauthorized")
    assert 'resource="https://vault.azure.net"' in refused.headers["www-authenticate"]
    assert "login.windows.net/" in refused.headers["www-authenticate"]
    assert refused.headers["x-ms-keyvault-region"]
    for token in (
        mint("https://cognitiveservices.azure.com", NOW_S, 60, "c"),
        mint("https://vault.azure.net", NOW_S - 100, 60, "c"),
        "nonsense",
    ):
        assert (await call(simulator, "GET", "/secrets/a", token=token)).status == 401


@pytest.mark.parametrize(
    ("path", "body", "query", "status"),
    [
        ("/secrets/a_b", {"value": "1"}, QUERY, 400),
        ("/secrets/a", {"value": "x" * 26_000}, QUERY, 400),
        ("/secrets/a", {"values": "x"}, QUERY, 400),
        ("/secrets/a", {"value": "1"}, "", 400),
        ("/secrets/a", {"value": "1"}, "api-version=2025-07-01", 200),
    ],
)
async def test_what_is_refused(simulator: Simulator, path: str, body: object, query: str, status: int) -> None:
    assert (await call(simulator, "PUT", path, body, query=query)).status == status


@pytest.mark.parametrize(
    ("error", "status"), [("ForbiddenByRbac", 403), ("ForbiddenByFirewall", 403), ("Throttled", 429)]
)
async def test_refusals_can_be_ordered(simulator: Simulator, error: str, status: int) -> None:
    await ask(simulator, "/_sim/settings", {"vault_error": error}, query="", headers={})
    refused = await call(simulator, "GET", "/secrets/a")
    assert refused.status == status
    if status == 403:
        assert refused.json["error"]["innererror"]["code"] == error


async def test_a_disabled_secret_is_not_told(simulator: Simulator) -> None:
    await call(simulator, "PUT", "/secrets/a", {"value": "1", "attributes": {"enabled": False}})
    assert (await call(simulator, "GET", "/secrets/a")).status == 403


async def test_a_plain_client_follows_the_challenge_to_a_token() -> None:
    with running() as server:
        async with httpx.AsyncClient(base_url=server.url, params={"api-version": "7.4"}, trust_env=False) as client:
            challenge = (await client.get("/secrets/team-a")).headers["www-authenticate"]
            found = re.search(r'authorization="https://[^/]+/([^"]+)", resource="([^"]+)"', challenge)
            assert found is not None
            form = {
                "grant_type": "client_credentials", "client_id": "c", "client_secret": "s",
                "scope": f"{found[2]}/.default",
            }  # fmt: skip
            token = (await client.post(f"/{found[1]}/oauth2/v2.0/token", data=form)).json()["access_token"]
            headers = {"authorization": f"Bearer {token}"}
            put = await client.put("/secrets/team-a", headers=headers, json={"value": "sk-1"})
            assert put.status_code == 200
            assert (await client.get("/secrets/team-a", headers=headers)).json()["value"] == "sk-1"
            assert (await client.delete("/secrets/team-a", headers=headers)).status_code == 200
            purged = await client.delete("/deletedsecrets/team-a", headers=headers)
            assert (purged.status_code, purged.content) == (204, b"")
