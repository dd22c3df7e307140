"""What each field of requests and answers means, in a sentence: for the OpenAPI document and the page at `/docs`."""

from collections.abc import Mapping

MEANINGS: Mapping[str, str] = {
    # which
    "key": "A secret, a key id or a stored hash; where a key is made, a secret of your own (`sk-…`).",
    "keys": "Secrets, key ids or stored hashes.",
    "key_alias": "A name for people, unique among the living keys of the installation.",
    "key_aliases": "Names of keys.",
    "token_id": "The key's id, which stays the same for its life.",
    "token": "The same as `token_id`.",
    "team_id": "A team, by its id; a key or team stays where it was made.",
    "team_ids": "Teams, by their ids.",
    "team_alias": "The team's name for people, unique in its organization.",
    "organization_id": "An organization, by its id; `default` where none is named.",
    "organization_ids": "Organizations, by their ids.",
    "organization_alias": "The organization's name for people.",
    "user_id": "A user, by its id.",
    "user_ids": "Users, by their ids.",
    "user_email": "The user's address, unique among living users.",
    "user_alias": "The user's name for people.",
    "budget_id": "A budget object that is attached: its budget is followed as it changes.",
    "id": "A budget object, by its id.",
    "budgets": "Budget objects, by their ids.",
    # what a key may
    "models": "Public model names that may be called, `*` standing for any text; empty: all that the scope"
    " above allows.",
    "aliases": "Other names for models: name to public name, one step.",
    "model_aliases": "Other names for models: name to public name; those of a key go before those of its team.",
    "allowed_routes": "Paths or groups (`llm_api_routes`, `openai_routes`, `anthropic_routes`, `info_routes`)"
    " that may be"
    " called; empty: all.",
    "key_type": "`default` or `llm_api` calls models; `admin`, `org_admin`, `team_admin`, `viewer` administers"
    " and calls"
    " none; `management` and `read_only` are LiteLLM's words for such.",
    "role": "What a key administers as, or whether a member is `admin` or `user` of the team.",
    "tags": "Words that go onto the usage of every call.",
    "metadata": "Free-form notes, at most 16 KiB.",
    "duration": "How long the key lives from now, such as `30d`; for ever if not given.",
    "expires": "When it ends; null: never.",
    "blocked": "Whether it is refused until it is unblocked.",
    "key_hash": "The SHA-256 (64 hex digits) of a secret that exists already, in place of `key`.",
    "key_name": "The masked form of the secret, such as `sk-...abcd`.",
    # money and limits
    "max_budget": "The most that may be spent in a window, in dollars.",
    "soft_budget": "An amount in dollars that warns and refuses nothing.",
    "budget_duration": "The window: `1h`, `30d` (from when it was set), `1mo` (a calendar month) and the like;"
    " not given:"
    " one window for ever.",
    "budget_timezone": "The time zone of windows of days and more, such as `Europe/Berlin`.",
    "budget_limits": "Further limits with windows of their own, all in force at once.",
    "model_max_budget": "Limits for calls of some models: pattern to limit and window.",
    "budget_thresholds": "Percents of the limit at which a signal warns.",
    "budget_mode": "`default` holds what a call probably costs, `strict` what it costs at most.",
    "default_key_budget_id": "The budget object of new keys of the team that name none.",
    "temp_budget_increase": "Dollars on top of the limit until `temp_budget_expiry`.",
    "temp_budget_expiry": "When the temporary increase ends.",
    "rpm_limit": "Requests in any sixty seconds.",
    "tpm_limit": "Tokens in any sixty seconds.",
    "max_parallel_requests": "Calls in flight at the same time.",
    "model_rpm_limit": "Requests in any sixty seconds, by model pattern.",
    "model_tpm_limit": "Tokens in any sixty seconds, by model pattern.",
    "reset_to": "What shall count as spent in the current windows, in dollars.",
    "spend": "What was spent in the current window, in dollars; null: not known at the moment.",
    "total_spend": "What was spent in all, in dollars.",
    # rotation
    "auto_rotate": "Whether the secret is renewed by schedule; needs a `rotation_delivery`.",
    "rotation_interval": "How often: `1m` or longer, such as `30d`.",
    "grace_period": "How long the old secret works beside the new one; `24h` by schedule if not given, and none on"
    " regenerate.",
    "rotation_delivery": "How a new secret reaches its owner: entries of type `exchange`, `key_vault`, `webhook`,"
    " `kubernetes`.",
    "rotation_retire": "When the grace of the old secret begins: `after_delivery` (default) or `after_grace`,"
    " which is with"
    " the new one's making.",
    "new_key": "The new secret, if it is not to be made up.",
    "key_rotation_at": "When the secret is due to be renewed next.",
    "last_rotation_at": "When it was renewed last.",
    "rotation_count": "How often it was renewed.",
    "versions": "The versions of the secret, with what became of each.",
    "signing_secret": "What webhooks are signed with; shown when the target is set.",
    "old_key_expires": "When the secret before ends; null: not yet known.",
    # people
    "user_role": "`proxy_admin`, `proxy_admin_viewer`, `internal_user` or `internal_user_viewer`: which keys"
    " with a role"
    " the user may have.",
    "auto_create_key": "Whether a key is made for the user at once; true if not given.",
    "teams": "Teams that the user becomes a member of.",
    "organizations": "Organizations that the user belongs to directly.",
    "member": "Somebody, or a list of them: `role` and `user_id` or `user_email`.",
    "members": "People with their roles.",
    "members_with_roles": "The members of the team with their roles.",
    # leaks and the record
    "leaked": "Whether the secret is known to somebody who should not have it: a signal is raised, nothing can"
    " be collected"
    " with it.",
    "reason": "Why, for the record.",
    "source": "Who found it.",
    "url": "Where it was found, or where a webhook goes.",
    "fleet": "How many proxies are alive, how many refuse by now, and after how many milliseconds.",
    "recorded": "false: in force, and recorded as soon as the database is back.",
    "warnings": "What else is to be known.",
    "created_by": "Who made it: `master-key`, a key id or a service.",
    "updated_by": "Who changed it last.",
}
"""By the field's name, which means the same wherever it stands."""
