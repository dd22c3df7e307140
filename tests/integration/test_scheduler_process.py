"""`tundish serve scheduler` as a process: ready, orderly end, and a taken port."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shared.pg import migrate
from tests.support.eventually import eventually
from tests.support.servers import PostgresServer, free_port

ROOT = Path(__file__).parents[2]
MASTER = "sk-a-master-key-for-tests-0123456789"


class Process:
    """One scheduler of our own, stopped by its pid."""

    def __init__(self, postgres_url: str, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.child = subprocess.Popen(
            [sys.executable, "-m", "services", "serve", "scheduler"],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "TUNDISH_MASTER_KEY": MASTER,
                "TUNDISH_TOKEN": "token",
                "TUNDISH_NATS_URL": "nats://127.0.0.1:1",
                "TUNDISH_POSTGRES_URL": postgres_url,
                "TUNDISH_INTERNAL_PORT": str(port),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    async def readiness(self, status: int) -> dict[str, str]:
        """Wait until readiness answers with this status; its checks."""

        async def ask() -> httpx.Response | None:
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.get(f"{self.url}/health/readiness")
            return answer if answer.status_code == status else None

        answer = await eventually(ask, unless=(httpx.TransportError,))
        assert answer is not None
        return answer.json()["checks"]

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; (exit code, everything it printed)."""
        if self.child.poll() is None:
            self.child.send_signal(number)
        said, _ = self.child.communicate(timeout=20)
        return self.child.returncode, said


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        if process.child.poll() is None:
            process.end(signal.SIGKILL)


async def test_it_serves_ends_in_order_and_shares_its_port_with_nobody(database: str, processes: list[Process]) -> None:
    await migrate(database, schema="scheduler", package="services.scheduler", progress=lambda _line: None)
    port = free_port()
    first = Process(database, port)
    processes.append(first)
    assert await first.readiness(200) == {"postgres": "ok", "ticking": "ok"}
    second = Process(database, port)
    processes.append(second)
    second.child.wait(20)
    code, said = second.end()
    assert code == 1
    assert f"port {port} on 127.0.0.1 is taken" in said
    assert "TUNDISH_INTERNAL_PORT" in said
    code, said = first.end()
    assert code == 0
    assert "Traceback" not in said


async def test_it_starts_without_its_database_and_is_ready_once_that_comes(
    postgres_server: PostgresServer, database: str, processes: list[Process]
) -> None:
    await migrate(database, schema="scheduler", package="services.scheduler", progress=lambda _line: None)
    postgres_server.stop()
    try:
        process = Process(database, free_port())
        processes.append(process)
        checks = await process.readiness(503)
        assert checks["postgres"] != "ok"
    finally:
        postgres_server.start()
    await process.readiness(200)
    code, said = process.end(signal.SIGINT)
    assert code == 0
    assert MASTER not in said
