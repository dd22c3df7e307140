"""The auth service as a process of its own on servers of its own, for modules that share one and call it over HTTP."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.auth import MASTER_KEY, PEER_TOKEN, TOKEN, migrated
from tests.support.servers import NatsServer, PostgresServer, _apply_topology, _folder, free_port

ROOT = Path(__file__).parents[2]
PEPPERS = {"p2": "ab" * 32, "p1": "cd" * 32}
READY_WITHIN_S = 30.0
STOP_WITHIN_S = 20.0


class AuthProcess:
    """A running service: `url`, a client, its database, and what it wrote."""

    def __init__(self, url: str, client: httpx.Client, database: str, log: Path) -> None:
        self.url = url
        self.database = database
        self.client = client
        self._log = log

    @property
    def output(self) -> str:
        """All that the process wrote so far."""
        return self._log.read_text(errors="replace")

    def call(
        self, method: str, path: str, *, key: str | None = MASTER_KEY, body: Any = None, query: Any = None
    ) -> httpx.Response:
        """One request; `key` None sends no credential."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return self.client.request(method, path, headers=headers, json=body, params=query)

    def made(self, path: str, body: dict[str, Any], *, key: str = MASTER_KEY) -> Any:
        """What a POST that must succeed answers."""
        answer = self.call("POST", path, key=key, body=body)
        assert answer.status_code == 200, (path, body, answer.text)
        return answer.json()


@contextmanager
def auth_process(postgres: PostgresServer, **more: str) -> Generator[AuthProcess]:
    """The service at work, ready; `more` are variables of its environment."""
    folder = _folder("auth")
    nats, port = NatsServer(folder), free_port()
    nats.start()
    asyncio.run(_apply_topology(nats.url))
    database = asyncio.run(migrated(postgres.create_database()))
    env = {
        "PATH": os.environ["PATH"],
        "TUNDISH_MASTER_KEY": MASTER_KEY,
        "TUNDISH_TOKEN": TOKEN,
        "TUNDISH_PEER_TOKENS": f"scheduler:{PEER_TOKEN}",
        "TUNDISH_NATS_URL": nats.url_for("auth"),
        "TUNDISH_POSTGRES_URL": database,
        "TUNDISH_PEPPERS": ",".join(f"{label}:{pepper}" for label, pepper in PEPPERS.items()),
        "TUNDISH_LEDGER_URL": "http://127.0.0.1:9",
        "TUNDISH_INTERNAL_PORT": str(port),
        **more,
    }
    log = folder / "auth.log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "services.auth"], cwd=ROOT, env=env, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            _wait(process, client, log)
            yield AuthProcess(url, client, database, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_WITHIN_S)
        nats.stop()
        shutil.rmtree(folder)


def _wait(process: subprocess.Popen[bytes], client: httpx.Client, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            if client.get("/health/readiness").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
