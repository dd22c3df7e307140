"""The rows of docs/compatibility.md: what a test says of itself, and how it went."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
RESULTS = ROOT / "build" / "compatibility.jsonl"
"""Where the suite leaves its results unless TUNDISH_COMPAT_OUT says otherwise; git does not keep this folder."""
MARK = "row"


class Marked(msgspec.Struct, frozen=True, kw_only=True):
    """A call that Foundry did not report: how it is marked, what was charged and what it truly cost."""

    call_type: str
    measured: str
    charged_nusd: int
    true_nusd: int
    why: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One test case. `events` are those of streams that its client read; `calls` those that Foundry served."""

    surface: str
    client: str
    mode: str
    test: str
    case: str
    passed: bool
    events: int = 0
    calls: int = 0
    booked_nusd: int = 0
    equal: bool = False
    marked: tuple[Marked, ...] = ()

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes one row of the page."""
        return (self.surface, self.client, self.mode, self.test)


def said(item: pytest.Item) -> tuple[str, str, str, str] | None:
    """Surface, client, mode and name of a test of the suite; None for tests that are no row.

    The mark is `row(surface, client=…, mode=…)`; parameters of the same names say what it leaves out.
    """
    mark = item.get_closest_marker(MARK)
    if mark is None:
        return None
    call = getattr(item, "callspec", None)
    given: dict[str, Any] = {} if call is None else call.params
    words = {name: str(mark.kwargs.get(name) or given.get(name) or "") for name in ("client", "mode", "surface")}
    surface = str(mark.args[0]) if mark.args else words["surface"]
    function = getattr(item, "originalname", None) or item.name
    return surface, words["client"], words["mode"] or "plain", f"{item.path.name}::{function}"
