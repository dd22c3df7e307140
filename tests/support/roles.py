"""`docs/roles.md`: what each role may, written from the table of roles and from the routes of all services.

python -m tests.support.roles            # write it
"""

import asyncio
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from unittest.mock import MagicMock

import httpx
from litestar import Litestar
from litestar.types import ControllerRouterHandler

from services.ledger.bookkeeper.api import routes as ledger_routes
from services.scheduler.api import routes as scheduler_routes
from shared.access import RANKS, REACHES, RIGHTS, Gatekeeper, Principal, Right
from shared.errors import ApiError
from shared.http import Health, internal_app
from shared.policy import Role
from shared.telemetry import Metrics
from tests.support.operations import all_operations

PATH = Path(__file__).parents[2] / "docs" / "roles.md"
INTERNAL = frozenset({"/spend/balance", "/spend/correct"})
"""Routes between services, which the front door does not pass on."""
ROLES = tuple(reversed(RANKS))
_MEANING: dict[Right, str] = {
    Right.KEY_READ: "see keys, their spend and how they are renewed",
    Right.KEY_WRITE: "make, change, block, renew and delete keys",
    Right.TEAM_READ: "see teams and their members",
    Right.TEAM_WRITE: "make, change, block and delete teams, and set their budgets and limits",
    Right.TEAM_MEMBERS: "add, change and remove the members of a team",
    Right.ORG_READ: "see organizations",
    Right.ORG_WRITE: "make, change, block and delete organizations, and set their budgets and limits",
    Right.USER_READ: "see users",
    Right.USER_WRITE: "make, change and delete users, and put them into organizations",
    Right.BUDGET_READ: "see budget objects",
    Right.BUDGET_WRITE: "make, change and remove budget objects",
    Right.SPEND_READ: "see what was spent, call by call",
    Right.SPEND_CORRECT: "set back what was spent",
    Right.AUDIT_READ: "see and export the audit log",
    Right.OPERATE: "see how Tundish itself fares, and rebuild its books",
}
_REACH = {
    "all": "everything",
    "org": "its organization, with all teams and keys in it",
    "team": "its team, with the keys in it",
}


class Route(NamedTuple):
    """A route as it is let into. `right` None: the right does not matter."""

    method: str
    path: str
    right: Right | None
    everywhere: bool
    note: str = ""


def auth_routes() -> list[Route]:
    """The rows of auth."""
    notes = {"anybody": "anybody, without a credential", "keys": "and every key in force, about itself"}
    return [
        Route(
            row.method,
            re.sub(r":str\}", "}", row.path),
            row.right if row.who != "anybody" else None,
            row.everywhere,
            notes.get(row.who, ""),
        )
        for row in all_operations()
    ]


def peer_routes() -> list[Route]:
    """The routes of the ledger and the scheduler: called one by one, at a gate that notes what it is asked for."""
    found: list[Route] = []
    for routes in (ledger_routes(MagicMock()), scheduler_routes(MagicMock())):
        found += asyncio.run(_asked(routes))
    return [route for route in found if route.path not in INTERNAL]


class _Noting(Gatekeeper):
    """A gate that lets nobody in and notes the right that it was asked for."""

    def __init__(self) -> None:
        super().__init__(master_key="", peer_tokens={})
        self.asked: list[tuple[Right, bool]] = []

    def admit(self, headers: dict[bytes, bytes], right: Right, *, everywhere: bool = False) -> Principal:
        self.asked.append((right, everywhere))
        raise ApiError(403, "not_allowed", "noted")


async def _asked(routes: Sequence[ControllerRouterHandler]) -> list[Route]:
    gate = _Noting()
    app = internal_app(health=Health(), metrics=Metrics(), gate=gate, routes=routes)
    own = {"/health/liveliness", "/health/readiness", "/metrics"}
    found: list[Route] = []
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://x") as client:  # pyright: ignore
        for path, method in _paths(app):
            if path in own:
                continue
            gate.asked.clear()
            answer = await client.request(method, re.sub(r"\{[^}]+\}", "x", path))
            assert answer.status_code == 403, (path, answer.text)
            ((right, everywhere),) = gate.asked
            found.append(Route(method, re.sub(r":[a-z]+\}", "}", path), right, everywhere))
    return found


def _paths(app: Litestar) -> list[tuple[str, str]]:
    return sorted(
        (route.path_format if "{" not in route.path else route.path, method)
        for route in app.routes
        for method in getattr(route, "methods", ())
        if method not in ("OPTIONS", "HEAD")
    )


def roles_of(route: Route) -> list[Role]:
    """Which roles a route lets in, with some reach."""
    return [
        role
        for role in ROLES
        if route.right is not None and route.right in RIGHTS[role] and (not route.everywhere or "all" in REACHES[role])
    ]


def render() -> str:
    """The text of the page."""
    routes = sorted([*auth_routes(), *peer_routes()], key=lambda route: (route.path, route.method))
    return "\n".join([*_head(), *_rights(), *_routes(routes), ""])


def _head() -> list[str]:
    return [
        "# Roles: who may administer what",
        "",
        "<!-- Written by `python -m tests.support.roles`; a test compares it with the code. -->",
        "",
        "The master key may do everything. A key made with a `key_type` of these has a role: it administers within its",
        "reach, and calls no model. All other keys call models, and may ask `GET /key/info` about themselves.",
        "",
        "| role | `key_type` | reaches |",
        "|---|---|---|",
        *(f"| {role} | `{role}` | {'; or '.join(_REACH[reach] for reach in REACHES[role])} |" for role in ROLES),
        "",
        "A viewer made with a `team_id` sees that team, one made with an `organization_id` that organization, and one",
        "made with neither sees everything. Nobody gives a role above their own or beyond their reach.",
        "",
        "A key with a role that has an owner (`user_id`) ends with them: when they are deleted, leave the team or may",
        "have the role no more. Only who may change users gives such a key to somebody else, or to nobody. Keys",
        "without an owner survive whoever made them. A key with a role that has an end makes no key that lives longer",
        "than itself: the new key's end is brought forward, with a warning; and it lengthens no key's life beyond its",
        "own end, its own life included.",
        "",
        "- Without a credential, or with one that is not in force: 401.",
        "- Without the right, or where a route concerns everybody and the role does not hold everywhere: 403",
        "  `not_allowed`.",
        "- What is out of reach is answered as if it did not exist: 404, the same bytes. Lists show what is in reach.",
        "- The one exception are names that are unique across the installation, also beyond the caller's reach:",
        "  aliases of keys, ids of teams and of deleted users, and secrets (by `key`, `new_key` or `key_hash`). One",
        "  that is taken is a 409, and tells no more than that.",
        "- Anybody may be added to a team, by `user_id` or by `user_email`, and who is added is shown with that alone:",
        "  `user_role`, `user_alias`, `metadata` and when and by whom a user was made are for roles that hold",
        "  everywhere, and for an organization that the user belongs to directly. An address is shown in a team, too,",
        "  when whoever added the member sent it, or saw the user.",
        "",
    ]


def _rights() -> list[str]:
    return [
        "## Rights",
        "",
        f"| right | to | {' | '.join(ROLES)} |",
        f"|---|---|{'---|' * len(ROLES)}",
        *(
            f"| `{right}` | {_MEANING[right]} | "
            + " | ".join("yes" if right in RIGHTS[role] else "–" for role in ROLES)
            + " |"
            for right in Right
        ),
        "",
        "Each right holds within the role's reach: a `team_admin` sets no budget of the team itself,",
        "an `org_admin` none of the organization itself.",
        "",
    ]


def _routes(routes: list[Route]) -> list[str]:
    return [
        "## Routes",
        "",
        "*Everywhere*: the route concerns all organizations, so the role must hold everywhere.",
        "",
        "| route | right | roles | |",
        "|---|---|---|---|",
        *(
            f"| `{route.method} {route.path}` | {f'`{route.right}`' if route.right else '–'} |"
            f" {', '.join(roles_of(route)) or '–'} | {_note(route)} |"
            for route in routes
        ),
    ]


def _note(route: Route) -> str:
    everywhere = "everywhere" if route.everywhere and roles_of(route) != ["admin"] else ""
    own = "every key in force" if route.right is None and "every key" in route.note else route.note
    return "; ".join(note for note in (everywhere, own) if note)


def main() -> int:
    """Write the page."""
    PATH.write_text(render(), encoding="utf-8")
    print(f"wrote {PATH}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
