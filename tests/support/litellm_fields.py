"""The fields of LiteLLM's management requests, by route, and what to know of those that mean something else here."""

_BUDGET = "max_budget soft_budget budget_duration model_max_budget"
_RATES = "tpm_limit rpm_limit max_parallel_requests"
_GENERATE = f"""
    key_alias duration models spend {_BUDGET} budget_limits user_id team_id agent_id {_RATES} metadata budget_fallbacks
    model_rpm_limit model_tpm_limit mcp_rpm_limit tag_rpm_limit allowed_cache_controls config permissions guardrails
    policies prompts blocked aliases object_permission
    key budget_id end_user_budget_id tpd_limit default_estimated_output_tokens
    default_estimated_output_tokens_per_model tags disable_global_guardrails enable_prompt_caching
    throttle_on_budget_exceeded enforced_params allowed_routes allowed_passthrough_routes denied_passthrough_routes
    allowed_vector_store_indexes rpm_limit_type tpm_limit_type router_settings access_group_ids send_invite_email
    key_type auto_rotate rotation_interval organization_id project_id
"""
_TEAM = """
    team_alias team_id organization_id admins members members_with_roles team_member_permissions metadata tpm_limit
    rpm_limit tpd_limit rpm_limit_type tpm_limit_type max_budget soft_budget budget_duration budget_limits models
    blocked router_settings access_group_ids default_team_member_models model_aliases model_max_budget model_rpm_limit
    model_tpm_limit mcp_rpm_limit tags guardrails policies prompts object_permission allowed_passthrough_routes
    denied_passthrough_routes disable_global_guardrails require_trace_id secret_manager_settings
    default_estimated_output_tokens team_member_budget team_member_budget_duration team_member_rpm_limit
    team_member_tpm_limit team_member_key_duration team_member_model_max_budget allowed_vector_store_indexes
    enforced_batch_output_expires_after enforced_file_expires_after
"""
_MEMBER = "team_id user_id user_email role max_budget_in_team"
_ORG = f"""
    organization_alias organization_id models budget_id metadata model_rpm_limit model_tpm_limit object_permission
    {_BUDGET} {_RATES} tpd_limit budget_reset_at
"""
_USER = f"""
    user_id user_email user_alias user_role teams auto_create_key send_invite_email sso_user_id organizations password
    key_alias duration models spend {_BUDGET} budget_limits team_id agent_id {_RATES} metadata budget_fallbacks
    model_rpm_limit model_tpm_limit mcp_rpm_limit tag_rpm_limit allowed_cache_controls config permissions guardrails
    policies prompts blocked aliases object_permission
"""
_BUDGET_OBJECT = f"budget_id {_BUDGET} {_RATES} tpd_limit budget_reset_at"

FIELDS: dict[str, tuple[str, ...]] = {
    path: tuple(dict.fromkeys(names.split()))
    for path, names in {
        "/key/generate": _GENERATE,
        "/key/service-account/generate": _GENERATE,
        "/key/update": f"{_GENERATE} temp_budget_increase temp_budget_expiry",
        "/key/regenerate": f"{_GENERATE} new_key new_master_key grace_period",
        "/key/bulk_update": "keys",
        "/key/block": "key",
        "/key/unblock": "key",
        "/key/delete": "keys key_aliases",
        "/key/{key}/reset_spend": "reset_to",
        "/v2/key/info": "keys",
        "/team/new": _TEAM,
        "/team/update": _TEAM,
        "/team/block": "team_id",
        "/team/unblock": "team_id",
        "/team/delete": "team_ids",
        "/team/member_add": "team_id member max_budget_in_team budget_duration allowed_models",
        "/team/bulk_member_add": "team_id members all_users max_budget_in_team",
        "/team/member_update": (
            f"{_MEMBER} budget_duration tpm_limit rpm_limit temp_budget_increase temp_budget_expiry model_max_budget"
        ),
        "/team/member_delete": "team_id user_id user_email",
        "/organization/new": _ORG,
        "/organization/update": _ORG,
        "/organization/delete": "organization_ids",
        "/organization/member_add": "organization_id member max_budget_in_organization",
        "/organization/member_delete": "organization_id user_id user_email",
        "/user/new": _USER,
        "/user/update": _USER,
        "/user/delete": "user_ids",
        "/budget/new": _BUDGET_OBJECT,
        "/budget/update": _BUDGET_OBJECT,
        "/budget/info": "budgets",
        "/budget/delete": "id",
    }.items()
}
"""Route → the fields that LiteLLM takes there."""

LIKE: dict[str, str] = {
    "/key/service-account/generate": "/key/generate",
    "/key/update": "/key/generate",
    "/key/regenerate": "/key/update",
    "/team/update": "/team/new",
    "/organization/update": "/organization/new",
    "/user/update": "/user/new",
    "/budget/update": "/budget/new",
    "/key/unblock": "/key/block",
    "/v2/key/info": "/key/delete",
    "/team/unblock": "/team/block",
}
"""Of these only the fields that differ from another route's are listed."""

DIFFERENT: dict[str, str] = {
    "key": "the secret, its SHA-256, or the key's id",
    "/key/generate key": "`sk-`, 16 to 200 characters; or `key_hash`, the SHA-256 of a secret that exists already",
    "models": "patterns with `*`; `all-team-models` is the empty list: what team and organization allow",
    "metadata": "16 KiB; limits by model and tags are fields of their own, not parts of it",
    "max_budget": "holds for calls in flight at once, and in every window of `budget_limits` beside it",
    "budget_duration": "windows are exact and reset by themselves: [windows](windows.md)",
    "soft_budget": "sends a signal, once a window",
    "tpm_limit": "of any sixty seconds, not of a clock's minute",
    "rpm_limit": "of any sixty seconds, not of a clock's minute",
    "model_max_budget": "for everybody, with `*` patterns",
    "tags": "for everybody; at most 20; also on teams and organizations",
    "key_alias": "unique by constraint",
    "key_type": "`management` takes the role of its reach, `read_only` is `viewer`; and the roles by name",
    "allowed_routes": "of calls; what administers follows from the role",
    "/key/generate user_id": "has to exist; with `team_id` a member of that team",
    "auto_rotate": "for everybody; refused without a way to the owner (`rotation_delivery`)",
    "rotation_interval": "kept to from one minute on, without drift",
    "grace_period": "of this call; each key also has one of its own for its rotations",
    "temp_budget_increase": "for everybody; also on teams and organizations",
    "role": "`admin` lets the user hold a `team_admin` key",
    "user_role": "says which roles the user's keys may have",
    "auto_create_key": "the key has the role that `user_role` says",
    "team_ids": "the teams' keys end with them, at once",
    "user_ids": "the users' keys end with them, at once",
    "/team/member_add member": "who is not known becomes a user",
    "/team/bulk_member_add members": "who is not known becomes a user",
    "reset_to": "a correction in the ledger's log; history stays",
    "max_parallel_requests": "counted across all proxies",
}
"""Field, or route and field → what is different, where it is in force."""
