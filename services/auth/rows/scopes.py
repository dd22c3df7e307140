"""Teams and organizations as answers."""

from collections.abc import Mapping
from datetime import datetime

from services.auth.answers.scopes import MemberRow, OrgRow, TeamRow
from services.auth.domain.org import OrgState
from services.auth.domain.team import TeamState
from services.auth.domain.user import UserState
from services.auth.rows.base import table_of, with_money
from services.auth.rows.people import sees
from services.auth.spend import Spend
from shared.access import Principal


def team_row(state: TeamState, now: datetime, spend: Spend | None = None) -> TeamRow:
    """A team as it is at an instant."""
    row = TeamRow(
        team_id=state.team_id,
        team_alias=state.alias,
        organization_id=state.org_id,
        models=state.models,
        metadata=state.metadata,
        created_at=state.created_at,
        created_by=state.created_by,
        updated_at=state.updated_at,
        updated_by=state.updated_by,
        model_aliases=state.model_aliases,
        tags=state.tags,
        members_with_roles=member_rows(state),
        default_key_budget_id=state.default_key_budget_id,
        blocked=state.blocked,
    )
    return with_money(row, state, now, spend)


def member_rows(state: TeamState) -> list[MemberRow]:
    """The members of a team, without their addresses."""
    return [MemberRow(user_id=member.user_id, role=member.role) for member in state.members]


def addressed_rows(state: TeamState, users: Mapping[str, UserState], caller: Principal) -> list[MemberRow]:
    """The members of a team, with the addresses that the caller may know."""
    rows: list[MemberRow] = []
    for member in state.members:
        user = users.get(member.user_id)
        is_shown = user is not None and (member.address_known or sees(caller, user))
        email = user.email if user is not None and is_shown else None
        rows.append(MemberRow(user_id=member.user_id, role=member.role, user_email=email))
    return rows


def org_row(state: OrgState, now: datetime, spend: Spend | None = None) -> OrgRow:
    """An organization as it is at an instant."""
    row = OrgRow(
        organization_id=state.org_id,
        organization_alias=state.alias,
        models=state.models,
        metadata=state.metadata,
        created_at=state.created_at,
        created_by=state.created_by,
        updated_at=state.updated_at,
        updated_by=state.updated_by,
        model_aliases=state.model_aliases,
        tags=state.tags,
        blocked=state.blocked,
    )
    row = with_money(row, state, now, spend)
    if row.litellm_budget_table is None and (state.budgets or state.limits.any):
        row.litellm_budget_table = table_of(state, state.limits, now)
    return row
