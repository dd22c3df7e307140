"""`tundish budget …`, `spend …`, `ledger …`, `prices …` and `models …`: what their commands take."""

import argparse

from services.cli.limits import CLEARABLE, add_budget_options, dollars, positive
from services.cli.parsers.base import actions, add_clear, add_paging, finish, finish_alone, finish_change

REBUILD_WAIT_S = 3_600
LOGS_SHOWN = 50


def add_budget(parser: argparse.ArgumentParser) -> None:
    """All commands of `tundish budget`."""
    commands = actions(parser)
    finish(commands.add_parser("list", help="the budget objects, oldest first"), "budgets", "show_list")

    new = commands.add_parser("new", help="make a budget object; keys, teams and organizations take it by its id")
    new.add_argument("--id", metavar="ID", help="made if not given")
    add_budget_options(new)
    finish_change(new, "budgets", "new")

    update = commands.add_parser("update", help="change a budget object, and every scope that has it")
    update.add_argument("id")
    add_budget_options(update)
    add_clear(update, CLEARABLE)
    finish_change(update, "budgets", "update")

    delete = commands.add_parser("delete", help="remove a budget object that nothing has")
    delete.add_argument("id")
    finish_change(delete, "budgets", "delete", asks=True)

    reset = commands.add_parser("reset", help="set back what a key, team or organization has spent in its windows")
    reset.add_argument("scope", choices=("key", "team", "org"))
    reset.add_argument("id", help="of a key the alias does as well")
    reset.add_argument("--to", type=dollars, metavar="USD", help="0 if not given")
    reset.add_argument("--reason", metavar="TEXT", help="why, for the record")
    finish_change(reset, "budgets", "reset")


def add_spend(parser: argparse.ArgumentParser) -> None:
    """All commands of `tundish spend`."""
    commands = actions(parser, "<view>")
    for name, text in (("keys", "spend by key"), ("teams", "spend by team"), ("orgs", "spend by organization")):
        view = commands.add_parser(name, help=text)
        add_paging(view)
        finish(view, "spend", name)
    logs = commands.add_parser("logs", help="single calls, newest first")
    logs.add_argument("--key", metavar="ID", help="only calls of this key")
    logs.add_argument("--team", metavar="ID", help="only calls of this team")
    logs.add_argument("--measured", choices=("reported", "estimated", "lost"), help="only calls measured so")
    logs.add_argument("--limit", type=positive, default=LOGS_SHOWN, metavar="N", help=f"default {LOGS_SHOWN}")
    finish(logs, "spend", "logs")


def add_ledger(parser: argparse.ArgumentParser) -> None:
    """All commands of `tundish ledger`."""
    commands = actions(parser)
    rebuild = commands.add_parser("rebuild", help="fold the whole log again and compare with the books")
    rebuild.add_argument("--check", action="store_true", help="only compare; leave the books as they are")
    rebuild.add_argument("--wait", type=positive, default=REBUILD_WAIT_S, metavar="S", help=f"default {REBUILD_WAIT_S}")
    finish(rebuild, "ledger", "rebuild")


def add_prices(parser: argparse.ArgumentParser) -> None:
    """All commands of `tundish prices`."""
    commands = actions(parser)
    one = commands.add_parser("show", help="every price of one model, its source and since when it counts")
    one.add_argument("model", help="its name in the catalogue, such as gpt-5-mini or azure/eu/gpt-5-mini")
    finish_alone(one, "prices", "show")
    listing = commands.add_parser("list", help="all models that have a price")
    listing.add_argument("--mode", metavar="NAME", help="only models for chat, embedding, image_generation …")
    finish_alone(listing, "prices", "show_list")


def add_models(parser: argparse.ArgumentParser) -> None:
    """All commands of `tundish models`."""
    commands = actions(parser)
    listing = commands.add_parser("list", help="the models that are served, with their deployments and prices")
    finish(listing, "models", "show_list")
