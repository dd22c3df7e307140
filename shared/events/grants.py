"""LEDGER, from the enforcer: grants and what goes with them."""

from datetime import datetime
from typing import Literal

import msgspec

from shared.events.usage import AccountWindow
from shared.ids import AccountId, EventId, InstanceId, KeyId

CloseHow = Literal["final", "silent"]


class GrantRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """A record of the grant log; its envelope is the batch it came in."""


class LedgerEpoch(GrantRecord, frozen=True, kw_only=True, tag="ledger.epoch.v1"):
    """An enforcer takes office: appended with the fence, its success is what makes it active.

    `lease_ms` is the lease it gives to proxies: a successor with another setting still honours it.
    """

    epoch: int
    holder: InstanceId
    lease_ms: int


class AllotmentReturned(GrantRecord, frozen=True, kw_only=True, tag="allotment.returned.v1"):
    """A proxy gave money back; `returned_nusd` is cumulative."""

    instance: InstanceId
    serial: int
    returned_nusd: int


class AllotmentRenewed(GrantRecord, frozen=True, kw_only=True, tag="allotment.renewed.v1"):
    """An instance was heard from: its lease starts anew."""

    instance: InstanceId


class WindowOpened(GrantRecord, frozen=True, kw_only=True, tag="window.opened.v1"):
    """An account-window begins to be held: spend so far at a named position, and what is out beneath it."""

    window: AccountWindow
    opening_spent_nusd: int
    allotments: tuple[tuple[str, int], ...] = ()


class AllotmentClosed(GrantRecord, frozen=True, kw_only=True, tag="allotment.closed.v1"):
    """All allotments of an instance end.

    `final`: nothing follows after `last_n`; takes effect once every `n` up to it is folded (in every fold).
    `silent`: the instance was not heard of for so long that no call of it can run. What is out of its allotments
    stays presumed spent on the `charged` accounts and is released on all others, where what was not `settled`
    (serial, nano-dollars) at this record and still comes is overdraft. A later `final` replaces it.
    """

    instance: InstanceId
    how: CloseHow
    last_n: int = 0
    settled: tuple[tuple[int, int], ...] = ()
    charged: tuple[AccountId, ...] = ()


class AllotmentGranted(GrantRecord, frozen=True, kw_only=True, tag="allotment.granted.v1"):
    """Money for one key over one set of windows; `granted_nusd` is cumulative per (instance, serial)."""

    instance: InstanceId
    serial: int
    key_id: KeyId
    term: tuple[AccountWindow, ...]
    granted_nusd: int
    rseq: int


class ThresholdCrossed(GrantRecord, frozen=True, kw_only=True, tag="threshold.crossed.v1"):
    """A limit was passed, a first call refused, or an exhausted budget has room again.

    Written once, so that fail-over doubles no signal. `threshold` is `soft`, a percent such as `80%`, `exceeded` or
    `restored`; `round` counts how often the account-window was restored before, or called exceeded early. Of the spend,
    `unfolded_nusd` was reported by proxies and its events had not come yet.
    """

    window: AccountWindow
    threshold: str
    spent_nusd: int
    limit_nusd: int | None = None
    round: int = 0
    unfolded_nusd: int = 0


class SignalPublished(GrantRecord, frozen=True, kw_only=True, tag="signal.published.v1"):
    """The signal of a crossing is out."""

    window: AccountWindow
    threshold: str
    round: int = 0


GrantEntry = (
    LedgerEpoch
    | AllotmentReturned
    | AllotmentRenewed
    | WindowOpened
    | AllotmentClosed
    | AllotmentGranted
    | ThresholdCrossed
    | SignalPublished
)


class GrantBatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fenced append: a group commit of decisions, with the positions they were decided on."""

    id: EventId
    at: datetime
    source: str
    auth_pos: int
    usage_pos: int
    records: tuple[GrantEntry, ...]
