"""`/user/*`, and who belongs to teams and organizations."""

from services.auth.answers.people import (
    BulkMembers,
    DeletedUsers,
    MemberAnswer,
    MembersAnswer,
    NewUserAnswer,
    OrgMembers,
    RemovedMember,
    UserAnswer,
    UserInfo,
    UserList,
)
from services.auth.api.operations import Ask, Body, Operation, Query
from services.auth.api.reading import number, page_of
from services.auth.domain.fields import people as fields
from services.auth.people.members import Members
from services.auth.people.users import Users
from services.auth.schemas import people as schemas
from shared.access import Right

PAGE_SIZE = 25
PAGE_SIZE_MAX = 100


def user_operations(users: Users) -> list[Operation]:
    """The rows of `/user/*` and of members of organizations."""

    async def new(ask: Ask) -> NewUserAnswer:
        return await users.new(ask.body, ask.caller, ask.draws)

    async def update(ask: Ask) -> UserAnswer:
        return await users.update(ask.body, ask.caller)

    async def info(ask: Ask) -> UserInfo:
        return await users.info(ask.query.get("user_id"), ask.query.get("user_email"), ask.caller)

    async def listed(ask: Ask) -> UserList:
        size = number(ask.query, "page_size", PAGE_SIZE, PAGE_SIZE_MAX)
        return await users.page(ask.query, ask.caller, page_of(ask.query), size)

    async def delete(ask: Ask) -> DeletedUsers:
        return await users.delete(ask.body, ask.caller)

    async def join(ask: Ask) -> OrgMembers:
        return await users.join_org(ask.body, ask.caller, ask.draws)

    async def leave(ask: Ask) -> OrgMembers:
        return await users.leave_org(ask.body, ask.caller)

    write = Right.USER_WRITE
    return [
        Operation(
            method="POST",
            path="/user/new",
            summary="Make a user, in teams and with a key where asked for",
            right=write,
            body=Body(fields=fields.NEW_USER, kind=schemas.NewUser),
            run=new,
            answer=NewUserAnswer,
            once=True,
            example={"user_id": "ann", "user_email": "ann@example.com", "teams": ["search"], "auto_create_key": False},
        ),
        Operation(
            method="POST",
            path="/user/update",
            summary="Change a user; keys that a lower user_role does not allow end",
            right=write,
            body=Body(fields=fields.UPDATE_USER, kind=schemas.UpdateUser),
            run=update,
            answer=UserAnswer,
            once=True,
            example={"user_id": "ann", "user_alias": "Ann"},
        ),
        Operation(
            method="GET",
            path="/user/info",
            summary="A user with their teams and newest keys",
            right=Right.USER_READ,
            query=Query(known={"user_id": "which user", "user_email": "which user, by address"}),
            run=info,
            answer=UserInfo,
        ),
        Operation(
            method="GET",
            path="/user/list",
            summary="The users, newest first",
            right=Right.USER_READ,
            query=Query(
                known={
                    "page": "from 1",
                    "page_size": "rows per page, at most 100",
                    "user_ids": "only these, with commas between them",
                    "role": "only users with this user_role",
                    "user_email": "only users whose address has this in it",
                    "team": "only members of this team",
                },
                harmless={"sort_by": ("created_at",), "sort_order": ("desc",)},
            ),
            run=listed,
            answer=UserList,
        ),
        Operation(
            method="POST",
            path="/user/delete",
            summary="End users, and all of their keys at once",
            right=write,
            body=Body(fields=fields.DELETE_USERS, kind=schemas.DeleteUsers),
            run=delete,
            answer=DeletedUsers,
            once=True,
            example={"user_ids": ["ann"]},
        ),
        Operation(
            method="POST",
            path="/organization/member_add",
            summary="Let users belong to an organization; who is not known becomes a user",
            right=write,
            body=Body(fields=fields.ADD_ORG_MEMBER, kind=schemas.AddOrgMember),
            run=join,
            answer=OrgMembers,
            once=True,
            example={"organization_id": "research", "member": {"user_id": "ann"}},
        ),
        Operation(
            method="POST",
            path="/organization/member_delete",
            summary="Let a user belong to an organization no more",
            right=write,
            body=Body(fields=fields.DELETE_ORG_MEMBER, kind=schemas.DeleteOrgMember),
            run=leave,
            answer=OrgMembers,
            once=True,
            example={"organization_id": "research", "user_id": "ann"},
        ),
    ]


def member_operations(members: Members) -> list[Operation]:
    """The rows of `/team/member_*`."""

    async def add(ask: Ask) -> MembersAnswer:
        return await members.add(ask.body, ask.caller, ask.draws)

    async def add_many(ask: Ask) -> BulkMembers:
        return await members.add_many(ask.body, ask.caller, ask.draws)

    async def update(ask: Ask) -> MemberAnswer:
        return await members.update(ask.body, ask.caller)

    async def remove(ask: Ask) -> RemovedMember:
        return await members.remove(ask.body, ask.caller)

    write = Right.TEAM_MEMBERS
    return [
        Operation(
            method="POST",
            path="/team/member_add",
            summary="Add members to a team; who is not known becomes a user",
            right=write,
            body=Body(fields=fields.ADD_MEMBER, kind=schemas.AddMember),
            run=add,
            answer=MembersAnswer,
            once=True,
            example={"team_id": "search", "member": {"role": "user", "user_email": "ann@example.com"}},
        ),
        Operation(
            method="POST",
            path="/team/bulk_member_add",
            summary="Add many members to a team, each for itself",
            right=write,
            body=Body(fields=fields.ADD_MEMBERS, kind=schemas.AddMembers),
            run=add_many,
            changes=lambda body: len(body.members),
            answer=BulkMembers,
            once=True,
            example={"team_id": "search", "members": [{"role": "user", "user_id": "ann"}]},
        ),
        Operation(
            method="POST",
            path="/team/member_update",
            summary="Change a member's role; keys that the new one does not allow end",
            right=write,
            body=Body(fields=fields.UPDATE_MEMBER, kind=schemas.UpdateMember),
            run=update,
            answer=MemberAnswer,
            once=True,
            example={"team_id": "search", "user_id": "ann", "role": "admin"},
        ),
        Operation(
            method="POST",
            path="/team/member_delete",
            summary="Remove a member, and end their keys of the team at once",
            right=write,
            body=Body(fields=fields.DELETE_MEMBER, kind=schemas.DeleteMember),
            run=remove,
            answer=RemovedMember,
            once=True,
            example={"team_id": "search", "user_id": "ann"},
        ),
    ]
