"""`tundish user …`: what its commands take."""

import argparse

from services.cli.parsers.base import actions, add_metadata, add_paging, add_repeated, finish, finish_change

ROLES = ("proxy_admin", "proxy_admin_viewer", "internal_user", "internal_user_viewer")


def add(parser: argparse.ArgumentParser) -> None:
    """All commands of `tundish user`."""
    commands = actions(parser)
    new = commands.add_parser("new", help="make a user, with a key unless --no-key")
    new.add_argument("--id", metavar="ID", help="made if not given")
    add_repeated(new, "--team", "ID", "a team to belong to")
    new.add_argument("--key-alias", metavar="NAME", help="the name of the key")
    new.add_argument("--duration", metavar="90d|…", help="how long the key lives; for ever if not given")
    new.add_argument("--no-key", action="store_true", help="make no key for the user")
    _settings(new)
    finish_change(new, "users", "new")

    listing = commands.add_parser("list", help="the users")
    listing.add_argument("--role", choices=ROLES, metavar="ROLE", help=f"only users of this role: {', '.join(ROLES)}")
    listing.add_argument("--email", metavar="TEXT", help="only users whose address has this in it")
    listing.add_argument("--team", metavar="ID", help="only members of this team")
    add_paging(listing)
    finish(listing, "users", "show_list")

    info = commands.add_parser("info", help="all about one user")
    info.add_argument("id")
    finish(info, "users", "info")

    update = commands.add_parser("update", help="change a user; a lower role ends the keys that it no longer allows")
    update.add_argument("id")
    _settings(update)
    finish_change(update, "users", "update")

    delete = commands.add_parser("delete", help="end a user and all keys of the user; the history stays")
    delete.add_argument("id")
    finish_change(delete, "users", "delete", asks=True)


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--email", metavar="ADDRESS", help="unique among living users")
    parser.add_argument("--alias", metavar="NAME", help="a name for people")
    parser.add_argument("--role", choices=ROLES, metavar="ROLE", help=f"one of {', '.join(ROLES)}")
    add_repeated(parser, "--org", "ID", "an organization to belong to")
    add_metadata(parser)
