"""Who belongs to a team, and which keys a user may have."""

from collections.abc import Sequence

from shared.errors import ApiError
from shared.events import Member, MemberRole, UserRole
from shared.ids import UserId
from shared.policy import Reach, Role

MEMBERS_MAX = 1_000
"""Members of one team."""


def allowed_role(
    user_role: UserRole, role: Role | None, reach: Reach | None, member_role: MemberRole | None
) -> str | None:
    """None when a user may have a key with a role, else the reason why not.

    `member_role` is what the user is in the key's team: None for no member, and for a key without a team.
    """
    if role is None or user_role == "proxy_admin":
        return None
    if role == "viewer":
        return None
    if user_role != "internal_user":
        return f"a user with the user_role {user_role} may have keys that read (viewer), and none with the role {role}"
    if role != "team_admin" or reach != "team":
        return f"a user with the user_role internal_user may have no key with the role {role}"
    if member_role != "admin":
        return "only a member with the role admin may have a key that administers the team"
    return None


def member_of(members: Sequence[Member], user_id: str) -> Member | None:
    """The membership of a user, if there is one."""
    return next((member for member in members if member.user_id == user_id), None)


def with_added(members: Sequence[Member], added: Sequence[Member]) -> tuple[Member, ...]:
    """The members with further ones. Raises ApiError 409 when one is there with another role, 400 for too many."""
    after, refusals = each_added(members, added)
    for refusal in refusals:
        if refusal is not None:
            raise refusal
    return after


def each_added(
    members: Sequence[Member], added: Sequence[Member]
) -> tuple[tuple[Member, ...], tuple[ApiError | None, ...]]:
    """(the members with those of further ones that can join, for each of these why they cannot: None when they do)."""
    after = {member.user_id: member for member in members}
    refusals: list[ApiError | None] = []
    for member in added:
        standing = after.get(member.user_id)
        refusals.append(_refusal(standing, member, len(after)))
        if refusals[-1] is None:
            known = member.address_known or (standing is not None and standing.address_known)
            after[member.user_id] = Member(user_id=member.user_id, role=member.role, address_known=known)
    return tuple(after.values()), tuple(refusals)


def _refusal(standing: Member | None, member: Member, count: int) -> ApiError | None:
    """Why somebody cannot join a team of `count` members, in which they are `standing` already."""
    if standing is None:
        if count < MEMBERS_MAX:
            return None
        return ApiError(400, "invalid_value", f"member: a team has at most {MEMBERS_MAX} members.", param="member")
    if standing.role == member.role:
        return None
    return ApiError(
        409,
        "already_member",
        f"{member.user_id!r} is a member with the role {standing.role} already: change it with POST"
        " /team/member_update.",
        param="member",
    )


def without(members: Sequence[Member], user_ids: Sequence[str]) -> tuple[Member, ...]:
    """The members but some."""
    return tuple(member for member in members if member.user_id not in user_ids)


def with_role(members: Sequence[Member], user_id: UserId, role: MemberRole) -> tuple[Member, ...]:
    """The members, one of them with a new role. Raises ApiError 404."""
    standing = member_of(members, user_id)
    if standing is None:
        raise no_member(user_id)
    changed = Member(user_id=user_id, role=role, address_known=standing.address_known)
    return tuple(changed if member.user_id == user_id else member for member in members)


def difference(before: Sequence[Member], after: Sequence[Member]) -> tuple[tuple[Member, ...], tuple[UserId, ...]]:
    """(who is new or otherwise in it now, who is gone)."""
    standing = {member.user_id: member for member in before}
    joined = tuple(member for member in after if standing.pop(member.user_id, None) != member)
    return joined, tuple(standing)


def changed(members: Sequence[Member], joined: Sequence[Member], left: Sequence[UserId]) -> tuple[Member, ...]:
    """The members after some joined, or have another role, and some left. Everybody keeps their place."""
    after = {member.user_id: member for member in members}
    for user_id in left:
        after.pop(user_id, None)
    after.update((member.user_id, member) for member in joined)
    return tuple(after.values())


def no_member(user_id: str, *, param: str = "user_id") -> ApiError:
    """The refusal of somebody who is not in the team, whether they exist or not."""
    return ApiError(
        404,
        "member_not_found",
        f"{user_id!r} is no member of the team: add them with POST /team/member_add.",
        param=param,
        kind="not_found_error",
    )
