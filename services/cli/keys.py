"""`tundish key …`: thin over the `/key/*` API."""

from argparse import Namespace

from services.cli.client import Client, Json
from services.cli.limits import budget_fields, given, key_fields
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
    warn,
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
    answer = client.get("/key/info", {"key": options.key, "key_alias": options.alias})
    if options.json:
        print_json(answer)
    else:
        print_record(record_of(answer, "info"))
        warn(record_of(answer, ""))
    return 0


def block(client: Client, options: Namespace) -> int:
    """Refuse a key from now on."""
    return _act(client, options, "/key/block", _named(options), "blocked: every proxy refuses it now")


def unblock(client: Client, options: Namespace) -> int:
    """Let a blocked key work again."""
    return _act(client, options, "/key/unblock", _named(options), "unblocked")


def delete(client: Client, options: Namespace) -> int:
    """End a key for good."""
    named: Json = {"key_aliases": [options.alias]} if options.key is None else {"keys": [options.key]}
    return _act(client, options, "/key/delete", named, "deleted: every proxy refuses it now")


def generate(client: Client, options: Namespace) -> int:
    """Make a key and show its secret, once."""
    wanted: Json = {
        "key_alias": options.alias,
        "team_id": options.team,
        "organization_id": options.org,
        "models": options.model or None,
        "duration": options.duration,
    }
    answer = client.post("/key/generate", given(wanted) | budget_fields(options) | key_fields(options))
    if options.json:
        print_json(answer)
        return 0
    made = record_of(answer, "")
    print(plain(made.get("key")))
    print("\nThis is the only time the secret is shown.")
    print_record({name: value for name, value in made.items() if name not in ("key", "metadata", "warnings")})
    warn(made)
    return 0


def _named(options: Namespace) -> Json:
    return given({"key": options.key, "key_alias": options.alias})


def _act(client: Client, options: Namespace, path: str, body: Json, done: str) -> int:
    answer = client.post(path, body)
    if options.json:
        print_json(answer)
    else:
        print(done)
        warn(record_of(answer, ""))
    return 0
