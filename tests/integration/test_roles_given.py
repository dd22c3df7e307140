"""Roles that are given, and roles that end: nobody gives more than they have, and nothing outlives its key or team."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.auth_process import auth_process
from tests.support.matrix import TEAM_AT, Matrix
from tests.support.servers import PostgresServer


@pytest.fixture(scope="module")
def world(postgres_server: PostgresServer) -> Iterator[Matrix]:
    with auth_process(postgres_server) as auth:
        yield Matrix(auth)
        assert "Traceback" not in auth.output, auth.output


# ---- giving roles ------------------------------------------------------------------------------------

GIVES: list[tuple[dict[str, Any], tuple[int, int, int, int]]] = [
    #                                                                admin org_admin team_admin viewer
    ({"key_type": "admin"},                                          (200, 403, 403, 403)),
    ({"key_type": "viewer"},                                         (200, 200, 200, 403)),
    ({"key_type": "org_admin", "organization_id": "north"},          (200, 200, 403, 403)),
    ({"key_type": "org_admin", "organization_id": "south"},          (200, 404, 404, 403)),
    ({"key_type": "viewer", "organization_id": "north"},             (200, 200, 200, 403)),
    ({"key_type": "viewer", "organization_id": "south"},             (200, 404, 404, 403)),
    ({"key_type": "team_admin", "team_id": "a1"},                    (200, 200, 200, 403)),
    ({"key_type": "team_admin", "team_id": "a2"},                    (200, 200, 404, 403)),
    ({"key_type": "team_admin", "team_id": "b1"},                    (200, 404, 404, 403)),
    ({"key_type": "viewer", "team_id": "a1"},                        (200, 200, 200, 403)),
    ({"key_type": "viewer", "team_id": "a2"},                        (200, 200, 404, 403)),
    ({"key_type": "management", "team_id": "a1"},                    (200, 200, 200, 403)),
    ({"key_type": "read_only", "team_id": "b1"},                     (200, 404, 404, 403)),
    ({"key_type": "llm_api", "team_id": "a1"},                       (200, 200, 200, 403)),
    ({"organization_id": "north"},                                   (200, 200, 200, 403)),
    ({"organization_id": "south"},                                   (200, 404, 404, 403)),
    ({},                                                             (200, 200, 200, 403)),
    ({"key_type": "admin", "team_id": "a1"},                         (400, 403, 403, 403)),
    ({"key_type": "team_admin"},                                     (400, 400, 200, 403)),
    ({"key_type": "management"},                                     (400, 200, 200, 403)),
]  # fmt: skip
"""Where nothing is said, the key belongs where its maker's role holds."""


@pytest.mark.parametrize(("wanted", "expected"), GIVES)
def test_nobody_gives_a_role_above_their_own_or_beyond_their_reach(
    world: Matrix, wanted: dict[str, Any], expected: tuple[int, int, int, int]
) -> None:
    givers = ("admin", "org_admin", "team_admin", "viewer")
    answers = {who: world.auth.call("POST", "/key/generate", key=world.secrets[who], body=wanted) for who in givers}
    assert tuple(answer.status_code for answer in answers.values()) == expected, {
        who: answer.text[:200] for who, answer in answers.items()
    }
    for who, answer in answers.items():
        if answer.status_code == 200:
            _no_further(world, who, answer.json())


def _no_further(world: Matrix, who: str, key: dict[str, Any]) -> None:
    """What was made belongs where its maker's role holds, and sees no more than the maker does."""
    home = {"org_admin": ("north",), "team_admin": ("north", "a1")}.get(who, ())
    assert (key["organization_id"], key["team_id"])[: len(home)] == home
    if key["role"] is not None and home:
        teams = re.findall(r'"team_id":"([^"]+)"', world.auth.call("GET", "/team/list", key=key["key"]).text)
        assert "b1" not in teams
        assert who == "org_admin" or set(teams) == {"a1"}


def test_a_key_is_not_moved_out_of_reach_nor_into_it(world: Matrix) -> None:
    for who, place, changed in (
        ("team_admin", "team", {"team_id": "a2"}),
        ("team_admin", "team", {"team_id": "b1"}),
        ("team_admin", "sibling", {"team_id": "a1"}),
        ("org_admin", "team", {"team_id": "b1"}),
        ("org_admin", "foreign", {"team_id": "a1"}),
        ("org_admin", "team", {"organization_id": "south"}),
    ):
        key = world.fresh("key", place)
        answer = world.auth.call("POST", "/key/update", key=world.secrets[who], body={"key": key, **changed})
        assert answer.status_code in (400, 404), (who, place, changed, answer.text)
        info = world.auth.call("GET", "/key/info", query={"key": key}).json()["info"]
        assert info["team_id"] == TEAM_AT[place]


# ---- credentials that are over -----------------------------------------------------------------------


@pytest.mark.parametrize("end", ["block", "delete", "revoke"])
def test_a_role_ends_with_its_key(world: Matrix, end: str) -> None:
    key = world.auth.made("/key/generate", {"key_type": "viewer"})
    assert world.auth.call("GET", "/key/list", key=key["key"]).status_code == 200
    world.auth.made(f"/key/{end}", {"keys": [key["token_id"]]} if end == "delete" else {"key": key["key"]})
    for path in ("/key/list", "/key/info", "/audit"):
        answer = world.auth.call("GET", path, key=key["key"])
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_role_ends_with_its_team(world: Matrix) -> None:
    team = world.fresh("team", "team")
    boss = world.auth.made("/key/generate", {"key_type": "team_admin", "team_id": team})["key"]
    world.auth.made("/team/block", {"team_id": team})
    assert world.auth.call("GET", "/key/list", key=boss).status_code == 401
    world.auth.made("/team/unblock", {"team_id": team})
    assert world.auth.call("GET", "/key/list", key=boss).status_code == 200
    world.auth.made("/team/delete", {"team_ids": [team]})
    assert world.auth.call("GET", "/key/list", key=boss).status_code == 401


def test_a_name_of_a_path_may_be_a_word_of_another(world: Matrix) -> None:
    """Paths with a name in them and plain ones do not shadow one another."""
    for word in ("new", "update", "info", "member_add", "regenerate", "service-account"):
        for kind, verb in (("team", "reset_spend"), ("organization", "reset_spend"), ("key", "regenerate")):
            answer = world.auth.call("POST", f"/{kind}/{word}/{verb}", body={})
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, f"{kind}_not_found")
    assert world.auth.call("POST", "/key/regenerate", body={}).json()["error"]["code"] == "invalid_value"
