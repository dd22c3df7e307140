"""Writes docs/isolation.md from the attempts: `python -m tests.integration.isolation_table`."""

from collections.abc import Iterable
from pathlib import Path

from tests.integration.isolation import (
    CLOSED,
    DELETED,
    EVENTS,
    HANDSHAKES,
    NOT_OFFERED,
    PLACES,
    SPELLINGS,
    STRANGE_ITEMS,
    WHO,
    spellings_of,
)

PAGE = Path(__file__).parents[2] / "docs" / "isolation.md"

HEAD = """# Isolation, attempt by attempt

All teams share one identity in Foundry. This page lists what a stranger's key tries to get at another team's objects,
and what it is told. It is written by `python -m tests.integration.isolation_table` from the very attempts that
`tests/integration/test_isolation.py` makes over the whole product; a test checks that it is up to date. How objects are
kept apart is told in [objects.md](objects.md).
"""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown."""
    lines = [[*head], ["---"] * len([*head]), *([*row] for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def render() -> str:
    """The whole page."""
    attempts = sum(len(spellings_of(one.kind)) for one in PLACES) * len(WHO)
    parts = [
        HEAD,
        "## Who tries, and how\n",
        table(("stranger", "is"), WHO.items()),
        table(("spelling", "is"), ((one.name, one.says) for one in SPELLINGS)),
        "Two keys of one team share everything: for each place below the owner's mate is let in where the owner is. A\n"
        "mate who may not use the model of an object gets 403 `model_not_allowed`. A key cannot change its team.\n",
        "## 404, as for an id that nobody ever had\n",
        f"{len(PLACES)} places, {len(WHO)} strangers, and each spelling that the kind has ({', '.join(DELETED)} are\n"
        f"those that are deleted): {attempts} attempts. Each gets\n"
        "status 404 and, byte for byte, the body that an id gets which never existed. Foundry is not asked. Lists\n"
        "show a stranger nothing. One exception: a space at the end of an id in a path makes another path of it,\n"
        "whose 404 has words of its own, the same for every id.\n",
        table(("place", "kind of object"), ((f"`{one.name}`", one.kind) for one in PLACES)),
        "## 404, because nobody is served there\n",
        "The same words for every id, whoever asks.\n",
        table(("path", "kind of object"), ((f"`{one.method} {one.path}`", one.kind) for one in CLOSED)),
        "## 400, because nobody is offered it\n",
        "The owner gets the same answer, in the same words, for every id: what is stored for all teams together, and\n"
        "bodies in which two readers could find two different ids.\n",
        table(("what", "path", "code"), ((one.what, f"`POST {one.path}`", f"`{one.code}`") for one in NOT_OFFERED)),
        "## Realtime sessions\n",
        "A session is one connection; nothing of it can be named from another. These events are answered with an\n"
        "error event, `not_supported`, for everybody:\n",
        table(("event", "what"), ((f"`{event['type']}`", what) for what, _, event in EVENTS)),
        "These reach Foundry, which knows the session's own items only, and answers `item_not_found` for those of\n"
        "another session as for those that never were:\n",
        table(("event",), ((f"`{kind}`",) for kind, _ in STRANGE_ITEMS)),
        "Handshakes with these in their query are refused (400) for everybody:\n",
        table(("query",), ((f"`{query}`",) for query in HANDSHAKES)),
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
