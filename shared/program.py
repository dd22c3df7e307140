"""How a service process lives: one event loop, one embedded HTTP server per port, an orderly end.

granian's embedded server runs in this very process, so nothing outlives a killed parent. It may wait for ever
on a stalled reader and sometimes aborts at interpreter exit, hence the bounded wait and `os._exit`.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server

from shared.errors import TundishError

log = logging.getLogger(__name__)

BACKLOG = 2_048
CONNECTIONS_MAX = 8_192
"""Most open connections; granian leaves the next one unanswered, so this is far above what we expect."""
HEADER_TIMEOUT_MS = 30_000
HTTP_BUFFER_BYTES = 512 * 1024
STOP_WAIT_S = 5.0


def refuse_taken_port(host: str, port: int, setting: str) -> None:
    """Raise if somebody listens there already; granian shares ports (SO_REUSEPORT) without a word."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise TundishError(
                f"port {port} on {host} is taken ({error.strerror}): free it or set {setting}"
            ) from error


class HttpServer:
    """One port of this process."""

    def __init__(self, app: Any, host: str, port: int, *, websockets: bool = False) -> None:
        self._server = Server(
            app,
            address=host,
            port=port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=websockets,
            backlog=BACKLOG,
            backpressure=CONNECTIONS_MAX,
            http1_settings=HTTP1Settings(
                header_read_timeout=HEADER_TIMEOUT_MS,
                keep_alive=True,
                max_buffer_size=HTTP_BUFFER_BYTES,
                pipeline_flush=False,
            ),
            log_enabled=True,
            log_level=LogLevels.warning,
            log_access=False,
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen."""
        self._task = asyncio.get_running_loop().create_task(self._server.serve(), name="http")

    async def stop(self) -> None:
        """Stop listening and wait for open connections, within a bound."""
        if self._task is None:
            return
        self._server.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_WAIT_S):
                await asyncio.shield(self._task)


def run_program(name: str, main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `main` until it ends or SIGTERM/SIGINT sets its event, then leave the process.

    Exit code 0 after an orderly end, 1 after an error, which is logged in one line if it is ours.
    """
    code = 1
    try:
        uvloop.run(_supervise(main))
        code = 0
    except TundishError as error:
        log.error("%s cannot go on: %s", name, error)
    except Exception:
        log.exception("%s failed", name)
    finally:
        logging.shutdown()
        os._exit(code)


async def _supervise(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await main(stop)
