"""Whatever happens, the bank promises no more than it was granted, and in the end gives everything back."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.proxy.domain.money.effects import Admitted
from services.proxy.domain.money.purse import BankTuning
from services.proxy.domain.money.wallet import Hold
from shared.allotment import (
    Ask,
    Beat,
    Known,
    NotActive,
)
from tests.support.desk import KEY, MODEL, TEAM, Desk, chain, known

# ---- whatever happens -------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "settle", "grant", "refuse", "recall", "beat", "policy", "wait", "cancel", "not"]),
        st.integers(0, 3),
        st.integers(1, 300),
    ),
    max_size=80,
)
CHAINS = (chain("k1", KEY, TEAM), chain("k2", TEAM), chain("k3", KEY, model="a"), chain("k3", MODEL, KEY, model="b"))


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_never_more_is_promised_than_was_granted(steps: list[tuple[str, int, int]]) -> None:
    """A ledger that is lossy and slow, costs within their holds: at every step each wallet stays within its grant, no
    counter goes back, every call has one fate, and in the end nothing is out."""
    desk = Desk(BankTuning(forget_after_ms=10_000))
    granted: dict[int, int] = {}
    returned: dict[int, int] = {}
    running: list[Hold] = []
    seen: set[int] = set()

    def check() -> None:
        for token, fate in desk.fates.items():
            if token not in seen:
                seen.add(token)
                if isinstance(fate, Admitted):
                    running.append(fate.hold)
        for wallet in desk.bank.vault.wallets.values():
            assert wallet.holds + wallet.spent <= wallet.granted - wallet.returned
            assert wallet.granted <= granted.get(wallet.serial, 0)
        assert sum(w.holds for w in desk.bank.vault.wallets.values()) == sum(hold.amount for hold in running)
        for send in desk.sent:
            for row in getattr(send.request, "rows", ()):
                assert row.returned >= 0

    def all_known() -> list[Known]:
        return [known(serial, amount, returned.get(serial, 0)) for serial, amount in granted.items()]

    def grant(ask: Ask, upto: int) -> None:
        for row in ask.rows:
            returned[row.serial] = max(returned.get(row.serial, 0), row.returned)
        granted[ask.serial] = max(granted.get(ask.serial, 0), upto)
        desk.answer(ask, granted[ask.serial], tight=upto < ask.want)

    for step, which, value in steps:
        if step == "call":
            hold = desk.hold(CHAINS[which], value, value + 50 * which)
            if hold is None:
                desk.wait(CHAINS[which], value, value + 50 * which)
            else:
                running.append(hold)
        elif step == "settle" and running:
            hold = running.pop(value % len(running))
            desk.settle(hold, hold.amount * (value % 100) // 100)
        elif step == "grant" and desk.asks:
            ask = desk.asks[-1 - value % min(3, len(desk.asks))]
            grant(ask, ask.need if which < 2 else ask.want)
        elif step == "refuse" and desk.asks:
            ask = desk.asks[-1]
            desk.answer(ask, granted.get(ask.serial, 0), "reserved" if which < 2 else "exceeded")
        elif step == "policy" and desk.asks:
            ask = desk.asks[-1]
            desk.answer(ask, granted.get(ask.serial, 0), "policy")
        elif step == "not" and desk.asks:
            desk.bank.heard(0, NotActive(sent_ms=desk.asks[-1].sent_ms), desk.now)
        elif step == "recall":
            desk.recall((KEY, TEAM, MODEL, TEAM)[which], *all_known())
        elif step == "beat" and desk.of(Beat):
            desk.ack(desk.of(Beat)[-1], *all_known())
        elif step == "wait":
            desk.pass_(value * 10)
        elif step == "cancel" and desk.tokens:
            desk.bank.cancel(desk.tokens - value % desk.tokens)
        check()
    for _ in range(6):
        while running:
            hold = running.pop()
            desk.settle(hold, hold.amount)
        desk.pass_(8_000)
        for send in desk.sent:
            for row in getattr(send.request, "rows", ()):
                returned[row.serial] = max(returned.get(row.serial, 0), row.returned)
        beats = desk.of(Beat)
        if beats:
            desk.ack(beats[-1], *all_known())
        check()
    assert desk.bank.vault.wallets == {}
    assert desk.bank.slots == {}
