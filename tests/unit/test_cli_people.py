"""`tundish team …`, `org …` and `user …`: what is sent and shown."""

import pytest

from tests.support.cli import Front, run, stand_in

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> Front:
    return stand_in(monkeypatch)


def test_a_team_is_made_and_changed(front: Front) -> None:
    front.say("POST /team/new", {"team_id": "t1"})
    front.say("POST /team/update", {"team_id": "t1"})
    code = run(
        "team", "new", "--id", "t1", "--alias", "Search", "--org", "o1", "--model", "gpt-4*", "--max-budget", "5",
        "--alias-model", "fast=gpt-4o", "--default-key-budget", "b1", "--tag", "x",
    )  # fmt: skip
    assert code == 0
    assert run("team", "update", "t1", "--clear", "models", "--clear", "default_key_budget_id", "--rpm-limit", "9") == 0
    assert front.bodies == [
        {
            "team_id": "t1",
            "organization_id": "o1",
            "team_alias": "Search",
            "default_key_budget_id": "b1",
            "models": ["gpt-4*"],
            "model_aliases": {"fast": "gpt-4o"},
            "tags": ["x"],
            "max_budget": 5.0,
        },
        {"team_id": "t1", "models": None, "default_key_budget_id": None, "rpm_limit": 9},
    ]


def test_teams_are_listed_and_shown_with_members(front: Front, capsys: Capture) -> None:
    front.say("GET /team/list", [{"team_id": "t1", "team_alias": "Search", "max_budget": 5, "blocked": True}])
    members = [{"user_id": "u1", "user_email": "a@b.example", "role": "admin"}]
    front.say("GET /team/info", {"team_id": "t1", "team_info": {"team_id": "t1", "members_with_roles": members}})
    assert run("team", "list", "--org", "o1") == 0
    assert dict(front.asked[0].url.params) == {"organization_id": "o1"}
    assert "$5.00" in (row := capsys.readouterr().out.splitlines()[1])
    assert row.endswith("yes")
    assert run("team", "info", "t1") == 0
    assert "u1      a@b.example  admin" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line", "sent"),
    [
        (("team", "block", "t"), "POST /team/block", {"team_id": "t"}),
        (("team", "unblock", "t"), "POST /team/unblock", {"team_id": "t"}),
        (("team", "delete", "t"), "POST /team/delete", {"team_ids": ["t"]}),
        (("org", "block", "o"), "POST /organization/block", {"organization_id": "o"}),
        (("org", "unblock", "o"), "POST /organization/unblock", {"organization_id": "o"}),
        (("org", "delete", "o"), "POST /organization/delete", {"organization_ids": ["o"]}),
        (("user", "delete", "u"), "POST /user/delete", {"user_ids": ["u"]}),
        (
            ("team", "member", "add", "t", "--email", "a@b.example", "--role", "admin"),
            "POST /team/member_add",
            {"team_id": "t", "member": {"user_email": "a@b.example", "role": "admin"}},
        ),
        (
            ("team", "member", "update", "t", "--user", "u", "--role", "user"),
            "POST /team/member_update",
            {"team_id": "t", "user_id": "u", "role": "user"},
        ),
        (
            ("team", "member", "remove", "t", "--user", "u"),
            "POST /team/member_delete",
            {"team_id": "t", "user_id": "u"},
        ),
        (
            ("org", "member", "add", "o", "--user", "u"),
            "POST /organization/member_add",
            {"organization_id": "o", "member": {"user_id": "u"}},
        ),
        (
            ("org", "member", "remove", "o", "--user", "u"),
            "POST /organization/member_delete",
            {"organization_id": "o", "user_id": "u"},
        ),
    ],
)
def test_what_is_asked_for(front: Front, words: tuple[str, ...], line: str, sent: object) -> None:
    front.say(line, {"warnings": []})
    assert run(*words) == 0
    assert front.lines == [line]
    assert front.bodies == [sent]


def test_a_member_is_named_one_way(front: Front) -> None:
    assert run("team", "member", "add", "t") == 2
    assert run("team", "member", "add", "t", "--user", "u", "--email", "e") == 2
    assert front.asked == []


def test_organizations(front: Front, capsys: Capture) -> None:
    front.say("POST /organization/new", {"organization_id": "o1"})
    front.say("POST /organization/update", {"organization_id": "o1"})
    front.say("GET /organization/list", [{"organization_id": "o1", "organization_alias": "Research"}])
    front.say("GET /organization/info", {"organization_id": "o1", "spend": 1.5})
    assert run("org", "new", "--alias", "Research", "--max-budget", "5") == 0
    assert run("org", "update", "o1", "--clear", "max_budget") == 0
    assert front.bodies == [
        {"organization_alias": "Research", "max_budget": 5.0},
        {"organization_id": "o1", "max_budget": None},
    ]
    assert run("org", "list") == 0
    assert "Research" in capsys.readouterr().out
    assert run("org", "info", "o1") == 0
    assert "spend            1.5" in capsys.readouterr().out
    assert run("org", "new") == 2, "an organization has a name"


def test_a_user_comes_with_a_key_unless_none_is_wanted(front: Front, capsys: Capture) -> None:
    front.say("POST /user/new", {"user_id": "u1", "key": "sk-new"}, {"user_id": "u2", "key": None})
    assert run("user", "new", "--email", "a@b.example", "--role", "internal_user", "--team", "t1", "--org", "o1") == 0
    assert capsys.readouterr().out.startswith("sk-new\n")
    assert run("user", "new", "--id", "u2", "--no-key") == 0
    assert "sk-" not in capsys.readouterr().out
    assert front.bodies == [
        {"user_email": "a@b.example", "user_role": "internal_user", "teams": ["t1"], "organizations": ["o1"]},
        {"user_id": "u2", "auto_create_key": False},
    ]


def test_users_are_listed_shown_and_changed(front: Front, capsys: Capture) -> None:
    front.say("GET /user/list", {"users": [{"user_id": "u1", "user_role": "proxy_admin", "teams": ["t1"]}]})
    front.say("GET /user/info", {"user_id": "u1", "user_info": {"user_id": "u1", "user_role": "proxy_admin"}})
    front.say("POST /user/update", {"user_id": "u1"})
    assert run("user", "list", "--role", "proxy_admin") == 0
    assert "proxy_admin" in capsys.readouterr().out
    assert run("user", "info", "u1") == 0
    assert "user_role  proxy_admin" in capsys.readouterr().out
    assert run("user", "update", "u1", "--role", "internal_user_viewer") == 0
    assert front.bodies[-1] == {"user_id": "u1", "user_role": "internal_user_viewer"}
