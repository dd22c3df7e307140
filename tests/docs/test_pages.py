"""Tables of docs/ that the source has too: raw routes, metrics, realtime sessions."""

import re
from pathlib import Path

import pytest

from services.proxy.domain.deployments import CLASSIC_API_VERSION
from services.proxy.domain.raw import TABLE
from services.proxy.domain.realtime import CLIENT_TYPES
from services.proxy.realtime import session as realtime_session
from shared.topology import BUCKETS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
API = (DOCS / "api.md").read_text(encoding="utf-8")
REALTIME = (DOCS / "realtime.md").read_text(encoding="utf-8")
OPERATIONS = (DOCS / "operations.md").read_text(encoding="utf-8")
METRIC = re.compile(r"\btundish_[a-z0-9_]+[a-z0-9]\b")


def table(text: str, header: str) -> list[list[str]]:
    """The cells of the table with this header line."""
    _, found, rest = text.partition(f"{header}\n")
    assert found, f"no table with the header {header}"
    lines = rest.split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def anchor_of(heading: str) -> str:
    """The anchor by which GitHub links to a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def test_the_raw_routes_of_azure_are_the_table() -> None:
    said = table(API, "| the deployment's own way | v1 | classic |")
    assert {cell.strip("`") for row in said for cell in row} == set(TABLE["azure"])
    for own, v1, classic in said:
        rows = [TABLE["azure"][cell.strip("`")] for cell in (own, v1, classic)]
        assert [row.own for row in rows] == [True, False, False]
        assert [row.version for row in rows] == [None, None, CLASSIC_API_VERSION]
    assert f"classic paths `{CLASSIC_API_VERSION}`" in API


def test_the_raw_routes_of_azure_ai_are_the_table() -> None:
    said = table(API, "| path | what it is | API version | families |")
    written = {path.strip("`"): (version, families) for path, _, version, families in said}
    assert written == {
        path: (
            f"`{row.version}`" if row.version else "–",
            "its own way" if row.own else ", ".join(f"`{family}`" for family in row.families) or "any",
        )
        for path, row in TABLE["azure_ai"].items()
    }


def test_every_metric_that_a_page_names_exists() -> None:
    sources = [file for part in ("services", "shared") for file in (ROOT / part).rglob("*.py")]
    known = {name for file in sources for name in METRIC.findall(file.read_text(encoding="utf-8"))}
    pages = {path.name: set(METRIC.findall(path.read_text(encoding="utf-8"))) for path in DOCS.rglob("*.md")}
    assert {name: named - known for name, named in pages.items() if named - known} == {}


@pytest.mark.parametrize("path", [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))], ids=lambda path: path.name)
def test_links_into_pages_lead_to_a_heading(path: Path) -> None:
    for page, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text(encoding="utf-8")):
        target = path.parent / page if page else path
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {anchor_of(heading) for heading in headings}, f"{page}#{anchor}"


def test_metrics_of_stored_work_and_sessions_are_explained() -> None:
    app = (ROOT / "services" / "proxy" / "app.py").read_text(encoding="utf-8")
    wanted = {name for name in METRIC.findall(app) if re.match(r"tundish_(background|deferred|realtime)_", name)}
    assert len(wanted) >= 5
    assert {name for name in (*wanted, "tundish_unpriced_total") if f"`{name}" not in OPERATIONS} == set()


def test_sizes_of_the_buckets_are_those_of_the_topology() -> None:
    sizes = {bucket.name: bucket.max_bytes for bucket in BUCKETS}
    assert sizes["objects"] == 1024**3
    assert sizes["pending"] == 256 * 1024**2
    assert "`objects` (1 GiB) and `pending` (256 MiB)" in OPERATIONS


def test_events_that_pass_in_a_session_are_listed() -> None:
    paragraph = REALTIME.partition("Of callers these events pass:")[2].partition("They are written anew")[0]
    family, named = "", set[str]()
    for name in re.findall(r"`([a-z_.]+)`", paragraph):
        whole = f"{family}{name}" if name.startswith(".") else name
        family = whole.rpartition(".")[0]
        named.add(whole)
    assert named == CLIENT_TYPES


def test_close_codes_are_those_of_the_session() -> None:
    rows = table(REALTIME, "| why | `code` of the error event | close code |")
    codes = {value for name, value in vars(realtime_session).items() if name.startswith("CLOSE_")}
    assert {int(row[2]) for row in rows} == codes


def test_times_of_a_session_are_those_of_the_page() -> None:
    clockwork = realtime_session.Clockwork()
    assert clockwork.renew_s == 240
    assert "every four minutes" in REALTIME
    assert clockwork.answer_s == 540
    assert "more than nine minutes" in REALTIME
    assert clockwork.drain_s == 10
    assert "at most ten seconds" in REALTIME
    assert clockwork.send_s == 60
    assert "does not read for a minute" in REALTIME
