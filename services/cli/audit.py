"""`tundish audit …`: every change, exported whole, and the proof that none was taken out."""

import os
import sys
from argparse import Namespace
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from services.cli.client import Client, Json, Query
from services.cli.output import Column, plain, print_json, print_page, print_table, record_of, rows_of
from shared.errors import SettingsError, TundishError

PAGES_MAX = 1_000_000
COLUMNS: tuple[Column, ...] = (
    ("POSITION", "position", plain),
    ("AT", "updated_at", plain),
    ("BY", "changed_by", plain),
    ("ACTION", "action", plain),
    ("OF", "table_name", plain),
    ("OBJECT", "object_id", plain),
    ("CHANGED", "updated_values", lambda value: _changed(value)),
    ("CAUSE", "cause", plain),
)


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of `/audit/export`: lines of JSON, and the position to go on after (None: that was all)."""

    lines: bytes
    rows: int
    next: int | None


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    position: int | None = None
    next: int | None = None


def show_list(client: Client, options: Namespace) -> int:
    """Changes, newest first, a page of them."""
    answer = client.get("/audit", {"page": options.page, "page_size": options.size} | _filters(options))
    if options.json:
        print_json(answer)
        return 0
    print_table(rows_of(answer, "audit_logs"), COLUMNS, "No change matches.")
    print_page(answer)
    return 0


def _filters(options: Namespace) -> dict[str, str | int | None]:
    return {
        "changed_by": options.by,
        "action": options.action,
        "table_name": options.table,
        "object_id": options.object,
        "team_id": options.team,
        "organization_id": options.org,
        "start": options.start,
        "end": options.end,
    }


def verify(client: Client, options: Namespace) -> int:
    """Whether the chain is whole; 1 if it is not."""
    record = _verified(client, options.anchor)
    whole = record.get("ok") is True
    if options.json:
        print_json(record)
        return 0 if whole else 1
    if not whole:
        print(f"NOT whole, from position {plain(record.get('broken_at'))} on: {plain(record.get('what'))}")
        return 1
    head = record_of(record, "head") if "head" in record else {}
    print(f"whole: {plain(record.get('events'))} changes, {plain(record.get('in_stream'))} of them compared with AUTH")
    print(
        f"its head is {plain(head.get('position'))}:{plain(head.get('hash'))}; keep it where nobody can change it, and"
    )
    print("give it to `tundish audit verify --anchor` later: so a chain that was made anew is found out, too")
    if record.get("foreign_messages"):
        at = plain(record.get("foreign_at"))
        print(
            f"the stream AUTH holds {plain(record['foreign_messages'])} messages that are no changes, at {at}: they are"
        )
        print("passed over, but somebody with the credentials of a service put them there")
    return 0


def _verified(client: Client, anchor: str | None) -> Json:
    """The answer, and for a log that one request does not get through, all of them as one."""
    after: object = None
    sums = {"events": 0, "in_stream": 0}
    for _ in range(PAGES_MAX):
        query: Query = {"anchor": anchor, "after": None if after is None else plain(after)}
        record = record_of(client.get("/audit/verify", query), "")
        for name in sums:
            count = record.get(name)
            sums[name] += count if isinstance(count, int) else 0
        if record.get("ok") is not True or record.get("next") is None:
            return record | sums
        if record["next"] == after:
            break
        after = record["next"]
        print(f"{sums['events']:,} changes verified", file=sys.stderr, flush=True)
    raise TundishError(f"the verification does not get beyond position {plain(after)}")


def export(client: Client, options: Namespace) -> int:
    """All changes, as lines of JSON."""
    rows = 0
    last: int = options.after
    with _target(options) as file:
        for _ in range(PAGES_MAX):
            page = _page(client, {"position": last, "limit": options.rows} | _filters(options))
            file.write(page.lines)
            rows += page.rows
            if page.next is None:
                break
            if page.next <= last:
                raise TundishError(f"the export does not get beyond position {last}")
            last = page.next
            print(f"{rows:,} changes, up to position {last:,}", file=sys.stderr, flush=True)
    if options.json and options.file != "-":
        print_json({"rows": rows, "file": options.file, "position": last})
    else:
        print(f"{rows:,} changes exported", file=sys.stderr)
    return 0


def _page(client: Client, query: Query) -> Page:
    """One answer: lines of changes, and at its end one line that says where to go on."""
    lines: list[bytes] = []
    following: int | None = None
    for line in client.raw("GET", "/audit/export", query=query).splitlines():
        if not line.strip():
            continue
        try:
            read = msgspec.json.decode(line, type=_Line)
        except msgspec.MsgspecError as error:
            raise TundishError(f"the export has a line that cannot be read: {error}") from error
        if read.position is None:
            following = read.next
        else:
            lines.append(line + b"\n")
    return Page(lines=b"".join(lines), rows=len(lines), next=following)


@contextmanager
def _target(options: Namespace) -> Generator[BinaryIO, None, None]:
    """Where the lines go: a file that appears whole or not at all, readable by its owner only."""
    if options.file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(options.file)
    if path.exists() and not options.force:
        raise SettingsError(f"{path} exists already; --force overwrites it")
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written ({error.strerror})") from error
    finally:
        aside.unlink(missing_ok=True)


def _changed(value: object) -> str:
    """The names of what changed; the values are in --json."""
    return plain(sorted(cast("Json", value))) if isinstance(value, dict) else plain(value)
