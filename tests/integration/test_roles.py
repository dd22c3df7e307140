"""Who may do what to whose things: every row of the API × every role × own, another's, a stranger's and nobody's.

What is expected stands in the tables here, and is not worked out from the table of roles that it checks.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from tests.support.auth_process import auth_process
from tests.support.matrix import CALLERS, NOWHERE, ORG_AT, PLACES, TEAM_AT, Matrix
from tests.support.operations import all_operations
from tests.support.servers import PostgresServer

OUTCOMES = {"0": 400, "1": 401, "3": 403, "4": 404}
"""`+` is done, the figures are refusals. Each word says it for the places in turn: the team a1, its sibling a2 in the
same organization, the team b1 of another organization, and nowhere."""
WHO = ("master", "admin", "org_admin", "team_admin", "viewer", "org_viewer", "team_viewer", "plain", "nobody")
TABLE = {
    #                 master  admin   org_a.  team_a. viewer  org_v.  team_v. plain   nobody
    "key:write":     ("+++4", "+++4", "++44", "+444", "3333", "3333", "3333", "3333", "1111"),
    "key:read":      ("+++4", "+++4", "++44", "+444", "+++4", "++44", "+444", "3333", "1111"),
    "team:write":    ("+++4", "+++4", "++44", "3333", "3333", "3333", "3333", "3333", "1111"),
    "team:members":  ("+++4", "+++4", "++44", "+444", "3333", "3333", "3333", "3333", "1111"),
    "team:read":     ("+++4", "+++4", "++44", "+444", "+++4", "++44", "+444", "3333", "1111"),
    "org:write":     ("+++4", "+++4", "3333", "3333", "3333", "3333", "3333", "3333", "1111"),
    "org:read":      ("+++4", "+++4", "++44", "3333", "+++4", "++44", "4444", "3333", "1111"),
    "user:write":    ("+++4", "+++4", "3333", "3333", "3333", "3333", "3333", "3333", "1111"),
    "user:read":     ("+++4", "+++4", "++44", "+444", "+++4", "++44", "+444", "3333", "1111"),
    "spend:correct": ("+++4", "+++4", "++44", "3333", "3333", "3333", "3333", "3333", "1111"),
    # and what is about nothing in particular
    "write":         ("+",    "+",    "3",    "3",    "3",    "3",    "3",    "3",    "1"),
    "read":          ("+",    "+",    "+",    "+",    "+",    "+",    "+",    "3",    "1"),
    "org read":      ("+",    "+",    "+",    "3",    "+",    "+",    "+",    "3",    "1"),
    "read all":      ("+",    "+",    "3",    "3",    "+",    "3",    "3",    "3",    "1"),
    "own":           ("0",    "+",    "+",    "+",    "+",    "+",    "+",    "+",    "1"),
    "own secret":    ("4",    "4",    "4",    "4",    "4",    "4",    "4",    "4",    "1"),
    "anybody":       ("+",    "+",    "+",    "+",    "+",    "+",    "+",    "+",    "+"),
}  # fmt: skip


class Request(NamedTuple):
    """What is sent: `{…}` in the path of the row is replaced by `named`."""

    body: Any = None
    query: dict[str, str] | None = None
    named: str = ""


class Row(NamedTuple):
    """How a row is tried: `ask` makes the request about a thing at a place."""

    table: str
    thing: str
    ask: Callable[[Matrix, str, str], Request]
    done: int = 200
    partly: str = ""
    """The list of an answer 200 that tells what was refused."""


def by(field: str, **more: Any) -> Callable[[Matrix, str, str], Request]:
    """A body that names the thing in a field."""
    return lambda world, thing, place: Request({field: thing, **more})


def listed(field: str) -> Callable[[Matrix, str, str], Request]:
    return lambda world, thing, place: Request({field: [thing]})


def asked(field: str) -> Callable[[Matrix, str, str], Request]:
    return lambda world, thing, place: Request(query={field: thing})


def at_path(body: Any = None) -> Callable[[Matrix, str, str], Request]:
    return lambda world, thing, place: Request(body, named=thing)


def plainly(body: Any = None, **query: str) -> Callable[[Matrix, str, str], Request]:
    return lambda world, thing, place: Request(body, query or None)


def made(name: str, **more: Any) -> Callable[[Matrix, str, str], Request]:
    """A body that makes something new, named in a field."""
    return lambda world, thing, place: Request({name: world.new("x"), **more})


def of_team(**more: Any) -> Callable[[Matrix, str, str], Request]:
    return lambda world, thing, place: Request({"team_id": TEAM_AT[place], **more})


def member(world: Matrix, thing: str, place: str) -> Request:
    return Request({"team_id": TEAM_AT[place], "user_id": thing})


def updates(world: Matrix, thing: str, place: str) -> Request:
    return Request({"keys": [{"key": thing, "tags": ["n"]}]})


def new_team(world: Matrix, thing: str, place: str) -> Request:
    return Request({"team_alias": world.new("x"), "organization_id": ORG_AT[place]})


def new_member(world: Matrix, thing: str, place: str) -> Request:
    return Request({"team_id": TEAM_AT[place], "member": {"role": "user", "user_id": world.new("u")}})


def new_members(world: Matrix, thing: str, place: str) -> Request:
    return Request({"team_id": TEAM_AT[place], "members": [{"role": "user", "user_id": world.new("u")}]})


def promoted(world: Matrix, thing: str, place: str) -> Request:
    return Request({"team_id": TEAM_AT[place], "user_id": thing, "role": "admin"})


def joining(world: Matrix, thing: str, place: str) -> Request:
    return Request({"organization_id": thing, "member": {"user_id": world.new("u")}})


def leaving(world: Matrix, thing: str, place: str) -> Request:
    user = world.new("u")
    if thing != NOWHERE["org"]:
        world.auth.made("/organization/member_add", {"organization_id": thing, "member": {"user_id": user}})
    return Request({"organization_id": thing, "user_id": user})


def unused_budget(world: Matrix, thing: str, place: str) -> Request:
    made = world.auth.made("/budget/new", {"budget_id": world.new("b"), "max_budget": 1})
    return Request({"budget_id": made["budget_id"]})


ROWS: dict[str, Row] = {
    # keys
    "POST /key/generate": Row("key:write", "", of_team()),
    "POST /key/service-account/generate": Row("key:write", "", of_team()),
    "GET /key/info": Row("key:read", "key", asked("key")),
    "POST /key/update": Row("key:write", "key", by("key", metadata={"n": 1})),
    "POST /key/block": Row("key:write", "key", by("key")),
    "POST /key/unblock": Row("key:write", "key", by("key")),
    "POST /key/delete": Row("key:write", "key", listed("keys")),
    "POST /key/revoke": Row("key:write", "key", by("key", leaked=True)),
    "POST /key/regenerate": Row("key:write", "key", by("key")),
    "POST /key/{key:str}/regenerate": Row("key:write", "key", at_path({"grace_period": "1h"})),
    "POST /key/{key:str}/rotate": Row("key:write", "key", at_path()),
    "POST /key/{key:str}/reset_spend": Row("spend:correct", "key", at_path({"reset_to": 0}), 503),
    "GET /key/list": Row("read", "", plainly()),
    "GET /key/aliases": Row("read", "", plainly()),
    "GET /rotation/list": Row("read", "", plainly()),
    "POST /v2/key/info": Row("read", "", plainly({"keys": [NOWHERE["key"]]})),
    "POST /key/bulk_update": Row("key:write", "key", updates, partly="failed_updates"),
    "POST /key/health": Row("own", "", plainly()),
    "POST /key/exchange": Row("own secret", "", plainly()),
    "POST /key/report-leak": Row("anybody", "", plainly({"key": "sk-nobody-has-this-one"})),
    # teams
    "POST /team/new": Row("team:write", "", new_team),
    "POST /team/update": Row("team:write", "team", by("team_id", max_budget=5)),
    "GET /team/info": Row("team:read", "own team", asked("team_id")),
    "GET /team/list": Row("read", "", plainly()),
    "GET /v2/team/list": Row("read", "", plainly()),
    "POST /team/block": Row("team:write", "team", by("team_id")),
    "POST /team/unblock": Row("team:write", "team", by("team_id")),
    "POST /team/delete": Row("team:write", "team", listed("team_ids")),
    "POST /team/{team_id:str}/reset_spend": Row("spend:correct", "team", at_path(), 503),
    "POST /team/member_add": Row("team:members", "", new_member),
    "POST /team/bulk_member_add": Row("team:members", "", new_members),
    "POST /team/member_update": Row("team:members", "user", promoted),
    "POST /team/member_delete": Row("team:members", "user", member),
    # organizations
    "POST /organization/new": Row("write", "", made("organization_alias")),
    "POST /organization/update": Row("org:write", "org", by("organization_id", max_budget=5)),
    "PATCH /organization/update": Row("org:write", "org", by("organization_id", max_budget=5)),
    "GET /organization/info": Row("org:read", "own org", asked("organization_id")),
    "GET /organization/list": Row("org read", "", plainly()),
    "POST /organization/block": Row("org:write", "org", by("organization_id")),
    "POST /organization/unblock": Row("org:write", "org", by("organization_id")),
    "POST /organization/delete": Row("org:write", "org", listed("organization_ids")),
    "DELETE /organization/delete": Row("org:write", "org", listed("organization_ids")),
    "POST /organization/{organization_id:str}/reset_spend": Row("org:write", "org", at_path(), 503),
    "POST /organization/member_add": Row("user:write", "org", joining),
    "POST /organization/member_delete": Row("user:write", "org", leaving),
    # users
    "POST /user/new": Row("write", "", made("user_id", auto_create_key=False)),
    "POST /user/update": Row("user:write", "user", by("user_id", user_alias="Ann")),
    "GET /user/info": Row("user:read", "user", asked("user_id")),
    "GET /user/list": Row("read", "", plainly()),
    "POST /user/delete": Row("user:write", "user", listed("user_ids")),
    # budget objects
    "POST /budget/new": Row("write", "", made("budget_id", max_budget=1)),
    "POST /budget/update": Row("write", "", plainly({"budget_id": "fixed", "max_budget": 2})),
    "POST /budget/info": Row("read", "", plainly({"budgets": ["fixed"]})),
    "GET /budget/list": Row("read", "", plainly()),
    "GET /budget/settings": Row("read", "", plainly(budget_id="fixed")),
    "POST /budget/delete": Row("write", "", unused_budget),
    # the rest
    "GET /audit": Row("read", "", plainly()),
    "GET /audit/export": Row("read", "", plainly()),
    "GET /audit/verify": Row("read all", "", plainly()),
    "GET /pepper/status": Row("write", "", plainly()),
}  # fmt: skip


@pytest.fixture(scope="module")
def world(postgres_server: PostgresServer) -> Iterator[Matrix]:
    with auth_process(postgres_server) as auth:
        yield Matrix(auth)
        assert "Traceback" not in auth.output, auth.output


def test_every_row_of_the_api_is_tried() -> None:
    assert set(ROWS) == {f"{row.method} {row.path}" for row in all_operations()}
    assert set(WHO) == {*CALLERS, "master", "nobody"}


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_row_lets_in_exactly_those_who_may(world: Matrix, name: str) -> None:
    row = ROWS[name]
    wrong: list[str] = []
    for who, word in zip(WHO, TABLE[row.table], strict=True):
        unknown = None
        for place, outcome in reversed(list(zip(PLACES[: len(word)], word, strict=True))):
            thing = _thing(world, row.thing, place, fresh=outcome == "+")
            request = row.ask(world, thing, place)
            before = world.changes()
            answer = _sent(world, name, request, who)
            expected = OUTCOMES.get(outcome, row.done)
            refused_in_part = row.partly and answer.status_code == 200 and answer.json()[row.partly]
            if (404 if refused_in_part else answer.status_code) != expected:
                wrong.append(f"{who} at {place}: {answer.status_code} and not {expected}: {answer.text[:200]}")
                continue
            if outcome != "+":
                assert world.changes() == before, f"{who} at {place} was refused and has changed something"
                assert refused_in_part or set(answer.json()["error"]) == {"message", "type", "param", "code"}
            if outcome == "4":
                said = _without_names(answer.text, thing, place)
                unknown = unknown or said
                if said != unknown:
                    wrong.append(f"{who} at {place}: {said} and not {unknown}")
    assert not wrong, "\n".join(wrong)


def _thing(world: Matrix, thing: str, place: str, *, fresh: bool) -> str:
    if thing == "own team":
        return TEAM_AT[place]
    if thing == "own org":
        return ORG_AT[place]
    if not thing:
        return ""
    return world.fresh(thing, place) if fresh else world.fixed[place][thing]


def _sent(world: Matrix, name: str, request: Request, who: str) -> httpx.Response:
    method, path = name.split(" ", 1)
    return world.auth.call(
        method,
        re.sub(r"\{[^}]+\}", request.named, path),
        key=world.secrets[who],
        body=request.body,
        query=request.query,
    )


def _without_names(text: str, thing: str, place: str) -> str:
    """A refusal without what was asked for, which it may repeat."""
    for said in (thing, TEAM_AT[place], ORG_AT[place]):
        text = text.replace(f"'{said}'", "'…'").replace(said, "…") if said else text
    return text


# ---- lists -------------------------------------------------------------------------------------------

SEES = {
    "master": "a1 a2 b1",
    "admin": "a1 a2 b1",
    "org_admin": "a1 a2",
    "team_admin": "a1",
    "viewer": "a1 a2 b1",
    "org_viewer": "a1 a2",
    "team_viewer": "a1",
}


@pytest.mark.parametrize("who", sorted(SEES))
def test_lists_show_what_is_within_reach_and_no_more(world: Matrix, who: str) -> None:
    seen, secret = SEES[who].split(), world.secrets[who]

    def shown(path: str, **query: str) -> str:
        answer = world.auth.call("GET", path, key=secret, query=query)
        assert answer.status_code == 200, answer.text
        return answer.text

    for place in PLACES[:3]:
        there, thing = TEAM_AT[place] in seen, world.fixed[place]
        narrowed = {"team_id": TEAM_AT[place]}
        assert (f'"{thing["key"]}"' in shown("/key/list", size="100", **narrowed)) is there
        assert (f'"{thing["key"]}"' in shown("/key/list", size="100", return_full_object="true", **narrowed)) is there
        assert (f'"{TEAM_AT[place]}"' in shown("/team/list")) is there
        assert (f'"{TEAM_AT[place]}"' in shown("/v2/team/list", page_size="100")) is there
        assert (f'"{thing["user"]}"' in shown("/user/list", user_ids=thing["user"])) is there
        assert (f'"{thing["key"]}"' in shown("/audit", object_id=thing["key"])) is there
        assert (f'"{thing["key"]}"' in shown("/audit/export", object_id=thing["key"])) is there
        assert (f'"{thing["key"]}"' in _whole(world, "/rotation/list", secret)) is there
        looked = world.auth.call("POST", "/v2/key/info", key=secret, body={"keys": [thing["key"]]}).json()
        assert (len(looked["info"]) == 1, looked["not_found"] == []) == (there, there)
    if "a2" not in seen:
        assert '"a2"' not in shown("/audit/export", limit="2000")
    if "b1" not in seen:
        assert '"south"' not in shown("/audit/export", limit="2000")


def _whole(world: Matrix, path: str, secret: str | None) -> str:
    """All pages of a list."""
    text, page = "", 1
    while True:
        answer = world.auth.call("GET", path, key=secret, query={"page": page, "size": 100})
        assert answer.status_code == 200, answer.text
        text += answer.text
        if page >= answer.json()["total_pages"]:
            return text
        page += 1


@pytest.mark.parametrize("who", ["org_admin", "team_admin", "org_viewer", "team_viewer"])
def test_keys_that_reach_further_are_not_seen(world: Matrix, who: str) -> None:
    """The keys of administrators stand in the built-in organization; nobody below them knows of them."""
    for other in ("admin", "viewer", *(("org_admin",) if who.startswith("team") else ())):
        above = {"key": world.minted[other]["token_id"]}
        assert world.auth.call("GET", "/key/info", key=world.secrets[who], query=above).status_code == 404


def test_a_key_without_a_role_reads_about_itself_alone(world: Matrix) -> None:
    plain = world.secrets["plain"]
    own = world.minted["plain"]
    for reference in (None, own["key"], own["token_id"]):
        answer = world.auth.call("GET", "/key/info", key=plain, query={} if reference is None else {"key": reference})
        assert (answer.status_code, answer.json()["info"]["token_id"]) == (200, own["token_id"])
    said = {
        world.auth.call("GET", "/key/info", key=plain, query={"key": reference}).text
        for reference in (NOWHERE["key"], world.fixed["team"]["key"], world.fixed["foreign"]["key"], "sk-nobody")
    }
    assert len(said) == 1
    assert "403" not in said
