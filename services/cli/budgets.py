"""`tundish budget …`: budget objects, and setting spend back."""

from argparse import Namespace
from urllib.parse import quote

from services.cli.asking import confirm
from services.cli.client import Client, Json, by_alias_too
from services.cli.limits import budget_fields, given
from services.cli.output import (
    Column,
    dollars,
    limit,
    plain,
    print_json,
    print_record,
    print_table,
    record_of,
    rows_of,
    warn,
)

SCOPES = {"key": "key", "team": "team", "org": "organization"}
"""What a person calls a scope → its word in paths."""


def _attached(value: object) -> str:
    counts = record_of(value, "")
    words = [f"{counts[name]} {name}" for name in ("keys", "teams", "organizations") if counts.get(name)]
    return ", ".join(words) or "nothing"


LIST_COLUMNS: tuple[Column, ...] = (
    ("BUDGET", "budget_id", plain),
    ("LIMIT", "max_budget|budget_limits|model_max_budget", limit),
    ("WINDOW", "budget_duration", plain),
    ("MODE", "budget_mode", plain),
    ("ATTACHED TO", "attached", _attached),
)
RESET_COLUMNS: tuple[Column, ...] = (
    ("WINDOW", "budget_duration", plain),
    ("MODEL", "model", plain),
    ("LIMIT", "max_budget", limit),
    ("BEFORE", "before", dollars),
    ("AFTER", "after", dollars),
)


def new(client: Client, options: Namespace) -> int:
    """Make a budget object."""
    body = given({"budget_id": options.id}) | budget_fields(options)
    return _show(client, options, "/budget/new", body)


def update(client: Client, options: Namespace) -> int:
    """Change a budget object, and with it every scope it is attached to."""
    body: Json = {"budget_id": options.id}
    for field in options.clear:
        body[field] = None
    return _show(client, options, "/budget/update", body | budget_fields(options))


def show_list(client: Client, options: Namespace) -> int:
    """All budget objects."""
    answer = client.get("/budget/list")
    if options.json:
        print_json(answer)
    else:
        print_table(rows_of(answer), LIST_COLUMNS, "There is no budget object: `tundish budget new` makes one.")
    return 0


def delete(client: Client, options: Namespace) -> int:
    """Remove a budget object that nothing has."""
    confirm(options, f"Remove the budget object {options.id!r} for good?")
    answer = client.post("/budget/delete", {"id": options.id})
    if options.json:
        print_json(answer)
    else:
        print("deleted")
    return 0


def reset(client: Client, options: Namespace) -> int:
    """Set the spend of a scope's current windows back; the ledger keeps a record of it."""
    body = given({"reset_to": options.to, "reason": options.reason})

    def post(scope_id: str) -> object:
        return client.post(f"/{SCOPES[options.scope]}/{quote(scope_id, safe='')}/reset_spend", body)

    if options.scope == "key":
        answer = by_alias_too(options.id, lambda: post(options.id), lambda: post(_key_of_alias(client, options.id)))
    else:
        answer = post(options.id)
    if options.json:
        print_json(answer)
        return 0
    print_table(rows_of(answer, "corrections"), RESET_COLUMNS, "Nothing was changed.")
    warn(record_of(answer, ""))
    return 0


def _key_of_alias(client: Client, alias: str) -> str:
    return plain(record_of(client.get("/key/info", {"key_alias": alias}), "info").get("token_id"))


def _show(client: Client, options: Namespace, path: str, body: Json) -> int:
    answer = client.post(path, body)
    if options.json:
        print_json(answer)
        return 0
    record = record_of(answer, "")
    print_record({name: value for name, value in record.items() if name != "warnings"})
    warn(record)
    return 0
