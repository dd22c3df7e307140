"""The Foundry simulator as a process of its own, for clients that want a real server."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
BANNER = re.compile(r"Foundry simulator: (https?://\S+) ")
END_S = 10


class Server:
    """A running simulator: its base URL and its controls."""

    def __init__(self, url: str, verify: str | bool = True) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, verify=verify, trust_env=False)

    def served(self) -> list[dict[str, Any]]:
        """The served-call log; every call with the same number of answers is in it before the first byte."""
        return self._http.get("/_sim/served").json()["calls"]

    def last(self) -> dict[str, Any]:
        """The newest served call."""
        return self.served()[-1]

    def settings(self, **changes: object) -> None:
        """Change the simulator's settings."""
        assert self._http.post("/_sim/settings", json=changes).status_code == 200

    def fault(self, **fields: object) -> None:
        """Put a fault in force."""
        assert self._http.post("/_sim/faults", json=fields).status_code == 200

    def reset(self) -> None:
        """No served calls, no faults, settings as at the start."""
        for name in ("served", "faults", "settings"):
            assert self._http.delete(f"/_sim/{name}").status_code == 200

    def close(self) -> None:
        """Close the connection to the controls."""
        self._http.close()


@contextmanager
def running(*arguments: str, verify: str | bool = True) -> Generator[Server]:
    """A simulator at a free port, for the length of a `with`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "deploy.simulator", "--port", "0", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        banner = BANNER.search(process.stdout.readline())
        assert banner is not None, "the simulator did not start"
        server = Server(banner[1], verify)
        try:
            yield server
        finally:
            server.close()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(END_S)
        process.stdout.close()
