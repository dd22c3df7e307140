"""docs/migration.md says of every route and field of LiteLLM's what the code does with it."""

import re

import pytest

from services.auth.domain.fields.base import Fields, sift
from services.proxy.domain.paths import ADMIN_TABLE, INFERENCE_TABLE
from shared.errors import ApiError
from tests.support import migration
from tests.support.litellm_fields import DIFFERENT, FIELDS, LIKE

PAGE = migration.PAGE.read_text(encoding="utf-8")
ROUTES = dict(re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) /[^`]+)` \| (.+) \|$", PAGE, re.MULTILINE))
SECTIONS = dict(re.findall(r"^### `(/[^`]+)`\n(.*?)(?=^### |<!-- end -->)", PAGE, re.MULTILINE | re.DOTALL))
FIELD_ROWS = [
    (path, field, state)
    for path, body in SECTIONS.items()
    for field, state in re.findall(r"^\| `([^`]+)` \| (.+) \|$", body, re.MULTILINE)
]
OURS_ALONE = {
    "/key/revoke", "/key/report-leak", "/key/exchange", "/key/{key}/rotate", "/organization/block",
    "/organization/unblock", "/organization/member_delete", "/organization/delete", "/organization/update",
    "/rotation/list", "/rotation/schedule", "/audit/export", "/audit/verify", "/pepper/status", "/docs",
    "/openapi.json", "/spend/teams", "/spend/orgs", "/spend/corrections", "/ledger/status", "/ledger/rebuild",
    "/scheduler/status", "/alerts", "/team/{team_id}/reset_spend", "/organization/{organization_id}/reset_spend",
}  # fmt: skip
"""Administrative paths that LiteLLM does not have, or not by this method."""


def test_the_tables_are_those_of_the_code() -> None:
    assert migration.rendered(PAGE) == PAGE, "run `python -m tests.support.migration`"


def test_routes_are_in_the_state_that_the_page_says() -> None:
    assert len(ROUTES) > 200
    assert {
        state for state in ROUTES.values() if not state.startswith((migration.IN_FORCE, migration.NOT_OFFERED))
    } == set()
    served = {route for route in ROUTES if migration.served(*route.split(" ", 1))}
    assert served == {route for route, state in ROUTES.items() if state.startswith(migration.IN_FORCE)}


def test_what_is_named_in_place_of_a_route_is_served() -> None:
    named = {
        instead
        for state in ROUTES.values()
        if state.startswith(migration.NOT_OFFERED)
        for instead in re.findall(r"`((?:GET|POST) /[^`]+)`", state)
    }
    assert len(named) > 10
    assert {each for each in named if not migration.served(*each.split(" ", 1))} == set()


@pytest.mark.parametrize("path", sorted(SECTIONS))
def test_fields_are_in_the_state_that_the_page_says(path: str) -> None:
    fields = migration.fields_of(path)
    for field, state in ((field, state) for where, field, state in FIELD_ROWS if where == path):
        if state.startswith(migration.REFUSED):
            assert state == migration.REFUSED + fields.refused[field], field
            assert field not in fields.known
        else:
            assert state.startswith(migration.IN_FORCE), field
            assert field in fields.known


@pytest.mark.parametrize("path", sorted(FIELDS))
def test_every_field_of_litellm_is_known_or_refused_by_name(path: str) -> None:
    fields = migration.fields_of(path)
    assert [name for name in FIELDS[path] if name not in fields.known and name not in fields.refused] == []


@pytest.mark.parametrize("path", sorted(FIELDS))
def test_every_field_that_the_code_answers_for_is_on_the_page(path: str) -> None:
    """In the table of its route, or in that of the route that this one is like, where the page does not take it out."""
    on_page, at = set[str](), path
    while at:
        on_page |= {field for where, field, _ in FIELD_ROWS if where == at}
        assert LIKE.get(at) is None or f"As `{LIKE[at]}`" in SECTIONS[at]
        at = LIKE.get(at, "")
    fields: Fields = migration.fields_of(path)
    assert {*fields.known, *fields.refused} - on_page == set()


def test_every_route_with_fields_of_litellm_is_on_the_page() -> None:
    with_body = {path for (_, path), row in migration.operations().items() if row.body is not None}
    fieldless = {"/key/health", "/key/{key}/regenerate", "/team/{team_id}/reset_spend"}
    assert with_body - set(FIELDS) - OURS_ALONE - fieldless == set()
    assert set(FIELDS) == set(SECTIONS)


def test_every_route_that_is_served_is_on_the_page_or_ours() -> None:
    paths = {route.partition(" ")[2] for route in ROUTES}
    rows = {path.decode() for path in ADMIN_TABLE} | {path for _, path in migration.operations()}
    assert rows - paths - OURS_ALONE == set()
    plain = {re.sub(r"^(/openai)?(/v1)?/", "/", path.decode()) for path in INFERENCE_TABLE}
    shown = {re.sub(r"^(/openai)?(/v1)?/", "/", path) for path in paths}
    assert {
        path for path in plain if not path.startswith(("/anthropic", "/v2/rerank", "/audio/translations"))
    } - shown == set()


def test_every_difference_is_shown() -> None:
    assert {note for note in DIFFERENT.values() if note not in PAGE} == set()


def test_a_refusal_names_the_field() -> None:
    fields = migration.fields_of("/key/generate")
    with pytest.raises(ApiError) as refused:
        sift({"guardrails": ["x"]}, fields)
    assert refused.value.code == "field_not_supported"
    assert fields.refused["guardrails"] in refused.value.message
