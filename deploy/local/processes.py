"""Processes told apart for sure: a pid alone may by now belong to somebody else."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

POLL_S = 0.05
PS_LIMIT_S = 5.0


class Identity(msgspec.Struct, frozen=True):
    """A process: its pid and a mark of when it started (the same for ever, different for a reused pid)."""

    pid: int
    start: str


def start_mark(pid: int) -> str | None:
    """When the process started, as an opaque text; None if there is none, or only its zombie."""
    if sys.platform == "linux":
        return _start_from_proc(pid)
    return _start_from_ps(pid)


def identify(pid: int) -> Identity | None:
    """The identity of a running process, or None if it is gone."""
    start = start_mark(pid)
    return None if start is None else Identity(pid, start)


def is_alive(process: Identity) -> bool:
    """Whether exactly this process still runs."""
    return start_mark(process.pid) == process.start


def send_signal(process: Identity, number: signal.Signals) -> bool:
    """Signal exactly this process; False if it is gone. PermissionError if it is another user's."""
    handle = _open_handle(process.pid)
    try:
        if not is_alive(process):
            return False
        if handle is None:
            os.kill(process.pid, number)
        else:
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        if handle is not None:
            os.close(handle)
    return True


def wait_gone(process: Identity, limit_s: float) -> bool:
    """Wait until the process is gone, at most `limit_s` seconds; False if it still runs."""
    deadline = time.monotonic() + limit_s
    handle = _open_handle(process.pid)
    try:
        while is_alive(process):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if handle is None:
                time.sleep(min(POLL_S, left))
            else:
                select.select([handle], [], [], left)
    finally:
        if handle is not None:
            os.close(handle)
    return True


def stop_process(process: Identity, number: signal.Signals, grace_s: float) -> bool:
    """Ask the process to stop, and kill it after `grace_s` seconds. False if it was already gone."""
    if not send_signal(process, number):
        return False
    if not wait_gone(process, grace_s):
        send_signal(process, signal.SIGKILL)
        wait_gone(process, grace_s)
    return True


def describe(pid: int) -> str:
    """A process for people: `nginx (pid 12: nginx -g daemon off)`, or its pid alone."""
    if sys.platform != "linux":
        return f"pid {pid}"
    name = words = ""
    with contextlib.suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    shown = words if len(words) <= 100 else words[:100] + "…"
    return f"{name or 'a process'} (pid {pid}{': ' + shown if shown else ''})"


def _open_handle(pid: int) -> int | None:
    """A handle that keeps the pid from meaning another process, where the system has such handles."""
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _start_from_proc(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name may hold spaces and brackets: count from its end
    state, ticks = fields[0], fields[19]
    return None if state in "ZX" else f"{boot}:{ticks}"


def _start_from_ps(pid: int) -> str | None:
    try:
        done = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
            capture_output=True,
            text=True,
            check=False,
            timeout=PS_LIMIT_S,
            env={"PATH": "/bin:/usr/bin", "LC_ALL": "C", "TZ": "UTC"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    state, _, start = done.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else " ".join(start.split())
