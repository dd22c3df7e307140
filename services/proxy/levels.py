"""The fleet-wide state of accounts: the mirrored bucket `budgets`, told to the treasury.

An exhausted account is refused here without asking anybody. A level that cannot be read, or that is missing, only
costs an ask: the ledger decides then.
"""

import logging

import msgspec

from services.proxy.treasury import Treasury
from shared.allotment import Level, decode_level
from shared.bus import Bus, Mirror
from shared.ids import AccountId
from shared.topology import BUDGETS_BUCKET

log = logging.getLogger(__name__)


class Levels:
    """Follows the levels of all accounts."""

    def __init__(self, bus: Bus, treasury: Treasury) -> None:
        self._treasury = treasury
        self._exhausted: set[AccountId] = set()
        self.mirror = Mirror(bus, BUDGETS_BUCKET, on_load=self._load, on_put=self._put, on_remove=self._remove)

    @property
    def exhausted(self) -> int:
        """Accounts that have nothing left, as the ledger says."""
        return len(self._exhausted)

    def _load(self, content: dict[str, bytes]) -> None:
        for account in self._exhausted - content.keys():
            self._remove(account)
        for account, value in content.items():
            self._put(account, value)

    def _put(self, key: str, value: bytes) -> None:
        level = _decode(key, value)
        if level is None:
            self._remove(key)
            return
        if level.state == "exhausted":
            self._exhausted.add(level.account)
        else:
            self._exhausted.discard(level.account)
        self._treasury.level(level)

    def _remove(self, key: str) -> None:
        account = AccountId(key)
        self._exhausted.discard(account)
        self._treasury.level_gone(account)


def _decode(key: str, value: bytes) -> Level | None:
    """A level by its key; None for what this version does not understand."""
    try:
        level = decode_level(value)
    except msgspec.MsgspecError as error:
        log.error("level %s in bucket %s cannot be read: %s", key, BUDGETS_BUCKET, error)
        return None
    return level if level.account == key else None
