"""Where a new key belongs, and what it may be there: the rules of roles and of reach, in one place."""

import msgspec

from services.auth.domain import values
from services.auth.domain.fields.keys import CALLING
from services.auth.domain.team import TeamState
from services.auth.parts import Parts
from services.auth.schemas.keys import GenerateKey, KeyFields
from shared.access import RANKS, REACHES, Principal
from shared.errors import ApiError
from shared.ids import DEFAULT_ORG, OrgId
from shared.policy import Reach, Role

MODEL_TYPES = ("default", "llm_api")
"""Kinds of keys that call models; all others administer."""
_MANAGERS: dict[Reach, Role] = {"team": "team_admin", "org": "org_admin"}
_NEEDS: dict[Role, str] = {
    "admin": "administers everything: leave team_id and organization_id out",
    "org_admin": "administers an organization: send organization_id, and no team_id",
    "team_admin": "administers a team: send team_id",
}


class Home(msgspec.Struct, frozen=True, kw_only=True):
    """The organization and team that a new key belongs to; `reach` is how far a role reaches there."""

    org_id: OrgId
    team: TeamState | None
    reach: Reach


async def home_of(parts: Parts, request: GenerateKey, caller: Principal) -> Home:
    """The home that a request names; whoever holds a role in one place only makes keys there.

    Raises ApiError 400, and 404 for what does not exist or is out of reach.
    """
    bound_org, bound_team = caller.bounds()
    team_id, org_id = request.team_id, request.organization_id
    if org_id is not None:
        values.scope_id("organization_id", org_id)
    if team_id is None and bound_team is not None and org_id in (None, bound_org):
        team_id = bound_team
    if team_id is not None:
        team = await parts.views.team(values.scope_id("team_id", team_id))
        if team is None or team.deleted_at is not None or not caller.covers(team.org_id, team.team_id):
            raise _missing("team_id", f"There is no team {team_id!r}: make it with POST /team/new.")
        if org_id is not None and org_id != team.org_id:
            raise values.problem("organization_id", f"the team {team_id!r} belongs to the organization {team.org_id!r}")
        return Home(org_id=team.org_id, team=team, reach="team")
    named = org_id or bound_org
    if named is None:
        return Home(org_id=DEFAULT_ORG, team=None, reach="all")
    org = await parts.views.org(named)
    if org is None or org.deleted_at is not None or not caller.covers(org.org_id):
        raise _missing("organization_id", f"There is no organization {named!r}: make it with POST /organization/new.")
    return Home(org_id=org.org_id, team=None, reach="org")


def role_of(key_type: str | None, reach: Reach) -> Role | None:
    """The role that a `key_type` stands for; None for a key that calls models. Raises ApiError 400."""
    if key_type is None or key_type in MODEL_TYPES:
        return None
    if key_type == "read_only":
        return "viewer"
    if key_type == "management":
        if reach in _MANAGERS:
            return _MANAGERS[reach]
        raise values.problem(
            "key_type",
            "'management' needs a team_id (team_admin) or an organization_id (org_admin); or say which role it is:"
            " admin, org_admin, team_admin or viewer",
        )
    for role in RANKS:
        if key_type == role:
            return role
    raise values.problem(
        "key_type",
        f"{key_type[:50]!r} is unknown: use default or llm_api for a key that calls models, or one of the roles admin,"
        " org_admin, team_admin and viewer (management and read_only are understood)",
    )


def check_role(role: Role, home: Home, caller: Principal) -> None:
    """Whether a key with a role may be made there by this caller. Raises ApiError 400, 403."""
    if not caller.may_give(role):
        raise ApiError(
            403,
            "not_allowed",
            f"key_type: nobody gives a role above their own, and yours is {caller.role}.",
            param="key_type",
            kind="permission_error",
        )
    if home.reach not in REACHES[role]:
        raise values.problem("key_type", f"{role} {_NEEDS[role]}")


def refuse_calling(request: KeyFields) -> None:
    """Refuse what a key with a role has no use for, by name. Raises ApiError 400."""
    for field in CALLING:
        if getattr(request, field) not in (msgspec.UNSET, None, [], {}):
            raise ApiError(
                400,
                "field_not_supported",
                f"{field} is not in force: a key with a role administers and calls no model, so it has no models,"
                " budgets and limits; leave it out.",
                param=field,
            )


def _missing(param: str, text: str) -> ApiError:
    return ApiError(404, f"{param.removesuffix('_id')}_not_found", text, param=param, kind="not_found_error")
