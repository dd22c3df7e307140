"""Requests of proxies to records and replies. The replies may leave only after the records were appended.

The rule of every grant: on each account-window of the allotment's term, spend plus escrow must not pass the limit.
Money that was granted is either spent (the usage event moves it), given back, or still escrow, so whatever is lost,
repeated or late, no more than the limit is ever committed.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from services.ledger.domain.draft import Draft
from services.ledger.domain.fold import hear
from services.ledger.domain.refuse import Want, exceeded, refusal
from services.ledger.domain.state import Allotment, LedgerState
from services.ledger.domain.tuning import Tuning
from shared.allotment import (
    Ack,
    Answer,
    Ask,
    Beat,
    Close,
    Known,
    NotActive,
    Refusal,
    Reply,
    Request,
    Row,
    Verdict,
)
from shared.events import AccountWindow, AllotmentClosed, AllotmentGranted, AllotmentRenewed, GrantEntry
from shared.ids import InstanceId
from shared.policy import Budget

KNOWN_MAX = 2_000
"""Most allotments in one acknowledgement; a beat that says more is answered in part, the next one goes on."""


class Short(msgspec.Struct, frozen=True):
    """An ask that lacks room on `windows` although others hold money there: `answer` refuses it as reserved."""

    answer: Answer
    windows: tuple[AccountWindow, ...]


class Decided(msgspec.Struct, frozen=True):
    """What to append, in order, and one reply per request, in the order of the requests."""

    records: tuple[GrantEntry, ...]
    replies: tuple[Reply, ...]


def listen(state: LedgerState, request: Request) -> None:
    """Remember what a request says about money spent; it only sharpens refusals and needs no record."""
    if not isinstance(request, Close):
        for row in request.rows:
            hear(state, request.instance, row.serial, row.spent)


def knows_policy_of(state: LedgerState, request: Request) -> bool:
    """Whether auth's log is folded as far as the proxy that asks has seen it."""
    return not isinstance(request, Ask) or request.policy_rev <= state.auth_pos


def decide(
    state: LedgerState, requests: Sequence[Request], now: datetime, now_ms: int, tuning: Tuning | None = None
) -> Decided:
    """One batch, where nobody waits for money to come back. `now` is the wall clock (it chooses windows), `now_ms`
    the monotonic clock of this process.

    Changes nothing. Copies of one ask in the batch are granted once: the second finds the first in the draft, and
    no reply of the batch leaves before the append.
    """
    draft = Draft(state, now, now_ms, tuning or Tuning())
    take_in(draft, requests)
    answers = [answer(draft, request) if isinstance(request, Ask) else None for request in requests]
    for request in requests:
        renew(draft, request)
    replies = tuple(
        acknowledge(draft, request) if said is None else said.answer if isinstance(said, Short) else said
        for request, said in zip(requests, answers, strict=True)
    )
    return Decided(draft.records(), replies)


def take_in(draft: Draft, requests: Sequence[Request]) -> None:
    """Returns and closings of a batch: before any grant."""
    for request in requests:
        if not isinstance(request, Close):
            for row in request.rows:
                draft.give_back(request.instance, row.serial, row.returned)
    for request in requests:
        if isinstance(request, Close):
            _close(draft, request)


def _close(draft: Draft, request: Close) -> None:
    """Announce that nothing follows after `last_n`; repeating it adds no record."""
    known = draft.state.instances.get(request.instance)
    if known is not None and known.last_n is not None and known.last_n >= request.last_n:
        return
    earlier = draft.closes.get(request.instance)
    if earlier is None or earlier.last_n < request.last_n:
        draft.closes[request.instance] = AllotmentClosed(
            instance=request.instance, how="final", last_n=max(0, request.last_n)
        )


def renew(draft: Draft, request: Request) -> None:
    """An instance that is told we heard it must be shown alive in the log first, or a successor would not know.

    Every beat is recorded; other requests only when the log's last word is older than a beat.
    """
    instance = request.instance
    if isinstance(request, Close) or instance in draft.renewals or draft.closed(instance):
        return
    if not isinstance(request, Beat):
        known = draft.state.instances.get(instance)
        heard_ms = None if known is None else known.heard_ms
        recent = heard_ms is not None and draft.now_ms - heard_ms < draft.tuning.renew_after_ms
        if instance in draft.shown or recent:
            return
    draft.renewals[instance] = AllotmentRenewed(instance=instance)


# ---- asks --------------------------------------------------------------------------------------------


def answer(draft: Draft, ask: Ask) -> Answer | NotActive | Short:
    """Grant, refuse, or say that only money held elsewhere is missing."""
    allotment = draft.allotment(ask.instance, ask.serial)
    if draft.closed(ask.instance):
        return _say(draft, ask, allotment, "closed")
    if allotment is not None and allotment.term and ask.rseq <= allotment.rseq:
        return _say(draft, ask, allotment, "ok")  # granted already: a copy, or one that comes late
    row = next((row for row in ask.rows if row.serial == ask.serial), None)
    if row is not None and row.granted and (allotment is None or not allotment.term):
        return _say(draft, ask, allotment, "policy")  # used up and forgotten here: its figures cannot grow from nothing
    budgets = draft.state.directory.lineage(ask.key_id, ask.model)
    if not budgets or {budget.account for budget in budgets} != set(ask.lineage):
        return _say(draft, ask, allotment, "policy")
    if not ask.model and draft.state.directory.goes_by_model(ask.key_id):
        return _say(draft, ask, allotment, "policy")  # this proxy does not know yet that the model matters
    if allotment is not None and allotment.term:
        if not _still_good(draft, ask, allotment, budgets):
            return _say(draft, ask, allotment, "policy")
        term = allotment.term
    else:
        term = tuple(AccountWindow(budget.account, draft.window(budget).index) for budget in budgets)
        allotment = allotment or Allotment()
    if not all(draft.open_window(budget) for budget in budgets):
        return NotActive(sent_ms=ask.sent_ms, reason="a new limit is being put in force; ask again")
    return _grant_or_refuse(draft, ask, allotment, budgets, term)


def _still_good(draft: Draft, ask: Ask, allotment: Allotment, budgets: tuple[Budget, ...]) -> bool:
    """Whether an allotment may grow: for life it serves one key, one lineage and one set of windows.

    One from before a limit that appeared above it counts there, too, until it has drained.
    """
    by_account = {budget.account: budget for budget in budgets}
    return (
        allotment.key_id == ask.key_id
        and not allotment.attached
        and by_account.keys() == {window.account for window in allotment.term}
        and all(draft.window(by_account[window.account]).index <= window.index for window in allotment.term)
    )


def _grant_or_refuse(
    draft: Draft,
    ask: Ask,
    allotment: Allotment,
    budgets: tuple[Budget, ...],
    term: tuple[AccountWindow, ...],
) -> Answer | Short:
    windows = {window.account: window for window in term}
    row = next((row for row in ask.rows if row.serial == ask.serial), None)
    bound = ask.need - ask.least if row is None else row.returned + row.spent + row.holds
    wants = [_want(draft, ask, allotment, budget, windows[budget.account], bound) for budget in budgets]
    tightest = min(wants, key=lambda want: want.left)
    target = _target(draft, ask, allotment, tightest, min(want.ceiling for want in wants))
    held_back = tuple(window for window in term if window in draft.blocked) if draft.blocked else ()
    # with no room at all on some account nothing is added, not even to fill an overdraft
    if tightest.left >= 0 and target >= ask.need and _adds(allotment, target) and not held_back:
        for want in wants:
            draft.serve(want.window, want.waits, want.limit)
        record = AllotmentGranted(
            instance=ask.instance,
            serial=ask.serial,
            key_id=ask.key_id,
            term=term,
            granted_nusd=max(target, allotment.granted),
            rseq=ask.rseq,
        )
        return _say(draft, ask, draft.grant(record), "ok")
    if allotment.term and ask.need <= allotment.granted:
        return _say(draft, ask, allotment, "ok")
    spent_up = exceeded(draft, wants)
    if spent_up is not None:
        draft.refuse(spent_up.window, spent_up.waits, spent_up.limit)
        return _say(draft, ask, allotment, "exceeded", refusal(draft, spent_up, retry=False))
    lacking = (want.window for want in wants if want.left < 0 or want.ceiling < ask.need)
    least_room = refusal(draft, min(wants, key=lambda want: want.ceiling), retry=True)
    return Short(
        _say(draft, ask, allotment, "reserved", least_room),
        tuple(dict.fromkeys((*lacking, *held_back))),
    )


def _want(draft: Draft, ask: Ask, allotment: Allotment, budget: Budget, window: AccountWindow, bound: int) -> Want:
    """How one account stands towards an ask."""
    limit = draft.limit(budget)
    left = limit - draft.spent(window) - draft.escrow(window)
    # a grant fills this allotment's own overdraft before it becomes escrow again
    full = max(allotment.granted, allotment.settled + allotment.returned)
    ceiling = full + left if left >= 0 else allotment.granted
    return Want(
        budget=budget,
        window=window,
        limit=limit,
        left=left,
        ceiling=ceiling,
        waits=ask.need - bound,
        bound=bound,
    )


def _target(draft: Draft, ask: Ask, allotment: Allotment, tightest: Want, top: int) -> int:
    """What waits comes first; beyond it nobody takes more than a share, so that the rest stays for others.

    What waits is at least `need`, and up to `fill` if so much is there.
    """
    waits = max(ask.need, min(ask.fill, top))
    if ask.want <= waits:
        return min(waits, top)
    living = draft.live_instances(tightest.window, ask.instance)
    share = max(0, tightest.left) // (draft.tuning.shares * living)
    filled = max(allotment.granted, allotment.settled + allotment.returned)
    return min(max(waits, min(ask.want, filled + share)), top)


def _adds(allotment: Allotment, target: int) -> bool:
    """Whether a grant up to `target` changes anything; the first one fixes the term, even with no money."""
    return target > allotment.granted or not allotment.term


def _say(
    draft: Draft, ask: Ask, allotment: Allotment | None, verdict: Verdict, detail: Refusal | None = None
) -> Answer:
    granted = 0 if allotment is None else allotment.granted
    term = () if allotment is None else allotment.term
    return Answer(
        epoch=draft.state.epoch,
        serial=ask.serial,
        rseq=ask.rseq,
        granted=granted,
        verdict=verdict,
        sent_ms=ask.sent_ms,
        admit_for_ms=draft.admit_for_ms(term) if term and verdict not in ("policy", "closed") else 0,
        lease_ms=draft.tuning.lease_ms,
        term=term,
        tight=granted < ask.want,
        refusal=detail,
    )


# ---- acknowledgements --------------------------------------------------------------------------------


def acknowledge(draft: Draft, request: Request) -> Ack:
    """What the log has, for a request that wants no money."""
    closed = draft.closed(request.instance)
    rows: tuple[Row, ...] = () if isinstance(request, Close) else request.rows
    known = [_known(draft, request.instance, row.serial, row) for row in rows[:KNOWN_MAX]]
    if isinstance(request, Beat):
        known += _unmentioned(draft, request.instance, {row.serial for row in rows}, KNOWN_MAX - len(known))
    return Ack(
        epoch=draft.state.epoch,
        sent_ms=request.sent_ms,
        closed=closed,
        lease_ms=draft.tuning.lease_ms,
        known=tuple(entry for entry in known if entry is not None),
    )


def _unmentioned(draft: Draft, instance: InstanceId, mentioned: set[int], most: int) -> list[Known | None]:
    """Allotments with money out of which the proxy says nothing: it may have lost the answer."""
    state = draft.state.instances.get(instance)
    found: list[Known | None] = []
    for serial, allotment in () if state is None else state.allotments.items():
        if len(found) >= most:
            break
        if serial not in mentioned and allotment.out:
            found.append(_known(draft, instance, serial))
    return found


def _known(draft: Draft, instance: InstanceId, serial: int, row: Row | None = None) -> Known | None:
    """An allotment as the log has it. One that was used up is forgotten here some day: then its proxy is right."""
    allotment = draft.allotment(instance, serial)
    if allotment is None or not allotment.term:
        forgotten = row is not None and row.granted and not draft.closed(instance)
        return Known(serial, row.granted, row.returned, (), 0) if row is not None and forgotten else None
    return Known(serial, allotment.granted, allotment.returned, allotment.term, draft.admit_for_ms(allotment.term))
