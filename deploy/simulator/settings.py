"""What a running simulator can be told at `/_sim/settings`: the choices Foundry makes that nobody can know."""

from typing import Annotated, Literal, TypeAlias

import msgspec

Milliseconds: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=600_000)]


class Settings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Switches of the whole resource.

    `claude_errors`: the envelope of errors under `/anthropic`. `responses_events`, `responses_done`: whether
    Responses streams have `event:` lines and end with `[DONE]`. `background_ms`: how long a background
    response takes. `keys_off`: local authentication is disabled (403 for keys). `network_off`: the caller's
    network is refused (403). `blocked`: the resource is blocked for abuse (403). `no_role`: Entra tokens lack
    the data action (401). `new_wording`: the newer texts of the 401 errors. `older_limits`: the older texts of
    the 429 errors. `anthropic_limits`: `/anthropic` answers carry `anthropic-ratelimit-*` too.

    Batches: `batch_validate_ms` and `batch_run_ms` say how long checking and running take; with
    `batch_stop_after` only so many lines are run and the batch ends as `batch_ending` says.

    Entra: tokens live `token_life_s`, with a `refresh_in` where `token_refresh_s` is set; `token_error` (an
    AADSTS number) refuses them all. `token_subjects`: subjects of federated credentials that are known,
    `token_secrets`: client id to secret, `managed_identities`: client ids; an empty one knows all.

    Key Vault: `vault_error` refuses every call with this inner code; `vault_tenant` stands in the challenge.

    Costs: calls are seen `costs_lag_s` after they were served; quantities and costs are off by
    `costs_drift_ppm` millionths; `costs_prices` (model to meter kind to USD for a million tokens, or for one
    piece) is looked up before the built-in list; `costs_busy` refuses with 429.
    """

    claude_errors: Literal["azure", "anthropic"] = "azure"
    responses_events: bool = True
    responses_done: bool = False
    background_ms: Milliseconds = 200
    keys_off: bool = False
    network_off: bool = False
    blocked: bool = False
    no_role: bool = False
    new_wording: bool = False
    older_limits: bool = False
    anthropic_limits: bool = False
    batch_validate_ms: Milliseconds = 20
    batch_run_ms: Milliseconds = 50
    batch_stop_after: Annotated[int, msgspec.Meta(ge=0)] | None = None
    batch_ending: Literal["completed", "expired", "failed"] = "expired"
    token_life_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 3_599
    token_refresh_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] | None = None
    token_error: str | None = None
    token_subjects: list[str] = []
    token_secrets: dict[str, str] = {}
    managed_identities: list[str] = []
    vault_error: Literal["ForbiddenByRbac", "ForbiddenByPolicy", "ForbiddenByFirewall", "Throttled"] | None = None
    vault_tenant: str = "00000000-0000-0000-0000-0000000000aa"
    costs_lag_s: Annotated[int, msgspec.Meta(ge=0, le=31 * 86_400)] = 0
    costs_drift_ppm: Annotated[int, msgspec.Meta(ge=-1_000_000, le=1_000_000)] = 0
    costs_prices: dict[str, dict[str, str]] = {}
    costs_busy: bool = False
