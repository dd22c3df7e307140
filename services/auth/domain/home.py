"""Where a change belongs in the audit log: whoever administers that organization or team may read of it."""

from services.auth.domain.budget_object import BudgetState
from services.auth.domain.key_state import KeyState
from services.auth.domain.org import OrgState
from services.auth.domain.team import TeamState
from services.auth.domain.user import UserState


def home_of(state: KeyState | TeamState | OrgState | UserState | BudgetState) -> tuple[str | None, str | None]:
    """(organization, team); None: of nobody's in particular, and for those with the reach `all` only.

    A key with a role belongs as far up as its role reaches.
    """
    match state:
        case KeyState():
            if state.reach == "all":
                return None, None
            return state.org_id, None if state.reach == "org" else state.team_id
        case TeamState():
            return state.org_id, state.team_id
        case OrgState():
            return state.org_id, None
        case _:
            return None, None
