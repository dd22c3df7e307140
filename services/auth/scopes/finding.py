"""Teams and organizations by their ids, within reach: what is out of reach is answered as what is not there."""

from services.auth.domain import values
from services.auth.domain.org import OrgState, no_org
from services.auth.domain.org import living as living_org
from services.auth.domain.team import TeamState, no_team
from services.auth.domain.team import living as living_team
from services.auth.parts import Parts
from shared.access import Principal
from shared.errors import ApiError, StoreUnavailable
from shared.ids import OrgId, TeamId
from shared.topology import org_kv, team_kv

_UNSEEN = (
    "The {} is not known to the proxies, and the database, which may know more, does not answer. Try again shortly."
)


async def team_within(parts: Parts, team_id: str, caller: Principal) -> TeamState:
    """A living team. Raises ApiError 400, 404, StoreUnavailable."""
    state = living_team(await parts.views.team(values.scope_id("team_id", team_id)), team_id)
    if not caller.covers(state.org_id, state.team_id):
        raise no_team(team_id)
    return state


async def org_within(parts: Parts, org_id: str, caller: Principal) -> OrgState:
    """A living organization. Raises ApiError 400, 404, StoreUnavailable."""
    state = living_org(await parts.views.org(values.scope_id("organization_id", org_id)), org_id)
    if not caller.covers(state.org_id):
        raise no_org(org_id)
    return state


async def seen_team(parts: Parts, team_id: str, caller: Principal) -> TeamId:
    """The id of a team that the mirror or the database knows. Raises ApiError 400, 404, 503."""
    record = parts.people.teams.get(team_kv(values.scope_id("team_id", team_id)))
    if record is None:
        try:
            return (await team_within(parts, team_id, caller)).team_id
        except StoreUnavailable as error:
            raise ApiError(503, "unavailable", _UNSEEN.format("team")) from error
    if not caller.covers(record.org_id, record.team_id):
        raise no_team(team_id)
    return record.team_id


async def seen_org(parts: Parts, org_id: str, caller: Principal) -> OrgId:
    """The id of an organization that the mirror or the database knows. Raises ApiError 400, 404, 503."""
    record = parts.people.orgs.get(org_kv(values.scope_id("organization_id", org_id)))
    if record is None:
        try:
            return (await org_within(parts, org_id, caller)).org_id
        except StoreUnavailable as error:
            raise ApiError(503, "unavailable", _UNSEEN.format("organization")) from error
    if not caller.covers(record.org_id):
        raise no_org(org_id)
    return record.org_id
