"""The work behind `block`, `unblock` and `delete` of teams and organizations.

One entry in `revoked` refuses all keys below at once, before the answer and with or without Postgres; the events come
after it.
"""

import asyncio
import logging

from services.auth.answers.scopes import DeletedOrgs, DeletedTeams, OrgAnswer, RefusedOrg, RefusedTeam, TeamAnswer
from services.auth.domain import org as org_domain
from services.auth.domain import team as team_domain
from services.auth.domain.org import OrgState
from services.auth.domain.stamp import Stamp
from services.auth.domain.team import TeamState
from services.auth.keys.revocations import of_org, of_team
from services.auth.parts import Parts
from services.auth.rows.base import extended
from services.auth.rows.scopes import org_row
from services.auth.schemas import scopes as schemas
from services.auth.scopes.cascade import Cascade
from services.auth.scopes.finding import org_within, seen_org, seen_team, team_within
from services.auth.scopes.teams import Teams
from shared.access import Principal
from shared.errors import ApiError, BusError, StoreUnavailable
from shared.events import AnyAuthEvent
from shared.policy import Revocation
from shared.topology import org_kv, team_kv

log = logging.getLogger(__name__)

HEARD_S = 0.25
LOOK_S = 0.005
"""After an unblock: how long the answer waits for this process's own mirror at most, and how often it looks."""
LINGERS = "recorded; its keys are refused until the message bus answers again and the revocation can be lifted"


class Ending:
    """Refusing teams and organizations, and letting them live again."""

    def __init__(self, parts: Parts, teams: Teams, cascade: Cascade) -> None:
        self._parts = parts
        self._teams = teams
        self._cascade = cascade

    # ---- teams ---------------------------------------------------------------------------------------

    async def block_team(self, named: schemas.NameTeam, caller: Principal) -> TeamAnswer | RefusedTeam:
        """Refuse all keys of a team, now. Raises ApiError 404, 503."""
        parts = self._parts
        team_id = await seen_team(parts, named.team_id, caller)
        revoked = await parts.revoking.revoke([of_team("blocked", team_id)], caller.actor)
        try:
            state = await parts.views.team(team_id) if revoked.recorded else None
            if state is not None:
                row = await self._teams.row(state, caller)
                return extended(row, TeamAnswer, fleet=revoked.fleet, warnings=revoked.warnings)
        except StoreUnavailable as error:
            log.warning("a blocked team cannot be shown whole: %s", error)
        record = parts.people.teams.get(team_kv(team_id))
        return RefusedTeam(
            team_id=team_id,
            team_alias=None if record is None else record.alias,
            organization_id="" if record is None else record.org_id,
            recorded=revoked.recorded,
            fleet=revoked.fleet,
            warnings=revoked.warnings,
        )

    async def unblock_team(self, named: schemas.NameTeam, caller: Principal) -> TeamAnswer:
        """Let the keys of a blocked team work again. Raises ApiError 404, 409, StoreUnavailable."""
        parts = self._parts
        team_id = (await team_within(parts, named.team_id, caller)).team_id
        entry = await self._blocked(team_kv(team_id), "team_id", team_id)

        def decide(state: TeamState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return team_domain.decide_unblock(state, stamp, entry=None if entry is None else entry.at)

        change = await parts.commits.team(team_id, decide, actor=caller.actor)
        warnings = await self._lifted(team_kv(team_id), change.state, change.position)
        return extended(await self._teams.row(change.state, caller), TeamAnswer, warnings=warnings)

    async def delete_teams(self, request: schemas.DeleteTeams, caller: Principal) -> DeletedTeams:
        """End teams for good: all of them or, when one is not known, none. Raises ApiError 400, 404, 503."""
        parts = self._parts
        names = schemas.ids_of("team_ids", request.team_ids)
        found = [await seen_team(parts, name, caller) for name in names]
        revoked = await parts.revoking.revoke([of_team("deleted", team_id) for team_id in found], caller.actor)
        if revoked.recorded:
            await self._cascade.catch_up()
        return DeletedTeams(
            deleted_teams=list(found), recorded=revoked.recorded, fleet=revoked.fleet, warnings=revoked.warnings
        )

    # ---- organizations -------------------------------------------------------------------------------

    async def block_org(self, named: schemas.NameOrganization, caller: Principal) -> OrgAnswer | RefusedOrg:
        """Refuse all keys of an organization, now. Raises ApiError 400, 404, 503."""
        parts = self._parts
        org_id = await seen_org(parts, named.organization_id, caller)
        org_domain.refuse_built_in(org_id)
        revoked = await parts.revoking.revoke([of_org("blocked", org_id)], caller.actor)
        try:
            state = await parts.views.org(org_id) if revoked.recorded else None
            if state is not None:
                row = org_row(state, parts.clock.now())
                return extended(row, OrgAnswer, fleet=revoked.fleet, warnings=revoked.warnings)
        except StoreUnavailable as error:
            log.warning("a blocked organization cannot be shown whole: %s", error)
        record = parts.people.orgs.get(org_kv(org_id))
        return RefusedOrg(
            organization_id=org_id,
            organization_alias=None if record is None else record.alias,
            recorded=revoked.recorded,
            fleet=revoked.fleet,
            warnings=revoked.warnings,
        )

    async def unblock_org(self, named: schemas.NameOrganization, caller: Principal) -> OrgAnswer:
        """Let the keys of a blocked organization work again. Raises ApiError 404, 409, StoreUnavailable."""
        parts = self._parts
        org_id = (await org_within(parts, named.organization_id, caller)).org_id
        entry = await self._blocked(org_kv(org_id), "organization_id", org_id)

        def decide(state: OrgState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return org_domain.decide_unblock(state, stamp, entry=None if entry is None else entry.at)

        change = await parts.commits.org(org_id, decide, actor=caller.actor)
        warnings = await self._lifted(org_kv(org_id), change.state, change.position)
        return extended(org_row(change.state, parts.clock.now()), OrgAnswer, warnings=warnings)

    async def delete_orgs(self, request: schemas.DeleteOrganizations, caller: Principal) -> DeletedOrgs:
        """End organizations for good: all of them or, when one is not known, none. Raises ApiError 400, 404, 503."""
        parts = self._parts
        names = schemas.ids_of("organization_ids", request.organization_ids)
        found = [await seen_org(parts, name, caller) for name in names]
        for org_id in found:
            org_domain.refuse_built_in(org_id)
        revoked = await parts.revoking.revoke([of_org("deleted", org_id) for org_id in found], caller.actor)
        if revoked.recorded:
            await self._cascade.catch_up()
        return DeletedOrgs(
            deleted_organizations=list(found), recorded=revoked.recorded, fleet=revoked.fleet, warnings=revoked.warnings
        )

    # ---- parts ---------------------------------------------------------------------------------------

    async def _blocked(self, name: str, param: str, scope_id: str) -> Revocation | None:
        """The `blocked` entry that stands under a name. Raises ApiError 409 for one that is for good."""
        try:
            entry = await self._parts.revocations.standing(name)
        except BusError:
            entry = self._parts.people.revoked.get(name)
        if entry is not None and entry.kind != "blocked":
            raise ApiError(409, "revoked", f"{scope_id!r} was {entry.kind} and stays so.", param=param)
        return entry

    async def _lifted(self, name: str, state: TeamState | OrgState, position: int | None) -> list[str]:
        """Wait until an unblock is in force, then drop the entry, if it is not younger; the warnings."""
        warnings = await self._parts.in_force(position)
        if state.unblocked_at is not None and not state.blocked and not warnings:
            try:
                await self._parts.revocations.lift((name,), state.unblocked_at)
                await self._heard(name)
            except BusError as error:
                log.warning("the revocation %s could not be lifted yet: %s", name, error)
                warnings.append(LINGERS)
        return warnings

    async def _heard(self, name: str) -> None:
        """Wait a moment until this process has heard of it too: the next request may come with one of the keys."""
        people = self._parts.people
        for _ in range(int(HEARD_S / LOOK_S)):
            record = people.teams.get(name) or people.orgs.get(name)
            if name not in people.revoked and (record is None or not record.blocked):
                return
            await asyncio.sleep(LOOK_S)
