"""The work behind `/team/member_*`: who belongs to a team, and the keys that go with it."""

from collections.abc import Sequence

import msgspec
from msgspec import UnsetType

from services.auth.answers.people import BulkMembers, BulkResult, MemberAnswer, MembersAnswer, RemovedMember
from services.auth.domain import team as domain
from services.auth.domain import values
from services.auth.domain.stamp import Stamp
from services.auth.domain.team import TeamState
from services.auth.draws import Draws
from services.auth.parts import Parts
from services.auth.people.dying import Died, end_keys, excess
from services.auth.people.finding import Meeting, check_count
from services.auth.rows.base import extended
from services.auth.rows.people import user_row
from services.auth.schemas import people as schemas
from services.auth.scopes.cascade import Cascade
from services.auth.scopes.finding import team_within
from services.auth.scopes.teams import Teams
from shared.access import Principal
from shared.errors import ApiError
from shared.events import AnyAuthEvent, Member
from shared.ids import TeamId, UserId


class Members:
    """Members of teams."""

    def __init__(self, parts: Parts, meeting: Meeting, teams: Teams, cascade: Cascade) -> None:
        self._parts = parts
        self._meeting = meeting
        self._teams = teams
        self._cascade = cascade

    async def add(self, request: schemas.AddMember, caller: Principal, draws: Draws) -> MembersAnswer:
        """Some belong to the team too; who is not known becomes a user. Raises ApiError 400, 404, 409."""
        team = await team_within(self._parts, request.team_id, caller)
        named = request.member if isinstance(request.member, list) else [request.member]
        if not named:
            raise values.problem("member", "say who: {role, user_id or user_email}, or a list of such")
        met = await self._meeting.meet(named, caller, draws)
        state = await self._join(team.team_id, met.members, caller)
        users = [user_row(guest.user, caller, guest.address) for guest in met.guests]
        return extended(await self._teams.row(state, caller), MembersAnswer, updated_users=users)

    async def add_many(self, request: schemas.AddMembers, caller: Principal, draws: Draws) -> BulkMembers:
        """The same for a list, each for itself: those who are not known become users, then all that can join do so in
        one commit. Raises ApiError 400, 404."""
        team = await team_within(self._parts, request.team_id, caller)
        check_count("members", len(request.members))
        drawn = [UserId(draws.short_id("user")) for _ in request.members]
        results: list[BulkResult] = []
        met: list[tuple[BulkResult, Member]] = []
        for named, fresh in zip(request.members, drawn, strict=True):
            result = BulkResult(user_id=named.user_id, user_email=named.user_email, success=True)
            try:
                guest = await self._meeting.join(named, fresh, caller, param="members")
                met.append((result, guest.member(named.role, caller)))
                row = user_row(guest.user, caller, guest.address)
                result.user_id, result.user_email = row.user_id, row.user_email
            except ApiError as error:
                result.success, result.error = False, error.message
            results.append(result)
        refusals = await self._join_each(team.team_id, [member for _, member in met], caller)
        for (result, _), refusal in zip(met, refusals, strict=True):
            if refusal is not None:
                result.success, result.error = False, refusal.message
        done = sum(result.success for result in results)
        return BulkMembers(
            team_id=team.team_id,
            results=results,
            total_requested=len(results),
            successful_additions=done,
            failed_additions=len(results) - done,
        )

    async def update(self, request: schemas.UpdateMember, caller: Principal) -> MemberAnswer:
        """Another role for a member; keys that the new one does not allow die. Raises ApiError 400, 404, 503."""
        parts = self._parts
        team = await team_within(parts, request.team_id, caller)
        member = await self._meeting.member(team, request.user_id, request.user_email)
        role = request.role
        if role is None:
            raise values.problem("role", "say which: admin or user")
        owned = await parts.users.keys_of(member.user_id, team.team_id)
        changed = [msgspec.structs.replace(key, member_role=role) for key in owned]
        cause = f"the user {member.user_id} has the role {role} in the team {team.team_id} now"
        died = await end_keys(parts, [key for key in changed if excess(key)], caller.actor, cause)

        def decide(state: TeamState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_member_role(state, team.team_id, member.user_id, role, stamp)

        change = await parts.commits.team(team.team_id, decide, actor=caller.actor)
        parts.relay.tell(change.position)
        self._cascade.wake()
        members = {row.user_id: row for row in (await self._teams.row(change.state, caller)).members_with_roles}
        shown = members.get(member.user_id)
        return MemberAnswer(
            team_id=team.team_id,
            user_id=member.user_id,
            user_email=None if shown is None or isinstance(shown.user_email, UnsetType) else shown.user_email,
            role=role,
            deleted_keys=list(died.keys),
            fleet=died.fleet,
            warnings=list(died.warnings),
        )

    async def remove(self, request: schemas.DeleteMember, caller: Principal) -> RemovedMember:
        """A member leaves; their keys of the team die at once. Raises ApiError 400, 404, 503."""
        team = await team_within(self._parts, request.team_id, caller)
        member = await self._meeting.member(team, request.user_id, request.user_email)
        state, died = await self.leave(team.team_id, member.user_id, caller)
        return extended(
            await self._teams.row(state, caller),
            RemovedMember,
            deleted_keys=list(died.keys),
            fleet=died.fleet,
            warnings=list(died.warnings),
        )

    async def leave(self, team_id: TeamId, user_id: UserId, caller: Principal) -> tuple[TeamState, Died]:
        """The member's keys of the team die, then the membership ends; the loop takes what came in between."""
        parts = self._parts
        cause = f"the user {user_id} was removed from the team {team_id}"
        owned = await parts.users.keys_of(user_id, team_id)
        died = await end_keys(parts, owned, caller.actor, cause)

        def decide(state: TeamState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_remove_members(state, team_id, [user_id], stamp)

        change = await parts.commits.team(team_id, decide, actor=caller.actor)
        parts.relay.tell(change.position)
        self._cascade.wake()
        return change.state, died

    async def _join(self, team_id: TeamId, members: tuple[Member, ...], caller: Principal) -> TeamState:
        def decide(state: TeamState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_add_members(state, team_id, members, stamp)

        change = await self._parts.commits.team(team_id, decide, actor=caller.actor)
        self._parts.relay.tell(change.position)
        return change.state

    async def _join_each(
        self, team_id: TeamId, members: Sequence[Member], caller: Principal
    ) -> tuple[ApiError | None, ...]:
        """One commit for all; for each why they did not join."""
        refusals: tuple[ApiError | None, ...] = ()

        def decide(state: TeamState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            nonlocal refusals
            events, refusals = domain.decide_add_each(state, team_id, members, stamp)
            return events

        change = await self._parts.commits.team(team_id, decide, actor=caller.actor)
        self._parts.relay.tell(change.position)
        return refusals
