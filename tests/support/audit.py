"""Does every call that Foundry served stand in the books once, at its price? The check behind the fault tests."""

from functools import cache
from typing import Any

import msgspec

from services.proxy.domain.prices import PriceBook
from shared.catalogue import load, price_rows
from shared.clock import SystemClock
from shared.pricing import PriceRow, Usage, price
from tests.support.stack import Stack

PAGE = 1_000


@cache
def _book() -> PriceBook:
    return PriceBook(price_rows(load(), SystemClock().now().date()))


def row_of(model: str, family: str = "") -> PriceRow:
    """The price row of a served model; `family` (`azure`, `azure_ai`) decides where both have a model of a name."""
    row = _book().exact(f"{family}/{model}" if family else model) or _book().exact(model)
    assert row is not None, model
    return row


def true_usage(call: dict[str, Any]) -> Usage:
    """What a line of the simulator's served-call log used, in the classes that Tundish books.

    The log counts whole prompts and outputs, with their parts inside; here every token is in one class only.
    """
    said = call["usage"]

    def of(name: str) -> int:
        return int(said.get(name, 0))

    audio, audio_cached, image = of("audio_prompt"), of("audio_cached"), of("image_prompt")
    beside = of("cache_write") + of("cache_write_1h") + (audio - audio_cached) + image
    return Usage(
        input=of("prompt") - of("cached") - beside,
        cached=of("cached") - audio_cached,
        cache_write=of("cache_write"),
        cache_write_1h=of("cache_write_1h"),
        audio_input=audio - audio_cached,
        audio_cached=audio_cached,
        image_input=image,
        output=of("completion") - of("audio_completion") - of("image_completion"),
        reasoning=of("reasoning"),
        audio_output=of("audio_completion"),
        image_output=of("image_completion"),
        images=of("images"),
        milliseconds=of("milliseconds"),
        characters=of("characters"),
        queries=of("queries"),
        pages=of("pages"),
        tier=str(said.get("service_tier", "")),
        kind=str(said.get("image_kind", "")),
    )


def served_cost(call: dict[str, Any], family: str = "") -> int:
    """What a line of the simulator's served-call log costs, in nano-dollars. A router's fee comes on top."""
    row = row_of(str(call["model"]), family)
    if call.get("routed"):
        row = msgspec.structs.replace(row, fee=row_of("model-router").fee)
    return price(true_usage(call), row)


def booked_usage(row: dict[str, Any]) -> Usage:
    """The classes of a line of `/spend/logs`, which tells wholes of prompt, output and cached tokens."""
    apart = (
        "cache_write_tokens", "cache_write_1h_tokens", "audio_input_tokens", "image_input_tokens", "cached_tokens"
    )  # fmt: skip
    audio_cached, image_cached = row["audio_cached_tokens"], row["image_cached_tokens"]
    return Usage(
        input=row["prompt_tokens"] - sum(int(row[name]) for name in apart),
        cached=row["cached_tokens"] - audio_cached - image_cached,
        cache_write=row["cache_write_tokens"],
        cache_write_1h=row["cache_write_1h_tokens"],
        audio_input=row["audio_input_tokens"],
        audio_cached=audio_cached,
        image_input=row["image_input_tokens"],
        image_cached=image_cached,
        output=row["completion_tokens"] - row["audio_output_tokens"] - row["image_output_tokens"],
        reasoning=row["reasoning_tokens"],
        audio_output=row["audio_output_tokens"],
        image_output=row["image_output_tokens"],
        images=row["images"],
        milliseconds=row["milliseconds"],
        characters=row["characters"],
        queries=row["queries"],
        pages=row["pages"],
        sessions=row["sessions"],
        tier=row["service_tier"],
        kind=row["kind"],
    )


def price_of(model: str, prompt: int, completion: int) -> int:
    """What a plain call of a model costs, in nano-dollars."""
    return price(Usage(input=prompt, output=completion), row_of(model))


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
