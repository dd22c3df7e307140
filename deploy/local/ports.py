"""Ports: is one free, who has it, and which others to take."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.local.errors import UpError
from deploy.local.processes import describe
from deploy.local.settings import DEFAULT_PORT, PORT_MAX

INTERNAL_FROM = 20_000
INTERNAL_TO = 32_000
"""Below the range that Linux uses for outgoing connections: a restarted child finds its own port free."""
TRIES_MAX = 500
SUGGEST_MAX = 2_000
PRIVILEGED_BELOW = 1024
LSOF_LIMIT_S = 5.0
LISTENING = "0A"
LOOPBACK = "127.0.0.1"


def resolve(host: str, port: int) -> tuple[socket.AddressFamily, str]:
    """Address family and address of a host to listen on. Raises UpError if it cannot be found."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise UpError(f"TUNDISH_HOST is {host!r}, which is not an address here ({error}).") from None
    family, _, _, _, address = found[0]
    return family, str(address[0])


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens there.

    Bound with SO_REUSEADDR only: old connections in TIME_WAIT do not count, and a listener with
    SO_REUSEPORT (as ours have) does.
    """
    family, address = resolve(host, port)
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def reserve(host: str, port: int) -> socket.socket:
    """Claim a port among the supervisors of this machine, until the returned socket is closed.

    Our listeners set SO_REUSEPORT, so two supervisors that start in the same second would both find the
    port free and then share its calls. On Linux a name beside the port (gone with this process, seen
    by nobody outside this network) keeps the second one out. Raises OSError if the port is taken.
    """
    if not is_free(host, port):
        raise OSError(f"port {port} is taken")
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if sys.platform == "linux":
        try:
            claim.bind(f"\0tundish-port-{port}")
        except OSError:
            claim.close()
            raise
    return claim


def pick_ports(names: list[str], before: Mapping[str, int], held: contextlib.ExitStack) -> dict[str, int]:
    """A free loopback port for each name: the one it had before if that is free, else any.

    They are claimed until `held` is closed. Raises UpError if there is none left.
    """
    chosen: dict[str, int] = {}
    for name in names:
        candidates = (random.randrange(INTERNAL_FROM, INTERNAL_TO) for _ in range(TRIES_MAX))
        for port in (before.get(name, 0), *candidates):
            if port < PRIVILEGED_BELOW or port in chosen.values():
                continue
            with contextlib.suppress(OSError):
                held.enter_context(reserve(LOOPBACK, port))
                chosen[name] = port
                break
        else:
            raise UpError(f"No free port was found from {INTERNAL_FROM} to {INTERNAL_TO} on {LOOPBACK}.")
    return chosen


def front_door_taken(host: str, port: int) -> str:
    """What to tell somebody whose front door cannot be opened: who has the port, and what to set."""
    who = holder(port)
    if who is not None:
        reason = f"is taken by {who}"
    elif is_free(host, port):
        reason = "is just being taken by another Tundish that starts"
    elif port < PRIVILEGED_BELOW and os.geteuid() != 0:
        reason = f"cannot be opened (ports below {PRIVILEGED_BELOW} need a right of their own), or is taken"
    else:
        reason = "is taken by a process that this user cannot see"
    others = range(max(port, PRIVILEGED_BELOW) + 1, min(port + SUGGEST_MAX, PORT_MAX + 1))
    other = next((free for free in others if is_free(host, free)), DEFAULT_PORT)
    return (
        f"Port {port} on {host} {reason}. Stop it, or set TUNDISH_PORT to a free port, "
        f"for example `TUNDISH_PORT={other} make up`."
    )


def holder(port: int) -> str | None:
    """The process that listens on a port, for people; None if it cannot be found (another user's)."""
    if sys.platform == "linux":
        inodes = listening_inodes(port)
        pid = _owner_of(inodes) if inodes else None
        return None if pid is None else describe(pid)
    return _holder_from_lsof(port)


def listening_inodes(port: int, tables: tuple[str, ...] = ("/proc/net/tcp", "/proc/net/tcp6")) -> set[str]:
    """Socket inodes that listen on a port, from the kernel's tables."""
    inodes: set[str] = set()
    for table in tables:
        with contextlib.suppress(OSError), Path(table).open() as lines:
            next(lines, None)
            for line in lines:
                fields = line.split()
                if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(fields[9])
    return inodes


def _owner_of(inodes: set[str]) -> int | None:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            for handle in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(handle.readlink()) in wanted:
                        return int(process.name)
    return None


def _holder_from_lsof(port: int) -> str | None:
    tool = shutil.which("lsof")
    if tool is None:
        return None
    try:
        done = subprocess.run(
            [tool, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"],
            capture_output=True,
            text=True,
            check=False,
            timeout=LSOF_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    fields = {line[0]: line[1:] for line in done.stdout.splitlines() if line}
    return f"{fields.get('c', 'a process')} (pid {fields['p']})" if "p" in fields else None
