"""A key as an answer."""

from collections.abc import Mapping
from datetime import datetime

from services.auth.answers.keys import KeyRow, VersionRow
from services.auth.domain import versions
from services.auth.domain.key_state import KeyState
from services.auth.rows.base import with_money
from services.auth.rows.rotation import SigningSecret, with_rotation
from services.auth.spend import Spend
from shared.access import Principal

LLM_API_ROUTES = ("llm_api_routes",)
"""What `key_type` `llm_api` stands for."""


def key_row(
    state: KeyState,
    now: datetime,
    spend: Spend | None = None,
    *,
    caller: Principal | None,
    signing: SigningSecret | None = None,
) -> KeyRow:
    """A key as it is at an instant, as far as `caller` (None: anybody) may know. `signing` makes the signing secrets of
    webhooks, which only the call that sets them shows."""
    newest = versions.newest(state) or (state.secrets[-1] if state.secrets else None)
    row = KeyRow(
        token_id=state.key_id,
        token=state.key_id,
        key_name=None if newest is None else newest.hint,
        key_alias=state.alias,
        key_type=type_of(state),
        role=state.role,
        status=status_of(state, now),
        blocked=state.blocked,
        expires=state.expires_at,
        models=state.models,
        aliases=state.model_aliases,
        allowed_routes=state.allowed_routes,
        tags=state.tags,
        team_id=state.team_id,
        organization_id=state.org_id,
        user_id=state.user_id,
        metadata=state.metadata,
        created_at=state.created_at,
        created_by=state.created_by,
        updated_at=state.updated_at,
        updated_by=state.updated_by,
    )
    return with_rotation(with_money(row, state, now, spend), state, now, signing, caller=caller)


def type_of(state: KeyState) -> str:
    """`key_type`: the role, `llm_api`, or `default`."""
    return state.role or ("llm_api" if state.allowed_routes == LLM_API_ROUTES else "default")


def status_of(state: KeyState, now: datetime) -> str:
    """`deleted`, `revoked` (no secret of it works any more), `blocked`, `expired` or `active`: the first that holds.

    `services.auth.store_keys` says the same in SQL.
    """
    if state.deleted_at is not None:
        return "deleted"
    if not any(versions.works(secret, now) for secret in state.secrets):
        return "revoked"
    if state.blocked:
        return "blocked"
    return "expired" if state.expires_at is not None and state.expires_at <= now else "active"


def version_rows(state: KeyState, now: datetime, last_used: Mapping[int, datetime] | None) -> list[VersionRow]:
    """The versions of a key's secret, newest first. `last_used` by version, as far as it is known."""
    used = last_used or {}
    return [
        VersionRow(
            version=secret.version,
            key_name=secret.hint,
            created_at=secret.minted_at,
            expires=secret.not_after,
            delivered=secret.delivered,
            last_used=used.get(secret.version),
            status=versions.status_of(state, secret, now),
        )
        for secret in reversed(state.secrets)
    ]
