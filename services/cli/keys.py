"""`tundish key …`: thin over the `/key/*` API."""

import sys
from argparse import Namespace

from services.cli.client import Client, Json
from services.cli.output import (
    Column,
    limit,
    plain,
    print_json,
    print_page,
    print_record,
    print_table,
    record_of,
    rows_of,
)

LIST_COLUMNS: tuple[Column, ...] = (
    ("KEY", "key_name", plain),
    ("ALIAS", "key_alias", plain),
    ("TEAM", "team_id", plain),
    ("STATUS", "status", plain),
    ("LIMIT", "max_budget", limit),
    ("WINDOW", "budget_duration", plain),
    ("EXPIRES", "expires", lambda value: "never" if value is None else plain(value)),
    ("TOKEN ID", "token_id", plain),
)


def show_list(client: Client, options: Namespace) -> int:
    """The keys, a page of them."""
    answer = client.get(
        "/key/list",
        {
            "page": options.page,
            "size": options.size,
            "team_id": options.team,
            "organization_id": options.org,
            "return_full_object": "true",
        },
    )
    if options.json:
        print_json(answer)
        return 0
    print_table(rows_of(answer, "keys"), LIST_COLUMNS, "There is no key: `tundish key generate` makes one.")
    print_page(answer)
    return 0


def info(client: Client, options: Namespace) -> int:
    """All about one key."""
    answer = client.get("/key/info", {"key": options.key})
    if options.json:
        print_json(answer)
    else:
        print_record(record_of(answer, "info"))
        _warn(record_of(answer, ""))
    return 0


def block(client: Client, options: Namespace) -> int:
    """Refuse a key from now on."""
    return _act(client, options, "/key/block", {"key": options.key}, "blocked: every proxy refuses it now")


def unblock(client: Client, options: Namespace) -> int:
    """Let a blocked key work again."""
    return _act(client, options, "/key/unblock", {"key": options.key}, "unblocked")


def delete(client: Client, options: Namespace) -> int:
    """End a key for good."""
    return _act(client, options, "/key/delete", {"keys": [options.key]}, "deleted: every proxy refuses it now")


def generate(client: Client, options: Namespace) -> int:
    """Make a key and show its secret, once."""
    wanted: Json = {
        "key_alias": options.alias,
        "team_id": options.team,
        "organization_id": options.org,
        "models": options.model or None,
        "max_budget": options.max_budget,
        "soft_budget": options.soft_budget,
        "budget_duration": options.budget_duration,
        "duration": options.duration,
        "rpm_limit": options.rpm_limit,
        "tpm_limit": options.tpm_limit,
    }
    answer = client.post("/key/generate", {name: value for name, value in wanted.items() if value is not None})
    if options.json:
        print_json(answer)
        return 0
    made = record_of(answer, "")
    print(plain(made.get("key")))
    print("\nThis is the only time the secret is shown.")
    print_record({name: value for name, value in made.items() if name not in ("key", "metadata", "warnings")})
    _warn(made)
    return 0


def _warn(answer: Json) -> None:
    """What the service adds to its answer: not recorded yet, spend unknown."""
    warnings = answer.get("warnings")
    if warnings:
        print(f"note: {plain(warnings)}", file=sys.stderr)


def _act(client: Client, options: Namespace, path: str, body: Json, done: str) -> int:
    answer = client.post(path, body)
    if options.json:
        print_json(answer)
    else:
        print(done)
        _warn(record_of(answer, ""))
    return 0
