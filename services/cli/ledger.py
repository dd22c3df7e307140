"""`tundish ledger rebuild`: fold the whole log again, compare with the books, and say whether they agree."""

import sys
import time
from argparse import Namespace
from urllib.parse import quote

import msgspec

from services.cli.client import ApiFailure, Client, Unreachable
from services.cli.output import nano_dollars, print_json
from shared.errors import TundishError

POLL_S = 0.5
MISSED_POLLS_MAX = 20
"""This many polls in a row may go unanswered: the job survives a restart of the front door."""
DIFFERENCES_SHOWN = 50


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to the order: the job's id."""

    job: str


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One balance on which log and books disagree, in nano-dollars."""

    what: str
    id: str
    books_nusd: int
    log_nusd: int


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the job is; `equal` and `differences` count once it is `done`."""

    state: str
    events: int = 0
    total: int | None = None
    equal: bool | None = None
    differences: list[Difference] = []
    error: str | None = None


def rebuild(client: Client, options: Namespace) -> int:
    """Start the job, wait for it, print the outcome; 1 when the books differ or the job failed."""
    answer = client.raw("POST", "/ledger/rebuild", body={"check": bool(options.check)})
    job = msgspec.json.decode(answer, type=Started).job
    progress = _wait(client, job, options.wait, quiet=options.json)
    if options.json:
        print_json(progress)
    else:
        _tell(progress, check=options.check)
    return 0 if progress.state == "done" and progress.equal else 1


def _wait(client: Client, job: str, wait_s: int, *, quiet: bool) -> Progress:
    until = time.monotonic() + wait_s
    missed = 0
    shown = -1
    while True:
        try:
            raw = client.raw("GET", f"/ledger/rebuild/{quote(job, safe='')}")
            progress = msgspec.json.decode(raw, type=Progress)
            missed = 0
        except (Unreachable, ApiFailure) as error:
            passing = isinstance(error, Unreachable) or error.status in (502, 503, 504)
            missed += 1
            if not passing or missed > MISSED_POLLS_MAX:
                raise
        else:
            if progress.state != "running":
                return progress
            if not quiet:
                shown = _show(progress, shown)
        if time.monotonic() >= until:
            raise TundishError(f"the job {job} still runs after {wait_s} s; it goes on without this command")
        time.sleep(POLL_S)


def _show(progress: Progress, shown: int) -> int:
    """Print how far it is, at each tenth of what there is to read; the tenth that was shown last."""
    tenth = progress.events * 10 // progress.total if progress.total else 0
    if progress.events and tenth != shown:
        of = f" of {progress.total:,}" if progress.total else ""
        print(f"read {progress.events:,}{of} events of the log", file=sys.stderr, flush=True)
    return tenth


def _tell(progress: Progress, *, check: bool) -> None:
    if progress.state != "done":
        print(f"the rebuild failed after {progress.events:,} events: {progress.error or 'no reason given'}")
        return
    if progress.equal:
        print(f"equal: {progress.events:,} events of the log give exactly the balances in the books")
        return
    print(f"NOT equal: {len(progress.differences):,} balances differ after {progress.events:,} events")
    for found in progress.differences[:DIFFERENCES_SHOWN]:
        print(f"  {found.what} {found.id}: books {nano_dollars(found.books_nusd)}, log {nano_dollars(found.log_nusd)}")
    if len(progress.differences) > DIFFERENCES_SHOWN:
        print(f"  … and {len(progress.differences) - DIFFERENCES_SHOWN:,} more (--json shows all)")
    if not check:
        print("The books now hold what the log says.")
