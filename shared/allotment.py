"""The conversation between a proxy and the enforcer: requests and answers on core NATS.

Any of these may be lost, doubled, late or out of order. Figures are cumulative per allotment
(instance, serial), so repeating a message is harmless. All amounts are nano-dollars.
"""

from typing import Literal

import msgspec

from shared.events import AccountWindow
from shared.ids import AccountId, InstanceId, KeyId
from shared.policy import ScopeKind

Verdict = Literal["ok", "exceeded", "reserved", "policy", "closed"]

LEASE_MS = 15 * 60_000
"""How long a proxy may admit calls on allotted money after it last sent a request that was answered, unless the
enforcer's setting says otherwise: every reply carries the lease that is in force."""
MAX_CALL_MS = 10 * 60_000
"""No call runs longer: the enforcer relies on it before it gives up on a silent instance."""
MARGIN_MS = 5_000
"""What the enforcer adds to lease and longest call before it closes a silent instance, with a thousandth of both."""
BEAT_MS = 2_000
ASK_WAIT_MS = 2_000
"""An ask without an answer for this long is `ledger_unreachable`."""
RETRANSMIT_MS = 250
RECALL_WAIT_MS = 10
"""How long an ask waits for money that is recalled from others."""
RECALL_GAP_MS = 200
"""The same holder is not asked twice for the same account within this time."""
RESERVED_TTL_MS = 250
"""How long a proxy remembers that the rest of a budget is held by calls in flight."""
EXCEEDED_TTL_MS = 5_000
"""How long a proxy refuses by what it remembers or reads in a level before one call asks again."""
FIGURES_MAX = 8
"""An answer tells how accounts stand only for lineages of at most so many."""


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One allotment as its proxy sees it; rides in every request."""

    serial: int
    returned: int
    spent: int
    granted: int
    holds: int


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag="ask", omit_defaults=True):
    """Wants `granted` of an allotment raised to at least `need` (cumulative), at best to `want`.

    Up to `fill` it is for a call that waits and can use that much, so no share is kept for others; 0: as `need`.

    `lineage` are the limited accounts of the key (for calls of `model`, which is empty unless a per-model budget
    touches the key) as the proxy knows them, `policy_rev` the AUTH sequence it knows them by; `least` is the smallest
    call that waits, for the refusal's text; `sent_ms` is the proxy's monotonic clock, echoed.
    """

    instance: InstanceId
    serial: int
    key_id: KeyId
    lineage: tuple[AccountId, ...]
    model: str = ""
    policy_rev: int
    rseq: int
    need: int
    want: int
    fill: int = 0
    least: int
    sent_ms: int
    rows: tuple[Row, ...] = ()


class Return(msgspec.Struct, frozen=True, kw_only=True, tag="return", omit_defaults=True):
    """Gives money back: the rows' `returned` figures rise."""

    instance: InstanceId
    rows: tuple[Row, ...]
    sent_ms: int


class Beat(msgspec.Struct, frozen=True, kw_only=True, tag="beat", omit_defaults=True):
    """Says that an instance lives; renews its lease."""

    instance: InstanceId
    rows: tuple[Row, ...]
    sent_ms: int


class Close(msgspec.Struct, frozen=True, kw_only=True, tag="close", omit_defaults=True):
    """No call of `instance` runs or will run; its last usage event in this partition is `last_n` (or 0)."""

    instance: InstanceId
    last_n: int
    sent_ms: int


Request = Ask | Return | Beat | Close


class Refusal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an ask was not met: the account that stopped it, with what the caller should be told.

    Times are Unix seconds; `room` is what a single call could still hold there.
    """

    account: AccountId
    scope_kind: ScopeKind
    scope_id: str
    limit: int
    spent: int
    reserved: int
    room: int
    window_start_s: int
    window_end_s: int | None = None
    duration: str = ""
    alias: str | None = None
    retry_after_s: int | None = None
    model: str | None = None


class Figure(msgspec.Struct, frozen=True, array_like=True):
    """How one account stands in the window that an answer's term names. `own`: the key's own, for all its models."""

    account: AccountId
    limit: int
    spent: int
    own: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag="answer", omit_defaults=True):
    """The reply to an Ask. `granted` is cumulative and always the figure in the log; the proxy believes it.

    `term` are the account-windows the allotment is good for, `admit_for_ms` how long after `sent_ms` it may admit
    calls. `tight`: less than wanted.

    `figures` tell how the limited accounts of the term stand, narrowest scope first; `counted` is what of this very
    allotment is in each `spent`. They are information for callers: nothing is admitted or refused by them. There are
    none for a lineage of more than FIGURES_MAX accounts, and from ledgers that do not know them.
    """

    epoch: int
    serial: int
    rseq: int
    granted: int
    verdict: Verdict
    sent_ms: int
    admit_for_ms: int = 0
    lease_ms: int = LEASE_MS
    term: tuple[AccountWindow, ...] = ()
    tight: bool = False
    refusal: Refusal | None = None
    figures: tuple[Figure, ...] = ()
    counted: int = 0


class Known(msgspec.Struct, frozen=True, array_like=True):
    """An allotment as the log has it."""

    serial: int
    granted: int
    returned: int
    term: tuple[AccountWindow, ...]
    admit_for_ms: int


class Ack(msgspec.Struct, frozen=True, kw_only=True, tag="ack", omit_defaults=True):
    """The reply to Return, Beat and Close, after the append. `closed`: start a new instance.

    `known` lists the allotments of the rows and those with money out that the rows did not mention.
    """

    epoch: int
    sent_ms: int
    closed: bool = False
    lease_ms: int = LEASE_MS
    known: tuple[Known, ...] = ()


class Recall(msgspec.Struct, frozen=True, kw_only=True, tag="recall", omit_defaults=True):
    """Enforcer to one instance: somebody needs `account`; give back what is idle there at once.

    `known` are its allotments over that account as the log has them.
    """

    epoch: int
    account: AccountId
    known: tuple[Known, ...]


class Level(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """State of one account for machines: the value of key `<account>` in the bucket `budgets`.

    Written at crossings only. `exhausted`: calls that need `least` nano-dollars or more are refused with `refusal`
    without asking anybody, as long as the window with `window_index` lasts (to `until_s`, Unix seconds; None: for
    ever) and no later level says otherwise. `seq` orders levels of one account.
    """

    account: AccountId
    state: Literal["open", "soft", "exhausted"]
    window_index: int
    seq: int
    limit: int | None = None
    spent: int = 0
    until_s: int | None = None
    least: int = 0
    refusal: Refusal | None = None


class NotActive(msgspec.Struct, frozen=True, kw_only=True, tag="not_active", omit_defaults=True):
    """This enforcer does not hold the office (or could not append); ask again."""

    sent_ms: int
    reason: str = ""


Reply = Answer | Ack | NotActive

_encoder = msgspec.json.Encoder()
_request_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_reply_decoder: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)
_recall_decoder: msgspec.json.Decoder[Recall] = msgspec.json.Decoder(Recall)
_level_decoder: msgspec.json.Decoder[Level] = msgspec.json.Decoder(Level)

encode = _encoder.encode
decode_request = _request_decoder.decode
decode_reply = _reply_decoder.decode
decode_recall = _recall_decoder.decode
decode_level = _level_decoder.decode
