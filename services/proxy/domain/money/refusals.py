"""What was refused lately, so that a caller in a loop costs the ledger nothing.

`reserved` is remembered for a moment, and until a call of this instance settles on the account. `exceeded` stays until
the ledger says otherwise (a level, a grant); now and then one call is let through to ask. Only amounts as large as
the smallest that was refused are refused from memory.
"""

from dataclasses import dataclass
from typing import Literal

from shared.allotment import Level, Refusal
from shared.ids import AccountId

REMEMBERED_MAX = 100_000
"""Accounts remembered at most; beyond it the oldest are forgotten, which costs an ask each."""

Kind = Literal["exceeded", "reserved"]


@dataclass(slots=True)
class _Spent:
    """An exhausted account: `least` and more is refused. `seq` is the level it comes from (0: an answer)."""

    least: int
    refusal: Refusal
    ask_at_ms: int
    ends_ms: int | None = None
    seq: int = 0


@dataclass(slots=True)
class _Reserved:
    least: int
    refusal: Refusal
    until_ms: int


class Refusals:
    """The negative cache of one proxy, by account. It outlives the instance."""

    def __init__(self, reserved_ttl_ms: int, exceeded_ttl_ms: int) -> None:
        self._reserved_ttl_ms = reserved_ttl_ms
        self._exceeded_ttl_ms = exceeded_ttl_ms
        self._spent: dict[AccountId, _Spent] = {}
        self.reserved: dict[AccountId, _Reserved] = {}
        self.told = {"exceeded": 0, "reserved": 0}
        """Calls refused from memory, by kind."""

    def find(self, accounts: tuple[AccountId, ...], amount: int, now_ms: int) -> tuple[Kind, Refusal] | None:
        """Why a call of `amount` is refused without asking, or None: it may ask.

        When memory is due for a check, this call is the one that asks; the next are refused again.
        """
        if not self._spent and not self.reserved:
            return None
        due: list[_Spent] = []
        for account in accounts:
            spent = self._spent.get(account)
            if spent is None or amount < spent.least:
                continue
            if spent.ends_ms is not None and now_ms >= spent.ends_ms:
                del self._spent[account]
            elif now_ms < spent.ask_at_ms:
                self.told["exceeded"] += 1
                return "exceeded", spent.refusal
            else:
                due.append(spent)
        for account in accounts:
            held = self.reserved.get(account)
            if held is None or amount < held.least:
                continue
            if now_ms < held.until_ms:
                self.told["reserved"] += 1
                return "reserved", held.refusal
            del self.reserved[account]
        for spent in due:
            spent.ask_at_ms = now_ms + self._exceeded_ttl_ms
        return None

    def would_refuse(self, accounts: tuple[AccountId, ...], amount: int, now_ms: int) -> bool:
        """Whether asking for `amount` is of no use now; takes no turn to ask."""
        for account in accounts:
            spent = self._spent.get(account)
            if spent is not None and amount >= spent.least and now_ms < spent.ask_at_ms:
                return True
            held = self.reserved.get(account)
            if held is not None and amount >= held.least and now_ms < held.until_ms:
                return True
        return False

    def refused(self, kind: str, amount: int, refusal: Refusal, now_ms: int) -> None:
        """The ledger has refused a call of `amount`."""
        account = refusal.account
        if kind == "exceeded":
            known = self._spent.pop(account, None)
            least = amount if known is None else min(known.least, amount)
            ends_ms, seq = (None, 0) if known is None else (known.ends_ms, known.seq)
            self._spent[account] = _Spent(least, refusal, now_ms + self._exceeded_ttl_ms, ends_ms, seq)
            _bound(self._spent)
        elif kind == "reserved":
            held = self.reserved.pop(account, None)
            least = amount if held is None or now_ms >= held.until_ms else min(held.least, amount)
            self.reserved[account] = _Reserved(least, refusal, now_ms + self._reserved_ttl_ms)
            _bound(self.reserved)

    def not_exceeded(self, accounts: tuple[AccountId, ...], amount: int) -> None:
        """The ledger does not call a call of `amount` exceeded: what says so is over."""
        for account in accounts:
            spent = self._spent.get(account)
            if spent is not None and amount >= spent.least:
                del self._spent[account]

    def not_reserved(self, accounts: tuple[AccountId, ...], amount: int) -> None:
        """The ledger has granted a call of `amount`."""
        for account in accounts:
            held = self.reserved.get(account)
            if held is not None and amount >= held.least:
                del self.reserved[account]

    def settled(self, accounts: tuple[AccountId, ...]) -> None:
        """A call of this instance ended: what it held may serve others."""
        for account in accounts:
            self.reserved.pop(account, None)

    def level(self, level: Level, now_ms: int, ends_ms: int | None) -> None:
        """The fleet-wide state of an account; `ends_ms` is when its window ends by our monotonic clock."""
        known = self._spent.get(level.account)
        if known is not None and known.seq > level.seq:
            return
        if level.state != "exhausted":
            self._spent.pop(level.account, None)
            self.reserved.pop(level.account, None)
        elif level.refusal is not None:
            least = level.least
            if known is not None and known.seq == 0:
                least = min(least, known.least)
            ask_at_ms = now_ms + self._exceeded_ttl_ms
            self._spent[level.account] = _Spent(least, level.refusal, ask_at_ms, ends_ms, level.seq)
            _bound(self._spent)

    def level_gone(self, account: AccountId) -> None:
        """There is no level of an account any more."""
        self._spent.pop(account, None)

    def __len__(self) -> int:
        return len(self._spent) + len(self.reserved)


def _bound(remembered: dict[AccountId, _Spent] | dict[AccountId, _Reserved]) -> None:
    if len(remembered) > REMEMBERED_MAX:
        del remembered[next(iter(remembered))]
