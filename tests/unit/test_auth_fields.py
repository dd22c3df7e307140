"""Request fields: in force, refused by name, unknown."""

import pytest

from services.auth.domain.fields import budgets, keys, scopes
from services.auth.domain.fields.base import MONEY, RATES, Fields, sift
from shared.errors import ApiError

# Every field that LiteLLM's /key/generate takes.
LITELLM_KEY = [
    "key_alias",
    "duration",
    "models",
    "spend",
    "max_budget",
    "budget_duration",
    "budget_limits",
    "user_id",
    "team_id",
    "agent_id",
    "max_parallel_requests",
    "tpm_limit",
    "rpm_limit",
    "metadata",
    "model_max_budget",
    "budget_fallbacks",
    "model_rpm_limit",
    "model_tpm_limit",
    "mcp_rpm_limit",
    "tag_rpm_limit",
    "allowed_cache_controls",
    "config",
    "permissions",
    "guardrails",
    "policies",
    "prompts",
    "blocked",
    "aliases",
    "object_permission",
    "key",
    "soft_budget",
    "budget_id",
    "end_user_budget_id",
    "tpd_limit",
    "default_estimated_output_tokens",
    "default_estimated_output_tokens_per_model",
    "tags",
    "disable_global_guardrails",
    "enable_prompt_caching",
    "throttle_on_budget_exceeded",
    "enforced_params",
    "allowed_routes",
    "allowed_passthrough_routes",
    "denied_passthrough_routes",
    "allowed_vector_store_indexes",
    "rpm_limit_type",
    "tpm_limit_type",
    "router_settings",
    "access_group_ids",
    "send_invite_email",
    "key_type",
    "auto_rotate",
    "rotation_interval",
    "organization_id",
    "project_id",
    "temp_budget_increase",
    "temp_budget_expiry",
    "grace_period",
    "new_key",
    "new_master_key",
]

LITELLM_TEAM = [
    "team_alias",
    "team_id",
    "organization_id",
    "admins",
    "members",
    "members_with_roles",
    "team_member_permissions",
    "metadata",
    "tpm_limit",
    "rpm_limit",
    "tpd_limit",
    "rpm_limit_type",
    "tpm_limit_type",
    "max_budget",
    "soft_budget",
    "budget_duration",
    "budget_limits",
    "models",
    "blocked",
    "router_settings",
    "access_group_ids",
    "default_team_member_models",
    "model_aliases",
    "model_max_budget",
    "model_rpm_limit",
    "model_tpm_limit",
    "mcp_rpm_limit",
    "tags",
    "guardrails",
    "policies",
    "prompts",
    "object_permission",
    "allowed_passthrough_routes",
    "denied_passthrough_routes",
    "disable_global_guardrails",
    "require_trace_id",
    "secret_manager_settings",
    "default_estimated_output_tokens",
    "team_member_budget",
    "team_member_budget_duration",
    "team_member_rpm_limit",
    "team_member_tpm_limit",
    "team_member_key_duration",
    "team_member_model_max_budget",
    "allowed_vector_store_indexes",
    "enforced_batch_output_expires_after",
    "enforced_file_expires_after",
]

LITELLM_ORG = [
    "organization_alias",
    "organization_id",
    "models",
    "budget_id",
    "metadata",
    "model_rpm_limit",
    "model_tpm_limit",
    "object_permission",
    "max_budget",
    "soft_budget",
    "max_parallel_requests",
    "tpm_limit",
    "rpm_limit",
    "tpd_limit",
    "budget_duration",
    "model_max_budget",
    "budget_reset_at",
]

LITELLM_BUDGET = [
    "budget_id",
    "max_budget",
    "soft_budget",
    "max_parallel_requests",
    "tpm_limit",
    "rpm_limit",
    "tpd_limit",
    "budget_duration",
    "model_max_budget",
    "budget_reset_at",
]

CASES = [
    (keys.GENERATE_KEY, LITELLM_KEY),
    (keys.UPDATE_KEY, LITELLM_KEY),
    (keys.SERVICE_ACCOUNT, LITELLM_KEY),
    (scopes.NEW_TEAM, LITELLM_TEAM),
    (scopes.UPDATE_TEAM, LITELLM_TEAM),
    (scopes.NEW_ORG, LITELLM_ORG),
    (scopes.UPDATE_ORG, LITELLM_ORG),
    (budgets.BUDGET, LITELLM_BUDGET),
]


@pytest.mark.parametrize(("known", "names"), CASES)
def test_every_field_of_litellm_is_in_force_or_refused_by_name(known: Fields, names: list[str]) -> None:
    for name in names:
        if name in known.known:
            assert sift({name: "x"}, known) == {name: "x"}
        else:
            with pytest.raises(ApiError) as refusal:
                sift({name: "x"}, known)
            assert refusal.value.param == name
            assert refusal.value.code == "field_not_supported"
            assert refusal.value.status == 400
            assert name in refusal.value.message


@pytest.mark.parametrize(("known", "names"), CASES)
def test_a_field_that_asks_for_nothing_is_harmless(known: Fields, names: list[str]) -> None:
    for nothing in (None, False, [], {}):
        body: dict[str, object] = {name: nothing for name in names if name not in known.known}
        assert sift(body, known) == {}


def test_zero_and_empty_text_ask_for_something() -> None:
    for value in (0, "", 0.0, True, [None]):
        with pytest.raises(ApiError):
            sift({"tpd_limit": value}, keys.GENERATE_KEY)


def test_values_that_mean_the_default() -> None:
    assert sift({"spend": 0}, keys.GENERATE_KEY) == {}
    assert sift({"spend": 0.0}, keys.SERVICE_ACCOUNT) == {}
    for body in ({"spend": 1}, {"spend": True}, {"agent_id": "default"}):
        with pytest.raises(ApiError):
            sift(dict(body), keys.GENERATE_KEY)


def test_null_in_a_known_field_is_kept_for_the_change_to_see() -> None:
    assert sift({"max_budget": None, "key": "x"}, keys.UPDATE_KEY) == {"max_budget": None, "key": "x"}


def test_an_unknown_field_is_named_with_the_nearest_one() -> None:
    with pytest.raises(ApiError, match="did you mean max_budget") as refusal:
        sift({"max_budgt": 1}, keys.GENERATE_KEY)
    assert refusal.value.code == "unknown_field"
    with pytest.raises(ApiError, match="is not a field"):
        sift({"max_budgt": None}, keys.GENERATE_KEY)
    with pytest.raises(ApiError) as refusal:
        sift({"z" * 10_000: 1}, keys.NAME_KEY)
    assert len(refusal.value.message) < 300


def test_all_fields_that_have_no_effect_are_named_at_once() -> None:
    with pytest.raises(ApiError) as refusal:
        sift({"key_alias": "a", "tpd_limit": 2, "max_budgt": 1, "agent_id": "u", "zzz": 1, "yyy": 1}, keys.GENERATE_KEY)
    error = refusal.value
    assert (error.code, error.param) == ("field_not_supported", "tpd_limit")
    for part in ("tpd_limit is not", "'max_budgt'", "did you mean max_budget?", "agent_id is not", "'zzz'", "'yyy'"):
        assert part in error.message
    assert error.message.count("Use key, key_hash") == 1
    with pytest.raises(ApiError, match="980 more") as refusal:
        sift({f"{n}" * 200: 1 for n in range(1_000)}, keys.GENERATE_KEY)
    assert refusal.value.code == "unknown_field"
    assert len(refusal.value.message) < 4_000


def test_everything_about_budgets_and_limits_is_in_force_on_every_scope() -> None:
    for known in (keys.GENERATE_KEY, keys.UPDATE_KEY, scopes.NEW_TEAM, scopes.UPDATE_TEAM, scopes.UPDATE_ORG):
        assert {*MONEY, *RATES, "budget_id", "model_rpm_limit", "temp_budget_expiry"} <= set(known.known)


def test_what_a_key_has() -> None:
    wanted = {"aliases", "tags", "allowed_routes", "user_id", "key_type", "auto_rotate", "rotation_delivery"}
    assert wanted <= set(keys.GENERATE_KEY.known) & set(keys.UPDATE_KEY.known)
    assert {"key_hash", "key_name"} <= set(keys.UPDATE_KEY.refused)
    with pytest.raises(ApiError, match="service account"):
        sift({"team_id": "t", "user_id": "ada"}, keys.SERVICE_ACCOUNT)


def test_no_field_is_both_known_and_refused() -> None:
    for known, _ in CASES:
        assert not set(known.known) & set(known.refused)
        for name, remedy in known.refused.items():
            assert len(remedy) > 10, name
