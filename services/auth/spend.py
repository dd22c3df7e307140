"""What a scope has spent, asked of the ledger over HTTP. Unknown is None, never zero."""

import logging
from datetime import datetime

import httpx
import msgspec

from shared.access import ACTOR_HEADER, sign_actor
from shared.money import usd_from_nusd
from shared.policy import Budget, ScopeKind
from shared.windows import window_at

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 16
KEEPALIVE_S = 30
CONNECT_TIMEOUT_S = 1.0
UNKNOWN = "spend is not known at the moment: the ledger does not answer; spend is null, not zero"


class AccountSpend(msgspec.Struct, frozen=True, kw_only=True):
    """Spend of one window of one account, in nano-dollars."""

    account: str
    index: int
    spent_nusd: int


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger says of a scope."""

    total_nusd: int
    accounts: tuple[AccountSpend, ...] = ()


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars spent in the current window and in all; None: not known. `warnings` says so too."""

    current: float | None
    total: float | None
    warnings: list[str]


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

    async def spend(self, kind: ScopeKind, scope_id: str, budget: Budget | None, *, now: datetime, actor: str) -> Spend:
        """The spend of a scope: of its budget's current window if that has a duration, else in all."""
        balance = await self._balance(kind, scope_id, actor)
        if balance is None:
            return Spend(current=None, total=None, warnings=[UNKNOWN])
        current = balance.total_nusd
        if budget is not None and budget.window.duration:
            current = _in_window(balance, budget, window_at(budget.window, now).index)
        return Spend(current=usd_from_nusd(current), total=usd_from_nusd(balance.total_nusd), warnings=[])

    async def _balance(self, kind: ScopeKind, scope_id: str, actor: str) -> Balance | None:
        try:
            answer = await self._client.get(
                "/spend/balance",
                params={"scope_kind": kind, "scope_id": scope_id},
                headers={
                    "authorization": f"Bearer {self._token}",
                    ACTOR_HEADER.decode(): sign_actor(self._token, actor),
                },
            )
            if not answer.is_success:
                log.warning("the ledger answers %d when asked for spend", answer.status_code)
                return None
            return msgspec.json.decode(answer.content, type=Balance)
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            log.warning("the ledger cannot be asked for spend: %s: %s", type(error).__name__, error)
            return None


def _in_window(balance: Balance, budget: Budget, index: int) -> int:
    """Spend of the account's window; a window the ledger has not heard of holds none yet."""
    return sum(
        entry.spent_nusd for entry in balance.accounts if entry.account == budget.account and entry.index == index
    )
