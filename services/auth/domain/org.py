"""An organization: the outermost scope. `default` is built in and holds keys and teams of no other."""

from datetime import datetime

import msgspec

from services.auth.domain.budget import BudgetPatch, budgets_after
from services.auth.domain.stamp import Stamp
from shared.errors import ApiError
from shared.events import AnyAuthEvent, BudgetSet, OrgCreated
from shared.ids import AccountId, OrgId
from shared.policy import Budget


class OrgState(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of an organization; times are UTC."""

    org_id: OrgId
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    alias: str | None = None
    models: tuple[str, ...] = ()
    metadata: dict[str, object] = {}
    budgets: tuple[Budget, ...] = ()

    @property
    def budget(self) -> Budget | None:
        """The organization's account, if it has one."""
        return self.budgets[0] if self.budgets else None


class CreateOrg(msgspec.Struct, frozen=True, kw_only=True):
    """A new organization. `account` names its account should it get a budget."""

    org_id: OrgId
    account: AccountId
    alias: str | None = None
    models: tuple[str, ...] = ()
    metadata: dict[str, object] = {}
    budget: BudgetPatch = BudgetPatch()


def decide_create(state: OrgState | None, command: CreateOrg, stamp: Stamp) -> list[AnyAuthEvent]:
    """An organization comes to be. Raises ApiError 409 when its id is taken, 400 for a senseless budget."""
    if state is not None:
        raise ApiError(
            409,
            "organization_exists",
            f"An organization with the id {command.org_id!r} exists already.",
            param="organization_id",
        )
    events: list[AnyAuthEvent] = [
        OrgCreated(
            **stamp.envelope(0),
            org_id=command.org_id,
            alias=command.alias,
            models=command.models,
            metadata=command.metadata,
        )
    ]
    budgets = budgets_after(
        None, command.budget, kind="org", scope_id=command.org_id, fresh=command.account, at=stamp.at
    )
    if budgets is not None:
        events.append(BudgetSet(**stamp.envelope(1), scope_kind="org", scope_id=command.org_id, budgets=budgets))
    return events


def evolve(state: OrgState | None, event: AnyAuthEvent) -> OrgState:
    """The state after one more event."""
    if isinstance(event, OrgCreated):
        return OrgState(
            org_id=event.org_id,
            alias=event.alias,
            models=event.models,
            metadata=event.metadata,
            created_at=event.at,
            created_by=event.actor,
            updated_at=event.at,
            updated_by=event.actor,
        )
    if state is None or not isinstance(event, BudgetSet):
        raise ValueError(f"{type(event).__name__} does not come here in the life of an organization")
    return msgspec.structs.replace(state, budgets=event.budgets, updated_at=event.at, updated_by=event.actor)
