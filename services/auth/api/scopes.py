"""`/team/*` and `/organization/*`."""

from services.auth.answers.scopes import (
    DeletedOrgs,
    DeletedTeams,
    NewOrg,
    NewTeam,
    OrgAnswer,
    OrgInfo,
    OrgRow,
    RefusedOrg,
    RefusedTeam,
    TeamAnswer,
    TeamInfoAnswer,
    TeamPage,
    TeamRow,
)
from services.auth.api.operations import Ask, Body, Operation, Query
from services.auth.api.reading import needed, number, page_of
from services.auth.domain.fields import scopes as fields
from services.auth.schemas import scopes as schemas
from services.auth.scopes.ending import Ending
from services.auth.scopes.orgs import Orgs
from services.auth.scopes.teams import Teams
from shared.access import Right

PAGE_SIZE = 10
PAGE_SIZE_MAX = 100
FILTERS = {
    "organization_id": "only teams of this organization",
    "team_id": "only this team",
    "team_alias": "only the team of this alias",
    "user_id": "only teams of this member",
}


def team_operations(teams: Teams, ending: Ending) -> list[Operation]:
    """The rows of `/team/*`, but for members."""

    async def new(ask: Ask) -> NewTeam:
        return await teams.new(ask.body, ask.caller, ask.draws)

    async def update(ask: Ask) -> TeamAnswer:
        return await teams.update(ask.body, ask.caller, ask.draws)

    async def info(ask: Ask) -> TeamInfoAnswer:
        return await teams.info(needed(ask.query, "team_id"), ask.caller)

    async def listed(ask: Ask) -> list[TeamRow]:
        return await teams.all(ask.query, ask.caller)

    async def paged(ask: Ask) -> TeamPage:
        size = number(ask.query, "page_size", PAGE_SIZE, PAGE_SIZE_MAX)
        return await teams.page(ask.query, ask.caller, page_of(ask.query), size)

    async def block(ask: Ask) -> TeamAnswer | RefusedTeam:
        return await ending.block_team(ask.body, ask.caller)

    async def unblock(ask: Ask) -> TeamAnswer:
        return await ending.unblock_team(ask.body, ask.caller)

    async def delete(ask: Ask) -> DeletedTeams:
        return await ending.delete_teams(ask.body, ask.caller)

    write = Right.TEAM_WRITE
    return [
        Operation(
            method="POST",
            path="/team/new",
            summary="Make a team",
            right=write,
            body=Body(fields=fields.NEW_TEAM, kind=schemas.NewTeam),
            run=new,
            answer=NewTeam,
            once=True,
            example={"team_id": "search", "team_alias": "Search", "max_budget": 500, "budget_duration": "1mo"},
        ),
        Operation(
            method="POST",
            path="/team/update",
            summary="Change a team",
            right=write,
            body=Body(fields=fields.UPDATE_TEAM, kind=schemas.UpdateTeam),
            run=update,
            answer=TeamAnswer,
            once=True,
            example={"team_id": "search", "max_budget": 600},
        ),
        Operation(
            method="GET",
            path="/team/info",
            summary="A team with its spend, its members and its newest keys",
            right=Right.TEAM_READ,
            query=Query(known={"team_id": "which team"}),
            run=info,
            answer=TeamInfoAnswer,
        ),
        Operation(
            method="GET",
            path="/team/list",
            summary="The teams, oldest first",
            right=Right.TEAM_READ,
            query=Query(known=FILTERS),
            run=listed,
            answer=list[TeamRow],
        ),
        Operation(
            method="GET",
            path="/v2/team/list",
            summary="The teams, oldest first, page by page",
            right=Right.TEAM_READ,
            query=Query(
                known={"page": "from 1", "page_size": "rows per page, at most 100", **FILTERS},
                harmless={"sort_by": ("created_at",), "sort_order": ("asc",)},
            ),
            run=paged,
            answer=TeamPage,
        ),
        Operation(
            method="POST",
            path="/team/block",
            summary="Refuse all keys of a team until it is unblocked",
            right=write,
            body=Body(fields=fields.NAME_TEAM, kind=schemas.NameTeam),
            run=block,
            answer=TeamAnswer | RefusedTeam,
            once=True,
            without_store=True,
            example={"team_id": "search"},
        ),
        Operation(
            method="POST",
            path="/team/unblock",
            summary="Let the keys of a blocked team work again",
            right=write,
            body=Body(fields=fields.NAME_TEAM, kind=schemas.NameTeam),
            run=unblock,
            answer=TeamAnswer,
            once=True,
            example={"team_id": "search"},
        ),
        Operation(
            method="POST",
            path="/team/delete",
            summary="End teams for good, and all of their keys at once; their history stays",
            right=write,
            body=Body(fields=fields.DELETE_TEAMS, kind=schemas.DeleteTeams),
            run=delete,
            answer=DeletedTeams,
            once=True,
            without_store=True,
            example={"team_ids": ["search"]},
        ),
    ]


def org_operations(orgs: Orgs, ending: Ending) -> list[Operation]:
    """The rows of `/organization/*`, but for members."""

    async def new(ask: Ask) -> NewOrg:
        return await orgs.new(ask.body, ask.caller, ask.draws)

    async def update(ask: Ask) -> OrgAnswer:
        return await orgs.update(ask.body, ask.caller, ask.draws)

    async def info(ask: Ask) -> OrgInfo:
        return await orgs.info(needed(ask.query, "organization_id"), ask.caller)

    async def listed(ask: Ask) -> list[OrgRow]:
        return await orgs.all(ask.caller)

    async def block(ask: Ask) -> OrgAnswer | RefusedOrg:
        return await ending.block_org(ask.body, ask.caller)

    async def unblock(ask: Ask) -> OrgAnswer:
        return await ending.unblock_org(ask.body, ask.caller)

    async def delete(ask: Ask) -> DeletedOrgs:
        return await ending.delete_orgs(ask.body, ask.caller)

    write = Right.ORG_WRITE
    updates = [
        Operation(
            method=method,
            path="/organization/update",
            summary="Change an organization",
            right=write,
            everywhere=True,
            body=Body(fields=fields.UPDATE_ORG, kind=schemas.UpdateOrganization),
            run=update,
            answer=OrgAnswer,
            once=True,
            example={"organization_id": "research", "max_budget": 2000},
        )
        for method in ("POST", "PATCH")
    ]
    deletes = [
        Operation(
            method=method,
            path="/organization/delete",
            summary="End organizations for good, and all of their teams and keys at once; their history stays",
            right=write,
            everywhere=True,
            body=Body(fields=fields.DELETE_ORGS, kind=schemas.DeleteOrganizations),
            run=delete,
            answer=DeletedOrgs,
            once=True,
            without_store=True,
            example={"organization_ids": ["research"]},
        )
        for method in ("POST", "DELETE")
    ]
    return [
        Operation(
            method="POST",
            path="/organization/new",
            summary="Make an organization",
            right=write,
            everywhere=True,
            body=Body(fields=fields.NEW_ORG, kind=schemas.NewOrganization),
            run=new,
            answer=NewOrg,
            once=True,
            example={"organization_id": "research", "organization_alias": "Research", "max_budget": 2000},
        ),
        *updates,
        Operation(
            method="GET",
            path="/organization/info",
            summary="An organization with its spend and teams",
            right=Right.ORG_READ,
            query=Query(known={"organization_id": "which organization"}),
            run=info,
            answer=OrgInfo,
        ),
        Operation(
            method="GET",
            path="/organization/list",
            summary="The organizations, oldest first",
            right=Right.ORG_READ,
            run=listed,
            answer=list[OrgRow],
        ),
        Operation(
            method="POST",
            path="/organization/block",
            summary="Refuse all keys of an organization until it is unblocked",
            right=write,
            everywhere=True,
            body=Body(fields=fields.NAME_ORG, kind=schemas.NameOrganization),
            run=block,
            answer=OrgAnswer | RefusedOrg,
            once=True,
            without_store=True,
            example={"organization_id": "research"},
        ),
        Operation(
            method="POST",
            path="/organization/unblock",
            summary="Let the keys of a blocked organization work again",
            right=write,
            everywhere=True,
            body=Body(fields=fields.NAME_ORG, kind=schemas.NameOrganization),
            run=unblock,
            answer=OrgAnswer,
            once=True,
            example={"organization_id": "research"},
        ),
        *deletes,
    ]
