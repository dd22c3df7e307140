"""`tundish serve scheduler` as a process: ready, orderly end, a taken port, and `kill -9` in the midst of rotations."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from shared.clock import SystemClock
from shared.events import RotationDue
from shared.pg import migrate
from tests.support.eventually import eventually
from tests.support.role_keys import PEPPERS
from tests.support.servers import NatsServer, PostgresServer, free_port
from tests.support.timetable import issued, scheduled, town_of

ROOT = Path(__file__).parents[2]
MASTER = "sk-a-master-key-for-tests-0123456789"


class Process:
    """One scheduler of our own, stopped by its pid."""

    def __init__(self, postgres_url: str, nats: NatsServer, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.child = subprocess.Popen(
            [sys.executable, "-m", "services", "serve", "scheduler"],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "TUNDISH_MASTER_KEY": MASTER,
                "TUNDISH_TOKEN": "token",
                "TUNDISH_PEPPERS": PEPPERS,
                "TUNDISH_NATS_URL": nats.url_for("scheduler"),
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

    async def node(self) -> str:
        """The name under which it decides."""
        async with httpx.AsyncClient(trust_env=False) as client:
            headers = {"authorization": f"Bearer {MASTER}"}
            return (await client.get(f"{self.url}/scheduler/status", headers=headers)).json()["node"]

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


async def test_it_serves_ends_in_order_and_shares_its_port_with_nobody(
    nats: NatsServer, database: str, processes: list[Process]
) -> None:
    await migrate(database, schema="scheduler", package="services.scheduler", progress=lambda _line: None)
    port = free_port()
    first = Process(database, nats, port)
    processes.append(first)
    checks = ("postgres", "ticking", "nats", "mirror", "timetable", "clock")
    assert await first.readiness(200) == dict.fromkeys(checks, "ok")
    second = Process(database, nats, port)
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
    postgres_server: PostgresServer, nats: NatsServer, database: str, processes: list[Process]
) -> None:
    await migrate(database, schema="scheduler", package="services.scheduler", progress=lambda _line: None)
    postgres_server.stop()
    try:
        process = Process(database, nats, free_port())
        processes.append(process)
        checks = await process.readiness(503)
        assert checks["postgres"] != "ok"
    finally:
        postgres_server.start()
    await process.readiness(200)
    code, said = process.end(signal.SIGINT)
    assert code == 0
    assert MASTER not in said


async def test_kill_9_of_the_one_that_ticks_loses_and_doubles_no_rotation(
    nats: NatsServer, database: str, processes: list[Process]
) -> None:
    """Forty keys, due a quarter of a second apart; whoever holds the lease is killed when it is at the tenth."""
    names = [f"key_{number:02}" for number in range(40)]
    async with town_of(nats, database) as town:
        processes += [Process(database, nats, free_port()) for _ in range(2)]
        for process in processes:
            await process.readiness(200)
        first = SystemClock().now() + timedelta(seconds=1)
        for number, name in enumerate(names):
            anchor = first + number * timedelta(seconds=0.25) - timedelta(minutes=1)
            await town.decided(issued(name), scheduled(name, anchor=anchor))

        async def told() -> list[str]:
            return [event.key_id for event in await town.work() if isinstance(event, RotationDue)]

        async def some() -> bool:
            return len(await told()) >= 10

        await eventually(some)
        holder = (await town.sql("SELECT decided_by FROM rotation_run LIMIT 1"))[0]["decided_by"]
        (killed,) = [process for process in processes if await process.node() == holder]
        killed.end(signal.SIGKILL)

        async def all_of_them() -> bool:
            return len(await told()) >= len(names)

        await eventually(all_of_them, within_s=40)
        assert sorted(await told()) == names
        rows = await town.sql("SELECT count(*) AS n, count(DISTINCT decided_by) AS nodes FROM rotation_run")
        assert (rows[0]["n"], rows[0]["nodes"]) == (len(names), 2)
