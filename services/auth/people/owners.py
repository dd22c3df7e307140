"""Whose key may it be: what is checked before a key gets an owner."""

from services.auth.domain import values
from services.auth.domain.members import allowed_role, no_member
from services.auth.domain.user import UserState, living, no_user
from services.auth.rows.people import sees
from services.auth.store_people import PeopleViews, UserFilter
from shared.access import Principal
from shared.errors import ApiError
from shared.policy import Reach, Role


class Owners:
    """Looks users up."""

    def __init__(self, views: PeopleViews) -> None:
        self._views = views

    async def check_owner(
        self,
        user_id: str,
        team_id: str | None,
        role: Role | None,
        reach: Reach | None,
        caller: Principal | None = None,
    ) -> UserState:
        """The user whose key it will be. Raises ApiError 404 when there is no such user (within the caller's reach),
        or no such member of the team, 400 when the user may have no key with that role, StoreUnavailable.

        Of a key in a team the user must be a member: for whoever is none it makes no difference whether they exist.
        """
        values.scope_id("user_id", user_id)
        user = await self._views.user(user_id)
        member_role = None if team_id is None else await self._views.member_role(team_id, user_id)
        if team_id is not None and (member_role is None or user is None or user.deleted_at is not None):
            raise no_member(user_id)
        found = living(user, user_id)
        if team_id is None and caller is not None and not await self.within(user_id, caller):
            raise no_user(user_id)
        why = allowed_role(found.role, role, reach, member_role)
        if why is not None and caller is not None and not sees(caller, found):
            why = f"this user may have no key with the role {role} here"  # what they are in Tundish is not told
        if why is not None:
            raise ApiError(400, "role_not_allowed", f"user_id: {why}.", param="user_id")
        return found

    async def within(self, user_id: str, caller: Principal) -> bool:
        """Whether a living user belongs to what the caller reaches. Raises StoreUnavailable."""
        org_id, team_id = caller.bounds()
        if org_id is None:
            return caller.role is not None
        wanted = UserFilter(user_ids=[user_id], reach_org=org_id, reach_team=team_id)
        return bool((await self._views.users(wanted, page=1, size=1))[1])
