"""The commands of the operator's command line and their options; nothing heavy is imported before it runs."""

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol

from services.cli.limits import CLEARABLE, add_budget_options, add_key_options, dollars, positive

REBUILD_WAIT_S = 3_600
LOGS_SHOWN = 50
PAGE_SIZE = 50


class Commands(Protocol):
    """What argparse's `add_subparsers` gives."""

    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser:  # noqa: A002
        """A new command."""
        ...


def add_commands(commands: Commands) -> None:
    """Add `status`, `key`, `budget`, `spend`, `ledger` and `prices`; each sets `run`, from options to exit code."""
    status = commands.add_parser("status", help="whether the front door is ready, and what it waits for")
    _finish(status, "status", "status")
    _add_key(commands.add_parser("key", help="make, show, block and delete virtual keys"))
    _add_budget(commands.add_parser("budget", help="budgets with a name of their own; setting spend back"))
    _add_spend(commands.add_parser("spend", help="what was spent, by key, by team, by call"))
    _add_ledger(commands.add_parser("ledger", help="look after the books"))
    _add_prices(commands.add_parser("prices", help="what models cost, by the built-in catalogue"))


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
        named = action.add_mutually_exclusive_group(required=True)
        named.add_argument("key", nargs="?", help="the key itself (sk-…), its token id, or its alias")
        named.add_argument("--alias", metavar="NAME", help="the key by its alias")
        _finish(action, "keys", name)

    generate = commands.add_parser("generate", help="make a key; its secret is shown once")
    generate.add_argument("--alias", metavar="NAME")
    generate.add_argument("--team", metavar="ID")
    generate.add_argument("--org", metavar="ID")
    generate.add_argument("--model", action="append", default=[], metavar="NAME", help="may be repeated")
    generate.add_argument("--duration", metavar="90d|…", help="how long the key lives; for ever if not given")
    add_budget_options(generate)
    add_key_options(generate)
    _finish(generate, "keys", "generate")


def _add_budget(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="<action>", required=True)
    _finish(commands.add_parser("list", help="the budget objects, oldest first"), "budgets", "show_list")

    new = commands.add_parser("new", help="make a budget object; keys, teams and organizations take it by its id")
    new.add_argument("--id", metavar="ID", help="made if not given")
    add_budget_options(new)
    _finish(new, "budgets", "new")

    update = commands.add_parser("update", help="change a budget object, and every scope that has it")
    update.add_argument("id")
    add_budget_options(update)
    update.add_argument(
        "--clear", action="append", default=[], choices=CLEARABLE, metavar="FIELD", help="no longer; may be repeated"
    )
    _finish(update, "budgets", "update")

    delete = commands.add_parser("delete", help="remove a budget object that nothing has")
    delete.add_argument("id")
    _finish(delete, "budgets", "delete")

    reset = commands.add_parser("reset", help="set back what a key, team or organization has spent in its windows")
    reset.add_argument("scope", choices=("key", "team", "org"))
    reset.add_argument("id", help="of a key the alias does as well")
    reset.add_argument("--to", type=dollars, metavar="USD", help="0 if not given")
    reset.add_argument("--reason", metavar="TEXT", help="why, for the record")
    _finish(reset, "budgets", "reset")


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
    logs.add_argument("--limit", type=positive, default=LOGS_SHOWN, help=f"default {LOGS_SHOWN}")
    _finish(logs, "spend", "logs")


def _add_ledger(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="<action>", required=True)
    rebuild = commands.add_parser("rebuild", help="fold the whole log again and compare with the books")
    rebuild.add_argument("--check", action="store_true", help="only compare; leave the books as they are")
    rebuild.add_argument("--wait", type=positive, default=REBUILD_WAIT_S, metavar="S", help=f"default {REBUILD_WAIT_S}")
    _finish(rebuild, "ledger", "rebuild")


def _add_prices(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="<action>", required=True)
    one = commands.add_parser("show", help="every price of one model, its source and since when it counts")
    one.add_argument("model", help="its name in the catalogue, such as gpt-5-mini or azure/eu/gpt-5-mini")
    _finish_alone(one, "prices", "show")
    listing = commands.add_parser("list", help="all models that have a price")
    listing.add_argument("--mode", metavar="NAME", help="only models for chat, embedding, image_generation …")
    _finish_alone(listing, "prices", "show_list")


def _add_paging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--page", type=positive, default=1)
    parser.add_argument("--size", type=positive, default=PAGE_SIZE, help=f"rows per page, default {PAGE_SIZE}")


def _finish(parser: argparse.ArgumentParser, module: str, function: str) -> None:
    """Every command can print JSON for scripts and runs one function of `services.cli.<module>`."""
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")

    def run(options: argparse.Namespace) -> int:
        from services.cli.client import open_client

        action: Callable[..., int] = getattr(import_module(f"services.cli.{module}"), function)
        with open_client() as client:
            return action(client, options)

    parser.set_defaults(run=run)


def _finish_alone(parser: argparse.ArgumentParser, module: str, function: str) -> None:
    """A command that needs no server: its function takes the options only."""
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")

    def run(options: argparse.Namespace) -> int:
        action: Callable[..., int] = getattr(import_module(f"services.cli.{module}"), function)
        return action(options)

    parser.set_defaults(run=run)


__all__: Sequence[str] = ["Commands", "add_commands"]
