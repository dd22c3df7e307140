"""`python -m deploy.local.up` itself, with stand-ins for the services: starts, falls, ends, starts again."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.processes import Identity, is_alive, send_signal, wait_gone
from deploy.local.runfile import read_record
from tests.support.servers import free_port
from tests.support.stack import free_ports

ROOT = Path(__file__).parents[2]
LIMIT_S = 40.0
EVERY_PROCESS = {
    "auth",
    "ledger-bookkeeper",
    "ledger-enforcer",
    "ledger-enforcer-2",
    "scheduler",
    "proxy",
    "proxy-w2",
}

STAND_IN = """
import asyncio, os, signal, sys

if sys.argv[1] == "migrate":
    print("migrates", os.environ["TUNDISH_POSTGRES_URL"], os.environ["TUNDISH_NATS_URL"])
    sys.exit(int(os.environ.get("MIGRATE_EXIT", "0")))
name = sys.argv[2]
if name in os.environ.get("MISCONFIGURED", ""):
    print("a setting is wrong", flush=True)
    sys.exit(2)

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\nconnection: close\\r\\n\\r\\nok")
    await writer.drain()
    writer.close()

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    ports = [os.environ["TUNDISH_INTERNAL_PORT"]]
    if name == "proxy":
        ports.append(os.environ["TUNDISH_PORT"])
    for port in ports:
        await asyncio.start_server(answer, "127.0.0.1", int(port), reuse_port=True)
    print("listens as", os.getpid(), flush=True)
    await stop.wait()
    print("says bye", flush=True)

asyncio.run(main())
"""
CONFIG = "model_list:\n  - model_name: gpt-4o\n    litellm_params: {model: azure/x, api_base: https://x.example/}\n"


class Up:
    """Starts of the runner from one data folder, on one front port, with servers that are brought along."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.port = free_port()
        (folder / "services").mkdir()
        (folder / "services" / "__init__.py").touch()
        (folder / "services" / "__main__.py").write_text(STAND_IN)
        (folder / "config.yaml").write_text(CONFIG)
        self._started: list[subprocess.Popen[str]] = []

    def run(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        values = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))),
            "TUNDISH_HOME": str(self.home),
            "TUNDISH_CONFIG": str(self.folder / "config.yaml"),
            "TUNDISH_PORT": str(self.port),
            "TUNDISH_WORKERS": "2",
            "TUNDISH_POSTGRES_URL": "postgresql://brought:along@127.0.0.1:1/x",
            "TUNDISH_NATS_URL": "nats://brought:along@127.0.0.1:2",
            **env,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.local.up", *arguments],
            cwd=self.folder,
            env=values,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._started.append(process)
        return process

    def start(self, **env: str) -> subprocess.Popen[str]:
        """Run it and wait until it is ready."""
        process = self.run(**env)
        until(process, "Tundish is ready")
        return process

    def children(self) -> dict[str, Identity]:
        return {name: child.process for name, child in read_record(self.home).children.items()}

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.wait(LIMIT_S)
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    started = Up(tmp_path)
    yield started
    started.close()


def until(process: subprocess.Popen[str], text: str) -> str:
    """Read what is printed up to the line that holds the text; that line."""
    assert process.stdout is not None
    seen: list[str] = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return line
    raise AssertionError(f"it never said {text!r}, but:\n{''.join(seen)}")


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    text, _ = process.communicate(timeout=LIMIT_S)
    return process.returncode, text


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), LIMIT_S):
            return True
    except ConnectionRefusedError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_starts_everything_and_ends_it_in_order(up: Up, number: signal.Signals) -> None:
    process = up.run()
    assert "postgresql://brought:along" in until(process, "migrates")
    assert until(process, "Tundish is ready").startswith(f"Tundish is ready: http://127.0.0.1:{up.port} (")
    children = up.children()
    assert set(children) == EVERY_PROCESS
    assert answers(up.port)
    process.send_signal(number)
    code, text = ended(process)
    assert code == 0
    assert text.index("stopping proxy, proxy-w2") < text.index("stopping auth")
    assert text.count("says bye") == len(EVERY_PROCESS)
    assert not any(is_alive(child) for child in children.values())
    assert not answers(up.port)


def test_each_proxy_has_a_front_door_that_is_named(up: Up) -> None:
    up.port = free_ports(3)
    process = up.run(TUNDISH_PROXIES="3", TUNDISH_WORKERS="1", TUNDISH_ENFORCERS="1")
    ready = until(process, "Tundish is ready")
    assert all(f"http://127.0.0.1:{up.port + number} " in ready for number in range(3))
    names = EVERY_PROCESS - {"ledger-enforcer-2", "proxy-w2"} | {"proxy-2", "proxy-3"}
    assert set(up.children()) == names
    assert all(answers(up.port + number) for number in range(3))
    assert ended(up.run("--down"))[0] == 0
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", up.port + 1))
        taken.listen()
        code, text = ended(up.run(TUNDISH_PROXIES="2"))
    assert code == 1
    assert f"Port {up.port + 1} on 127.0.0.1 is taken by" in text


def test_a_second_start_says_so_and_harms_nothing(up: Up) -> None:
    first = up.start()
    before = up.children()
    code, text = ended(up.run())
    assert code == 1
    assert f"already runs from home: http://127.0.0.1:{up.port} (supervisor pid {first.pid})" in text
    assert "make down" in text
    assert up.children() == before
    assert all(is_alive(child) for child in before.values())


def test_a_taken_port_is_said_with_who_has_it(up: Up) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", up.port))
        taken.listen()
        code, text = ended(up.run())
    assert code == 1
    assert f"Port {up.port} on 127.0.0.1 is taken by" in text
    assert f"pid {os.getpid()}" in text
    assert "TUNDISH_PORT" in text
    assert up.children() == {}


def test_a_fallen_process_is_started_again(up: Up) -> None:
    process = up.start()
    for name, child in up.children().items():
        assert send_signal(child, signal.SIGKILL)
        assert f"{name} was killed by SIGKILL" in until(process, "starting it again")
        until(process, "listens as")
        assert up.children()[name] != child
    assert set(up.children()) == EVERY_PROCESS
    assert all(is_alive(child) for child in up.children().values())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_a_killed_supervisor_takes_everything_with_it(up: Up) -> None:
    process = up.start()
    children = up.children()
    process.kill()
    assert process.wait(LIMIT_S) == -signal.SIGKILL
    assert all(wait_gone(child, LIMIT_S) for child in children.values())
    assert not answers(up.port)
    again = up.start()
    assert set(up.children()) == EVERY_PROCESS
    again.terminate()
    assert ended(again)[0] == 0


def test_down_stops_it_and_is_harmless_otherwise(up: Up) -> None:
    assert ended(up.run("--down")) == (0, "Nothing runs: there is no data folder home.\n")
    process = up.start()
    children = up.children()
    code, text = ended(up.run("--down"))
    assert (code, text.splitlines()[-1]) == (0, "Tundish has stopped.")
    assert ended(process)[0] == 0
    assert not any(is_alive(child) for child in children.values())
    assert ended(up.run("--down")) == (0, "Nothing runs.\n")


def test_internal_ports_stay_the_same(up: Up) -> None:
    first = up.start()
    ports = read_record(up.home).ports
    first.terminate()
    ended(first)
    up.start()
    assert read_record(up.home).ports == ports


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"MIGRATE_EXIT": "1"}, "The migration of databases and streams ended (exit 1)"),
        ({"MISCONFIGURED": "ledger-enforcer"}, "ledger-enforcer cannot start"),
        ({"TUNDISH_PORT": "x"}, "TUNDISH_PORT is 'x'"),
        ({"TUNDISH_CONFIG": "none.yaml"}, "there is no such file"),
    ],
)
def test_a_start_that_fails_says_why_and_leaves_nothing(up: Up, env: dict[str, str], says: str) -> None:
    code, text = ended(up.run(**env))
    assert code == 1
    assert says in text
    assert "Traceback" not in text
    assert up.children() == {}
    assert not answers(up.port)


def test_stopped_twice_it_ends_at_once(up: Up) -> None:
    process = up.start()
    stuck = up.children()["proxy"]
    send_signal(stuck, signal.SIGSTOP)
    process.terminate()
    until(process, "stopping proxy")
    process.terminate()
    code, text = ended(process)
    assert code == 0
    assert "again: ending everything now" in text
    assert not is_alive(stuck)
