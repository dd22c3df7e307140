"""The `tundish` command: `serve` runs one service, `migrate` prepares the servers, the rest operates.

A service is imported only when it is the one to run, so that no process carries the code of another.
"""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module

from services.cli.parser import add_commands
from services.version import VERSION
from shared.errors import SettingsError, TundishError
from shared.settings import Env

EXIT_FAILED = 1
EXIT_SETTINGS = 2
EXIT_INTERRUPTED = 130

SERVICES = {
    "auth": "services.auth.app",
    "proxy": "services.proxy.app",
    "scheduler": "services.scheduler.app",
    "ledger-enforcer": "services.ledger.enforcer.app",
    "ledger-bookkeeper": "services.ledger.bookkeeper.app",
}
"""Service name → module with `async def main(stop: asyncio.Event) -> None`."""

ServiceMain = Callable[[asyncio.Event], Awaitable[None]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script; leaves with 0, 1 (failed), 2 (settings or usage) or 130."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = build_parser(words).parse_args(words)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        code = run(options)
    except SettingsError as error:
        print(f"tundish: {error}", file=sys.stderr)
        code = EXIT_SETTINGS
    except TundishError as error:
        print(f"tundish: {error}", file=sys.stderr)
        code = EXIT_FAILED
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_FAILED
    sys.exit(code)


def build_parser(words: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """All commands. Each sets `run`, which takes the parsed options and returns an exit code.

    `words` is what is going to be parsed: then only the noun that it names is made whole.
    """
    parser = argparse.ArgumentParser(
        prog="tundish",
        description="A gateway for Azure AI Foundry: virtual keys, budgets that hold, one endpoint.",
        epilog="Settings come from the environment; docs/configuration.md lists them all.",
    )
    parser.add_argument("--version", action="version", version=f"tundish {VERSION}")
    commands = parser.add_subparsers(title="commands", metavar="<command>", required=True)

    serving = commands.add_parser("serve", help="run one service until SIGTERM or Ctrl-C")
    serving.add_argument("service", choices=tuple(SERVICES))
    serving.set_defaults(run=serve)

    migrating = commands.add_parser("migrate", help="bring the Postgres schemas and NATS streams up to date")
    migrating.set_defaults(run=migrate)

    add_commands(commands, words)
    parser.set_defaults(whole=build_parser)
    return parser


def serve(options: argparse.Namespace) -> int:
    """Run one service; it leaves the process by itself when it ends."""
    name: str = options.service
    _configure_logging()
    from shared.program import run_program

    service_main: ServiceMain = import_module(SERVICES[name]).main
    run_program(name, _leaving_on_settings_error(service_main))
    return EXIT_FAILED


def migrate(options: argparse.Namespace) -> int:
    """Bring both servers up to date, waiting a bounded time for them to come up."""
    _configure_logging()
    from services.migrate import run

    asyncio.run(run(Env(), lambda line: print(line, flush=True)))
    return 0


def _configure_logging() -> None:
    from shared.telemetry import configure_logging

    env = Env()
    configure_logging(
        env.choice("TUNDISH_LOG", "text", ("text", "json")),
        env.choice("TUNDISH_LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
    )


def _leaving_on_settings_error(service_main: ServiceMain) -> ServiceMain:
    """A supervisor must tell "cannot be configured like this" (2: do not restart) from a failure (1)."""

    async def run(stop: asyncio.Event) -> None:
        try:
            await service_main(stop)
        except SettingsError as error:
            print(f"tundish: {error}", file=sys.stderr, flush=True)
            logging.shutdown()
            os._exit(EXIT_SETTINGS)

    return run


if __name__ == "__main__":
    main()
