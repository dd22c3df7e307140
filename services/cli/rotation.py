"""`tundish rotation …`, and `tundish key regenerate` and `rotate`."""

from argparse import Namespace
from urllib.parse import quote

from services.cli.asking import confirm
from services.cli.bodies import show_record
from services.cli.client import Client
from services.cli.keys import key_id, named, show_secret, shown
from services.cli.limits import given
from services.cli.output import Column, plain, print_json, print_page, print_table, record_of, rows_of
from services.cli.where import secret_from

LIST_COLUMNS: tuple[Column, ...] = (
    ("KEY", "key_alias|token_id", plain),
    ("TEAM", "team_id", plain),
    ("STATE", "state", plain),
    ("EVERY", "rotation_interval", plain),
    ("VERSION", "version", plain),
    ("OLD ENDS", "old_key_expires", plain),
    ("NEXT", "key_rotation_at", plain),
    ("TRIES", "attempts", plain),
    ("LAST ERROR", "last_error", plain),
    ("TOKEN ID", "token_id", plain),
)
SCHEDULE_COLUMNS: tuple[Column, ...] = (
    ("KEY", "key_alias|key_id", plain),
    ("TEAM", "team_id", plain),
    ("EVERY", "rotation_interval", plain),
    ("DUE", "key_rotation_at", plain),
    ("OVERDUE", "overdue", plain),
    ("BLOCKED", "blocked", plain),
    ("LAST DUE", "last", lambda value: plain(record_of(value, "").get("due_at"))),
    ("VERSION", "version", plain),
    ("KEY ID", "key_id", plain),
)


def show_list(client: Client, options: Namespace) -> int:
    """Keys that rotate, and what became of each rotation."""
    answer = client.get("/rotation/list", {"page": options.page, "size": options.size})
    return _show(answer, options, LIST_COLUMNS, "No key rotates, and none has a way to its owner.")


def schedule(client: Client, options: Namespace) -> int:
    """When the scheduler will say that a key is due."""
    answer = client.get("/rotation/schedule", {"page": options.page, "size": options.size, "key_id": options.key})
    return _show(answer, options, SCHEDULE_COLUMNS, "No key is rotated by the clock.")


def regenerate(client: Client, options: Namespace) -> int:
    """A new secret, shown once."""
    if options.grace is None:
        confirm(options, f"The secrets that {shown(options)} has now will be refused at once. Go on?")
    own = secret_from("", "the new secret") if options.own_secret else None
    wanted = given({"grace_period": options.grace, "new_key": own})
    answer = named(
        options,
        lambda: client.post("/key/regenerate", {"key": options.key} | wanted),
        lambda alias: client.post("/key/regenerate", {"key_alias": alias} | wanted),
    )
    return show_secret(answer, options)


def rotate(client: Client, options: Namespace) -> int:
    """Begin a rotation; the secret goes to its owner, not here."""
    path = f"/key/{quote(key_id(client, options), safe='')}/rotate"
    return show_record(client.post(path, {}), options)


def _show(answer: object, options: Namespace, columns: tuple[Column, ...], empty: str) -> int:
    if options.json:
        print_json(answer)
        return 0
    print_table(rows_of(answer, "keys", "data"), columns, empty)
    print_page(answer)
    return 0
