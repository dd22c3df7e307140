"""The fields of requests about keys."""

from services.auth.domain.fields.base import COMMON, CONTENT, LATER, OWNER, SCOPE, SPENT, Fields
from services.auth.domain.fields.rotation import TERMS

_REGENERATE = "a key gets a new secret by POST /key/regenerate; leave it out"
_KEY_REFUSED: dict[str, str] = COMMON | {
    "user_email": "whose key it is is said by user_id; leave it out",
    "agent_id": OWNER,
    "project_id": OWNER,
    "end_user_budget_id": OWNER,
    "config": "deprecated by LiteLLM itself; leave it out",
    "enable_prompt_caching": CONTENT,
    "throttle_on_budget_exceeded": "a spent budget refuses; leave it out",
    "enforced_params": LATER,
    "send_invite_email": "Tundish sends no e-mail; hand the key over yourself, or set rotation_delivery",
    "new_key": _REGENERATE,
    "new_master_key": "the master key is set by TUNDISH_MASTER_KEY; leave it out",
}

CALLING = ("aliases", *(name for name in SCOPE if name != "metadata"))
"""What only a key without a role has: a key with one calls no model."""
SETTINGS = (
    "key_alias",
    "duration",
    "team_id",
    "organization_id",
    "user_id",
    "key_type",
    "allowed_routes",
    "blocked",
    "aliases",
    *TERMS,
    *SCOPE,
)
"""What is set on a key, as a call that makes or changes one names it."""

GENERATE_KEY = Fields(
    known=("key", "key_hash", "key_name", *SETTINGS),
    refused=_KEY_REFUSED,
    harmless={"spend": (0, 0.0)},
)
UPDATE_KEY = Fields(
    known=("key", *SETTINGS),
    refused=_KEY_REFUSED | SPENT | {"key_hash": _REGENERATE, "key_name": _REGENERATE},
)
REGENERATE_KEY = Fields(
    known=(*UPDATE_KEY.known, "new_key"),
    refused={name: why for name, why in UPDATE_KEY.refused.items() if name != "new_key"},
)
SERVICE_ACCOUNT = Fields(
    known=tuple(name for name in GENERATE_KEY.known if name != "user_id"),
    refused=_KEY_REFUSED | {"user_id": "a service account is the team's and stays when people go; leave it out"},
    harmless=GENERATE_KEY.harmless,
)
BULK_UPDATE = Fields(
    known=("keys",),
    refused={
        "key_ids": "send keys: a list of objects, each with the key and what is to be changed",
        "update_fields": "send keys: a list of objects, each with the key and what is to be changed",
    },
)
NAME_KEY = Fields(known=("key", "key_alias"), refused={})
NAME_KEYS = Fields(known=("keys", "key_aliases"), refused={})
HEALTH = Fields(known=(), refused={})
