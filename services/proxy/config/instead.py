"""Options of LiteLLM's that are not in force here, and what to use in their place."""

RETRIES = "calls are not retried in this version: callers' clients do, where x-should-retry says that it helps"
FALLBACKS = "there are no fallbacks in this version: a call goes to the model it names"
ROUTING = "deployments of one model are taken in turn"
OBSERVED = "watch the metrics of the internal ports and the usage events on NATS: docs/operations.md, docs/events.md"
CACHE = "answers are not cached by this gateway"
SILENCE = "set TUNDISH_UPSTREAM_IDLE_S"
LOGGING = "set TUNDISH_LOG and TUNDISH_LOG_LEVEL"
INSTEAD = {
    "general_settings": "the master key is TUNDISH_MASTER_KEY and the database TUNDISH_POSTGRES_URL",
    "litellm_settings": "see docs/configuration.md for the variables that there are",
    "router_settings": f"{ROUTING}, without retries and fallbacks",
    "environment_variables": "set them in the environment of the process",
    **dict.fromkeys(("timeout", "stream_timeout", "request_timeout"), SILENCE),
    **dict.fromkeys(("num_retries", "max_retries", "retry_policy", "retry_after", "num_retries_per_request"), RETRIES),
    **dict.fromkeys(
        ("fallbacks", "default_fallbacks", "context_window_fallbacks", "content_policy_fallbacks"), FALLBACKS
    ),
    **dict.fromkeys(
        ("allowed_fails", "cooldown_time", "routing_strategy", "model_group_alias", "weight", "order"), ROUTING
    ),
    **dict.fromkeys(
        (
            "callbacks",
            "success_callback",
            "failure_callback",
            "service_callback",
            "alerting",
            "turn_off_message_logging",
        ),
        OBSERVED,
    ),
    **dict.fromkeys(("cache", "cache_params", "caching"), CACHE),
    **dict.fromkeys(("set_verbose", "json_logs", "suppress_debug_info"), LOGGING),
    "rpm": "the deployment's own limit answers 429, which is passed on",
    "tpm": "the deployment's own limit answers 429, which is passed on",
    "max_tokens": "callers set it; TUNDISH_DEFAULT_OUTPUT_TOKENS is assumed where they do not, and the model's own"
    " maximum is model_info.max_output_tokens",
    "organization": "Foundry has no organizations of OpenAI's: a resource is named by its api_base",
    "additional_drop_params": "drop_params drops what a reasoning model does not take",
    "allowed_openai_params": "everything is passed on that the model takes",
}
"""What to use in place of options of LiteLLM's that people are likely to have."""
BUDGETS = {
    "litellm_settings.max_budget": "set the max_budget of an organization with POST /organization/update",
    "litellm_settings.upperbound_key_generate_params": "set the max_budget of an organization or of teams, which their"
    " keys cannot pass",
    "litellm_settings.default_key_generate_params": "make a budget object with POST /budget/new and name it as the"
    " default_key_budget_id of teams",
    "litellm_params.max_budget": "set model_max_budget for this model on an organization, team or key",
}
"""Keys that would limit spend, and what does so here: to pass over one of them would leave spend without a limit."""
