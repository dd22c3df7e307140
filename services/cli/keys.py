"""`tundish key …`: keys made, shown, changed and ended."""

from argparse import Namespace
from collections.abc import Callable

from services.cli.asking import confirm
from services.cli.bodies import cleared, rotation_fields, scope_fields, show_record, tell
from services.cli.client import Client, Json, by_alias_too
from services.cli.limits import given
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
from services.cli.where import secret_from

LIST_COLUMNS: tuple[Column, ...] = (
    ("KEY", "key_name", plain),
    ("ALIAS", "key_alias", plain),
    ("ROLE", "role", plain),
    ("TEAM", "team_id", plain),
    ("USER", "user_id", plain),
    ("STATUS", "status", plain),
    ("LIMIT", "max_budget|budget_limits|model_max_budget", limit),
    ("WINDOW", "budget_duration", plain),
    ("EXPIRES", "expires", lambda value: "never" if value is None else plain(value)),
    ("NEXT ROTATION", "key_rotation_at", plain),
    ("TOKEN ID", "token_id", plain),
)
VERSION_COLUMNS: tuple[Column, ...] = (
    ("VERSION", "version", plain),
    ("SECRET", "key_name", plain),
    ("STATUS", "status", plain),
    ("CREATED", "created_at", plain),
    ("DELIVERED", "delivered", plain),
    ("LAST USED", "last_used", plain),
    ("ENDS", "expires", plain),
)
NO_SUCH_KEY = "No key is like that."
MAYBE_EMPTY = ("ROLE", "USER", "NEXT ROTATION")
"""Columns that are shown when any key has something in them."""


def show_list(client: Client, options: Namespace) -> int:
    """The keys, a page of them."""
    answer = client.get(
        "/key/list",
        {
            "page": options.page,
            "size": options.size,
            "team_id": options.team,
            "organization_id": options.org,
            "user_id": options.user,
            "key_alias": options.alias,
            "search": options.search,
            "status": options.status,
            "return_full_object": "true",
        },
    )
    if options.json:
        print_json(answer)
        return 0
    rows = rows_of(answer, "keys")
    columns = [
        column for column in LIST_COLUMNS if column[0] not in MAYBE_EMPTY or any(row.get(column[1]) for row in rows)
    ]
    narrowed = any((options.team, options.org, options.user, options.alias, options.search, options.status))
    print_table(rows, columns, NO_SUCH_KEY if narrowed else "There is no key: `tundish key generate` makes one.")
    print_page(answer)
    return 0


def info(client: Client, options: Namespace) -> int:
    """All about one key."""
    answer = found(client, options)
    if options.json:
        print_json(answer)
        return 0
    record = dict(record_of(answer, "info"))
    versions = rows_of(record.pop("versions", None))
    print_record(record)
    if versions:
        print()
        print_table(versions, VERSION_COLUMNS, "")
    warn(record_of(answer, ""))
    return 0


def generate(client: Client, options: Namespace) -> int:
    """Make a key and show its secret, once."""
    own = secret_from("", "the secret of the new key") if options.own_secret else None
    body: Json = {
        "key_alias": options.alias,
        "key_type": options.role or options.type,
        "team_id": options.team,
        "organization_id": options.org,
        "user_id": options.user,
        "duration": options.duration,
        "key": own,
        "key_hash": options.hash,
        "key_name": options.key_name,
    }
    return show_secret(client.post("/key/generate", given(body) | _settings(options)), options)


def service_account(client: Client, options: Namespace) -> int:
    """Make a key that belongs to a team and to nobody in it."""
    body: Json = {"key_alias": options.alias, "team_id": options.team, "duration": options.duration}
    return show_secret(client.post("/key/service-account/generate", given(body) | _settings(options)), options)


def update(client: Client, options: Namespace) -> int:
    """Change a key."""
    raised: Json = {"temp_budget_increase": options.increase, "temp_budget_expiry": options.raise_until}
    owners: Json = {"user_id": options.user, "duration": options.duration}
    changes = cleared(options) | given(owners) | given(raised) | _settings(options)
    if options.new_alias is None:
        answer = named(
            options,
            lambda: client.post("/key/update", {"key": options.key} | changes),
            lambda alias: client.post("/key/update", {"key_alias": alias} | changes),
        )
    else:
        renamed = {"key": key_id(client, options), "key_alias": options.new_alias}
        answer = client.post("/key/update", renamed | changes)
    return show_record(answer, options)


def block(client: Client, options: Namespace) -> int:
    """Refuse a key from now on."""
    return _act(client, options, "/key/block", "blocked: every proxy refuses it now")


def unblock(client: Client, options: Namespace) -> int:
    """Let a blocked key work again."""
    return _act(client, options, "/key/unblock", "unblocked")


def delete(client: Client, options: Namespace) -> int:
    """End a key for good."""
    confirm(options, f"End {shown(options)} for good?")
    answer = named(
        options,
        lambda: client.post("/key/delete", {"keys": [options.key]}),
        lambda alias: client.post("/key/delete", {"key_aliases": [alias]}),
    )
    return tell(answer, options, "deleted: every proxy refuses it now")


def show_secret(answer: object, options: Namespace) -> int:
    """A key with a secret that is shown once, here."""
    if options.json:
        print_json(answer)
        return 0
    made = record_of(answer, "")
    if made.get("key"):
        print(plain(made["key"]))
        print("\nThis is the only time the secret is shown.")
    else:
        print("The key takes the secret with this hash; it is not known here.")
    for target in rows_of(made.get("rotation_delivery")):
        if target.get("signing_secret"):
            print(f"{plain(target.get('url'))} gets deliveries signed with {plain(target['signing_secret'])}")
    print_record({name: value for name, value in made.items() if name not in ("key", "metadata", "warnings")})
    warn(made)
    return 0


def named(options: Namespace, by_key: Callable[[], object], by_alias: Callable[[str], object]) -> object:
    """The answer for the key that the options name: by `--alias`, or by id or secret, which may be an alias too."""
    if options.alias is not None:
        return by_alias(options.alias)
    return by_alias_too(options.key, by_key, lambda: by_alias(options.key))


def found(client: Client, options: Namespace) -> object:
    """What `/key/info` says of the key that the options name."""
    return named(
        options,
        lambda: client.get("/key/info", {"key": options.key}),
        lambda alias: client.get("/key/info", {"key_alias": alias}),
    )


def key_id(client: Client, options: Namespace) -> str:
    """The id of the key that the options name: what may stand in a path, and stays when the alias changes."""
    return plain(record_of(found(client, options), "info").get("token_id"))


def shown(options: Namespace) -> str:
    """How a question calls the key: never by its secret."""
    if options.alias is not None:
        return f"the key {options.alias!r}"
    reference = str(options.key)
    return "this key" if reference.startswith("sk-") else f"the key {reference!r}"


def _settings(options: Namespace) -> Json:
    return scope_fields(options, "aliases") | given({"allowed_routes": options.route}) | rotation_fields(options)


def _act(client: Client, options: Namespace, path: str, done: str) -> int:
    answer = named(
        options,
        lambda: client.post(path, {"key": options.key}),
        lambda alias: client.post(path, {"key_alias": alias}),
    )
    return tell(answer, options, done)
