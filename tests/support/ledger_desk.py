"""One desk in office over logs of its own: the test brings requests, and sees what leaves after which append."""

from datetime import timedelta

from services.ledger.domain.desk import Batch, Desk, Out
from services.ledger.domain.fold import fold_auth, fold_grants
from services.ledger.domain.state import LedgerState
from services.ledger.domain.tuning import Tuning
from shared.allotment import Answer, Recall, Reply, Request
from shared.events import AnyAuthEvent, AnyUsage, GrantBatch, GrantEntry, LedgerEpoch
from shared.ids import InstanceId
from tests.support.ledger import EPOCH, P1, Logs, event_id, fold_any


class Bureau:
    """An enforcer without a shell. `pass_ms` moves both clocks."""

    def __init__(self, *auth: AnyAuthEvent, logs: Logs | None = None, tuning: Tuning | None = None) -> None:
        self.logs = logs or Logs()
        self.tuning = tuning or Tuning()
        self.state = LedgerState(partition=0) if logs is None else logs.fold()
        self.now = EPOCH + timedelta(seconds=1)
        self.now_ms = 1_000
        self.token = 0
        self.replies: dict[int, Reply] = {}
        self.recalls: list[tuple[InstanceId, Recall]] = []
        self.learn(*auth)
        self.desk = Desk(self.state, self.tuning)
        self.take_office()

    def take_office(self) -> None:
        epoch = LedgerEpoch(epoch=self.state.epoch + 1, holder=P1, lease_ms=self.tuning.lease_ms)
        self._log((epoch,))
        self.desk.begin(self.now_ms)
        self.settle()

    def learn(self, *events: AnyAuthEvent) -> None:
        for event in events:
            self.logs.auth.append(event)
            fold_auth(self.state, event, len(self.logs.auth))

    def fold(self, *events: AnyUsage) -> None:
        for event in events:
            self.logs.usage.append(event)
            fold_any(self.state, event)
            self.state.ledger_pos = len(self.logs.usage)

    def pass_ms(self, ms: int) -> None:
        self.now_ms += ms
        self.now += timedelta(milliseconds=ms)

    def post(self, *requests: Request) -> list[int]:
        """Put requests before the desk; their tokens."""
        tokens: list[int] = []
        for request in requests:
            self.token += 1
            self.desk.take(self.token, request, self.now_ms)
            tokens.append(self.token)
        return tokens

    def next(self) -> Batch | None:
        return self.desk.next_batch(self.now, self.now_ms)

    def land(self, batch: Batch) -> Out:
        """Append what a batch holds."""
        source = self._batch(batch.records) if batch.records else None
        if source is not None:
            self.logs.grants.append(source)
        out = self.desk.committed(batch, source, len(self.logs.grants) if source else None, self.now_ms)
        self.replies.update(out.replies)
        self.recalls += out.recalls
        return out

    def settle(self) -> tuple[GrantEntry, ...]:
        """Decide until nothing is left to do; all records that were appended."""
        records: tuple[GrantEntry, ...] = ()
        for _ in range(100):
            batch = self.next()
            if batch is None:
                return records
            records += batch.records
            self.land(batch)
        raise AssertionError("the desk never comes to rest")

    def serve(self, *requests: Request) -> list[Reply | None]:
        """Requests, and their replies as far as there are any at once."""
        tokens = self.post(*requests)
        self.settle()
        return [self.replies.get(token) for token in tokens]

    def ask(self, request: Request) -> Answer:
        reply = self.serve(request)[0]
        assert isinstance(reply, Answer), reply
        return reply

    def answer(self, token: int) -> Answer:
        reply = self.replies[token]
        assert isinstance(reply, Answer), reply
        return reply

    def _log(self, records: tuple[GrantEntry, ...]) -> None:
        batch = self._batch(records)
        self.logs.grants.append(batch)
        fold_grants(self.state, batch, len(self.logs.grants), self.now_ms)

    def _batch(self, records: tuple[GrantEntry, ...]) -> GrantBatch:
        return GrantBatch(
            id=event_id(),
            at=self.now,
            source="enforcer",
            auth_pos=self.state.auth_pos,
            usage_pos=len(self.logs.usage),
            records=records,
        )
