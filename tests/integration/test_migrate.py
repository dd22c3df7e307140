"""`tundish migrate` against real servers, with the configuration of NATS that we ship."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import nats_conf
from deploy.local.nats import server_binary
from services.migrate import run, when_up
from shared.bus import Bus
from shared.bus.apply import verify
from shared.errors import BusUnavailable, StoreError, StoreUnavailable, TundishError
from shared.settings import Env
from shared.topology import BUCKETS, PERMISSIONS, STREAMS
from tests.support import servers
from tests.support.servers import NatsServer

ROOT = Path(__file__).parents[2]


class ShippedNats(NatsServer):
    """A server with `deploy/nats.conf`; only its port and its folder are those of the test."""

    def command(self) -> list[str]:
        text = nats_conf.render().replace("port: 4222", f"port: {self.port}").replace('http: "0.0.0.0:8222"\n', "")
        config = self.folder / "nats.conf"
        config.write_text(text.replace('"/data"', f'"{self.folder / "nats"}"').replace("0.0.0.0", "127.0.0.1"))
        return [str(server_binary()), "-c", str(config)]


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShippedNats]:
    for user in PERMISSIONS:
        monkeypatch.setenv(nats_conf.password_variable(user), servers.PASSWORD)
    server = ShippedNats(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def lines() -> list[str]:
    return []


def environment(database: str, server: NatsServer) -> dict[str, str]:
    return {
        "TUNDISH_POSTGRES_URL": database,
        "TUNDISH_NATS_URL": server.url_for("admin"),
        "TUNDISH_MIGRATE_WAIT_S": "20",
    }


async def test_both_servers_are_brought_up_to_date_and_a_second_run_changes_nothing(
    database: str, shipped: ShippedNats, lines: list[str]
) -> None:
    env = Env(environment(database, shipped))
    await run(env, lines.append)
    assert [line for line in lines if line.startswith("stream") and not line.endswith(" made")] == []
    assert {f"stream {stream.name} made" for stream in STREAMS} <= set(lines)
    assert {f"stream KV_{bucket.name} made" for bucket in BUCKETS} <= set(lines)
    assert any(line.startswith("migration scheduler/0001") for line in lines)
    again: list[str] = []
    await run(env, again.append)
    assert [line for line in again if line.endswith((" made", " updated", " applied"))] == []
    for user in PERMISSIONS:
        bus = await Bus.open(shipped.url_for(user), user=user, name="test")
        if user == "auth":
            await verify(bus, "AUTH", "KV_keys", "KV_revoked")
        await bus.close()


def test_the_command_prints_what_it_did(database: str, shipped: ShippedNats) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services", "migrate"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment(database, shipped)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "stream LEDGER made" in done.stdout
    assert "migration auth/0001" in done.stdout


async def test_a_server_that_is_still_starting_is_waited_for(lines: list[str]) -> None:
    tries = 0

    async def work() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise StoreUnavailable("starting up")

    await when_up("Postgres", work, wait_s=10, progress=lines.append)
    assert tries == 2
    assert lines == ["waiting up to 10 s for Postgres: starting up"]


async def test_a_server_that_stays_away_is_an_error_with_its_reason(lines: list[str]) -> None:
    async def work() -> None:
        raise BusUnavailable("connection refused")

    async with asyncio.timeout(5):
        with pytest.raises(TundishError, match=r"NATS did not come up within 0 s: connection refused"):
            await when_up("NATS", work, wait_s=0, progress=lines.append)


async def test_other_errors_are_not_waited_for(lines: list[str]) -> None:
    async def work() -> None:
        raise StoreError("the file was changed")

    with pytest.raises(StoreError, match="changed"):
        await when_up("Postgres", work, wait_s=60, progress=lines.append)
    assert lines == []
