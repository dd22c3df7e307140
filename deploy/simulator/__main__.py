"""Serve the simulator: `python -m deploy.simulator --host 127.0.0.1 --port 8899 [--log FILE] [--tls FOLDER]`."""

import argparse
import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server

from deploy.simulator import tls
from deploy.simulator.app import Simulator
from deploy.simulator.options import DEFAULT_KEY, Options

DRAIN_S = 3.0
MAX_CONNECTIONS = 8_192
HTTP1 = HTTP1Settings(header_read_timeout=30_000, keep_alive=True, max_buffer_size=417_792, pipeline_flush=False)


def main() -> None:
    """Read the command line and serve until SIGINT or SIGTERM."""
    arguments = _arguments().parse_args()
    options = Options(
        key=arguments.key,
        region=arguments.region,
        deployments=frozenset(arguments.deployment) if arguments.deployment else None,
        missing=frozenset(arguments.missing),
        served=dict(arguments.serves),
        log=arguments.log,
    )
    port = _free_port(arguments.host, arguments.port)
    certificates = None if arguments.tls is None else tls.make(arguments.tls, (*tls.HOSTS, arguments.host))
    asyncio.run(_serve(options, arguments.host, port, certificates))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.simulator",
        description="Simulate Azure AI Foundry. --deployment, --missing and --serves may be repeated.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one and prints it")
    parser.add_argument("--log", type=Path, help="append every billed call to this file as a line of JSON")
    parser.add_argument("--tls", type=Path, help="serve over TLS; what clients must trust is FOLDER/ca.pem")
    parser.add_argument("--key", default=DEFAULT_KEY, help=f"the resource's key (default: {DEFAULT_KEY})")
    parser.add_argument("--region", default="East US 2")
    parser.add_argument("--deployment", action="append", default=[], help="the only names that exist")
    parser.add_argument("--missing", action="append", default=[], help="a name that does not exist")
    parser.add_argument("--serves", action="append", default=[], type=_pair, metavar="DEPLOYMENT=MODEL")
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, equals, model = text.partition("=")
    if not (name and equals and model):
        raise argparse.ArgumentTypeError("must be DEPLOYMENT=MODEL")
    return name, model


def _free_port(host: str, port: int) -> int:
    """The port to serve at. The server shares ports silently, so a taken one must be found out before."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            sys.exit(f"Foundry simulator: {host}:{port}: {error.strerror}; choose another --port")
        return int(probe.getsockname()[1])


async def _serve(options: Options, host: str, port: int, certificates: tls.Certificates | None = None) -> None:
    simulator = Simulator(options)
    server = Server(
        simulator,
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        http1_settings=HTTP1,
        websockets=True,
        backlog=4_096,
        backpressure=MAX_CONNECTIONS,
        runtime_threads=1,
        log_level=LogLevels.error,
        ssl_cert=None if certificates is None else certificates.certificate,
        ssl_key=None if certificates is None else certificates.key,
        ssl_protocol_min=SSLProtocols.tls12,
    )
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    scheme = "http" if certificates is None else "https"
    print(f"Foundry simulator: {scheme}://{host}:{port} (controls: /_sim/served, /_sim/faults)", flush=True)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.serve())
        waiting = group.create_task(stopped.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            server.stop()
            await asyncio.wait({serving}, timeout=DRAIN_S)
        elif (error := serving.exception()) is not None:
            print(f"Foundry simulator: the server ended: {error}", file=sys.stderr, flush=True)
        simulator.served.close()
        # A stalled reader would hold the server for ever, and its threads do not always end well.
        os._exit(0 if stopped.is_set() else 1)


if __name__ == "__main__":
    main()
