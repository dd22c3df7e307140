"""Which keys are within somebody's reach: the one rule that finding, listing and changing keys go by."""

from services.auth.domain.key_state import KeyState
from shared.access import Principal
from shared.policy import KeyRecord


def within(caller: Principal, key: KeyState | KeyRecord) -> bool:
    """Whether somebody may know of a key at all.

    A key with a role belongs as far up as its role reaches: the keys of administrators stand in the built-in
    organization, and are none of its own administrators' business.
    """
    if key.reach == "all" and not caller.everywhere:
        return False
    if key.reach == "org" and caller.reach == "team":
        return False
    return caller.covers(key.org_id, key.team_id)
