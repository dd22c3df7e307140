"""A key as LiteLLM lists it, turned into the request that makes the same key here. Pure."""

import re
from argparse import Namespace
from datetime import UTC, datetime
from typing import cast

import msgspec

from services.cli.client import Json

HASH = re.compile(r"[0-9a-f]{64}\Z")
AS_THEY_ARE = (
    "key_alias", "models", "max_budget", "soft_budget", "budget_duration", "model_max_budget", "rpm_limit",
    "tpm_limit", "max_parallel_requests", "model_rpm_limit", "model_tpm_limit", "aliases", "allowed_routes", "tags",
)  # fmt: skip
OUT_OF_METADATA = ("model_rpm_limit", "model_tpm_limit", "tags")
"""What LiteLLM keeps within `metadata`, and what are fields of their own here."""
NEEDS_A_WORD = (
    "agent_id", "project_id", "end_user_budget_id", "config", "permissions", "guardrails", "policies", "prompts",
    "object_permission_id", "access_group_ids", "router_settings", "budget_fallbacks", "tpd_limit",
    "mcp_rpm_limit", "tag_rpm_limit", "enforced_params", "allowed_passthrough_routes", "denied_passthrough_routes",
    "allowed_cache_controls", "allowed_vector_store_indexes", "throttle_on_budget_exceeded",
)  # fmt: skip
"""Settings that have no counterpart; a key that has one gets a note."""
NO_USER = ("default_user_id",)
OF_WINDOWS = ("max_budget", "soft_budget", "budget_duration", "budget_timezone")
BUDGET_TABLE = "litellm_budget_table"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask for one key: the body of `/key/generate`, what is left out of it, or why nothing is asked."""

    name: str
    request: Json
    notes: list[str] = []
    skip: str | None = None


def plan_of(entry: Json, options: Namespace, now: datetime) -> Plan:
    """The plan for one listed key; `options` are those of `tundish key import`."""
    token = entry.get("token") or entry.get("token_id") or ""
    name = str(entry.get("key_name") or "sk-...")
    if not isinstance(token, str) or HASH.match(token) is None:
        return Plan(name=name, request={}, skip="it has no hash of a secret in 'token'")
    notes: list[str] = []
    request: Json = {"key_hash": token, "key_name": name} | _settings(entry, notes) | _owners(entry, options)
    if entry.get("blocked"):
        request["blocked"] = True
    left = _seconds_left(entry.get("expires"), now)
    if left is not None and left <= 0:
        return Plan(name=name, request=request, skip="it has expired")
    if left is not None:
        request["duration"] = f"{left}s"
    if entry.get("spend"):
        notes.append("what was spent there is not taken over")
    if entry.get("auto_rotate"):
        notes.append("left out: auto_rotate; say with `tundish key update --auto-rotate` where new secrets go")
    left_out = [field for field in NEEDS_A_WORD if entry.get(field)]
    if left_out:
        notes.append(f"left out: {', '.join(left_out)}")
    return Plan(name=name, request=request, notes=notes)


def _settings(entry: Json, notes: list[str]) -> Json:
    """The fields that mean the same here. A budget object's terms are taken over as the key's own."""
    metadata = _object(entry.get("metadata"))
    inner = {field: metadata.pop(field) for field in OUT_OF_METADATA if field in metadata}
    table = _object(entry.get(BUDGET_TABLE))
    if table.get("budget_id"):
        notes.append("the terms of its budget object become its own")
    settings: Json = {}
    for field in AS_THEY_ARE:
        value = next(
            (source[field] for source in (entry, inner, table) if source.get(field) not in (None, [], {})), None
        )
        if value is not None:
            settings[field] = value
    if settings.get("budget_duration") is not None and "max_budget" not in settings and "soft_budget" not in settings:
        del settings["budget_duration"]
    windows = entry.get("budget_limits")
    if isinstance(windows, list) and windows:
        settings["budget_limits"] = [
            {field: window[field] for field in OF_WINDOWS if window.get(field) is not None}
            for window in map(_object, cast("list[object]", windows))
        ]
    if metadata:
        settings["metadata"] = metadata
    return settings


def _owners(entry: Json, options: Namespace) -> Json:
    team = options.team or (None if options.no_teams else entry.get("team_id"))
    org = None if options.no_orgs or options.team else entry.get("organization_id") or entry.get("org_id")
    user = None if options.no_users or entry.get("user_id") in NO_USER else entry.get("user_id")
    owners: Json = {"team_id": team, "organization_id": org, "user_id": user}
    return {name: value for name, value in owners.items() if value}


def _seconds_left(expires: object, now: datetime) -> int | None:
    """How long a key still lives; None for ever. A time without a zone is UTC, as LiteLLM means it."""
    if not isinstance(expires, str) or not expires:
        return None
    try:
        end = datetime.fromisoformat(expires)
    except ValueError:
        return None
    end = end if end.tzinfo is not None else end.replace(tzinfo=UTC)
    return int((end - now).total_seconds())


def _object(value: object) -> Json:
    return dict(cast("Json", value)) if isinstance(value, dict) else {}
