"""`tundish key …`: thin over the `/key/*` API."""

from argparse import Namespace
from collections.abc import Callable

from services.cli.client import Client, Json, by_alias_too
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
    ("LIMIT", "max_budget|budget_limits|model_max_budget", limit),
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
    answer = _ask(
        options,
        lambda: client.get("/key/info", {"key": options.key}),
        lambda alias: client.get("/key/info", {"key_alias": alias}),
    )
    if options.json:
        print_json(answer)
    else:
        print_record(record_of(answer, "info"))
        warn(record_of(answer, ""))
    return 0


def block(client: Client, options: Namespace) -> int:
    """Refuse a key from now on."""
    return _act(client, options, "/key/block", "blocked: every proxy refuses it now")


def unblock(client: Client, options: Namespace) -> int:
    """Let a blocked key work again."""
    return _act(client, options, "/key/unblock", "unblocked")


def delete(client: Client, options: Namespace) -> int:
    """End a key for good."""
    answer = _ask(
        options,
        lambda: client.post("/key/delete", {"keys": [options.key]}),
        lambda alias: client.post("/key/delete", {"key_aliases": [alias]}),
    )
    return _tell(answer, options, "deleted: every proxy refuses it now")


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


def _ask(options: Namespace, by_key: Callable[[], object], by_alias: Callable[[str], object]) -> object:
    """The answer for the key that the options name: by `--alias`, or by id or secret, which may be an alias too."""
    if options.alias is not None:
        return by_alias(options.alias)
    return by_alias_too(options.key, by_key, lambda: by_alias(options.key))


def _act(client: Client, options: Namespace, path: str, done: str) -> int:
    answer = _ask(
        options,
        lambda: client.post(path, {"key": options.key}),
        lambda alias: client.post(path, {"key_alias": alias}),
    )
    return _tell(answer, options, done)


def _tell(answer: object, options: Namespace, done: str) -> int:
    if options.json:
        print_json(answer)
    else:
        print(done)
        warn(record_of(answer, ""))
    return 0
