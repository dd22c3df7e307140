"""The work behind `/team/new`, `update`, `info` and the lists of teams."""

from collections.abc import Mapping

from msgspec import UNSET, UnsetType

from services.auth.answers.scopes import NewTeam, TeamAnswer, TeamInfo, TeamInfoAnswer, TeamPage, TeamRow
from services.auth.asked import aliases_of, change_of
from services.auth.domain import team as domain
from services.auth.domain import values
from services.auth.domain.stamp import Stamp
from services.auth.domain.team import CreateTeam, TeamState, UpdateTeam
from services.auth.domain.user import UserState
from services.auth.draws import Draws
from services.auth.parts import Parts, saying_what_is_taken
from services.auth.people.finding import Meeting
from services.auth.rows.base import extended
from services.auth.rows.keys import key_row
from services.auth.rows.scopes import addressed_rows, team_row
from services.auth.schemas import scopes as schemas
from services.auth.scopes.finding import org_within, team_within
from services.auth.store_keys import KeyFilter
from services.auth.store_views import TeamFilter
from shared.access import Principal
from shared.events import AnyAuthEvent
from shared.ids import DEFAULT_ORG, AccountId, TeamId

LIST_MAX = 1_000
TEAM_KEYS_MAX = 100


class Teams:
    """Teams."""

    def __init__(self, parts: Parts, meeting: Meeting) -> None:
        self._parts = parts
        self._meeting = meeting

    async def new(self, request: schemas.NewTeam, caller: Principal, draws: Draws) -> NewTeam:
        """A new team; whoever holds a role in one organization only makes it there. Raises ApiError 400, 404, 409."""
        parts = self._parts
        now = parts.clock.now()
        attach = await parts.attachment(request.budget_id)
        await parts.attachment(request.default_key_budget_id, param="default_key_budget_id")
        drawn, account = draws.short_id("team"), AccountId(draws.short_id("acct"))
        org_id = request.organization_id or caller.bounds()[0] or DEFAULT_ORG
        org = await org_within(parts, org_id, caller)
        team_id = TeamId(values.scope_id("team_id", drawn if request.team_id is None else request.team_id))
        change = change_of(
            request,
            values.name("team_alias", request.team_alias),
            attach,
            now,
            model_aliases=aliases_of("model_aliases", request.model_aliases),
        )
        met = await self._meeting.meet(request.members_with_roles or [], caller, draws, param="members_with_roles")
        command = CreateTeam(
            team_id=team_id,
            org_id=org.org_id,
            account=account,
            change=change,
            default_key_budget_id=request.default_key_budget_id,
            members=met.members,
            blocked=bool(request.blocked),
            again=draws.again,
        )

        def decide(state: TeamState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_create(state, command, stamp)

        with saying_what_is_taken():
            done = await parts.commits.team(team_id, decide, actor=caller.actor)
        warnings = await parts.in_force(done.position)
        return extended(await self.row(done.state, caller), NewTeam, warnings=warnings)

    async def update(self, request: schemas.UpdateTeam, caller: Principal, draws: Draws) -> TeamAnswer:
        """Change settings; in force when this returns (or with a warning that they are not yet)."""
        parts = self._parts
        now = parts.clock.now()
        team_id = (await team_within(parts, request.team_id, caller)).team_id
        alias, default = request.team_alias, request.default_key_budget_id
        attach = await parts.attachment(request.budget_id)
        if not isinstance(default, UnsetType):
            await parts.attachment(default, param="default_key_budget_id")
        command = UpdateTeam(
            team_id=team_id,
            account=AccountId(draws.short_id("acct")),
            change=change_of(
                request,
                alias if isinstance(alias, UnsetType) else values.name("team_alias", alias),
                attach,
                now,
                model_aliases=aliases_of("model_aliases", request.model_aliases),
            ),
            default_key_budget_id=default,
            org_id=UNSET if request.organization_id is None else request.organization_id,
            blocked=UNSET if request.blocked is None else request.blocked,
        )

        def decide(state: TeamState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_update(state, command, stamp)

        with saying_what_is_taken():
            done = await parts.commits.team(team_id, decide, actor=caller.actor)
        warnings = await parts.told(done, command.change.money, now)
        return extended(await self.row(done.state, caller), TeamAnswer, warnings=warnings)

    async def info(self, team_id: str, caller: Principal) -> TeamInfoAnswer:
        """A team with its spend, its members and its newest keys. Raises ApiError 404."""
        parts = self._parts
        state = await team_within(parts, team_id, caller)
        wanted = KeyFilter(team_id=team_id, within=caller.bounds())
        keys, total = await parts.views.keys(wanted, page=1, size=TEAM_KEYS_MAX)
        now = parts.clock.now()
        spend = await parts.ledger.spend("team", team_id, state, now=now, actor=caller.actor)
        warnings = list(spend.warnings)
        if total > len(keys):
            warnings.append(f"{len(keys)} of {total} keys are shown: see GET /key/list?team_id={team_id}")
        row = team_row(state, now, spend)
        row.members_with_roles = addressed_rows(state, await self._users(state), caller)
        return TeamInfoAnswer(
            team_id=team_id,
            team_info=extended(row, TeamInfo, spend=spend.current, total_spend=spend.total),
            keys=[key_row(key, now, caller=caller) for key in keys],
            team_memberships=row.members_with_roles,
            warnings=warnings,
        )

    async def all(self, query: Mapping[str, str], caller: Principal) -> list[TeamRow]:
        """Teams within reach, oldest first."""
        return (await self._page(query, caller, 1, LIST_MAX))[0]

    async def page(self, query: Mapping[str, str], caller: Principal, page: int, size: int) -> TeamPage:
        """One page of the teams within reach, oldest first."""
        found, total = await self._page(query, caller, page, size)
        return TeamPage(teams=found, total=total, page=page, page_size=size, total_pages=-(-total // size))

    async def row(self, state: TeamState, caller: Principal) -> TeamRow:
        """A team as an answer, its members with the addresses that the caller may know."""
        row = team_row(state, self._parts.clock.now())
        row.members_with_roles = addressed_rows(state, await self._users(state), caller)
        return row

    async def _page(
        self, query: Mapping[str, str], caller: Principal, page: int, size: int
    ) -> tuple[list[TeamRow], int]:
        org_id, team_id = caller.bounds()
        wanted = TeamFilter(
            org_id=_id(query, "organization_id"),
            team_id=_id(query, "team_id"),
            alias=query.get("team_alias"),
            user_id=_id(query, "user_id"),
            reach_org=org_id,
            reach_team=team_id,
        )
        now = self._parts.clock.now()
        found, total = await self._parts.views.teams(wanted, page=page, size=size)
        return [team_row(state, now) for state in found], total

    async def _users(self, state: TeamState) -> dict[str, UserState]:
        if not state.members:
            return {}
        return await self._parts.users.users_of([member.user_id for member in state.members])


def _id(query: Mapping[str, str], name: str) -> str | None:
    text = query.get(name)
    return None if text is None else values.scope_id(name, text)
