"""`tundish key …`: what its commands take."""

import argparse

from services.cli.limits import add_budget_options, add_key_options, dollars
from services.cli.parsers.base import (
    Commands,
    actions,
    add_clear,
    add_metadata,
    add_paging,
    add_repeated,
    finish,
    finish_alone,
    finish_change,
    pair,
)
from services.cli.parsers.rotation import add_rotation_options

TYPES = ("default", "llm_api", "admin", "org_admin", "team_admin", "viewer", "management", "read_only")
ROLES = ("admin", "org_admin", "team_admin", "viewer")
STATUSES = ("active", "expired", "blocked", "revoked", "deleted")
CLEARABLE = (
    "key_alias", "duration", "models", "aliases", "tags", "metadata", "allowed_routes", "user_id",
    "budget_id", "max_budget", "soft_budget", "budget_duration", "budget_timezone", "budget_limits",
    "model_max_budget", "budget_thresholds", "budget_mode", "rpm_limit", "tpm_limit", "max_parallel_requests",
    "model_rpm_limit", "model_tpm_limit", "auto_rotate", "rotation_interval", "rotation_delivery",
    "temp_budget_increase", "temp_budget_expiry",
)  # fmt: skip
KEY_HELP = "the key itself (sk-…), its token id, or its alias"


def add(parser: argparse.ArgumentParser) -> None:
    """All commands of `tundish key`."""
    commands = actions(parser)
    _list(commands)
    _making(commands)
    _changing(commands)
    _ending(commands)
    _rotating(commands)
    _leaking(commands)
    _many(commands)


def add_key_name(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """How a key is named: by anything, or surely by its alias."""
    named = parser.add_mutually_exclusive_group(required=required)
    named.add_argument("key", nargs="?", help=KEY_HELP)
    named.add_argument("--alias", metavar="NAME", help="the key by its alias")


def _list(commands: Commands) -> None:
    listing = commands.add_parser("list", help="the keys, newest first")
    listing.add_argument("--team", metavar="ID", help="only keys of this team")
    listing.add_argument("--org", metavar="ID", help="only keys of this organization")
    listing.add_argument("--user", metavar="ID", help="only keys of this user")
    listing.add_argument("--alias", metavar="NAME", help="only the key of this alias")
    listing.add_argument(
        "--search", metavar="TEXT", help="only keys with this text in the alias, the id or the user's id"
    )
    listing.add_argument("--status", choices=STATUSES, help="without it all but the deleted ones")
    add_paging(listing)
    finish(listing, "keys", "show_list")

    info = commands.add_parser("info", help="all about one key, with the versions of its secret")
    add_key_name(info)
    finish(info, "keys", "info")


def _making(commands: Commands) -> None:
    generate = commands.add_parser("generate", help="make a key; its secret is shown once")
    kind = generate.add_mutually_exclusive_group()
    kind.add_argument("--type", choices=TYPES, metavar="TYPE", help=f"one of {', '.join(TYPES)}")
    kind.add_argument("--role", choices=ROLES, metavar="ROLE", help=f"a key that administers: {', '.join(ROLES)}")
    generate.add_argument("--user", metavar="ID", help="whose key it is")
    own = generate.add_mutually_exclusive_group()
    own.add_argument("--hash", metavar="SHA256", help="of a secret that exists already: 64 hexadecimal digits")
    own.add_argument("--own-secret", action="store_true", help="a secret of your own, from a prompt or standard input")
    generate.add_argument("--key-name", metavar="TEXT", help="how a key made by --hash is shown, such as sk-...abcd")
    _owned(generate)
    _settings(generate)
    finish_change(generate, "keys", "generate")

    service = commands.add_parser("service-account", help="make a key of a team that outlives its members")
    service.add_argument("--team", metavar="ID", required=True, help="the team it belongs to")
    service.add_argument("--alias", metavar="NAME", help="its name, unique among living keys")
    service.add_argument("--duration", metavar="90d|…", help="how long the key lives; for ever if not given")
    _settings(service)
    finish_change(service, "keys", "service_account")


def _owned(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--alias", metavar="NAME", help="its name, unique among living keys")
    parser.add_argument("--team", metavar="ID", help="the team it belongs to")
    parser.add_argument("--org", metavar="ID", help="the organization it belongs to, if it has no team")
    parser.add_argument("--duration", metavar="90d|…", help="how long the key lives; for ever if not given")


def _settings(parser: argparse.ArgumentParser) -> None:
    """What a key may do; the same when it is made and when it is changed."""
    add_repeated(parser, "--model", "NAME", "a model it may call, or a pattern such as 'gpt-4*'")
    parser.add_argument(
        "--alias-model", type=pair, action="append", metavar="NAME=MODEL", help="a name of its own for a model; repeat"
    )
    add_repeated(parser, "--route", "PATH", "a path or group of paths it may call, such as openai_routes")
    add_repeated(parser, "--tag", "TEXT", "a tag, kept with every call")
    add_metadata(parser)
    add_budget_options(parser)
    add_key_options(parser)
    add_rotation_options(parser)


def _changing(commands: Commands) -> None:
    update = commands.add_parser("update", help="change a key; what is not named stays as it is")
    add_key_name(update)
    update.add_argument("--new-alias", metavar="NAME", help="rename it")
    update.add_argument("--user", metavar="ID", help="give it to this user")
    update.add_argument("--duration", metavar="90d|…", help="how long the key lives from now on")
    _settings(update)
    update.add_argument(
        "--raise", dest="increase", type=dollars, metavar="USD", help="more budget for a while; with --raise-until"
    )
    update.add_argument("--raise-until", metavar="TIME", help="ISO 8601 with a zone, such as 2026-12-01T00:00:00Z")
    add_clear(update, CLEARABLE)
    finish_change(update, "keys", "update")

    for name, text in (("block", "refuse a key until it is unblocked"), ("unblock", "let a blocked key work again")):
        action = commands.add_parser(name, help=text)
        add_key_name(action)
        finish_change(action, "keys", name)


def _ending(commands: Commands) -> None:
    delete = commands.add_parser("delete", help="end a key for good; its history stays")
    add_key_name(delete)
    finish_change(delete, "keys", "delete", asks=True)


def _rotating(commands: Commands) -> None:
    again = commands.add_parser("regenerate", help="a new secret for a key, shown once; the key stays the same")
    add_key_name(again)
    again.add_argument("--grace", metavar="24h|…", help="how long the old secrets still work; not at all if not given")
    again.add_argument(
        "--own-secret", action="store_true", help="a secret of your own, from a prompt or standard input"
    )
    finish_change(again, "rotation", "regenerate", asks=True)

    rotate = commands.add_parser("rotate", help="start a rotation now: the new secret goes where the key delivers to")
    add_key_name(rotate)
    finish_change(rotate, "rotation", "rotate")


def _leaking(commands: Commands) -> None:
    revoke = commands.add_parser("revoke", help="end a key's secrets, for one that leaked by the secret alone")
    add_key_name(revoke, required=False)
    revoke.add_argument(
        "--leaked",
        nargs="?",
        const="",
        metavar="SECRET",
        help="it leaked: the secret or its SHA-256. '-' reads it from standard input, and --leaked alone asks for it, "
        "so that it does not end up in the history of your shell",
    )
    revoke.add_argument("--reason", metavar="TEXT", help="why, for the record")
    finish_change(revoke, "leaks", "revoke", asks=True)

    report = commands.add_parser(
        "report-leak", help="what a scanner does: report a secret that was found; takes no key"
    )
    report.add_argument("secret", nargs="?", default="", help="'-' reads standard input; without it a prompt asks")
    report.add_argument("--source", metavar="TEXT", help="who found it")
    report.add_argument("--where", metavar="URL", help="where it was found")
    finish_alone(report, "leaks", "report")


def _many(commands: Commands) -> None:
    bulk = commands.add_parser("bulk-update", help="change many keys, from a JSON file")
    bulk.add_argument("file", help='\'-\' for standard input; a list of {"key" or "key_alias", and what changes}')
    finish_change(bulk, "imports", "bulk_update")

    bring = commands.add_parser("import", help="take keys over from LiteLLM, by the hashes of their secrets")
    bring.add_argument("file", help="what GET /key/list?return_full_object=true answered there; '-': standard input")
    bring.add_argument("--dry-run", action="store_true", help="only show what would be asked for")
    bring.add_argument("--team", metavar="ID", help="put all keys into this team, whatever the file says")
    bring.add_argument("--no-teams", action="store_true", help="leave teams out")
    bring.add_argument("--no-orgs", action="store_true", help="leave organizations out")
    bring.add_argument("--no-users", action="store_true", help="leave users out")
    finish_change(bring, "imports", "bring")
