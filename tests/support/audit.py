"""Does every call that Foundry served stand in the books once, at its price? The check behind the fault tests."""

from functools import cache
from typing import Any

import msgspec

from services.proxy.domain.prices import PriceBook
from shared.catalogue import load
from shared.pricing import Usage, price
from tests.support.stack import Stack

PAGE = 1_000


@cache
def _book() -> PriceBook:
    return PriceBook([row for entry in load() if (row := entry.price_row()) is not None])


def served_cost(call: dict[str, Any]) -> int:
    """What a line of the simulator's served-call log costs, in nano-dollars."""
    row = _book().exact(str(call["model"]))
    assert row is not None, call
    usage = msgspec.convert(call["usage"], dict[str, int])
    cached, write = usage.get("cached", 0), usage.get("cache_write", 0)
    return price(
        Usage(
            input=usage["prompt"] - cached - write,
            cached=cached,
            cache_write=write,
            output=usage.get("completion", 0),
        ),
        row,
    )


def price_of(model: str, prompt: int, completion: int) -> int:
    """What a plain call of a model costs, in nano-dollars."""
    row = _book().exact(model)
    assert row is not None, model
    return price(Usage(input=prompt, output=completion), row)


def served_calls(stack: Stack) -> list[dict[str, Any]]:
    """The simulator's whole log."""
    calls: list[dict[str, Any]] = []
    with stack.simulator() as simulator:
        while True:
            since = calls[-1]["seq"] if calls else 0
            page = simulator.get("/_sim/served", params={"since": since}).json()
            calls += page["calls"]
            if not page.get("more"):
                return calls


def booked_calls(stack: Stack) -> list[dict[str, Any]]:
    """All lines of the books' call log."""
    rows: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        got = stack.call("GET", "/spend/logs", params={"limit": PAGE, **cursor})
        rows += got["data"]
        if got["next"] is None:
            return rows
        cursor = {"cursor": got["next"]}


class Audit(msgspec.Struct, kw_only=True):
    """The differences between what was served and what was booked, by call id."""

    served: int
    booked: int
    missing: list[str]
    twice: list[str]
    wrong: list[tuple[str, int, int]]
    marked: list[tuple[str, str, int, int]]
    """Calls marked lost or estimated: id, mark, what was charged, what they truly cost (0: not served)."""
    exact_nusd: int


def audit(stack: Stack) -> Audit:
    """Compare the simulator's log with the books."""
    served = {str(call["client_request_id"]): call for call in served_calls(stack)}
    rows = booked_calls(stack)
    seen: dict[str, dict[str, Any]] = {}
    twice: list[str] = []
    for row in rows:
        call_id = str(row["request_id"])
        if call_id in seen:
            twice.append(call_id)
        seen[call_id] = row
    missing = [call_id for call_id in served if call_id not in seen]
    wrong: list[tuple[str, int, int]] = []
    marked: list[tuple[str, str, int, int]] = []
    exact = 0
    for call_id, row in seen.items():
        true = served_cost(served[call_id]) if call_id in served else 0
        charged = int(row["cost_nusd"])
        if row["measured"] != "reported":
            marked.append((call_id, str(row["measured"]), charged, true))
        elif charged != true:
            wrong.append((call_id, charged, true))
        else:
            exact += charged
    return Audit(
        served=len(served),
        booked=len(rows),
        missing=missing,
        twice=twice,
        wrong=wrong,
        marked=marked,
        exact_nusd=exact,
    )
