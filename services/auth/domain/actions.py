"""What an event is called in the audit log: one table for every type there is."""

from typing import NamedTuple

TABLES: dict[str, str] = {
    "key": "LiteLLM_VerificationToken",
    "team": "LiteLLM_TeamTable",
    "org": "LiteLLM_OrganizationTable",
    "user": "LiteLLM_UserTable",
    "budget": "LiteLLM_BudgetTable",
}
"""Kind of stream → `table_name`, with LiteLLM's names."""


class Action(NamedTuple):
    """`first`: what it is called for version 1, where that is the beginning of what has versions."""

    usual: str
    first: str = ""


ACTIONS: dict[str, Action] = {
    "org.created.v1": Action("created"),
    "org.updated.v1": Action("updated"),
    "org.blocked.v1": Action("blocked"),
    "org.unblocked.v1": Action("unblocked"),
    "org.deleted.v1": Action("deleted"),
    "team.created.v1": Action("created"),
    "team.updated.v1": Action("updated"),
    "team.members_changed.v1": Action("updated"),
    "team.blocked.v1": Action("blocked"),
    "team.unblocked.v1": Action("unblocked"),
    "team.deleted.v1": Action("deleted"),
    "user.created.v1": Action("created"),
    "user.updated.v1": Action("updated"),
    "user.deleted.v1": Action("deleted"),
    "key.issued.v1": Action("created"),
    "key.updated.v1": Action("updated"),
    "key.blocked.v1": Action("blocked"),
    "key.unblocked.v1": Action("unblocked"),
    "key.deleted.v1": Action("deleted"),
    "key.secret_minted.v1": Action("rotated", first="created"),
    "key.secret_delivered.v1": Action("delivered"),
    "key.secret_limited.v1": Action("limited"),
    "key.secret_retired.v1": Action("revoked"),
    "key.secret_rehashed.v1": Action("rehashed"),
    "key.rotation_set.v1": Action("updated"),
    "budget.set.v1": Action("updated"),
    "budget.defined.v1": Action("updated", first="created"),
    "budget.removed.v1": Action("deleted"),
}
NAMES = tuple(sorted({name for action in ACTIONS.values() for name in action if name}))
"""All actions, for filters."""
WITH_FIRST = tuple(kind for kind, action in ACTIONS.items() if action.first)


def action_of(event_type: str, version: int | None) -> str:
    """What an event of a type is called; `version` is its own, if it has one."""
    action = ACTIONS[event_type]
    return action.first if action.first and version == 1 else action.usual


def types_of(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(types of events that are called so, those of them that are called so as a first version)."""
    usual = tuple(kind for kind, action in ACTIONS.items() if action.usual == name)
    return usual, tuple(kind for kind, action in ACTIONS.items() if action.first == name)
