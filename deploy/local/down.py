"""`make down`: stop what runs from a data folder, whether or not its supervisor still lives."""

import signal
import time
from pathlib import Path

from deploy.local.banner import shown_path
from deploy.local.errors import UpError
from deploy.local.processes import Identity, is_alive, send_signal
from deploy.local.runfile import RunFile, locked, read_record, run_path, stop_leftovers, stop_time_s

STOP_SLACK_S = 30.0
"""On top of what the children are allowed for their ends."""
RECORD_LIMIT_S = 3.0
"""How long a supervisor that has just taken the lock may need to write who it is."""
POLL_S = 0.1


def already_running(home: Path) -> str:
    """What to tell somebody who starts it twice."""
    record = read_record(home)
    if record.supervisor is None or not is_alive(record.supervisor):
        return f"Another process is starting or stopping Tundish in {shown_path(home)}. Try again in a moment."
    return (
        f"Tundish already runs from {shown_path(home)}: {record.url} (supervisor pid "
        f"{record.supervisor.pid}). Nothing was changed. `make down` stops it; for another one beside it, "
        "set TUNDISH_HOME and TUNDISH_PORT."
    )


def stop_running(home: Path) -> int:
    """Stop it and wait until it is gone; returns the exit code. Raises UpError if it does not stop."""
    if not _is_there(home):
        print(f"Nothing runs: there is no data folder {shown_path(home)}.")
        return 0
    stopped = False
    limit_s = STOP_SLACK_S + stop_time_s(read_record(home))
    deadline = time.monotonic() + limit_s
    while not _take_over(home, stopped):
        if not stopped:
            supervisor = _supervisor(home)
            print(f"Stopping Tundish (supervisor pid {supervisor.pid}) …", flush=True)
            _ask_to_stop(supervisor)
            stopped = True
        if time.monotonic() >= deadline:
            raise UpError(f"Tundish did not stop within {limit_s:g} s. `make down` again ends it by force.")
        time.sleep(POLL_S)
    return 0


def _is_there(home: Path) -> bool:
    try:
        return home.is_dir()
    except PermissionError as error:
        raise UpError(f"The data folder {home} cannot be seen ({error.strerror}); its owner can.") from None


def _take_over(home: Path, stopped: bool) -> bool:
    """Once the lock is free, end what a dead supervisor left and say how it went; False while it is held."""
    with locked(home) as ours:
        if not ours:
            return False
        record = read_record(home)
        left = stop_leftovers(record, print)
        if left or record.supervisor is not None:
            RunFile(run_path(home), record).close()
    print("Tundish has stopped." if stopped or left else "Nothing runs.")
    return True


def _supervisor(home: Path) -> Identity:
    """The process that holds the lock, as it wrote itself down."""
    deadline = time.monotonic() + RECORD_LIMIT_S
    while time.monotonic() < deadline:
        supervisor = read_record(home).supervisor
        if supervisor is not None and is_alive(supervisor):
            return supervisor
        time.sleep(POLL_S)
    raise UpError(f"{shown_path(home)} is in use by a process that did not say who it is. Try again in a moment.")


def _ask_to_stop(supervisor: Identity) -> None:
    try:
        send_signal(supervisor, signal.SIGTERM)
    except PermissionError:
        raise UpError(
            f"Tundish runs as another user (pid {supervisor.pid}), who must stop it; root can, too."
        ) from None
