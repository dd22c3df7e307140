"""What a scope has spent, asked of the ledger over HTTP, and its correction. Unknown is None, never zero."""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime

import httpx
import msgspec

from services.auth.domain.scope import ScopeState
from shared.access import ACTOR_HEADER, sign_actor
from shared.errors import ApiError
from shared.money import usd_from_nusd
from shared.policy import Budget, ScopeKind
from shared.windows import window_at

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 16
KEEPALIVE_S = 30
CONNECT_TIMEOUT_S = 1.0
CORRECT_TIMEOUT_S = 15.0
"""A correction is published and folded before its answer; the front door waits for up to thirty seconds."""
UNKNOWN = "spend is not known at the moment: the ledger does not answer; spend is null, not zero"


class AccountSpend(msgspec.Struct, frozen=True, kw_only=True):
    """Spend of one window of one account, in nano-dollars."""

    account: str
    index: int
    spent_nusd: int


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger says of a scope. `versions`: when each version of a key's secret was last used."""

    total_nusd: int
    accounts: tuple[AccountSpend, ...] = ()
    versions: dict[int, datetime] = {}


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars spent in the current window of `max_budget` (in all without one), in all, and by account-window.

    None: not known; `warnings` says so too.
    """

    current: float | None
    total: float | None
    warnings: list[str]
    now: datetime
    windows: Mapping[tuple[str, int], int] | None = None
    versions: Mapping[int, datetime] | None = None

    def of(self, budget: Budget) -> float | None:
        """Spend of an account's current window; one that the ledger has not heard of holds none yet."""
        if self.windows is None:
            return None
        return usd_from_nusd(self.windows.get((budget.account, window_at(budget.window, self.now).index), 0))


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """An account-window whose spend is to be set."""

    account: str
    index: int
    to_nusd: int


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger made of a target."""

    account: str
    index: int
    before_nusd: int
    after_nusd: int


class Corrected(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an order. `applied` false: it is stored for good, and the books do not show it yet."""

    corrections: tuple[Correction, ...] = ()
    applied: bool = True


class _ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    message: str = ""
    code: str | None = None
    param: str | None = None


class _ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    error: _ErrorDetail = _ErrorDetail()


class Ledger:
    """The ledger's HTTP interface. `token` is this service's own."""

    def __init__(self, url: str, token: str, *, wait_ms: int) -> None:
        self._token = token
        self._client = httpx.AsyncClient(
            base_url=url,
            timeout=httpx.Timeout(wait_ms / 1000, connect=min(CONNECT_TIMEOUT_S, wait_ms / 1000)),
            limits=httpx.Limits(
                max_connections=CONNECTIONS_MAX,
                max_keepalive_connections=CONNECTIONS_MAX,
                keepalive_expiry=KEEPALIVE_S,
            ),
            follow_redirects=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def spend(self, kind: ScopeKind, scope_id: str, state: ScopeState, *, now: datetime, actor: str) -> Spend:
        """The spend of a scope: of the current window of `max_budget`, in all without one."""
        balance = await self._balance(kind, scope_id, actor)
        if balance is None:
            return Spend(current=None, total=None, warnings=[UNKNOWN], now=now)
        windows = {(entry.account, entry.index): entry.spent_nusd for entry in balance.accounts}
        total = usd_from_nusd(balance.total_nusd)
        spend = Spend(current=total, total=total, warnings=[], now=now, windows=windows, versions=balance.versions)
        if state.budget is not None:
            return msgspec.structs.replace(spend, current=spend.of(state.budget))
        return spend

    async def correct(
        self, kind: ScopeKind, scope_id: str, targets: Sequence[Target], *, reason: str, actor: str
    ) -> Corrected:
        """Set the spend of account-windows. Raises ApiError: 503 when the ledger does not answer."""
        body = {"scope_kind": kind, "scope_id": scope_id, "accounts": targets, "reason": reason}
        try:
            answer = await self._client.post(
                "/spend/correct",
                content=msgspec.json.encode(body),
                headers={**self._headers(actor), "content-type": "application/json"},
                timeout=httpx.Timeout(CORRECT_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            )
            if answer.is_success:
                return msgspec.json.decode(answer.content, type=Corrected)
        except httpx.ConnectError as error:
            raise _away("nothing was changed") from error
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            log.warning("a correction of %s %s is in doubt: %s: %s", kind, scope_id, type(error).__name__, error)
            raise _away("whether the spend was set is not known: look at it before you repeat the request") from error
        raise _refusal(answer)

    async def _balance(self, kind: ScopeKind, scope_id: str, actor: str) -> Balance | None:
        try:
            answer = await self._client.get(
                "/spend/balance", params={"scope_kind": kind, "scope_id": scope_id}, headers=self._headers(actor)
            )
            if not answer.is_success:
                log.warning("the ledger answers %d when asked for spend", answer.status_code)
                return None
            return msgspec.json.decode(answer.content, type=Balance)
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            log.warning("the ledger cannot be asked for spend: %s: %s", type(error).__name__, error)
            return None

    def _headers(self, actor: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token}", ACTOR_HEADER.decode(): sign_actor(self._token, actor)}


def _away(what: str) -> ApiError:
    return ApiError(
        503, "unavailable", f"Spend is corrected by the ledger, which does not answer at the moment: {what}."
    )


def _refusal(answer: httpx.Response) -> ApiError:
    """What the ledger said against a correction, in its own words where they are for the caller."""
    try:
        said = msgspec.json.decode(answer.content, type=_ErrorBody).error
    except msgspec.DecodeError:
        said = _ErrorDetail()
    if answer.status_code in (400, 404, 409, 422) and said.message:
        return ApiError(answer.status_code, said.code or "bad_request", said.message, param=said.param)
    log.warning("the ledger answers %d when asked for a correction", answer.status_code)
    text = said.message or f"it answered {answer.status_code}"
    return ApiError(503, "unavailable", f"The ledger could not correct the spend: {text}")
