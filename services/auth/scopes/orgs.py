"""The work behind `/organization/new`, `update`, `info` and `list`."""

import logging

from msgspec import UNSET, UnsetType

from services.auth.answers.scopes import NewOrg, OrgAnswer, OrgInfo, OrgRow
from services.auth.asked import aliases_of, change_of
from services.auth.domain import org as domain
from services.auth.domain import values
from services.auth.domain.org import CreateOrg, OrgState, UpdateOrg
from services.auth.domain.scope import ScopeChange
from services.auth.domain.stamp import Stamp
from services.auth.draws import Draws
from services.auth.parts import Parts, saying_what_is_taken
from services.auth.rows.base import extended
from services.auth.rows.scopes import org_row
from services.auth.schemas import scopes as schemas
from services.auth.scopes.finding import org_within
from services.auth.scopes.teams import Teams
from shared.access import Principal
from shared.events import AnyAuthEvent
from shared.ids import DEFAULT_ORG, AccountId, OrgId, short_id

log = logging.getLogger(__name__)

LIST_MAX = 1_000
TEAMS_SHOWN_MAX = 1_000
SYSTEM = "system"


class Orgs:
    """Organizations."""

    def __init__(self, parts: Parts, teams: Teams) -> None:
        self._parts = parts
        self._teams = teams
        self.complete = False

    async def ensure_default(self) -> None:
        """Make the built-in organization if there is none; `complete` once it is there. Raises StoreUnavailable."""
        command = CreateOrg(
            org_id=DEFAULT_ORG, account=AccountId(short_id("acct")), change=ScopeChange(alias=DEFAULT_ORG)
        )

        def decide(state: OrgState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return [] if state is not None else domain.decide_create(state, command, stamp)

        change = await self._parts.commits.org(DEFAULT_ORG, decide, actor=SYSTEM)
        if change.position is not None:
            log.info("made the built-in organization %s", DEFAULT_ORG)
            self._parts.relay.tell(change.position)
        self.complete = True

    async def new(self, request: schemas.NewOrganization, caller: Principal, draws: Draws) -> NewOrg:
        """A new organization. Raises ApiError 400, 404, 409."""
        parts = self._parts
        now = parts.clock.now()
        drawn, account = draws.short_id("org"), AccountId(draws.short_id("acct"))
        org_id = drawn if request.organization_id is None else request.organization_id
        if request.organization_alias is None:
            raise values.problem("organization_alias", "an organization needs a name")
        command = CreateOrg(
            org_id=OrgId(values.scope_id("organization_id", org_id)),
            account=account,
            change=change_of(
                request,
                values.name("organization_alias", request.organization_alias),
                await parts.attachment(request.budget_id),
                now,
                model_aliases=aliases_of("model_aliases", request.model_aliases),
            ),
            blocked=bool(request.blocked),
            again=draws.again,
        )

        def decide(state: OrgState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_create(state, command, stamp)

        with saying_what_is_taken():
            change = await parts.commits.org(command.org_id, decide, actor=caller.actor)
        warnings = await parts.in_force(change.position)
        return extended(org_row(change.state, now), NewOrg, warnings=warnings)

    async def update(self, request: schemas.UpdateOrganization, caller: Principal, draws: Draws) -> OrgAnswer:
        """Change settings; in force when this returns (or with a warning that they are not yet)."""
        parts = self._parts
        now = parts.clock.now()
        alias = request.organization_alias
        if alias is None:
            raise values.problem("organization_alias", "an organization needs a name")
        org_id = (await org_within(parts, request.organization_id, caller)).org_id
        attach = await parts.attachment(request.budget_id)
        command = UpdateOrg(
            org_id=org_id,
            account=AccountId(draws.short_id("acct")),
            change=change_of(
                request,
                alias if isinstance(alias, UnsetType) else values.name("organization_alias", alias),
                attach,
                now,
                model_aliases=aliases_of("model_aliases", request.model_aliases),
            ),
            blocked=UNSET if request.blocked is None else request.blocked,
        )

        def decide(state: OrgState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_update(state, command, stamp)

        with saying_what_is_taken():
            change = await parts.commits.org(org_id, decide, actor=caller.actor)
        warnings = await parts.told(change, command.change.money, now)
        return extended(org_row(change.state, now), OrgAnswer, warnings=warnings)

    async def info(self, organization_id: str, caller: Principal) -> OrgInfo:
        """An organization with its spend and teams. Raises ApiError 404."""
        parts = self._parts
        state = await org_within(parts, organization_id, caller)
        now = parts.clock.now()
        spend = await parts.ledger.spend("org", organization_id, state, now=now, actor=caller.actor)
        teams = await self._teams.page({"organization_id": organization_id}, caller, 1, TEAMS_SHOWN_MAX)
        warnings = list(spend.warnings)
        if teams.total > len(teams.teams):
            more = f"{len(teams.teams)} of {teams.total} teams are shown: see"
            warnings.append(f"{more} GET /v2/team/list?organization_id={organization_id}")
        return extended(
            org_row(state, now, spend),
            OrgInfo,
            spend=spend.current,
            total_spend=spend.total,
            teams=teams.teams,
            warnings=warnings,
        )

    async def all(self, caller: Principal) -> list[OrgRow]:
        """Organizations within reach, oldest first."""
        now = self._parts.clock.now()
        found = await self._parts.views.orgs(caller.bounds()[0], limit=LIST_MAX)
        return [org_row(state, now) for state in found if caller.covers(state.org_id)]
