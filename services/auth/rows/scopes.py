"""Teams and organizations as answers."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import UNSET

from services.auth.answers.scopes import MemberRow, OrgRow, TeamRow
from services.auth.domain.org import OrgState
from services.auth.domain.team import TeamState
from services.auth.domain.user import UserState
from services.auth.rows.base import table_of, with_money
from services.auth.spend import Spend


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


def member_rows(state: TeamState, users: Mapping[str, UserState] | None = None) -> list[MemberRow]:
    """The members of a team, with their addresses where the users are given."""
    rows: list[MemberRow] = []
    for member in state.members:
        user = None if users is None else users.get(member.user_id)
        email = UNSET if users is None else None if user is None else user.email
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
