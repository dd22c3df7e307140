"""`tundish status`, `alerts …`, `audit …` and `pepper …`: what they take."""

import argparse

from services.cli.limits import positive
from services.cli.parsers.base import Commands, actions, add_paging, finish, finish_alone

EXPORT_ROWS = 1_000
ALERTS_SHOWN = 50


def add_status(parser: argparse.ArgumentParser) -> None:
    """`tundish status` is a command of its own."""
    finish(parser, "status", "status")


def add_alerts(parser: argparse.ArgumentParser) -> None:
    """All commands of `tundish alerts`."""
    commands = actions(parser)
    listing = commands.add_parser("list", help="what was signalled of late, newest first")
    listing.add_argument("--limit", type=positive, default=ALERTS_SHOWN, metavar="N", help=f"default {ALERTS_SHOWN}")
    listing.add_argument("--kind", metavar="NAME", help="only such signals, such as budget.exceeded")
    listing.add_argument("--scope", metavar="WHICH", help="only signals about this key, team or organization")
    listing.add_argument("--before", type=positive, metavar="POSITION", help="only signals before this one")
    finish(listing, "alerts", "show_list")


def add_audit(parser: argparse.ArgumentParser) -> None:
    """All commands of `tundish audit`."""
    commands = actions(parser)
    listing = commands.add_parser("list", help="every change, newest first: who, what, why, before and after")
    _filters(listing)
    add_paging(listing)
    finish(listing, "audit", "show_list")

    _export(commands)

    verify = commands.add_parser("verify", help="whether the chain of hashes over all changes is whole; 1 if it is not")
    verify.add_argument(
        "--anchor", metavar="POSITION:HASH", help="the head that an earlier verify said: it must still be there"
    )
    finish(verify, "audit", "verify")


def _export(commands: Commands) -> None:
    export = commands.add_parser("export", help="all changes as lines of JSON, oldest first")
    export.add_argument("file", help="where to; '-' is standard output. A file that exists is not overwritten")
    export.add_argument("--after", type=int, default=0, metavar="POSITION", help="only what came after this position")
    export.add_argument(
        "--rows", type=positive, default=EXPORT_ROWS, metavar="N", help=f"rows per request, default {EXPORT_ROWS}"
    )
    _filters(export)
    export.add_argument("--force", action="store_true", help="overwrite a file that exists")
    finish(export, "audit", "export")


def add_pepper(parser: argparse.ArgumentParser) -> None:
    """All commands of `tundish pepper`."""
    commands = actions(parser)
    finish(commands.add_parser("status", help="which pepper how many secrets are hashed with"), "pepper", "status")
    rotate = commands.add_parser("rotate", help="a fresh pepper: for this installation, or as two values to roll out")
    rotate.add_argument("--yes", action="store_true", help="do not ask, also on a terminal")
    finish_alone(rotate, "pepper", "rotate")
    drop = commands.add_parser("drop", help="take a pepper out that no secret is hashed with any longer")
    drop.add_argument("label")
    drop.add_argument("--yes", action="store_true", help="do not ask, also on a terminal")
    finish(drop, "pepper", "drop")


def _filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--by", metavar="ACTOR", help="only changes by this actor: master-key, or a key's id")
    parser.add_argument("--action", metavar="NAME", help="only changes of this kind, such as created")
    parser.add_argument("--table", metavar="NAME", help="only changes of key, team, org, user or budget")
    parser.add_argument("--object", metavar="ID", help="only changes of this object")
    parser.add_argument("--team", metavar="ID", help="only changes within this team")
    parser.add_argument("--org", metavar="ID", help="only changes within this organization")
    parser.add_argument("--start", metavar="TIME", help="ISO 8601, such as 2026-11-01T00:00:00Z")
    parser.add_argument("--end", metavar="TIME", help="ISO 8601")
