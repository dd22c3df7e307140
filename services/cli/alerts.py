"""`tundish alerts list`: what was signalled of late."""

from argparse import Namespace

from services.cli.client import Client, Query
from services.cli.output import Column, plain, print_json, print_table, record_of, rows_of
from shared.money import usd_text

SAID = {
    "type", "id", "at", "scope_kind", "scope_id", "alias", "key_id", "key_alias", "org_id", "team_id", "account_id",
    "position", "actor",
}  # fmt: skip
"""What the other columns say, or nobody reads in a table."""

COLUMNS: tuple[Column, ...] = (
    ("AT", "at", plain),
    ("WHAT", "kind", plain),
    ("OF", "scope_kind", plain),
    ("NAME", "alias|scope_id", plain),
    ("SAYS", "signal", lambda value: _says(value)),
    ("POSITION", "position", plain),
)


def show_list(client: Client, options: Namespace) -> int:
    """The newest signals."""
    query: Query = {
        "limit": options.limit,
        "kind": options.kind,
        "scope": options.scope,
        "before": options.before,
    }
    answer = client.get("/alerts", query)
    if options.json:
        print_json(answer)
    else:
        print_table(rows_of(answer, "data"), COLUMNS, "Nothing has been signalled.")
        following = record_of(answer, "").get("next")
        if following is not None:
            print(f"there are older ones (--before {plain(following)})")
    return 0


def _says(value: object) -> str:
    """What a signal says beside whom it is about."""
    signal = record_of(value, "")
    words = [f"{name.removesuffix('_nusd')} {_shown(name, signal[name])}" for name in signal if name not in SAID]
    return ", ".join(words) or "-"


def _shown(name: str, value: object) -> str:
    return usd_text(value) if name.endswith("_nusd") and isinstance(value, int) else plain(value)
