"""Auth as a process, killed between minting a secret and handing it over; a Key Vault and a webhook behind TLS."""

import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from deploy.simulator.identity import mint
from deploy.simulator.tls import make
from shared.clock import SystemClock
from tests.integration.test_auth_process import ended, environment, started
from tests.support.auth import MASTER_KEY, migrated
from tests.support.eventually import eventually
from tests.support.pods import pod_environment
from tests.support.receiver import Receiver, receiving
from tests.support.servers import NatsServer, free_port
from tests.unit.simulator_server import Server, running


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver, None]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncGenerator[Server, None]:
    make(tmp_path)
    with running("--tls", str(tmp_path), verify=False) as server:
        yield server


async def test_killed_between_mint_and_delivery_the_owner_gets_a_working_secret(
    nats: NatsServer, database: str, receiver: Receiver, vault: Server, tmp_path: Path
) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    env = environment(nats, await migrated(database), port) | pod_environment(tmp_path, vault.url, tmp_path / "ca.pem")
    env |= {
        "TUNDISH_KEY_VAULTS": vault.url.removeprefix("https://"),
        "TUNDISH_WEBHOOK_ALLOW": "127.0.0.1/32",
        "PYTHONUNBUFFERED": "1",
    }
    async with httpx.AsyncClient(base_url=base, trust_env=False) as client:

        async def call(path: str, body: Any = None, *, key: str = MASTER_KEY, status: int = 200) -> Any:
            method = "GET" if body is None else "POST"
            answer = await client.request(method, path, json=body, headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == status, answer.text
            return answer.json()

        async def ready() -> bool:
            assert process.returncode is None
            return (await client.get("/health/readiness")).status_code == 200

        async def overlap() -> bool:
            [row] = (await call("/rotation/list"))["keys"]
            return row["state"] == "overlap" and row["deliveries"] == []

        process = await started(env)
        try:
            await eventually(ready, unless=(httpx.TransportError,))
            ways = [
                {"type": "key_vault", "vault": vault.url, "secret": "team-search"},
                {"type": "webhook", "url": receiver.url + "/hook"},
            ]
            made = await call("/key/generate", {"rotation_delivery": ways, "grace_period": "1h"})
            # Neither takes it: what is minted stays between the two.
            vault.settings(vault_error="Throttled")
            receiver.answer = lambda _: (503, {}, b"")
            rotated = await call(f"/key/{made['token_id']}/rotate", {})
            assert rotated["version"] == 2
            process.send_signal(signal.SIGKILL)
            _, said = await ended(process)
            assert "sk-" not in said

            vault.settings(vault_error=None)
            receiver.answer = lambda _: (200, {}, b"")
            process = await started(env)
            await eventually(ready, unless=(httpx.TransportError,))
            assert (await call("/key/info", key=made["key"]))["info"]["token_id"] == made["token_id"], (
                "the old one works"
            )
            await eventually(overlap, within_s=120)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            code, said = await ended(process)
        assert code == 0, said
        assert "Traceback" not in said
        new = msgspec.json.decode(receiver.got[-1].body)["data"]["key"]
        assert new not in said

        process = await started(env)
        try:
            await eventually(ready, unless=(httpx.TransportError,))
            assert (await call("/key/info", key=new))["info"]["token_id"] == made["token_id"]
            found = await _secret_of(vault.url)
            assert found["tags"] == {"tundish-key": made["token_id"], "version": "2"}
            assert found["value"] == new
            page = await client.get("/metrics", headers={"authorization": f"Bearer {MASTER_KEY}"})
            assert [line for line in page.text.splitlines() if line.startswith("tundish_auth_deliveries_waiting")] == [
                "tundish_auth_deliveries_waiting 0"
            ]
        finally:
            process.send_signal(signal.SIGTERM)
            await ended(process)


async def _secret_of(url: str) -> dict[str, Any]:
    """The newest version in the vault, as somebody with a token of their own sees it."""
    token = mint("https://vault.azure.net", int(SystemClock().now().timestamp()), 3_600, "owner")
    async with httpx.AsyncClient(verify=False, trust_env=False) as client:
        answer = await client.get(
            f"{url}/secrets/team-search?api-version=7.4", headers={"authorization": f"Bearer {token}"}
        )
        return answer.json()
