"""The fields of requests about users and members."""

from services.auth.domain.fields.base import COMMON, LATER, MONEY, RATES, Fields
from services.auth.domain.fields.scopes import ON_MEMBERS

ON_USERS = "not enforced on users: put it on keys, teams and organizations; leave it out"
_MAIL = "Tundish sends no e-mail; hand the key over yourself"
_LIMITS = (
    *MONEY,
    *RATES,
    "model_rpm_limit",
    "model_tpm_limit",
    "budget_id",
    "temp_budget_increase",
    "temp_budget_expiry",
    "models",
    "aliases",
    "model_aliases",
    "tags",
    "blocked",
)

_USER_REFUSED: dict[str, str] = (
    COMMON
    | dict.fromkeys(_LIMITS, ON_USERS)
    | {
        "config": "deprecated by LiteLLM itself; leave it out",
        "send_invite_email": _MAIL,
        "sso_user_id": "people come with keys here, not with a single sign-on; leave it out",
        "password": "people come with keys here, not with passwords; leave it out",
        "team_id": "send teams: a list of team ids; a key of a team is made by POST /key/generate",
        "agent_id": LATER,
        "user_id_list": "name one user",
        "permissions": "what a user may do follows from user_role; leave it out",
        "allowed_routes": ON_USERS,
        "key_type": "it follows from user_role; leave it out",
    }
)
_MEMBER_REFUSED: dict[str, str] = dict.fromkeys(
    (
        "max_budget_in_team",
        "budget_duration",
        "allowed_models",
        "tpm_limit",
        "rpm_limit",
        "temp_budget_increase",
        "temp_budget_expiry",
        "model_max_budget",
    ),
    ON_MEMBERS,
)

NEW_USER = Fields(
    known=(
        "user_id",
        "user_email",
        "user_alias",
        "user_role",
        "teams",
        "organizations",
        "metadata",
        "auto_create_key",
        "key_alias",
        "duration",
    ),
    refused=_USER_REFUSED,
    harmless={"spend": (0, 0.0)},
)
UPDATE_USER = Fields(
    known=("user_id", "user_email", "user_alias", "user_role", "organizations", "metadata"),
    refused=_USER_REFUSED
    | {
        "teams": "use POST /team/member_add, member_update and member_delete",
        "auto_create_key": "make a key with POST /key/generate and user_id",
        "key_alias": "change a key with POST /key/update",
        "duration": "change a key with POST /key/update",
    },
)
DELETE_USERS = Fields(known=("user_ids",), refused={})

ADD_MEMBER = Fields(known=("team_id", "member"), refused=_MEMBER_REFUSED)
ADD_MEMBERS = Fields(
    known=("team_id", "members"),
    refused=_MEMBER_REFUSED | {"all_users": "name the users in members"},
)
UPDATE_MEMBER = Fields(known=("team_id", "user_id", "user_email", "role"), refused=_MEMBER_REFUSED)
DELETE_MEMBER = Fields(known=("team_id", "user_id", "user_email"), refused={})
_ORG_MEMBER_REFUSED: dict[str, str] = {"max_budget_in_organization": ON_MEMBERS}
ADD_ORG_MEMBER = Fields(known=("organization_id", "member"), refused=_ORG_MEMBER_REFUSED)
DELETE_ORG_MEMBER = Fields(known=("organization_id", "user_id", "user_email"), refused={})
