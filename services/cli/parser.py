"""The commands of the operator's command line and their options; nothing heavy is imported before it runs."""

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol

from shared.money import MoneyError, nusd_from_usd

REBUILD_WAIT_S = 3_600
LOGS_SHOWN = 50
PAGE_SIZE = 50


class Commands(Protocol):
    """What argparse's `add_subparsers` gives."""

    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser:  # noqa: A002
        """A new command."""
        ...


def add_commands(commands: Commands) -> None:
    """Add `status`, `key`, `spend` and `ledger`; each sets `run`, from options to exit code."""
    status = commands.add_parser("status", help="whether the front door is ready, and what it waits for")
    _finish(status, "status", "status")
    _add_key(commands.add_parser("key", help="make, show, block and delete virtual keys"))
    _add_spend(commands.add_parser("spend", help="what was spent, by key, by team, by call"))
    _add_ledger(commands.add_parser("ledger", help="look after the books"))


def _add_key(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="<action>", required=True)

    listing = commands.add_parser("list", help="the keys, newest first")
    listing.add_argument("--team", metavar="ID", help="only keys of this team")
    listing.add_argument("--org", metavar="ID", help="only keys of this organization")
    _add_paging(listing)
    _finish(listing, "keys", "show_list")

    for name, text in (
        ("info", "all about one key"),
        ("block", "refuse a key until it is unblocked"),
        ("unblock", "let a blocked key work again"),
        ("delete", "end a key for good; its history stays"),
    ):
        action = commands.add_parser(name, help=text)
        action.add_argument("key", help="the key itself (sk-…) or its token id")
        _finish(action, "keys", name)

    generate = commands.add_parser("generate", help="make a key; its secret is shown once")
    generate.add_argument("--alias", metavar="NAME")
    generate.add_argument("--team", metavar="ID")
    generate.add_argument("--org", metavar="ID")
    generate.add_argument("--model", action="append", default=[], metavar="NAME", help="may be repeated")
    generate.add_argument("--max-budget", type=_dollars, metavar="USD")
    generate.add_argument("--soft-budget", type=_dollars, metavar="USD")
    generate.add_argument("--budget-duration", metavar="30d|1mo|…")
    generate.add_argument("--duration", metavar="90d|…", help="how long the key lives; for ever if not given")
    generate.add_argument("--rpm-limit", type=_positive, metavar="N")
    generate.add_argument("--tpm-limit", type=_positive, metavar="N")
    _finish(generate, "keys", "generate")


def _add_spend(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="<view>", required=True)
    for name, text in (("keys", "spend by key"), ("teams", "spend by team")):
        view = commands.add_parser(name, help=text)
        _add_paging(view)
        _finish(view, "spend", name)
    logs = commands.add_parser("logs", help="single calls, newest first")
    logs.add_argument("--key", metavar="ID", help="only calls of this key")
    logs.add_argument("--team", metavar="ID", help="only calls of this team")
    logs.add_argument("--measured", choices=("reported", "estimated", "lost"), help="only calls measured so")
    logs.add_argument("--limit", type=_positive, default=LOGS_SHOWN, help=f"default {LOGS_SHOWN}")
    _finish(logs, "spend", "logs")


def _add_ledger(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="<action>", required=True)
    rebuild = commands.add_parser("rebuild", help="fold the whole log again and compare with the books")
    rebuild.add_argument("--check", action="store_true", help="only compare; leave the books as they are")
    rebuild.add_argument(
        "--wait", type=_positive, default=REBUILD_WAIT_S, metavar="S", help=f"default {REBUILD_WAIT_S}"
    )
    _finish(rebuild, "ledger", "rebuild")


def _add_paging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--page", type=_positive, default=1)
    parser.add_argument("--size", type=_positive, default=PAGE_SIZE, help=f"rows per page, default {PAGE_SIZE}")


def _finish(parser: argparse.ArgumentParser, module: str, function: str) -> None:
    """Every command can print JSON for scripts and runs one function of `services.cli.<module>`."""
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")

    def run(options: argparse.Namespace) -> int:
        from services.cli.client import open_client

        action: Callable[..., int] = getattr(import_module(f"services.cli.{module}"), function)
        with open_client() as client:
            return action(client, options)

    parser.set_defaults(run=run)


def _dollars(text: str) -> float:
    """Dollars; `nan` must not become "no limit" on its way through JSON."""
    try:
        nusd_from_usd(text)
    except MoneyError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return float(text)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


__all__: Sequence[str] = ["Commands", "add_commands"]
