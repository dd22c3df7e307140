"""A team: a slice of an organization that keys belong to."""

from datetime import datetime

import msgspec

from services.auth.domain.budget import BudgetPatch, budgets_after
from services.auth.domain.stamp import Stamp
from shared.errors import ApiError
from shared.events import AnyAuthEvent, BudgetSet, TeamCreated
from shared.ids import AccountId, OrgId, TeamId
from shared.policy import Budget


class TeamState(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a team; times are UTC."""

    team_id: TeamId
    org_id: OrgId
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    alias: str | None = None
    models: tuple[str, ...] = ()
    metadata: dict[str, object] = {}
    rpm_limit: int | None = None
    tpm_limit: int | None = None
    budgets: tuple[Budget, ...] = ()

    @property
    def budget(self) -> Budget | None:
        """The team's account, if it has one."""
        return self.budgets[0] if self.budgets else None


class CreateTeam(msgspec.Struct, frozen=True, kw_only=True):
    """A new team. `account` names its account should it get a budget."""

    team_id: TeamId
    org_id: OrgId
    account: AccountId
    alias: str | None = None
    models: tuple[str, ...] = ()
    metadata: dict[str, object] = {}
    rpm_limit: int | None = None
    tpm_limit: int | None = None
    budget: BudgetPatch = BudgetPatch()


def decide_create(state: TeamState | None, command: CreateTeam, stamp: Stamp) -> list[AnyAuthEvent]:
    """A team comes to be. Raises ApiError 409 when its id is taken, 400 for a budget that makes no sense."""
    if state is not None:
        raise ApiError(409, "team_exists", f"A team with the id {command.team_id!r} exists already.", param="team_id")
    events: list[AnyAuthEvent] = [
        TeamCreated(
            **stamp.envelope(0),
            team_id=command.team_id,
            org_id=command.org_id,
            alias=command.alias,
            models=command.models,
            metadata=command.metadata,
            rpm_limit=command.rpm_limit,
            tpm_limit=command.tpm_limit,
        )
    ]
    budgets = budgets_after(
        None, command.budget, kind="team", scope_id=command.team_id, fresh=command.account, at=stamp.at
    )
    if budgets is not None:
        events.append(BudgetSet(**stamp.envelope(1), scope_kind="team", scope_id=command.team_id, budgets=budgets))
    return events


def evolve(state: TeamState | None, event: AnyAuthEvent) -> TeamState:
    """The state after one more event."""
    if isinstance(event, TeamCreated):
        return TeamState(
            team_id=event.team_id,
            org_id=event.org_id,
            alias=event.alias,
            models=event.models,
            metadata=event.metadata,
            rpm_limit=event.rpm_limit,
            tpm_limit=event.tpm_limit,
            created_at=event.at,
            created_by=event.actor,
            updated_at=event.at,
            updated_by=event.actor,
        )
    if state is None or not isinstance(event, BudgetSet):
        raise ValueError(f"{type(event).__name__} does not come here in the life of a team")
    return msgspec.structs.replace(state, budgets=event.budgets, updated_at=event.at, updated_by=event.actor)
