"""Two organizations with teams, people and keys of every role, for the test of what each may do to whose things."""

from itertools import count
from typing import Any

from tests.support.auth import MASTER_KEY
from tests.support.auth_process import AuthProcess

PLACES = ("team", "sibling", "foreign", "nowhere")
"""Whose thing it is: of the team `a1`, of another team of the same organization, of another organization, nobody's."""
TEAM_AT = {"team": "a1", "sibling": "a2", "foreign": "b1", "nowhere": "t-nowhere"}
ORG_AT = {"team": "north", "sibling": "north", "foreign": "south", "nowhere": "o-nowhere"}
NOWHERE = {"key": "key_01900000000070008000000000000000", "team": "t-nowhere", "org": "o-nowhere", "user": "u-nowhere"}
BUDGET = {"max_budget": 5}
CALLERS: dict[str, dict[str, Any] | None] = {
    "admin": {"key_type": "admin"},
    "org_admin": {"key_type": "org_admin", "organization_id": "north"},
    "team_admin": {"key_type": "team_admin", "team_id": "a1"},
    "viewer": {"key_type": "viewer"},
    "org_viewer": {"key_type": "viewer", "organization_id": "north"},
    "team_viewer": {"key_type": "viewer", "team_id": "a1"},
    "plain": {"team_id": "a1"},
}


class Matrix:
    """The world. What `fixed` names is only ever asked for by those who are refused, or who just look."""

    def __init__(self, auth: AuthProcess) -> None:
        self.auth = auth
        self._count = count(1)
        for org in ("north", "south"):
            auth.made("/organization/new", {"organization_id": org, "organization_alias": org})
        for place in PLACES[:3]:
            team = {"team_id": TEAM_AT[place], "team_alias": TEAM_AT[place], "organization_id": ORG_AT[place]}
            auth.made("/team/new", team)
        auth.made("/budget/new", {"budget_id": "fixed", "max_budget": 1})
        self.minted = {name: auth.made("/key/generate", wanted) for name, wanted in CALLERS.items() if wanted}
        self.secrets: dict[str, str | None] = {name: key["key"] for name, key in self.minted.items()}
        self.secrets |= {"master": MASTER_KEY, "nobody": None}
        self.fixed = {place: {thing: self.fresh(thing, place) for thing in NOWHERE} for place in PLACES[:3]}
        self.fixed["nowhere"] = NOWHERE

    def new(self, what: str) -> str:
        """A name that nothing has yet."""
        return f"{what}-{next(self._count)}"

    def fresh(self, thing: str, place: str) -> str:
        """A new key, team, organization or user of a place; its id."""
        if place == "nowhere":
            return NOWHERE[thing]
        if thing == "key":
            wanted = {"team_id": TEAM_AT[place], "rotation_delivery": [{"type": "exchange"}], **BUDGET}
            return self.auth.made("/key/generate", wanted)["token_id"]
        if thing == "team":
            wanted = {"team_id": self.new("t"), "team_alias": self.new("t"), "organization_id": ORG_AT[place], **BUDGET}
            return self.auth.made("/team/new", wanted)["team_id"]
        if thing == "org":
            wanted = {"organization_id": self.new("o"), "organization_alias": self.new("o"), **BUDGET}
            return self.auth.made("/organization/new", wanted)["organization_id"]
        user = self.new("u")
        self.auth.made("/user/new", {"user_id": user, "teams": [TEAM_AT[place]], "auto_create_key": False})
        return user

    def changes(self) -> int:
        """How many changes there have been."""
        answer = self.auth.call("GET", "/audit", query={"page_size": 1})
        assert answer.status_code == 200, answer.text
        return answer.json()["total"]
