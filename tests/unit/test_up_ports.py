"""Ports of `make up`: free or not, who has one, which to take."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.local.errors import UpError
from deploy.local.ports import (
    INTERNAL_FROM,
    INTERNAL_TO,
    LOOPBACK,
    front_door_taken,
    holder,
    is_free,
    listening_inodes,
    pick_ports,
    reserve,
    resolve,
)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind((LOOPBACK, 0))
        server.listen()
        yield server


def picked(names: list[str], before: dict[str, int]) -> dict[str, int]:
    """Ports, given back at once."""
    with ExitStack() as held:
        return pick_ports(names, before, held)


def test_a_listener_that_would_share_its_port_still_has_it(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    assert not is_free(LOOPBACK, port)
    assert not is_free("0.0.0.0", port)
    with pytest.raises(OSError, match="taken"):
        reserve(LOOPBACK, port)
    listener.close()
    assert is_free(LOOPBACK, port)


def test_the_message_names_the_process_and_the_remedy(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    assert f"pid {os.getpid()}" in (holder(port) or "")
    message = front_door_taken(LOOPBACK, port)
    assert f"pid {os.getpid()}" in message
    assert "TUNDISH_PORT=" in message
    listener.close()
    assert holder(port) is None


def test_two_supervisors_cannot_both_take_a_free_port() -> None:
    port = picked(["front"], {})["front"]
    with reserve(LOOPBACK, port):
        with pytest.raises(OSError):
            reserve(LOOPBACK, port)
        assert "another Tundish" in front_door_taken(LOOPBACK, port)
        with socket.socket() as ours:  # our own listener, sharing its port with other workers
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            ours.bind((LOOPBACK, port))
            ours.listen()
    with reserve(LOOPBACK, port):
        assert is_free(LOOPBACK, port)


def test_ports_stay_unless_taken_or_doubled(listener: socket.socket) -> None:
    taken = listener.getsockname()[1]
    first = picked(["a", "b", "c"], {})
    assert len(set(first.values())) == 3
    assert all(INTERNAL_FROM <= port < INTERNAL_TO for port in first.values())
    assert picked(["a", "b", "c"], first) == first
    second = picked(["a", "b", "c"], {"a": first["a"], "b": taken, "c": first["a"]})
    assert second["a"] == first["a"]
    assert taken not in second.values()
    assert len(set(second.values())) == 3
    with ExitStack() as held:
        theirs = pick_ports(["a", "b"], first, held)
        ours = picked(["a", "b"], first)
        assert theirs == {name: first[name] for name in ("a", "b")}
        assert not set(theirs.values()) & set(ours.values())


def test_the_kernels_table_is_read_for_listeners_only(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    table.write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:0FA0 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 111 1\n"
        "   1: 0100007F:0FA0 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  0  0 222 1\n"
        "   2: 00000000:0FA1 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 333 1\n"
    )
    assert listening_inodes(4000, (str(table), str(tmp_path / "none"))) == {"111"}


def test_a_host_that_is_none_is_said() -> None:
    assert resolve("127.0.0.1", 1)[1] == "127.0.0.1"
    with pytest.raises(UpError, match="TUNDISH_HOST"):
        resolve("not a host", 1)
