"""The work behind `/user/*` and `/organization/member_*`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.answers.keys import MintedKey
from services.auth.answers.people import (
    DeletedUsers,
    NewUserAnswer,
    OrgMembers,
    UserAnswer,
    UserInfo,
    UserList,
    UserRow,
)
from services.auth.domain import team as team_domain
from services.auth.domain import user as domain
from services.auth.domain import values
from services.auth.domain.stamp import Stamp
from services.auth.domain.team import TeamState
from services.auth.domain.user import ChangeUser, CreateUser, UserState
from services.auth.draws import Draws
from services.auth.parts import Parts, saying_what_is_taken
from services.auth.people.dying import end_keys, excess
from services.auth.people.finding import Guest, Meeting, check_count
from services.auth.rows.base import extended
from services.auth.rows.keys import key_row
from services.auth.rows.people import user_row, user_team
from services.auth.schemas import people as schemas
from services.auth.schemas.keys import GenerateKey
from services.auth.scopes.cascade import Cascade
from services.auth.scopes.finding import org_within, team_within
from services.auth.store_keys import KeyFilter
from services.auth.store_people import Owned, UserFilter
from shared.access import Principal
from shared.errors import ApiError
from shared.events import AnyAuthEvent, Member, MemberRole, UserRole
from shared.ids import OrgId, TeamId, UserId

Mint = Callable[[GenerateKey, Principal, Draws], Awaitable[MintedKey]]
"""How a key is made."""

KEYS_SHOWN_MAX = 100
USERS_PER_DELETE_MAX = 100
ORGS_OF_USER_MAX = 100
_KEY_TYPES: Mapping[UserRole, str] = {"proxy_admin": "admin", "proxy_admin_viewer": "viewer"}
ORG_ROLES = ("user", "internal_user")
_OF_NO_TEAM = (
    "The key belongs to none of the teams, and draws on no budget of theirs: make one in a team with"
    " POST /key/generate, user_id and team_id."
)


class Users:
    """People."""

    def __init__(self, parts: Parts, meeting: Meeting, cascade: Cascade, mint: Mint) -> None:
        self._parts = parts
        self._meeting = meeting
        self._cascade = cascade
        self._mint = mint

    async def new(self, request: schemas.NewUser, caller: Principal, draws: Draws) -> NewUserAnswer:
        """A new user, in teams and with a key where asked for. Raises ApiError 400, 404, 409."""
        parts = self._parts
        drawn = draws.short_id("user")
        teams = await self._teams_of(request.teams or [], caller)
        command = CreateUser(
            user_id=UserId(values.scope_id("user_id", request.user_id or drawn)),
            email=domain.address("user_email", request.user_email),
            alias=values.name("user_alias", request.user_alias),
            role=request.user_role,
            orgs=await self._orgs(request.organizations or [], caller),
            metadata=values.metadata(request.metadata),
            again=draws.again,
        )
        if not request.auto_create_key and (request.key_alias or request.duration):
            param = "key_alias" if request.key_alias else "duration"
            raise values.problem(param, "there is no key that it could be of: auto_create_key is false")
        values.key_alias(request.key_alias)
        values.expiry(request.duration, parts.clock.now())

        def decide(state: UserState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_create(state, command, stamp)

        with saying_what_is_taken():
            change = await parts.commits.user(command.user_id, decide, actor=caller.actor)
        parts.relay.tell(change.position)
        for team_id, role in teams.items():
            member = Guest(user=change.state, address=change.state.email).member(role, caller)
            await self._join(team_id, member, caller)
        row = user_row(change.state, caller)
        answer = extended(row, NewUserAnswer, teams=list(teams))
        if request.auto_create_key:
            await self._give_key(answer, request, caller, draws)
        return answer

    async def update(self, request: schemas.UpdateUser, caller: Principal) -> UserAnswer:
        """Change what is known; keys that a lower role does not allow die. Raises ApiError 400, 404, 409, 503."""
        parts = self._parts
        email = request.user_email
        named = email if isinstance(email, str) else None
        user = await self._meeting.known(request.user_id, None if request.user_id is not None else named)
        if request.user_id is None:
            email = UNSET
        orgs, alias, notes = request.organizations, request.user_alias, request.metadata
        command = ChangeUser(
            email=email if isinstance(email, UnsetType) else domain.address("user_email", email),
            alias=alias if isinstance(alias, UnsetType) else values.name("user_alias", alias),
            role=request.user_role,
            orgs=UNSET if isinstance(orgs, UnsetType) else await self._orgs(orgs or [], caller),
            metadata=UNSET if isinstance(notes, UnsetType) else values.metadata(notes),
        )
        died: list[str] = []
        warnings: list[str] = []
        if not isinstance(command.role, UnsetType) and command.role != user.role:
            owned = await parts.users.keys_of(user.user_id)
            changed = [msgspec.structs.replace(key, user_role=command.role) for key in owned]
            cause = f"the user {user.user_id} has the user_role {command.role} now"
            ended = await end_keys(parts, [key for key in changed if excess(key)], caller.actor, cause)
            died, warnings = list(ended.keys), list(ended.warnings)
        state = await self._change(user.user_id, command, caller)
        self._cascade.wake()
        return UserAnswer(user_id=state.user_id, data=user_row(state, caller), deleted_keys=died, warnings=warnings)

    async def info(self, user_id: str | None, email: str | None, caller: Principal) -> UserInfo:
        """A user with their teams and newest keys, as far as the caller reaches. Raises ApiError 400, 404."""
        parts = self._parts
        user = await self._meeting.known(user_id, email)
        if not await parts.owners.within(user.user_id, caller):
            raise domain.no_user(user_id or email or "")
        teams = [team for team in await parts.users.teams_of(user.user_id) if caller.covers(team.org_id, team.team_id)]
        wanted = KeyFilter(user_id=user.user_id, within=caller.bounds())
        keys, total = await parts.views.keys(wanted, page=1, size=KEYS_SHOWN_MAX)
        now = parts.clock.now()
        more = f"{len(keys)} of {total} keys are shown: see GET /key/list?user_id={user.user_id}"
        return UserInfo(
            user_id=user.user_id,
            user_info=(await self._rows([user], caller))[0],
            keys=[key_row(key, now, caller=caller) for key in keys],
            teams=[user_team(team) for team in teams],
            warnings=[more] if total > len(keys) else [],
        )

    async def page(self, query: Mapping[str, str], caller: Principal, page: int, size: int) -> UserList:
        """One page of the users within reach, newest first. Raises ApiError 400."""
        org_id, team_id = caller.bounds()
        ids = query.get("user_ids")
        team = query.get("team")
        wanted = UserFilter(
            user_ids=None if ids is None else [values.scope_id("user_ids", one) for one in ids.split(",")],
            role=query.get("role"),
            email=query.get("user_email"),
            team_id=None if team is None else values.scope_id("team", team),
            reach_org=org_id,
            reach_team=team_id,
        )
        found, total = await self._parts.users.users(wanted, page=page, size=size)
        return UserList(
            users=await self._rows(found, caller),
            total=total,
            page=page,
            page_size=size,
            total_pages=-(-total // size),
        )

    async def delete(self, request: schemas.DeleteUsers, caller: Principal) -> DeletedUsers:
        """Users are gone, and their keys die at once: all of them or, when one is not known, none.

        Raises ApiError 400, 404, 503.
        """
        parts = self._parts
        names = list(dict.fromkeys(request.user_ids))
        if not 1 <= len(names) <= USERS_PER_DELETE_MAX:
            raise values.problem("user_ids", f"name 1 to {USERS_PER_DELETE_MAX} ids")
        users = [await self._meeting.known(name, None) for name in names]
        keys: list[Owned] = []
        for user in users:
            keys += await parts.users.keys_of(user.user_id)
        died = await end_keys(parts, keys, caller.actor, f"deleted with the user: {', '.join(names)}"[:200])
        for user in users:
            await self._end(user.user_id, caller)
        self._cascade.wake()
        return DeletedUsers(
            deleted_users=names, deleted_keys=list(died.keys), fleet=died.fleet, warnings=list(died.warnings)
        )

    # ---- organizations -------------------------------------------------------------------------------

    async def join_org(self, request: schemas.AddOrgMember, caller: Principal, draws: Draws) -> OrgMembers:
        """Users belong to an organization directly; who is not known becomes a user. Raises ApiError 400, 404."""
        org = await org_within(self._parts, request.organization_id, caller)
        named = request.member if isinstance(request.member, list) else [request.member]
        check_count("member", len(named))
        for one in named:
            if one.role is not None and one.role not in ORG_ROLES:
                raise values.problem(
                    "member",
                    "members of an organization have no roles: leave role out, and make a key with"
                    " key_type org_admin or viewer for whoever administers or reads it",
                )
        drawn = [UserId(draws.short_id("user")) for _ in named]
        states: list[UserState] = []
        for one, fresh in zip(named, drawn, strict=True):
            guest = await self._meeting.join(one, fresh, caller)
            states.append(await self._change(guest.user.user_id, ChangeUser(join=(org.org_id,)), caller))
        return OrgMembers(organization_id=org.org_id, updated_users=[user_row(state, caller) for state in states])

    async def leave_org(self, request: schemas.DeleteOrgMember, caller: Principal) -> OrgMembers:
        """A user does not belong to an organization any more; teams and keys stay. Raises ApiError 400, 404."""
        org = await org_within(self._parts, request.organization_id, caller)
        user = await self._meeting.known(request.user_id, request.user_email)
        state = await self._change(user.user_id, ChangeUser(leave=(org.org_id,)), caller)
        return OrgMembers(organization_id=org.org_id, updated_users=[user_row(state, caller)])

    # ---- parts ---------------------------------------------------------------------------------------

    async def _rows(self, users: Sequence[UserState], caller: Principal) -> list[UserRow]:
        """Users as far as the caller sees them, with the addresses that are known in the caller's teams."""
        org_id, team_id = caller.bounds()
        known: frozenset[str] = frozenset()
        if org_id is not None:
            known = await self._parts.users.addressed([user.user_id for user in users], org_id, team_id)
        return [user_row(user, caller, user.email if user.user_id in known else None) for user in users]

    async def _change(self, user_id: UserId, command: ChangeUser, caller: Principal) -> UserState:
        def decide(state: UserState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_update(state, user_id, command, stamp)

        with saying_what_is_taken():
            change = await self._parts.commits.user(user_id, decide, actor=caller.actor)
        self._parts.relay.tell(change.position)
        return change.state

    async def _end(self, user_id: UserId, caller: Principal) -> None:
        """The user is gone, then the memberships; a membership that is left is found by the loop."""

        def decide(state: UserState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_delete(state, user_id, stamp)

        change = await self._parts.commits.user(user_id, decide, actor=caller.actor)
        self._parts.relay.tell(change.position)
        cause = f"the user {user_id} was deleted"
        for team in await self._parts.users.teams_of(user_id):

            def leave(state: TeamState | None, stamp: Stamp, team_id: TeamId = team.team_id) -> list[AnyAuthEvent]:
                return team_domain.decide_remove_members(state, team_id, [user_id], stamp)

            left = await self._parts.commits.team(team.team_id, leave, actor=caller.actor, cause=cause)
            self._parts.relay.tell(left.position)

    async def _join(self, team_id: TeamId, member: Member, caller: Principal) -> None:
        def decide(state: TeamState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return team_domain.decide_add_members(state, team_id, (member,), stamp)

        change = await self._parts.commits.team(team_id, decide, actor=caller.actor)
        self._parts.relay.tell(change.position)

    async def _give_key(self, answer: NewUserAnswer, request: schemas.NewUser, caller: Principal, draws: Draws) -> None:
        """Make the key that comes with a new user, in the one team of theirs, and put it into the answer."""
        calls = request.user_role not in _KEY_TYPES
        in_team = calls and len(answer.teams) == 1
        wanted = GenerateKey(
            user_id=answer.user_id,
            key_alias=request.key_alias,
            duration=request.duration,
            key_type=_KEY_TYPES.get(request.user_role),
            team_id=answer.teams[0] if in_team else None,
        )
        try:
            minted = await self._mint(wanted, caller, draws)
        except ApiError as error:
            message = f"The user {answer.user_id} was made, and a key was not: {error.message}"
            raise ApiError(error.status, error.code, message, param=error.param, kind=error.kind) from error
        answer.key, answer.token_id, answer.token = minted.key, minted.token_id, minted.token
        answer.key_name, answer.key_alias, answer.expires = minted.key_name, minted.key_alias, minted.expires
        answer.key_type, answer.team_id = minted.key_type, minted.team_id
        answer.warnings = minted.warnings
        if calls and len(answer.teams) > 1:
            answer.warnings = [_OF_NO_TEAM, *answer.warnings]

    async def _teams_of(self, named: Sequence[str | schemas.TeamOfUser], caller: Principal) -> dict[TeamId, MemberRole]:
        check_count("teams", len(named))
        found: dict[TeamId, MemberRole] = {}
        for one in named:
            entry = schemas.TeamOfUser(team_id=one) if isinstance(one, str) else one
            found[(await team_within(self._parts, entry.team_id, caller)).team_id] = entry.user_role
        return found

    async def _orgs(self, named: Sequence[str], caller: Principal) -> tuple[OrgId, ...]:
        if len(named) > ORGS_OF_USER_MAX:
            raise values.problem("organizations", f"at most {ORGS_OF_USER_MAX}")
        return tuple(dict.fromkeys([(await org_within(self._parts, one, caller)).org_id for one in named]))
