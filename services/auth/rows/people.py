"""Users as answers."""

from services.auth.answers.people import UserRow, UserTeam
from services.auth.domain.user import UserState
from services.auth.store_people import Membership
from shared.access import Principal


def sees(caller: Principal, user: UserState) -> bool:
    """Whether somebody may know more of a user than who they are: the reach `all`, and the organizations that a user
    belongs to directly. Being added to a team tells nothing: whoever administers one may add anybody."""
    return caller.everywhere or (caller.role is not None and caller.reach == "org" and caller.org_id in user.orgs)


def user_row(state: UserState, caller: Principal, address: str | None = None) -> UserRow:
    """A user, with the organizations that the caller may know of; `address` is all that is shown beside the id to whom
    they are not shown in full."""
    if not sees(caller, state):
        return UserRow(user_id=state.user_id, user_email=address)
    return UserRow(
        user_id=state.user_id,
        user_email=state.email,
        user_alias=state.alias,
        user_role=state.role,
        organizations=[org for org in state.orgs if caller.covers(org)],
        metadata=state.metadata,
        created_at=state.created_at,
        created_by=state.created_by,
        updated_at=state.updated_at,
        updated_by=state.updated_by,
    )


def user_team(membership: Membership) -> UserTeam:
    """A team of a user."""
    return UserTeam(
        team_id=membership.team_id,
        team_alias=membership.alias,
        organization_id=membership.org_id,
        role=membership.role,
    )
