"""What the ledger's API takes and gives. Amounts are dollars where LiteLLM has them, nano-dollars in `*_nusd`."""

from datetime import datetime

import msgspec

from services.ledger.domain.books import Difference
from shared.policy import ScopeKind


class AccountBalance(msgspec.Struct, frozen=True, kw_only=True):
    """One account of a scope in its current window. `limit_nusd` is in force now, temporary increase included."""

    account: str
    index: int
    spent_nusd: int
    overdraft_nusd: int
    start: datetime
    end: datetime | None
    limit_nusd: int | None
    soft_nusd: int | None
    duration: str
    zone: str
    model: str | None


class ScopeBalance(msgspec.Struct, frozen=True, kw_only=True):
    """What a scope has spent in all, and by account in the window of this moment.

    `overdraft_nusd` is cost beyond what was held, summed over calls for which money was held. `versions` says of a key
    when each version of its secret was last used.
    """

    scope_kind: str
    scope_id: str
    total_nusd: int
    overdraft_nusd: int
    accounts: list[AccountBalance]
    versions: dict[int, datetime] = {}


class ScopeSpend(msgspec.Struct, frozen=True, kw_only=True):
    """What keys, teams and organizations have in common in the lists."""

    spend: float
    spend_nusd: int
    overdraft_nusd: int
    calls: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    max_budget: float | None
    last_active: datetime | None


class KeySpend(ScopeSpend, frozen=True, kw_only=True):
    """One key; `token` and `key_id` are its id, `key_name` the masked form of its newest secret."""

    token: str
    key_id: str
    key_alias: str | None
    key_name: str | None
    team_id: str | None
    organization_id: str | None


class TeamSpend(ScopeSpend, frozen=True, kw_only=True):
    """One team."""

    team_id: str
    team_alias: str | None
    organization_id: str | None


class OrgSpend(ScopeSpend, frozen=True, kw_only=True):
    """One organization."""

    organization_id: str
    organization_alias: str | None


class KeyPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of keys, the dearest first."""

    data: list[KeySpend]
    total_count: int
    current_page: int
    total_pages: int


class TeamPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of teams, the dearest first."""

    data: list[TeamSpend]
    total_count: int
    current_page: int
    total_pages: int


class OrgPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of organizations, the dearest first."""

    data: list[OrgSpend]
    total_count: int
    current_page: int
    total_pages: int


class LogRow(msgspec.Struct, frozen=True, kw_only=True, rename={"start_time": "startTime", "end_time": "endTime"}):
    """One call (or attempt). `usage` is Foundry's own object, `api_key` the key's id.

    `prompt_tokens` and `completion_tokens` are all there were, `cached_tokens` all that were read from the cache;
    the other counts are single classes of usage (docs/prices.md). `service_tier` is empty for the standard one.
    `secret_version` is the version of the key's secret that was sent, 0 where that is not known.
    """

    request_id: str
    event_id: str
    attempt: int
    call_type: str
    api_key: str
    team_id: str | None
    organization_id: str
    spend: float
    cost_nusd: int
    held_nusd: int
    repriced_nusd: int | None
    total_tokens: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    reasoning_tokens: int
    audio_input_tokens: int
    audio_cached_tokens: int
    audio_output_tokens: int
    image_input_tokens: int
    image_cached_tokens: int
    image_output_tokens: int
    images: int
    milliseconds: int
    characters: int
    queries: int
    pages: int
    sessions: int
    service_tier: str
    kind: str
    start_time: datetime
    end_time: datetime
    request_duration_ms: int
    first_byte_ms: int | None
    overhead_us: int | None
    retries: int
    model: str
    deployment: str
    served_model: str | None
    region: str | None
    status: str
    outcome: str
    status_code: int
    measured: str
    price_id: str | None
    secret_version: int
    instance: str
    n: int
    request_tags: list[str]
    usage: msgspec.Raw


class LogPage(msgspec.Struct, frozen=True, kw_only=True):
    """Calls, newest first; `next` is the `cursor` of the following page, None on the last."""

    data: list[LogRow]
    next: str | None


class CorrectAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the spend of one account-window shall be, in nano-dollars."""

    account: str
    index: int
    to_nusd: int


class CorrectSpend(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator's order to set the spend of account-windows of one scope right."""

    scope_kind: ScopeKind
    scope_id: str
    accounts: list[CorrectAccount]
    reason: str = ""


class CorrectedAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Spend of one account-window before and after a correction."""

    account: str
    index: int
    before_nusd: int
    after_nusd: int


class Corrected(msgspec.Struct, frozen=True, kw_only=True):
    """What an order came to. `event_id` is None when nothing had to change; `applied`: the books have it already."""

    corrections: list[CorrectedAccount]
    event_id: str | None
    applied: bool


class CorrectionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One correction: who set which spend right, when and why. `pending` until the log has brought it back."""

    event_id: str
    at: datetime
    scope_kind: str
    scope_id: str
    alias: str | None
    actor: str
    reason: str
    changes: list[CorrectedAccount]
    pending: bool


class CorrectionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Corrections, newest first; `next` is the `cursor` of the following page, None on the last."""

    data: list[CorrectionRow]
    next: str | None


class StartRebuild(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`check` true compares only; false also replaces the books by what the log says."""

    check: bool = True


class StartedRebuild(msgspec.Struct, frozen=True, kw_only=True):
    """The id under which the job can be asked for."""

    job: str


class RebuildJob(msgspec.Struct, kw_only=True):
    """How far a rebuild is. `state`: running, done or failed; `total` is what the books held at its start."""

    state: str = "running"
    check: bool = True
    events: int = 0
    corrections: int = 0
    total: int | None = None
    equal: bool | None = None
    differences: list[Difference] = []
    error: str | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Where the books stand. `lag_messages` wait in the log, `position` is complete in the books."""

    position: int
    lag_messages: int
    unacknowledged: int
    problem: str | None
    events: int
    corrections: int
    corrections_pending: int
    mispriced: int
    dead_letters: int
    streams: dict[str, dict[str, object]]
