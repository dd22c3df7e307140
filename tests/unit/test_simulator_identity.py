"""The simulator's Entra and machine identity endpoints, with azure-identity as the client, over real TLS."""

import base64
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientSecretCredential, ManagedIdentityCredential, WorkloadIdentityCredential

from deploy.simulator import Options, Simulator
from deploy.simulator.auth import read_token
from deploy.simulator.identity import ASSERTION_AUDIENCE, ASSERTION_TYPE
from deploy.simulator.tls import make
from tests.unit.simulator_driver import NOW, FixedClock, Reply, ask
from tests.unit.simulator_server import Server, running

TENANT = "00000000-0000-0000-0000-0000000000bb"
CLIENT = "33333333-3333-3333-3333-333333333333"
SUBJECT = "system:serviceaccount:llm:gateway"
SCOPE = "https://cognitiveservices.azure.com/.default"
TOKEN = f"/{TENANT}/oauth2/v2.0/token"
IMDS = "/metadata/identity/oauth2/token"
FOREVER = 4_000_000_000


def assertion(**changes: Any) -> str:
    """A federated token as a cluster makes them."""
    claims = {"sub": SUBJECT, "aud": [ASSERTION_AUDIENCE], "exp": FOREVER, "iss": "https://cluster.invalid", **changes}
    return ".".join([part({"alg": "RS256"}), part(claims), "c2ln"])


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(Options(), FixedClock())


async def grant(simulator: Simulator, path: str = TOKEN, **changes: str) -> Reply:
    form = {
        "grant_type": "client_credentials", "client_id": CLIENT, "scope": SCOPE,
        "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion(), **changes,
    }  # fmt: skip
    filled = {name: value for name, value in form.items() if value}
    return await ask(simulator, path, urlencode(filled).encode(), query="", headers={})


async def settings(simulator: Simulator, **changes: object) -> None:
    assert (await ask(simulator, "/_sim/settings", changes, query="", headers={})).status == 200


async def test_a_workload_gets_a_token_that_the_resource_takes(simulator: Simulator) -> None:
    await settings(simulator, token_life_s=86_399, token_refresh_s=43_199)
    made = (await grant(simulator)).json
    assert (made["token_type"], made["expires_in"], made["refresh_in"]) == ("Bearer", 86_399, 43_199)
    claims = read_token(made["access_token"].encode())
    assert claims is not None
    assert (claims.aud, claims.exp) == ("https://cognitiveservices.azure.com", int(NOW.timestamp()) + 86_399)
    headers = {"authorization": f"Bearer {made['access_token']}"}
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    assert (await ask(simulator, "/openai/v1/chat/completions", body, query="", headers=headers)).status == 200


@pytest.mark.parametrize(
    ("changes", "number", "status"),
    [
        ({"client_assertion": assertion(exp=1)}, 700024, 401),
        ({"client_assertion": assertion(aud="api://other")}, 700212, 401),
        ({"client_assertion": assertion(sub="somebody else")}, 700213, 401),
        ({"client_assertion": "no.token"}, 50027, 401),
        ({"client_assertion": "a.b.c"}, 50027, 401),
        ({"grant_type": "password"}, 70003, 400),
        ({"scope": "https://vault.azure.net/user"}, 1002012, 400),
        ({"client_id": ""}, 900144, 400),
        ({"client_assertion_type": "", "client_assertion": ""}, 900144, 400),
        ({"client_assertion_type": "", "client_secret": "wrong"}, 7000215, 401),
        ({"client_assertion_type": "", "client_secret": "x", "client_id": "unknown"}, 700016, 400),
        ({"path": "/missing-tenant/oauth2/v2.0/token"}, 90002, 400),
    ],
)
async def test_refusals(simulator: Simulator, changes: dict[str, str], number: int, status: int) -> None:
    await settings(simulator, token_subjects=[SUBJECT], token_secrets={CLIENT: "right"})
    refused = await grant(simulator, **changes)
    assert (refused.status, refused.json["error_codes"]) == (status, [number])
    assert refused.json["error_description"].startswith(f"AADSTS{number}: ")
    assert refused.json["trace_id"]


async def test_a_refusal_can_be_ordered(simulator: Simulator) -> None:
    await settings(simulator, token_error="70021")
    assert (await grant(simulator)).json["error_codes"] == [70021]


async def machine(simulator: Simulator, query: str, headers: dict[str, str], path: str = IMDS) -> Reply:
    return await ask(simulator, path, query=query, method="GET", headers=headers)


async def test_the_machines_endpoint_speaks_in_strings(simulator: Simulator) -> None:
    query = "api-version=2018-02-01&resource=https%3A%2F%2Fcognitiveservices.azure.com"
    probe = await machine(simulator, query, {})
    assert (probe.status, probe.json["error_description"]) == (400, "Required metadata header not specified")
    made = (await machine(simulator, query, {"metadata": "true"})).json
    assert all(isinstance(value, str) for value in made.values())
    assert int(made["expires_on"]) - int(made["not_before"]) == 3_599
    await settings(simulator, managed_identities=[CLIENT])
    known = await machine(simulator, f"{query}&client_id={CLIENT}", {"metadata": "true"})
    assert known.json["client_id"] == CLIENT
    unknown = await machine(simulator, f"{query}&client_id=other", {"metadata": "true"})
    assert (unknown.status, unknown.json["error_description"]) == (400, "Identity not found")
    for bad in ("resource=x", "api-version=2018-02-01"):
        assert (await machine(simulator, bad, {"metadata": "true"})).status == 400
    service = "api-version=2019-08-01&resource=https://vault.azure.net"
    told = await machine(simulator, service, {"x-identity-header": "s"}, "/msi/token")
    assert "expires_in" not in told.json
    assert (await machine(simulator, service, {}, "/msi/token")).status == 400


async def test_discovery(simulator: Simulator) -> None:
    query = f"api-version=1.1&authorization_endpoint=https://login.example/{TENANT}/oauth2/v2.0/authorize"
    found = (await ask(simulator, "/common/discovery/instance", query=query, method="GET", headers={})).json
    assert found["tenant_discovery_endpoint"] == (
        f"https://login.example/{TENANT}/v2.0/.well-known/openid-configuration"
    )
    path = f"/{TENANT}/v2.0/.well-known/openid-configuration"
    told = (await ask(simulator, path, query="", method="GET", headers={"host": "login.example"})).json
    assert told["token_endpoint"].endswith(f"login.example{TOKEN}")


def test_the_key_of_a_certificate_is_its_owners(tmp_path: Path) -> None:
    made = make(tmp_path, ("localhost",), FixedClock())
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600
    assert made.authority.read_bytes().startswith(b"-----BEGIN CERTIFICATE")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tls")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(folder / "ca.pem"))
        with running("--tls", str(folder), verify=False) as server:
            yield server


def test_azure_identity_over_tls(server: Server, tmp_path: Path) -> None:
    server.reset()
    file = tmp_path / "token"
    file.write_text(assertion())
    workload = WorkloadIdentityCredential(
        tenant_id=TENANT, client_id=CLIENT, token_file_path=str(file), authority=server.url
    )
    with workload:
        token = workload.get_token(SCOPE)
    claims = read_token(token.token.encode())
    assert claims is not None
    assert claims.aud == "https://cognitiveservices.azure.com"
    server.settings(token_secrets={CLIENT: "right"})
    with ClientSecretCredential(
        TENANT, CLIENT, "right", authority=server.url, disable_instance_discovery=True
    ) as by_secret:
        assert by_secret.get_token("https://vault.azure.net/.default").token
    with (
        ClientSecretCredential(
            TENANT, CLIENT, "wrong", authority=server.url, disable_instance_discovery=True
        ) as by_wrong,
        pytest.raises(ClientAuthenticationError, match="7000215"),
    ):
        by_wrong.get_token(SCOPE)


def test_azure_identity_on_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as server:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", server.url)
        with ManagedIdentityCredential(client_id=CLIENT) as credential:
            token = credential.get_token(SCOPE)
        claims = read_token(token.token.encode())
        assert claims is not None
        assert (claims.aud, token.expires_on) == ("https://cognitiveservices.azure.com", claims.exp)
