"""Users by their ids and addresses; whoever is not known when they join something becomes a user."""

from collections.abc import Sequence

import msgspec

from services.auth.domain import user as domain
from services.auth.domain import values
from services.auth.domain.members import member_of, no_member
from services.auth.domain.stamp import Stamp
from services.auth.domain.team import TeamState
from services.auth.domain.user import CreateUser, UserState
from services.auth.draws import Draws
from services.auth.parts import Parts, saying_what_is_taken
from services.auth.rows.people import sees
from services.auth.schemas.people import MEMBERS_PER_REQUEST_MAX, MemberRequest, OrgMemberRequest
from shared.access import Principal
from shared.errors import ApiError
from shared.events import AnyAuthEvent, Member, MemberRole
from shared.ids import UserId


class Guest(msgspec.Struct, frozen=True, kw_only=True):
    """A user whom a request names, and the address that was sent for them."""

    user: UserState
    address: str | None = None

    def member(self, role: MemberRole, caller: Principal) -> Member:
        """The guest as a member; whoever sent the address, or sees the user, knows it."""
        known = self.address is not None or sees(caller, self.user)
        return Member(user_id=self.user.user_id, role=role, address_known=known)


class Met(msgspec.Struct, frozen=True, kw_only=True):
    """Users that a request names, and as what they are to join."""

    guests: tuple[Guest, ...] = ()
    members: tuple[Member, ...] = ()


class Meeting:
    """Looks people up."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def meet(
        self, named: Sequence[MemberRequest], caller: Principal, draws: Draws, *, param: str = "member"
    ) -> Met:
        """The users of some members, those made that are not known. Raises ApiError 400, 409, StoreUnavailable."""
        check_count(param, len(named))
        drawn = [UserId(draws.short_id("user")) for _ in named]
        guests = [await self.join(one, user_id, caller, param=param) for one, user_id in zip(named, drawn, strict=True)]
        members = {guest.user.user_id: guest.member(one.role, caller) for one, guest in zip(named, guests, strict=True)}
        return Met(guests=tuple(guests), members=tuple(members.values()))

    async def join(
        self, named: MemberRequest | OrgMemberRequest, fresh: UserId, caller: Principal, *, param: str = "member"
    ) -> Guest:
        """The user that is named, made under the id given (or `fresh`) when there is none.

        Whoever does not reach everywhere names by one of the two, so that nothing is learnt of whose address is whose.
        """
        user_id, email = _who(named.user_id, named.user_email, param)
        if user_id is not None and email is not None and not caller.everywhere:
            raise values.problem(param, "say who by user_id or by user_email: both take a role that holds everywhere")
        found = None
        if user_id is not None:
            found = await self._parts.users.user(user_id)
        elif email is not None:
            found = await self._parts.users.user_of_email(email)
        if found is None or found.deleted_at is not None:
            return Guest(user=await self._make(UserId(user_id or fresh), email, caller), address=email)
        if email is not None and (found.email or "").lower() != email.lower():
            raise values.problem(param, f"the user {found.user_id!r} has another address than {email!r}")
        return Guest(user=found, address=email)

    async def known(self, user_id: str | None, email: str | None) -> UserState:
        """A living user. Raises ApiError 400, 404."""
        user_id, email = _who(user_id, email, "user_id")
        if user_id is not None:
            return domain.living(await self._parts.users.user(user_id), user_id)
        return domain.living(await self._parts.users.user_of_email(email or ""), email or "")

    async def member(self, team: TeamState, user_id: str | None, email: str | None) -> Member:
        """A member of a team. Raises ApiError 400, 404."""
        user_id, email = _who(user_id, email, "user_id")
        said = user_id or email or ""
        if user_id is None:
            user = await self._parts.users.user_of_email(said)
            user_id = None if user is None else user.user_id
        found = None if user_id is None else member_of(team.members, user_id)
        if found is None:
            raise no_member(said)
        return found

    async def _make(self, user_id: UserId, email: str | None, caller: Principal) -> UserState:
        command = CreateUser(user_id=user_id, email=email)

        def decide(state: UserState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            if state is not None and state.deleted_at is None:
                return []  # somebody was faster
            return domain.decide_create(state, command, stamp)

        with saying_what_is_taken():
            change = await self._parts.commits.user(user_id, decide, actor=caller.actor)
        self._parts.relay.tell(change.position)
        return change.state


def check_count(param: str, count: int) -> None:
    """Refuse more people than one request may name. Raises ApiError 400."""
    if count > MEMBERS_PER_REQUEST_MAX:
        raise values.problem(param, f"at most {MEMBERS_PER_REQUEST_MAX} in one request")


def _who(user_id: str | None, email: str | None, param: str) -> tuple[str | None, str | None]:
    """The id and address that name somebody, at least one of them. Raises ApiError 400."""
    if user_id is None and email is None:
        raise ApiError(400, "invalid_value", f"{param}: say who: send user_id, or user_email.", param=param)
    if user_id is not None:
        values.scope_id("user_id", user_id)
    return user_id, domain.address("user_email", email)
