"""The fields of requests about teams and organizations."""

from services.auth.domain.fields.base import COMMON, LATER, SCOPE, SPENT, Fields

ON_MEMBERS = "budgets and limits are not enforced on members: put them on keys, teams and organizations; leave it out"
_LISTS = "send members_with_roles: a list of {role: admin or user, user_id or user_email}"
_TEAM_REFUSED: dict[str, str] = COMMON | {
    "admins": _LISTS,
    "members": _LISTS,
    "team_member_permissions": "members administer a team with a key of the role team_admin; leave it out",
    "team_member_budget": ON_MEMBERS,
    "team_member_budget_duration": ON_MEMBERS,
    "team_member_rpm_limit": ON_MEMBERS,
    "team_member_tpm_limit": ON_MEMBERS,
    "team_member_key_duration": "a key's life is its own: send duration to POST /key/generate; leave it out",
    "team_member_model_max_budget": ON_MEMBERS,
    "default_team_member_models": "what a key may call is said by its models and those of its team; leave it out",
    "require_trace_id": LATER,
    "secret_manager_settings": "where a key's secrets go is said by its rotation_delivery; leave it out",
    "enforced_batch_output_expires_after": LATER,
    "enforced_file_expires_after": LATER,
}


_JOIN = "users join an organization by POST /organization/member_add; leave it out"
_ORG_REFUSED: dict[str, str] = COMMON | {"users": _JOIN, "members": _JOIN}
_MEMBERS_LATER = "members of a team that is there are changed by POST /team/member_add, member_update, member_delete"


NEW_TEAM = Fields(
    known=(
        "team_id",
        "team_alias",
        "organization_id",
        "members_with_roles",
        "default_key_budget_id",
        "blocked",
        "model_aliases",
        *SCOPE,
    ),
    refused=_TEAM_REFUSED,
    harmless={"spend": (0, 0.0)},
)
UPDATE_TEAM = Fields(
    known=tuple(name for name in NEW_TEAM.known if name != "members_with_roles"),
    refused=_TEAM_REFUSED | SPENT | {"members_with_roles": _MEMBERS_LATER},
)
NAME_TEAM = Fields(known=("team_id",), refused={})
DELETE_TEAMS = Fields(known=("team_ids",), refused={})


NEW_ORG = Fields(
    known=("organization_id", "organization_alias", "blocked", "model_aliases", *SCOPE),
    refused=_ORG_REFUSED,
    harmless={"spend": (0, 0.0)},
)
UPDATE_ORG = Fields(known=NEW_ORG.known, refused=_ORG_REFUSED | SPENT)
NAME_ORG = Fields(known=("organization_id",), refused={})
DELETE_ORGS = Fields(known=("organization_ids",), refused={})
