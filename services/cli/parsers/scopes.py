"""`tundish team …`, `tundish org …`: what their commands take."""

import argparse

from services.cli.limits import CLEARABLE, add_budget_options, add_key_options
from services.cli.parsers.base import (
    Commands,
    actions,
    add_clear,
    add_metadata,
    add_repeated,
    finish,
    finish_change,
    pair,
)

ALL_CLEARABLE = (
    "models", "model_aliases", "tags", "metadata", "budget_id", *CLEARABLE, "model_rpm_limit", "model_tpm_limit",
    "temp_budget_increase", "temp_budget_expiry",
)  # fmt: skip
MEMBER_ROLES = ("user", "admin")


def add_team(parser: argparse.ArgumentParser) -> None:
    """All commands of `tundish team`."""
    commands = actions(parser)
    new = commands.add_parser("new", help="make a team")
    new.add_argument("--id", metavar="ID", help="made if not given")
    new.add_argument("--org", metavar="ID", help="the organization it belongs to")
    _team_settings(new)
    finish_change(new, "teams", "new")

    listing = commands.add_parser("list", help="the teams, oldest first")
    listing.add_argument("--org", metavar="ID", help="only teams of this organization")
    finish(listing, "teams", "show_list")

    update = commands.add_parser("update", help="change a team; what is not named stays as it is")
    update.add_argument("id")
    _team_settings(update)
    add_clear(update, ("team_alias", "default_key_budget_id", *ALL_CLEARABLE))
    finish_change(update, "teams", "update")

    _lives(commands, "teams", "a team", "its keys")
    _members(commands)


def add_org(parser: argparse.ArgumentParser) -> None:
    """All commands of `tundish org`."""
    commands = actions(parser)
    new = commands.add_parser("new", help="make an organization")
    new.add_argument("--id", metavar="ID", help="made if not given")
    new.add_argument("--alias", metavar="NAME", required=True, help="its name, unique")
    _settings(new)
    finish_change(new, "orgs", "new")

    finish(commands.add_parser("list", help="the organizations, oldest first"), "orgs", "show_list")

    update = commands.add_parser("update", help="change an organization; what is not named stays as it is")
    update.add_argument("id")
    update.add_argument("--alias", metavar="NAME", help="its name, unique")
    _settings(update)
    add_clear(update, ALL_CLEARABLE)
    finish_change(update, "orgs", "update")

    _lives(commands, "orgs", "an organization", "its teams and keys")

    member = actions(commands.add_parser("member", help="who belongs to an organization"))
    for name, text in (("add", "let a user belong to it"), ("remove", "a user belongs to it no longer")):
        action = member.add_parser(name, help=text)
        action.add_argument("id", help="the organization")
        _who(action)
        finish_change(action, "orgs", f"member_{name}", asks=name == "remove")


def _lives(commands: Commands, module: str, what: str, below: str) -> None:
    info = commands.add_parser("info", help=f"all about {what}")
    info.add_argument("id")
    finish(info, module, "info")
    for name, text, asks in (
        ("block", f"refuse all of {below} until it is unblocked", True),
        ("unblock", f"let {below} work again", False),
        ("delete", f"end it and {below} for good; the history stays", True),
    ):
        action = commands.add_parser(name, help=text)
        action.add_argument("id")
        finish_change(action, module, name, asks=asks)


def _members(commands: Commands) -> None:
    member = actions(commands.add_parser("member", help="who belongs to a team"))
    for name, text in (
        ("add", "let a user belong to the team; one that is not known is made"),
        ("update", "change a member's role; one who is no admin any longer loses the keys of that role"),
        ("remove", "take a member out; the keys that the member has in the team end"),
    ):
        action = member.add_parser(name, help=text)
        action.add_argument("id", help="the team")
        _who(action)
        if name != "remove":
            action.add_argument("--role", choices=MEMBER_ROLES, default="user", help="default user")
        finish_change(action, "teams", f"member_{name}", asks=name == "remove")


def _who(parser: argparse.ArgumentParser) -> None:
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", metavar="ID", help="the user by id")
    who.add_argument("--email", metavar="ADDRESS", help="the user by e-mail address")


def _team_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--alias", metavar="NAME", help="its name, unique within its organization")
    parser.add_argument("--default-key-budget", metavar="ID", help="the budget object of new keys that name no budget")
    _settings(parser)


def _settings(parser: argparse.ArgumentParser) -> None:
    add_repeated(parser, "--model", "NAME", "a model that may be called, or a pattern such as 'gpt-4*'")
    parser.add_argument(
        "--alias-model", type=pair, action="append", metavar="NAME=MODEL", help="a name of its own for a model; repeat"
    )
    add_repeated(parser, "--tag", "TEXT", "a tag, kept with every call")
    add_metadata(parser)
    add_budget_options(parser)
    add_key_options(parser)
