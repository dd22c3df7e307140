"""`tundish key bulk-update` and `key import`: many keys from a file, each of them reported."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import cast

import msgspec

from services.cli.client import ApiFailure, Client, Json
from services.cli.foreign import Plan, plan_of
from services.cli.output import Column, clean, plain, print_json, print_table, record_of, rows_of
from shared.clock import SystemClock
from shared.errors import SettingsError

FILE_BYTES_MAX = 64 * 1024 * 1024
KEYS_MAX = 100_000
BULK_MAX = 100
"""Keys that one request changes."""
TAKEN = "key_taken"
"""How a secret is refused that another key has, or had."""
FAILURES_IN_A_ROW_MAX = 20
"""So many refusals one after the other mean that something is wrong with all of them."""

REPORT: tuple[Column, ...] = (
    ("KEY", "key_name", plain),
    ("ALIAS", "key_alias", plain),
    ("RESULT", "result", plain),
    ("TOKEN ID", "token_id", plain),
)


def bulk_update(client: Client, options: Namespace) -> int:
    """Change the keys that a file lists; 1 when any of them could not be changed."""
    wanted = _keys_of(options.file)
    done: list[Json] = []
    failed: list[Json] = []
    for first in range(0, len(wanted), BULK_MAX):
        answer = client.post("/key/bulk_update", {"keys": wanted[first : first + BULK_MAX]})
        done += rows_of(answer, "successful_updates")
        failed += rows_of(answer, "failed_updates")
    if options.json:
        print_json({"total_requested": len(wanted), "successful_updates": done, "failed_updates": failed})
        return 1 if failed else 0
    print(f"{len(done)} changed, {len(failed)} not")
    for row in failed:
        print(clean(f"{plain(row.get('key'))}: {plain(row.get('failed_reason'))}"))
    return 1 if failed else 0


def bring(client: Client, options: Namespace) -> int:
    """Take keys over by the hashes of their secrets; 1 when any of them could not be."""
    now = SystemClock().now()
    plans = [plan_of(entry, options, now) for entry in _keys_of(options.file)]
    rows: list[Json] = []
    in_a_row = 0
    for plan in plans:
        if in_a_row >= FAILURES_IN_A_ROW_MAX:
            rows.append(_row(plan, "not tried", note=f"{in_a_row} keys before it were refused one after the other"))
            continue
        row = _one(client, plan, dry=options.dry_run)
        in_a_row = in_a_row + 1 if row["result"] == "failed" else 0
        rows.append(row)
    bad = sum(row["result"] in ("failed", "not tried") for row in rows)
    if options.json:
        print_json({"dry_run": options.dry_run, "keys": rows})
    else:
        print_table(rows, REPORT, "The file lists no key.")
        for row in rows:
            if row["notes"]:
                print(clean(f"{plain(row['key_name'])}: {row['notes']}"))
        done = "would be imported" if options.dry_run else "imported"
        print(f"{sum(row['result'] in ('imported', 'planned') for row in rows)} of {len(rows)} keys {done}")
        before = sum(row["result"] == "here already" for row in rows)
        if before:
            print(f"{before} of them here already, by an earlier run: what they are here stays as it is")
    return 1 if bad else 0


def _one(client: Client, plan: Plan, *, dry: bool) -> Json:
    if plan.skip is not None:
        return _row(plan, "skipped", note=plan.skip)
    if dry:
        return _row(plan, "planned") | {"request": plan.request}
    try:
        answer = record_of(client.post("/key/generate", plan.request), "")
    except ApiFailure as failure:
        if failure.status in (401, 403):
            raise
        here = _here_already(client, plan) if failure.code == TAKEN else None
        if here is not None:
            return _row(plan, "here already") | {"token_id": here}
        return _row(plan, "failed", note=str(failure))
    return _row(plan, "imported") | {"token_id": answer.get("token_id")}


def _here_already(client: Client, plan: Plan) -> str | None:
    """The id of the living key that has the secret, from an earlier run; None when there is none."""
    try:
        found = record_of(client.get("/key/info", {"key": str(plan.request["key_hash"])}), "info")
    except ApiFailure as failure:
        if failure.status != 404:
            raise
        return None
    return plain(found.get("token_id"))


def _row(plan: Plan, result: str, note: str | None = None) -> Json:
    notes = [*plan.notes, note] if note else plan.notes
    return {
        "key_name": plan.name,
        "key_alias": plan.request.get("key_alias"),
        "result": result,
        "token_id": None,
        "notes": "; ".join(notes) or None,
    }


def _keys_of(name: str) -> list[Json]:
    """The objects of a file: a list, or an object with a list `keys`. Raises SettingsError."""
    try:
        value = msgspec.json.decode(_content(name))
    except msgspec.DecodeError as error:
        raise SettingsError(f"{name} is not JSON: {error}") from error
    listed = cast("Json", value).get("keys") if isinstance(value, dict) else value
    if not isinstance(listed, list):
        raise SettingsError(f"{name} has no list of keys: neither a list nor an object with 'keys'")
    items = cast("list[object]", listed)
    wrong = next((place for place, item in enumerate(items, 1) if not isinstance(item, dict)), None)
    if wrong is not None:
        raise SettingsError(
            f"{name}: entry {wrong} is not an object. LiteLLM lists whole keys with return_full_object=true"
        )
    if len(items) > KEYS_MAX:
        raise SettingsError(f"{name} lists {len(items)} keys; at most {KEYS_MAX} go into one run")
    return [cast("Json", item) for item in items]


def _content(name: str) -> bytes:
    if name == "-":
        content = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
    else:
        try:
            with Path(name).open("rb") as file:
                content = file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            raise SettingsError(f"{name} cannot be read ({error.strerror})") from error
    if len(content) > FILE_BYTES_MAX:
        raise SettingsError(f"{name} is larger than {FILE_BYTES_MAX} bytes")
    return content
