"""Writes docs/compatibility.md from the results of the client suite: `python -m tests.clients.table [results]`."""

import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import msgspec

from tests.clients.rows import PAGE, RESULTS, Result

PACKAGES = ("openai", "anthropic", "langchain-openai", "pydantic-ai-slim", "litellm", "httpx")
HEAD = """# Compatibility

<!-- Written by `python -m tests.clients.table` from the results of `pytest tests/clients`; do not edit. -->

What real clients do through Tundish, each against the whole running product with Foundry's simulator behind it
({versions}). Every row is a test of `tests/clients`; a test checks that none is missing.

- **cases**: how many calls or models the test tries with this client; all of them must do what the client's own
  documentation promises, errors included (as the client's own exception).
- **events**: events of streams that the client read.
- **calls**: calls that Foundry served (and bills) in all cases.
- **books**: nano-dollars booked for them. `=`: after each case the ledger's sum was equal to the bill that follows
  from Foundry's log of served calls, in total and in every class of usage (text, cached, cache writes, sound, images,
  reasoning, pieces, seconds, characters, pages, queries; service and context tier). `marked`: Foundry did not report
  these calls; they are listed [below](#calls-that-foundry-does-not-report) beside their true cost.
"""
MARKED = """## Calls that Foundry does not report

Their usage is `estimated` from what is known, or `lost` and charged at what was held. What was charged, beside what
Foundry bills, in nano-dollars; all clients and cases of a test together.

| surface | test | mark | cases | charged | true | why |
|---|---|---|---|---|---|---|
"""


def page(results: list[Result]) -> str:
    """The whole page."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    parts = [HEAD.format(versions=versions)]
    files: dict[str, dict[tuple[str, str, str, str], list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        files[result.test.partition("::")[0]][result.key].append(result)
    parts += [f"## {file}\n\n" + _table(files[file]) for file in sorted(files)]
    parts.append(MARKED + _marked(results))
    return "\n".join(parts)


def _table(rows: dict[tuple[str, str, str, str], list[Result]]) -> str:
    lines = [
        "| surface | client | | test | cases | pass | events | calls | books |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (surface, client, mode, test), cases in sorted(rows.items(), key=_order):
        passed = sum(case.passed for case in cases)
        books = f"{sum(case.booked_nusd for case in cases):,}"
        equal = "marked" if any(case.marked for case in cases) else f"{books} ="
        cells = (
            surface,
            client,
            mode,
            f"`{test.partition('::')[2]}`",
            len(cases),
            "yes" if passed == len(cases) else f"**{passed} of {len(cases)}**",
            sum(case.events for case in cases) or "",
            sum(case.calls for case in cases),
            equal if all(case.equal for case in cases) else "**differ**",
        )
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _order(row: tuple[tuple[str, str, str, str], list[Result]]) -> tuple[bool, str, str, str, str]:
    surface, client, mode, test = row[0]
    return surface.startswith("Errors"), surface, mode, test, client


def _marked(results: list[Result]) -> str:
    sums: dict[tuple[str, str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for result in results:
        for mark in result.marked:
            found = sums[result.surface, result.test, mark.measured, mark.why]
            found[0] += 1
            found[1] += mark.charged_nusd
            found[2] += mark.true_nusd
    return "".join(
        f"| {surface} | `{test}` | {measured} | {count} | {charged:,} | {true:,} | {why} |\n"
        for (surface, test, measured, why), (count, charged, true) in sorted(sums.items())
    )


def main() -> None:
    """Write the page."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    if not source.exists():
        sys.exit(f"{source} is not there: run `pytest tests/clients` first")
    results = msgspec.json.Decoder(Result).decode_lines(source.read_bytes())
    PAGE.write_text(page(results), encoding="utf-8")
    failed = [result.case for result in results if not result.passed]
    print(f"{PAGE}: {len(results)} cases, {len(failed)} failed")


if __name__ == "__main__":
    main()
