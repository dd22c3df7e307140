"""A bank with its time, and a ledger that says what the test wants it to say."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from services.proxy.domain.money.bank import Bank
from services.proxy.domain.money.effects import Admitted, Closed, Effect, Send
from services.proxy.domain.money.purse import BankTuning, Chain
from services.proxy.domain.money.wallet import Hold
from shared.allotment import (
    LEASE_MS,
    Ack,
    Answer,
    Ask,
    Known,
    Level,
    Recall,
    Refusal,
    Request,
    Verdict,
)
from shared.events import AccountWindow
from shared.ids import AccountId, InstanceId, KeyId

ME = InstanceId("me")
KEY, TEAM, MODEL = AccountId("acc-key"), AccountId("acc-team"), AccountId("acc-model")
EVER = 10**9


def chain(key: str = "k1", *accounts: AccountId, model: str = "", partition: int = 0, rev: int = 1) -> Chain:
    return Chain(KeyId(key), accounts or (KEY,), model, partition, rev)


def why(account: AccountId = KEY, room: int = 7) -> Refusal:
    return Refusal(
        account=account, scope_kind="key", scope_id="k1", limit=1_000, spent=0, reserved=0, room=room, window_start_s=0
    )


def known(serial: int, granted: int, returned: int) -> Known:
    return Known(serial, granted, returned, term_of((KEY,)), EVER)


def term_of(accounts: tuple[AccountId, ...], index: int = 4) -> tuple[AccountWindow, ...]:
    return tuple(AccountWindow(account, index) for account in accounts)


@dataclass
class Desk:
    """A bank with its time, and a ledger that says what the test wants it to say."""

    tuning: BankTuning = field(default_factory=BankTuning)
    partitions: int = 1
    current: Callable[[KeyId, str], Chain | None] = lambda key, model: None
    now: int = 50_000
    tokens: int = 0
    fates: dict[int, Effect] = field(default_factory=dict[int, Effect])
    sent: list[Send] = field(default_factory=list[Send])
    asked: list[Ask] = field(default_factory=list[Ask])
    closed: int = 0

    def __post_init__(self) -> None:
        self.bank = Bank(ME, self.partitions, self.tuning, lambda key, model: self.current(key, model))

    def take(self) -> None:
        for effect in self.bank.take_effects():
            match effect:
                case Send():
                    self.sent.append(effect)
                    if isinstance(effect.request, Ask):
                        self.asked.append(effect.request)
                case Closed():
                    self.closed += 1
                case _:
                    assert effect.token not in self.fates, "one fate per call"
                    self.fates[effect.token] = effect

    def wait(self, who: Chain, amount: int, most: int = 0) -> int:
        self.tokens += 1
        self.bank.wait(self.tokens, who, amount, most or amount, self.now)
        self.take()
        return self.tokens

    def hold(self, who: Chain, amount: int, most: int = 0) -> Hold | None:
        hold = self.bank.try_hold(who, amount, most or amount, self.now)
        self.take()
        return hold

    def settle(self, hold: Hold | None, cost: int) -> None:
        assert hold is not None
        self.bank.settle(hold, cost, self.now)
        self.take()

    def pass_(self, ms: int) -> None:
        """Let time pass, ticking whenever the bank wants it."""
        end = self.now + ms
        while (due := self.bank.due_ms(self.now)) is not None and due <= end:
            self.now = max(self.now, due)
            self.bank.tick(self.now)
            self.take()
        self.now = end

    def answer(self, ask: Ask, granted: int | None = None, verdict: Verdict = "ok", **more: Any) -> None:
        told: dict[str, Any] = {"epoch": 1, "admit_for_ms": EVER, "term": term_of(ask.lineage), **more}
        if verdict in ("exceeded", "reserved"):
            told["refusal"] = more.get("refusal") or why()
            told["term"] = ()
        granted = ask.need if granted is None else granted
        reply = Answer(serial=ask.serial, rseq=ask.rseq, granted=granted, verdict=verdict, sent_ms=ask.sent_ms, **told)
        self.bank.heard(0, reply, self.now)
        self.take()

    def ack(self, request: Request, *known: Known, epoch: int = 1, closed: bool = False, lease: int = LEASE_MS) -> None:
        self.bank.heard(
            0, Ack(epoch=epoch, sent_ms=request.sent_ms, known=known, closed=closed, lease_ms=lease), self.now
        )
        self.take()

    def recall(self, account: AccountId = KEY, *known: Known) -> None:
        self.bank.recalled(0, Recall(epoch=1, account=account, known=known), self.now)
        self.take()

    def given(self, who: Chain, amount: int, granted: int | None = None, **more: Any) -> Hold:
        """A hold that was asked for and granted."""
        token = self.wait(who, amount)
        self.answer(self.asks[-1], granted, **more)
        return self.held(token)

    def held(self, token: int) -> Hold:
        fate = self.fates[token]
        assert isinstance(fate, Admitted), fate
        return fate.hold

    def fate(self, token: int) -> type[Effect] | None:
        fate = self.fates.get(token)
        return None if fate is None else type(fate)

    def of(self, kind: type[Request]) -> list[Any]:
        return [send.request for send in self.sent if isinstance(send.request, kind)]

    @property
    def asks(self) -> list[Ask]:
        return self.asked


def level(state: Any, seq: int, least: int = 0, account: AccountId = KEY) -> Level:
    refusal = why(account) if state == "exhausted" else None
    return Level(account=account, state=state, window_index=4, seq=seq, least=least, refusal=refusal)
