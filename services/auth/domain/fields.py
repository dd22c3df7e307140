"""LiteLLM's request fields, one by one: in force, or refused by name.

Nothing is ever taken and dropped: a field that would have no effect is refused with what to do instead,
unless its value says that nothing is wanted (null, false, an empty list or object).
"""

from difflib import get_close_matches

import msgspec

from shared.errors import ApiError

NAMED_MAX = 20
"""Fields that one error names."""
MONEY = (
    "max_budget",
    "soft_budget",
    "budget_duration",
    "budget_timezone",
    "budget_limits",
    "model_max_budget",
    "budget_thresholds",
    "budget_mode",
)
"""What a budget is made of, of a scope's own or of a budget object."""
RATES = ("rpm_limit", "tpm_limit", "max_parallel_requests")
_SCOPE = (
    "models",
    "metadata",
    *MONEY,
    "budget_id",
    "temp_budget_increase",
    "temp_budget_expiry",
    *RATES,
    "model_rpm_limit",
    "model_tpm_limit",
)
"""What every scope has."""
_LATER = "this version has nothing to enforce it with; leave it out"
_RATE = "rate limits are tpm_limit, rpm_limit, max_parallel_requests, model_rpm_limit and model_tpm_limit; leave it out"
_ROTATION = "keys are not rotated automatically by this version; leave it out"
_MODELS = "list what is allowed in models; leave it out"
_MEMBERS = "teams have no members here: a key belongs to a team by its team_id; leave it out"
_ROUTES = "a key may call models and read about itself, nothing else; leave it out"
_CONTENT = "Tundish does not touch prompts or completions; leave it out"
_OWNER = "budgets and access are by key, team and organization: use team_id, or note it in metadata"

_COMMON: dict[str, str] = {
    "spend": "spend is what was spent and cannot be set; leave it out",
    "budget_reset_at": "windows follow from budget_duration; leave it out",
    "tpd_limit": _RATE,
    "rpm_limit_type": _RATE,
    "tpm_limit_type": _RATE,
    "mcp_rpm_limit": _RATE,
    "tag_rpm_limit": _RATE,
    "budget_fallbacks": _LATER,
    "allowed_cache_controls": "there is no response cache; leave it out",
    "permissions": _ROUTES,
    "guardrails": _CONTENT,
    "policies": _CONTENT,
    "prompts": _CONTENT,
    "disable_global_guardrails": _CONTENT,
    "object_permission": _MODELS,
    "access_group_ids": _MODELS,
    "allowed_vector_store_indexes": _MODELS,
    "allowed_passthrough_routes": _ROUTES,
    "denied_passthrough_routes": _ROUTES,
    "router_settings": "routing is set in the proxy's configuration; leave it out",
    "tags": "put them into metadata",
    "default_estimated_output_tokens": "estimates are a setting of the proxy; leave it out",
    "default_estimated_output_tokens_per_model": "estimates are a setting of the proxy; leave it out",
}

_KEY_REFUSED: dict[str, str] = _COMMON | {
    "user_id": _OWNER,
    "user_email": _OWNER,
    "agent_id": _OWNER,
    "project_id": _OWNER,
    "end_user_budget_id": _OWNER,
    "aliases": "model names are set in the proxy's configuration; leave it out",
    "config": "deprecated by LiteLLM itself; leave it out",
    "enable_prompt_caching": _CONTENT,
    "throttle_on_budget_exceeded": "a spent budget refuses; leave it out",
    "enforced_params": _LATER,
    "allowed_routes": _ROUTES,
    "key_type": _ROUTES,
    "send_invite_email": "Tundish sends no e-mail; hand the key over yourself",
    "auto_rotate": _ROTATION,
    "rotation_interval": _ROTATION,
    "grace_period": _ROTATION,
    "new_key": _ROTATION,
    "new_master_key": "the master key is set by TUNDISH_MASTER_KEY; leave it out",
}

_TEAM_REFUSED: dict[str, str] = _COMMON | {
    "admins": _MEMBERS,
    "members": _MEMBERS,
    "members_with_roles": _MEMBERS,
    "team_member_permissions": _MEMBERS,
    "team_member_budget": _MEMBERS,
    "team_member_budget_duration": _MEMBERS,
    "team_member_rpm_limit": _MEMBERS,
    "team_member_tpm_limit": _MEMBERS,
    "team_member_key_duration": _MEMBERS,
    "team_member_model_max_budget": _MEMBERS,
    "default_team_member_models": _MEMBERS,
    "blocked": "a team cannot be blocked by this version: block its keys",
    "model_aliases": "model names are set in the proxy's configuration; leave it out",
    "require_trace_id": _LATER,
    "secret_manager_settings": _LATER,
    "enforced_batch_output_expires_after": _LATER,
    "enforced_file_expires_after": _LATER,
}

_ORG_REFUSED: dict[str, str] = _COMMON | {
    "blocked": "an organization cannot be blocked by this version: block its keys",
    "users": _MEMBERS,
    "members": _MEMBERS,
}


class Fields(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of one request: `known` have an effect, `refused` say why they have none."""

    known: tuple[str, ...]
    refused: dict[str, str]
    harmless: dict[str, tuple[object, ...]] = {}


_KEY_HARMLESS: dict[str, tuple[object, ...]] = {"spend": (0, 0.0), "key_type": ("default", "llm_api")}

GENERATE_KEY = Fields(
    known=("key", "key_alias", "duration", "team_id", "organization_id", "blocked", *_SCOPE),
    refused=_KEY_REFUSED,
    harmless=_KEY_HARMLESS,
)
_SPENT = {"spend": "spend is what was spent and cannot be set; raise max_budget, or use reset_spend"}
UPDATE_KEY = Fields(
    known=GENERATE_KEY.known,
    refused=_KEY_REFUSED | _SPENT,
    harmless={"key_type": ("default", "llm_api")},
)
NEW_TEAM = Fields(
    known=("team_id", "team_alias", "organization_id", "default_key_budget_id", *_SCOPE),
    refused=_TEAM_REFUSED,
    harmless={"spend": (0, 0.0)},
)
UPDATE_TEAM = Fields(known=NEW_TEAM.known, refused=_TEAM_REFUSED | _SPENT)
NEW_ORG = Fields(
    known=("organization_id", "organization_alias", *_SCOPE),
    refused=_ORG_REFUSED,
    harmless={"spend": (0, 0.0)},
)
UPDATE_ORG = Fields(known=NEW_ORG.known, refused=_ORG_REFUSED | _SPENT)
BUDGET = Fields(
    known=("budget_id", *MONEY, *RATES),
    refused={
        "budget_reset_at": _COMMON["budget_reset_at"],
        "tpd_limit": _RATE,
        "model_rpm_limit": "limits per model are set on keys, teams and organizations; leave it out",
        "model_tpm_limit": "limits per model are set on keys, teams and organizations; leave it out",
        "temp_budget_increase": "a temporary increase is given to a key, team or organization; leave it out",
        "temp_budget_expiry": "a temporary increase is given to a key, team or organization; leave it out",
    },
)
NAME_BUDGETS = Fields(known=("budgets",), refused={})
NAME_BUDGET = Fields(known=("id", "budget_id"), refused={})
RESET = Fields(known=("reset_to", "reason"), refused={})
NAME_KEY = Fields(known=("key", "key_alias"), refused={})
DELETE_KEYS = Fields(known=("keys", "key_aliases"), refused={})


def sift(body: dict[str, object], fields: Fields) -> dict[str, object]:
    """The fields that have an effect. Raises ApiError 400 naming every other one that asks for something."""
    kept: dict[str, object] = {}
    wrong: list[str] = []
    for name, value in body.items():
        if name in fields.known:
            kept[name] = value
        elif name not in fields.refused or not (_asks_nothing(value) or _among(value, fields.harmless.get(name, ()))):
            wrong.append(name)
    if wrong:
        raise _refusal(wrong, fields)
    return kept


def _refusal(wrong: list[str], fields: Fields) -> ApiError:
    """One error that names all of them; code and param are those of the first."""
    said: list[str] = []
    for name in wrong[:NAMED_MAX]:
        if name in fields.refused:
            said.append(f"{name} is not in force: {fields.refused[name]}.")
        else:
            near = get_close_matches(name[:100], fields.known, n=1)
            said.append(f"{name[:100]!r} is not a field of this request{f': did you mean {near[0]}?' if near else '.'}")
            if not near:
                known = f"Use {', '.join(fields.known)}."
                said = [text for text in said if text != known] + [known]
    if len(wrong) > NAMED_MAX:
        said.append(f"{len(wrong) - NAMED_MAX} more are not in force either.")
    code = "field_not_supported" if wrong[0] in fields.refused else "unknown_field"
    return ApiError(400, code, " ".join(said), param=wrong[0][:100])


def _asks_nothing(value: object) -> bool:
    return value is None or value is False or value == [] or value == {}


def _among(value: object, harmless: tuple[object, ...]) -> bool:
    return not isinstance(value, bool) and value in harmless
