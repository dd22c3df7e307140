"""The desk of one partition: who waits for what, what is decided next, and what may leave when.

Pure: the shell brings requests and times, appends what a batch holds, and sends what comes back. One batch is open
at a time; what arrives meanwhile is the next one. Asks that others' idle money could serve wait for it a moment,
first come first served; asks that rest on newer policy wait until it has been read here.
"""

from collections import deque
from datetime import datetime

import msgspec

from services.ledger.domain.batch import Batch, Letter, Out, Waiter
from services.ledger.domain.calendar import Calendar
from services.ledger.domain.cross import crossings
from services.ledger.domain.decide import Short, acknowledge, answer, knows_policy_of, listen, renew, take_in
from services.ledger.domain.draft import Draft
from services.ledger.domain.figures import with_figures
from services.ledger.domain.fold import fold_grants
from services.ledger.domain.level import Board
from services.ledger.domain.recall import Recalls
from services.ledger.domain.silence import Silence
from services.ledger.domain.state import LedgerState
from services.ledger.domain.tuning import Tuning
from services.ledger.domain.weight import BYTES_MAX, weight
from shared.allotment import Answer, Ask, NotActive, Request
from shared.events import AccountWindow, GrantBatch, GrantEntry, SignalPublished
from shared.ids import AccountId

QUEUE_MAX = 20_000
"""Most requests waiting for a decision; more are told to ask again."""
PARKED_MAX = 2_000
WAITING_MAX = 5_000
"""Most asks that wait for money to come back; more are refused at once."""
CROSSINGS_MAX = 200
TOLD_MAX = 20_000


class Desk:
    """Decides for one partition while in office. `board` tells which levels are to be written."""

    def __init__(self, state: LedgerState, tuning: Tuning) -> None:
        self._state = state
        self._tuning = tuning
        self._queue: deque[Letter] = deque()
        self._parked: list[Letter] = []
        self._waiting: dict[tuple[str, int], Waiter] = {}
        self._told: list[SignalPublished] = []
        self._away = Out()
        self._recalls = Recalls(state, tuning)
        self._silence = Silence(state, tuning)
        self._calendar = Calendar(state)
        self._open: Batch | None = None
        self._most = tuning.batch_max
        self.board = Board(state)

    @property
    def waiting(self) -> int:
        """How many requests wait for a decision."""
        return len(self._queue) + len(self._parked) + len(self._waiting)

    # ---- what the shell brings -----------------------------------------------------------------------

    def begin(self, now_ms: int) -> None:
        """The office is taken: silence is counted from now, and nothing of an earlier term is remembered."""
        self._queue.clear()
        self._parked.clear()
        self._waiting.clear()
        self._told.clear()
        self._away = Out()
        self._open = None
        self._state.awaited.clear()
        self._state.eased.clear()
        self._recalls.clear()
        self._silence.begin(now_ms)
        self._calendar.begin()
        self.board.begin([])

    def take(self, token: int, request: Request, now_ms: int) -> None:
        """One request; its reply comes back under `token`."""
        if len(self._queue) >= QUEUE_MAX:
            self._send_away(self._away, Letter(token, request, 0), "busy: too many requests wait; ask again")
        else:
            self._queue.append(Letter(token, request, now_ms + self._tuning.park_ms))

    def told(self, record: SignalPublished) -> None:
        """A signal is out; the next batch says so. What does not fit is published again some day, under the same id."""
        if len(self._told) < TOLD_MAX:
            self._told.append(record)

    def due_ms(self, now_ms: int) -> int | None:
        """When to ask for the next batch, though nothing comes in; None: not before something does."""
        state = self._state
        if self._queue or self._told or state.dirty or state.timed or self._has_away() or self._unparks():
            return now_ms
        if not state.eased.isdisjoint(state.awaited):
            return now_ms
        times = [waiter.until_ms for waiter in self._waiting.values()]
        times += [letter.until_ms for letter in self._parked]
        times.append(self._silence.due_ms)
        ends_ms = self._calendar.due_ms
        if ends_ms is not None:
            times.append(ends_ms)
        return max(now_ms, min(times))

    # ---- deciding ------------------------------------------------------------------------------------

    def next_batch(self, now: datetime, now_ms: int) -> Batch | None:
        """What to append next; None: nothing to do. `now` is the wall clock, `now_ms` the monotonic one.

        Decides tentatively; the folded state does not change before `committed`.
        """
        if self._open is not None:
            raise RuntimeError("a batch is open: commit or drop it first")
        self._calendar.notice(now, now_ms)
        self._unpark(now_ms)
        letters = self._pick()
        batch = self._decide_within_bounds(letters, now, now_ms)
        if not batch.unfinished:
            self._state.eased.clear()
        if not (batch.records or batch.replies or batch.kept or batch.joined or batch.served or self._has_away()):
            return None
        self._recalls.note(batch.targets, now_ms)
        batch.out, self._away = self._away, Out()
        self._open = batch
        return batch

    def _pick(self) -> list[Letter]:
        """The next requests in order of arrival; those that rest on newer policy are set aside."""
        letters: list[Letter] = []
        while self._queue and len(letters) < self._most:
            letter = self._queue.popleft()
            if knows_policy_of(self._state, letter.request):
                letters.append(letter)
            elif len(self._parked) < PARKED_MAX:
                self._parked.append(letter)
            else:
                self._send_away(self._away, letter, "busy: too many requests wait for newer policy; ask again")
        self._most = self._tuning.batch_max
        return letters

    def _unparks(self) -> bool:
        return any(knows_policy_of(self._state, letter.request) for letter in self._parked)

    def _unpark(self, now_ms: int) -> None:
        """Put back those whose policy has arrived; send those away who have waited long enough."""
        if not self._parked:
            return
        ready = [letter for letter in self._parked if knows_policy_of(self._state, letter.request)]
        others = [letter for letter in self._parked if not knows_policy_of(self._state, letter.request)]
        for letter in others:
            if letter.until_ms <= now_ms:
                reason = "the policy this request refers to has not arrived here yet; ask again"
                self._send_away(self._away, letter, reason)
        self._parked = [letter for letter in others if letter.until_ms > now_ms]
        self._queue.extendleft(reversed(ready))

    def _decide_within_bounds(self, letters: list[Letter], now: datetime, now_ms: int) -> Batch:
        """A batch that can be decided and appended: a part of the letters when all at once is too much.

        A request that cannot be decided is sent away alone; it must not keep the others from being served.
        """
        while True:
            try:
                batch = self._decide(letters, now, now_ms)
            except Exception as error:
                if len(letters) <= 1:
                    self._give_up(letters, error)
                    letters = []
                    continue
            else:
                if len(letters) <= 1 or weight(batch.records) <= BYTES_MAX:
                    return batch
            half = len(letters) // 2
            self._queue.extendleft(reversed(letters[half:]))
            letters = letters[:half]

    def _give_up(self, letters: list[Letter], error: Exception) -> None:
        """One request, or those who wait, cannot be decided."""
        if not letters and not self._waiting:
            raise error
        for letter in letters:
            self._away.failed.append((letter.request, error))
            self._send_away(self._away, letter, f"the request cannot be decided: {error}")
        if letters:
            return
        for waiter in self._waiting.values():
            self._away.failed.append((waiter.ask, error))
            self._send_waiter_away(self._away, waiter, f"the request cannot be decided: {error}")
        self._waiting.clear()

    def _decide(self, letters: list[Letter], now: datetime, now_ms: int) -> Batch:
        state = self._state
        requests = [letter.request for letter in letters]
        for request in requests:
            listen(state, request)
        draft = Draft(state, now, now_ms, self._tuning)
        batch = Batch(
            records=(),
            at=now,
            auth_pos=state.auth_pos,
            usage_pos=state.ledger_pos,
            expected=state.grant_seq,
            draft=draft,
            letters=letters,
        )
        take_in(draft, requests)
        batch.silenced = self._silence.close(draft, {request.instance for request in requests}, now_ms)
        self._serve_waiting(batch, now_ms)
        for letter in letters:
            if isinstance(letter.request, Ask):
                self._serve(batch, letter, letter.request, now_ms)
        for letter in letters:
            renew(draft, letter.request)
        for letter in letters:
            if not isinstance(letter.request, Ask):
                batch.replies.append((letter.token, acknowledge(draft, letter.request)))
        batch.records = self._with_crossings(draft.records(), now, batch)
        return batch

    def _serve_waiting(self, batch: Batch, now_ms: int) -> None:
        """Those who wait, first come first served: money that came back is theirs before anybody else's.

        Behind one who still waits there is nothing to be had, so only the first of each account-window is tried.
        """
        draft = batch.draft
        eased = {AccountWindow(AccountId(account), index) for account, index in self._state.eased} | draft.freed
        tries = self._tuning.batch_max
        for waiter in self._waiting.values():
            late = waiter.until_ms <= now_ms
            if late or not (
                eased.isdisjoint(waiter.windows) or any(window in draft.blocked for window in waiter.windows)
            ):
                if tries == 0:
                    batch.unfinished = True  # the rest has its turn in the next batch
                else:
                    tries -= 1
                    said = answer(draft, waiter.ask)
                    if not isinstance(said, Short) or late:
                        self._reply(batch, waiter, said.answer if isinstance(said, Short) else said)
                        eased.update(waiter.windows)  # those behind have their turn
                        continue
                    waiter.windows = said.windows
            draft.block(waiter.windows, waiter.until_ms)

    def _serve(self, batch: Batch, letter: Letter, ask: Ask, now_ms: int) -> None:
        """An ask that came in: grant, refuse, or let it wait for money that is asked back."""
        place = (ask.instance, ask.serial)
        waiter = batch.kept.get(place) or self._waiting.get(place)
        if waiter is not None and waiter not in batch.served:
            batch.joined.append((waiter, letter))
            return
        said = answer(batch.draft, ask)
        if isinstance(said, Short):
            plan = None
            if len(self._waiting) + len(batch.kept) < WAITING_MAX:
                plan = self._recalls.plan(ask, said.windows, batch.draft.blocked, now_ms)
            if plan is not None:
                until_ms, targets = plan
                batch.kept[place] = Waiter(ask, [(letter.token, ask)], until_ms, said.windows)
                batch.targets += targets
                batch.draft.block(said.windows, until_ms)
                return
            said = said.answer
        batch.replies.append((letter.token, with_figures(self._state, ask, said, batch.at)))

    def _reply(self, batch: Batch, waiter: Waiter, said: Answer | NotActive) -> None:
        batch.served.append(waiter)
        said = with_figures(self._state, waiter.ask, said, batch.at)
        for token, ask in waiter.copies:
            copy = msgspec.structs.replace(said, sent_ms=ask.sent_ms)
            if isinstance(copy, Answer):
                copy = msgspec.structs.replace(copy, rseq=ask.rseq)
            batch.replies.append((token, copy))

    def _with_crossings(self, records: tuple[GrantEntry, ...], now: datetime, batch: Batch) -> tuple[GrantEntry, ...]:
        """Records of requests, then limits that spend has passed, then signals that are out."""
        named = {(record.window, record.threshold) for record in batch.draft.crossings.values()}
        passed = [
            record
            for record in crossings(self._state, now, CROSSINGS_MAX)
            if (record.window, record.threshold) not in named
        ]
        told = self._told[:CROSSINGS_MAX]
        batch.told = len(told)
        return (*records, *passed, *told)

    # ---- what may leave ------------------------------------------------------------------------------

    def committed(self, batch: Batch, source_batch: GrantBatch | None, seq: int | None, now_ms: int) -> Out:
        """The batch is in the log at `seq` (or held no records): fold it; then what rests on it may leave."""
        self._close_batch(batch)
        state = self._state
        if source_batch is not None and seq is not None:
            fold_grants(state, source_batch, seq, now_ms)
            self._calendar.note(source_batch.records)
        del self._told[: batch.told]
        self._silence.closed(batch.silenced)
        for window, waits in batch.draft.refused:
            self.board.refused(window, waits)
        for waiter in batch.served:
            del self._waiting[waiter.ask.instance, waiter.ask.serial]
        self._waiting.update(batch.kept)
        for waiter, letter in batch.joined:
            if isinstance(letter.request, Ask):
                waiter.copies.append((letter.token, letter.request))
                if letter.request.rseq > waiter.ask.rseq:
                    waiter.ask = letter.request
        state.awaited.clear()
        for waiter in self._waiting.values():
            state.awaited.update((window.account, window.index) for window in waiter.windows)
        batch.out.replies += batch.replies
        batch.out.recalls += self._recalls.letters(batch.targets, batch.draft)
        return batch.out

    def dropped(self, batch: Batch, reason: str) -> Out:
        """Whether the batch is in the log is unknown: everybody in it is sent away, and nothing else leaves."""
        self._close_batch(batch)
        for letter in batch.letters:
            self._send_away(batch.out, letter, reason)
        for waiter in batch.served:
            del self._waiting[waiter.ask.instance, waiter.ask.serial]
            self._send_waiter_away(batch.out, waiter, reason)
        return batch.out

    def too_large(self, batch: Batch) -> Out:
        """The batch does not fit into one message of the log: its requests come again, in smaller batches."""
        self._close_batch(batch)
        if len(batch.letters) <= 1:
            for letter in batch.letters:
                self._send_away(batch.out, letter, "the decision is too large to be recorded")
        else:
            self._queue.extendleft(reversed(batch.letters))
            self._most = len(batch.letters) // 2
        return batch.out

    def leave(self, reason: str) -> Out:
        """The office is left: everybody who waits is sent away."""
        out, self._away = self._away, Out()
        letters = [*self._queue, *self._parked]
        if self._open is not None:
            letters += self._open.letters
            out.replies += self._open.out.replies
            self._open = None
        for letter in letters:
            self._send_away(out, letter, reason)
        for waiter in self._waiting.values():
            self._send_waiter_away(out, waiter, reason)
        self._queue.clear()
        self._parked.clear()
        self._waiting.clear()
        self._state.awaited.clear()
        self._state.eased.clear()
        return out

    def _close_batch(self, batch: Batch) -> None:
        if batch is not self._open:
            raise RuntimeError("this batch is not the open one")
        self._open = None

    def _has_away(self) -> bool:
        return bool(self._away.replies or self._away.failed)

    def _send_away(self, out: Out, letter: Letter, reason: str) -> None:
        out.replies.append((letter.token, NotActive(sent_ms=letter.request.sent_ms, reason=reason)))

    def _send_waiter_away(self, out: Out, waiter: Waiter, reason: str) -> None:
        for token, ask in waiter.copies:
            out.replies.append((token, NotActive(sent_ms=ask.sent_ms, reason=reason)))
