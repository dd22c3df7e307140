"""Breaking a connection for real: ASGI offers no way to close one without an answer."""

import os
import socket
import struct
from pathlib import Path

from deploy.simulator.wire import Client

FD_FOLDER = Path("/proc/self/fd")
LINGER_ZERO = struct.pack("ii", 1, 0)


def cut(client: Client, at_once: bool) -> bool:
    """Make the close of the caller's connection a reset; with `at_once`, shut it down now.

    Finds the server's socket by its peer address (Linux). False when there is none to be found: the caller
    then sees the server's own way to end an unfinished answer.
    """
    if client is None or not FD_FOLDER.is_dir():
        return False
    wanted = (client[0], int(client[1]))  # granian gives the port as text
    for entry in list(FD_FOLDER.iterdir()):
        own = _duplicate(int(entry.name))
        if own is None:
            continue
        with own:
            if _peer(own) != wanted:
                continue
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            if at_once:
                own.shutdown(socket.SHUT_RDWR)
            return True
    return False


def _duplicate(fd: int) -> socket.socket | None:
    try:
        copy = os.dup(fd)
    except OSError:
        return None
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return None


def _peer(own: socket.socket) -> tuple[str, int] | None:
    if own.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        peer = own.getpeername()
    except OSError:
        return None
    return str(peer[0]), int(peer[1])
