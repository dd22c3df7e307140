"""kill -9 of every process in turn under load: restarted, nothing doubled, every served call booked once."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.audit import Audit, audit
from tests.support.load import Load
from tests.support.stack import Stack, stack_folder, wait_until

pytestmark = pytest.mark.stack

CHILDREN = ("proxy", "ledger-enforcer", "ledger-bookkeeper", "auth", "scheduler", "nats", "postgres", "simulator")
CALLS_BETWEEN = 150
RECOVERY_S = 60.0


def stack_in(folder: Path) -> Stack:
    """A stack whose simulator remembers what it served, even when it is killed."""
    return Stack(folder / "home", env={"TUNDISH_SIMULATOR_LOG": str(folder / "served.jsonl")})


@pytest.fixture
def folder() -> Iterator[Path]:
    with stack_folder() as made:
        yield made


@pytest.fixture
def own_stack(folder: Path) -> Iterator[Stack]:
    running = stack_in(folder).start()
    yield running
    running.stop()


def settled(stack: Stack) -> Audit:
    """The audit once the books have stopped changing."""

    def probe() -> Audit | None:
        found = audit(stack)
        return found if not found.missing and not found.wrong else None

    try:
        return wait_until("all served calls in the books", probe, timeout_s=RECOVERY_S)
    except AssertionError:
        return audit(stack)


def rebuilt_equal(stack: Stack) -> bool:
    """Whether the log, folded again, gives the books."""
    job = stack.call("POST", "/ledger/rebuild", json={"check": True})["job"]

    def probe() -> dict[str, object] | None:
        state: dict[str, object] = stack.call("GET", f"/ledger/rebuild/{job}")
        return state if state["state"] != "running" else None

    return wait_until("the rebuild", probe, timeout_s=60)["equal"] is True


def test_every_child_in_turn(own_stack: Stack) -> None:
    key = own_stack.mint(key_alias="load", max_budget=100)
    load = Load(own_stack, key).start()
    killed_in_flight = 0
    try:
        for name in CHILDREN:
            goal = load.good + CALLS_BETWEEN
            wait_until(f"calls before the end of {name}", lambda goal=goal: load.good >= goal, timeout_s=60)
            pid = own_stack.pid(name)
            os.kill(pid, signal.SIGKILL)
            if name in ("proxy", "simulator"):
                killed_in_flight += load.workers
            wait_until(f"{name} again", lambda name=name, pid=pid: _child(own_stack, name) not in (None, pid), 30)
            goal = load.good + CALLS_BETWEEN
            wait_until(f"calls after the end of {name}", lambda goal=goal: load.good >= goal, timeout_s=60)
    finally:
        load.stop()
    found = settled(own_stack)
    assert (found.missing, found.twice, found.wrong) == ([], [], [])
    assert len(found.marked) <= killed_in_flight
    assert found.served >= 2 * CALLS_BETWEEN * len(CHILDREN)
    assert rebuilt_equal(own_stack)


def _child(stack: Stack, name: str) -> int | None:
    child = stack.run_record()["children"].get(name)
    return None if child is None else int(child["process"]["pid"])


def test_the_supervisor_takes_everything_with_it_and_the_next_start_recovers(folder: Path) -> None:
    stack = stack_in(folder).start()
    key = stack.mint(key_alias="load", max_budget=100)
    load = Load(stack, key).start()
    try:
        wait_until("some calls", lambda: load.good >= CALLS_BETWEEN, timeout_s=60)
        pids = [int(child["process"]["pid"]) for child in stack.run_record()["children"].values()]
        stack.kill()
        wait_until("no orphan", lambda: not any(_runs(pid) for pid in pids), timeout_s=30)
    finally:
        load.stop()
    stack.start()
    try:
        found = settled(stack)
        assert (found.missing, found.twice, found.wrong) == ([], [], [])
        assert len(found.marked) <= load.workers
        assert rebuilt_equal(stack)
    finally:
        assert stack.stop() == 0


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
