"""The work behind `/team/*` and `/organization/*`."""

import logging

from msgspec import UNSET, UnsetType

from services.auth import schemas
from services.auth.answers import (
    NewOrg,
    NewTeam,
    OrgAnswer,
    OrgInfo,
    OrgRow,
    TeamAnswer,
    TeamInfo,
    TeamInfoAnswer,
    TeamRow,
)
from services.auth.asked import change_of
from services.auth.domain import org as org_domain
from services.auth.domain import team as team_domain
from services.auth.domain import values
from services.auth.domain.org import CreateOrg, OrgState, UpdateOrg
from services.auth.domain.scope import ScopeChange
from services.auth.domain.stamp import Stamp
from services.auth.domain.team import CreateTeam, TeamState, UpdateTeam
from services.auth.parts import Parts, saying_what_is_taken
from services.auth.rows import extended, key_row, org_row, team_row
from services.auth.store_views import KeyFilter
from shared.access import Principal
from shared.errors import ApiError
from shared.events import AnyAuthEvent
from shared.ids import DEFAULT_ORG, AccountId, OrgId, TeamId, short_id

log = logging.getLogger(__name__)

LIST_MAX = 1_000
TEAM_KEYS_MAX = 100
SYSTEM = "system"


class Scopes:
    """Teams and organizations."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.complete = False

    async def ensure_default(self) -> None:
        """Make the built-in organization if there is none; `complete` once it is there. Raises StoreUnavailable."""
        command = CreateOrg(
            org_id=DEFAULT_ORG, account=AccountId(short_id("acct")), change=ScopeChange(alias=DEFAULT_ORG)
        )

        def decide(state: OrgState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return [] if state is not None else org_domain.decide_create(state, command, stamp)

        change = await self._parts.commits.org(DEFAULT_ORG, decide, actor=SYSTEM)
        if change.position is not None:
            log.info("made the built-in organization %s", DEFAULT_ORG)
            self._parts.relay.tell(change.position)
        self.complete = True

    # ---- teams ---------------------------------------------------------------------------------------

    async def new_team(self, request: schemas.NewTeam, caller: Principal) -> NewTeam:
        """A new team."""
        parts = self._parts
        now = parts.clock.now()
        attach = await parts.attachment(request.budget_id)
        await self._default_budget(request.default_key_budget_id)
        team_id = short_id("team") if request.team_id is None else request.team_id
        command = CreateTeam(
            team_id=TeamId(values.scope_id("team_id", team_id)),
            org_id=DEFAULT_ORG if request.organization_id is None else OrgId(request.organization_id),
            account=AccountId(short_id("acct")),
            change=change_of(request, values.name("team_alias", request.team_alias), attach, now),
            default_key_budget_id=request.default_key_budget_id,
        )
        await self._org(command.org_id)

        def decide(state: TeamState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return team_domain.decide_create(state, command, stamp)

        with saying_what_is_taken():
            change = await parts.commits.team(command.team_id, decide, actor=caller.actor)
        warnings = await parts.in_force(change.position)
        return extended(team_row(change.state, now), NewTeam, warnings=warnings)

    async def update_team(self, request: schemas.UpdateTeam, caller: Principal) -> TeamAnswer:
        """Change settings; in force when this returns (or with a warning that they are not yet)."""
        parts = self._parts
        now = parts.clock.now()
        alias, default = request.team_alias, request.default_key_budget_id
        attach = await parts.attachment(request.budget_id)
        if not isinstance(default, UnsetType):
            await self._default_budget(default)
        command = UpdateTeam(
            account=AccountId(short_id("acct")),
            change=change_of(
                request, alias if isinstance(alias, UnsetType) else values.name("team_alias", alias), attach, now
            ),
            default_key_budget_id=default,
            org_id=UNSET if request.organization_id is None else request.organization_id,
        )

        def decide(state: TeamState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return team_domain.decide_update(state, command, stamp)

        with saying_what_is_taken():
            team_id = TeamId(values.scope_id("team_id", request.team_id))
            change = await parts.commits.team(team_id, decide, actor=caller.actor)
        warnings = await parts.told(change, command.change.money, now)
        return extended(team_row(change.state, now), TeamAnswer, warnings=warnings)

    async def team_info(self, team_id: str, caller: Principal) -> TeamInfoAnswer:
        """A team with its spend and its newest keys. Raises ApiError 404."""
        parts = self._parts
        state = await parts.views.team(values.scope_id("team_id", team_id))
        if state is None:
            raise ApiError(
                404, "team_not_found", f"There is no team {team_id!r}.", param="team_id", kind="not_found_error"
            )
        keys, total = await parts.views.keys(KeyFilter(team_id=team_id), page=1, size=TEAM_KEYS_MAX)
        now = parts.clock.now()
        spend = await parts.ledger.spend("team", team_id, state, now=now, actor=caller.actor)
        warnings = list(spend.warnings)
        if total > len(keys):
            warnings.append(f"{len(keys)} of {total} keys are shown: see GET /key/list?team_id={team_id}")
        return TeamInfoAnswer(
            team_id=team_id,
            team_info=extended(team_row(state, now, spend), TeamInfo, spend=spend.current, total_spend=spend.total),
            keys=[key_row(key, now) for key in keys],
            warnings=warnings,
        )

    async def teams(self, organization_id: str | None) -> list[TeamRow]:
        """Teams, oldest first."""
        if organization_id is not None:
            values.scope_id("organization_id", organization_id)
        now = self._parts.clock.now()
        found = await self._parts.views.teams(organization_id, limit=LIST_MAX)
        return [team_row(state, now) for state in found]

    # ---- organizations -------------------------------------------------------------------------------

    async def new_org(self, request: schemas.NewOrganization, caller: Principal) -> NewOrg:
        """A new organization."""
        parts = self._parts
        now = parts.clock.now()
        org_id = short_id("org") if request.organization_id is None else request.organization_id
        if request.organization_alias is None:
            raise values.problem("organization_alias", "an organization needs a name")
        command = CreateOrg(
            org_id=OrgId(values.scope_id("organization_id", org_id)),
            account=AccountId(short_id("acct")),
            change=change_of(
                request,
                values.name("organization_alias", request.organization_alias),
                await parts.attachment(request.budget_id),
                now,
            ),
        )

        def decide(state: OrgState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return org_domain.decide_create(state, command, stamp)

        with saying_what_is_taken():
            change = await parts.commits.org(command.org_id, decide, actor=caller.actor)
        warnings = await parts.in_force(change.position)
        return extended(org_row(change.state, now), NewOrg, warnings=warnings)

    async def update_org(self, request: schemas.UpdateOrganization, caller: Principal) -> OrgAnswer:
        """Change settings; in force when this returns (or with a warning that they are not yet)."""
        parts = self._parts
        now = parts.clock.now()
        alias = request.organization_alias
        if alias is None:
            raise values.problem("organization_alias", "an organization needs a name")
        attach = await parts.attachment(request.budget_id)
        command = UpdateOrg(
            account=AccountId(short_id("acct")),
            change=change_of(
                request,
                alias if isinstance(alias, UnsetType) else values.name("organization_alias", alias),
                attach,
                now,
            ),
        )

        def decide(state: OrgState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return org_domain.decide_update(state, command, stamp)

        with saying_what_is_taken():
            org_id = OrgId(values.scope_id("organization_id", request.organization_id))
            change = await parts.commits.org(org_id, decide, actor=caller.actor)
        warnings = await parts.told(change, command.change.money, now)
        return extended(org_row(change.state, now), OrgAnswer, warnings=warnings)

    async def org_info(self, organization_id: str, caller: Principal) -> OrgInfo:
        """An organization with its spend and teams. Raises ApiError 404."""
        parts = self._parts
        state = await self._org(organization_id)
        now = parts.clock.now()
        spend = await parts.ledger.spend("org", organization_id, state, now=now, actor=caller.actor)
        return extended(
            org_row(state, now, spend),
            OrgInfo,
            spend=spend.current,
            total_spend=spend.total,
            teams=await self.teams(organization_id),
            warnings=spend.warnings,
        )

    async def orgs(self) -> list[OrgRow]:
        """Organizations, oldest first."""
        now = self._parts.clock.now()
        return [org_row(state, now) for state in await self._parts.views.orgs(limit=LIST_MAX)]

    async def _default_budget(self, budget_id: str | None) -> None:
        """Refuse a budget object for new keys that is not there."""
        await self._parts.attachment(budget_id, param="default_key_budget_id")

    async def _org(self, org_id: str) -> OrgState:
        state = await self._parts.views.org(values.scope_id("organization_id", org_id))
        if state is None:
            raise ApiError(
                404,
                "organization_not_found",
                f"There is no organization {org_id!r}: make it with POST /organization/new.",
                param="organization_id",
                kind="not_found_error",
            )
        return state
