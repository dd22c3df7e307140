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


SCOPE = (
    "models",
    "metadata",
    "tags",
    *MONEY,
    "budget_id",
    "temp_budget_increase",
    "temp_budget_expiry",
    *RATES,
    "model_rpm_limit",
    "model_tpm_limit",
)
"""What every scope has."""
LATER = "this version has nothing to enforce it with; leave it out"
RATE = "rate limits are tpm_limit, rpm_limit, max_parallel_requests, model_rpm_limit and model_tpm_limit; leave it out"
MODELS = "list what is allowed in models; leave it out"
ROUTES = "what a key may follows from its key_type and allowed_routes; leave it out"
CONTENT = "Tundish does not touch prompts or completions; leave it out"
OWNER = "budgets and access are by key, team and organization: use team_id, or note it in metadata"


COMMON: dict[str, str] = {
    "spend": "spend is what was spent and cannot be set; leave it out",
    "budget_reset_at": "windows follow from budget_duration; leave it out",
    "tpd_limit": RATE,
    "rpm_limit_type": RATE,
    "tpm_limit_type": RATE,
    "mcp_rpm_limit": RATE,
    "tag_rpm_limit": RATE,
    "budget_fallbacks": LATER,
    "allowed_cache_controls": "there is no response cache; leave it out",
    "permissions": ROUTES,
    "guardrails": CONTENT,
    "policies": CONTENT,
    "prompts": CONTENT,
    "disable_global_guardrails": CONTENT,
    "object_permission": MODELS,
    "access_group_ids": MODELS,
    "allowed_vector_store_indexes": MODELS,
    "allowed_passthrough_routes": ROUTES,
    "denied_passthrough_routes": ROUTES,
    "router_settings": "routing is set in the proxy's configuration; leave it out",
    "default_estimated_output_tokens": "estimates are a setting of the proxy; leave it out",
    "default_estimated_output_tokens_per_model": "estimates are a setting of the proxy; leave it out",
}


class Fields(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of one request: `known` have an effect, `refused` say why they have none."""

    known: tuple[str, ...]
    refused: dict[str, str]
    harmless: dict[str, tuple[object, ...]] = {}


SPENT = {"spend": "spend is what was spent and cannot be set; raise max_budget, or use reset_spend"}
RESET = Fields(known=("reset_to", "reason"), refused={})


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
