"""`tundish alerts list`: what was signalled of late."""

from argparse import Namespace

from services.cli.client import Client, Json, Query
from services.cli.output import Column, plain, print_json, print_table, record_of, rows_of
from shared.money import usd_text

SAID = {
    "type", "id", "at", "source", "trace", "scope_kind", "scope_id", "alias", "key_id", "key_alias", "org_id",
    "team_id", "account", "account_id", "position", "actor",
}  # fmt: skip
"""What the other columns say, or nobody reads in a table."""

SAYS_MAX = 500

COLUMNS: tuple[Column, ...] = (
    ("AT", "at", plain),
    ("WHAT", "kind", plain),
    ("OF", "scope_kind", plain),
    ("NAME", "name", plain),
    ("POSITION", "position", plain),
    ("SAYS", "signal", lambda value: _says(value)),
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
        found = [row | {"name": _name(row)} for row in rows_of(answer, "data")]
        print_table(found, COLUMNS, "Nothing has been signalled.", last_max=SAYS_MAX)
        following = record_of(answer, "").get("next")
        if following is not None:
            print(f"there are older ones (--before {plain(following)})")
    return 0


def _name(row: Json) -> str:
    """Whom a signal is about: a key by its alias and its id, for the id is what commands take."""
    alias, scope_id = row.get("alias"), plain(row.get("scope_id"))
    if not alias:
        return scope_id
    return f"{plain(alias)} ({scope_id})" if row.get("scope_kind") == "key" else plain(alias)


def _says(value: object) -> str:
    """What happened, of signals about secrets in words; of others what they carry beside whom they are about."""
    signal = record_of(value, "")
    match plain(signal.get("type")).rpartition(".")[0]:
        case "key.leaked":
            return _leaked(signal)
        case "key.collected_again":
            blocked = ", and the key is blocked" if signal.get("blocked") else ""
            return f"version {_version(signal)} was asked for a second time: one of the two is not the owner{blocked}"
        case "rotation.delivered":
            return f"version {_version(signal)} reached its owner by {plain(signal.get('target'))}{_until(signal)}"
        case "rotation.failed":
            return _failed(signal)
        case _:
            words = [
                f"{name.removesuffix('_nusd')} {_shown(name, signal[name])}" for name in signal if name not in SAID
            ]
            return ", ".join(words) or "-"


def _leaked(signal: Json) -> str:
    done = "is revoked" if signal.get("action") == "revoked" else f"is being replaced{_until(signal)}"
    told = [
        f"{word} {plain(signal[name])}" for word, name in (("by", "reporter"), ("at", "found_at")) if signal.get(name)
    ]
    named = f" (who calls themselves {plain(signal['found_by'])!r})" if signal.get("found_by") else ""
    if named and told:
        told[0] += named
    return f"version {_version(signal)} leaked and {done}; reported {', found '.join(told)}"


def _failed(signal: Json) -> str:
    attempts = signal.get("attempts")
    why = plain(signal.get("reason"))
    if not attempts:
        return f"{why}{_until(signal)}"
    where = plain(signal.get("target"))
    return f"version {_version(signal)} did not reach {where} in {plain(attempts)} attempts: {why}{_until(signal)}"


def _until(signal: Json) -> str:
    end = signal.get("old_ends_at")
    return f"; the old one works until {plain(end)}" if end else ""


def _version(signal: Json) -> str:
    return plain(signal.get("version", 0))


def _shown(name: str, value: object) -> str:
    return usd_text(value) if name.endswith("_nusd") and isinstance(value, int) else plain(value)
