"""Scenarios 9 to 16: silence, recovery, and money on its way between proxies and ledger."""

from shared.allotment import Answer, Ask
from tests.simulation.journal import recover
from tests.simulation.profiles import SHORT
from tests.simulation.stage import ALL, Caller, Stage, budget, team

SILENT_MS = SHORT.lease_ms + SHORT.max_call_ms + SHORT.margin_ms


def keep_warm(stage: Stage, ms: float) -> Caller:
    """A call that costs nothing keeps the wallet from giving back what it has."""
    caller = stage.call(0, 10, share=0.0, patience_ms=500)
    stage.run(ms)
    return caller


def test_09_a_proxy_cut_off_with_a_full_wallet() -> None:
    stage = Stage(team(10_000))
    assert stage.serve(0, 6_000, share=0.0).how == "ok"
    running = stage.call(0, 2_000, takes_ms=19_000)
    stage.run(200)
    until_ms = stage.world.agenda.now + SHORT.lease_ms + 500
    stage.cut(0)
    cheap = [keep_warm(stage, 1_000)]
    while stage.world.agenda.now < until_ms:
        cheap.append(keep_warm(stage, 500))
    assert [caller.how for caller in cheap[:20]] == ["ok"] * 20, "it goes on with what it has"
    late = stage.call(0, 10, share=0.0)
    stage.run(3_000)
    assert late.how == "unreachable", "the lease has ended"
    while stage.world.oracle.being("p0.1").charged is None:
        keep_warm(stage, 1_000)
    being = stage.world.oracle.being("p0.1")
    assert being.charged == frozenset({"main"})
    assert running.how == "ok"
    assert stage.world.oracle.presumed(stage.window()) >= 2_000
    stage.heal()
    stage.call(0, 100)  # asks, and hears that its instance is closed
    stage.until(lambda: stage.proxy(0).starts == 2)
    assert stage.serve(0, 100).how == "ok"
    stage.until(lambda: being.final)
    stage.run(500)
    assert stage.world.oracle.presumed(stage.window()) == 0
    dear = [caller for caller in stage.callers[2:] if caller.wish.amount == 100]
    assert stage.spent() == 2_000 + 100 * sum(caller.how == "ok" for caller in dear)
    stage.end()


def test_10_elections_restart_the_silence_of_an_instance() -> None:
    stage = Stage(team(10_000))
    assert stage.serve(0, 6_000, takes_ms=10).how == "ok"
    held = stage.call(0, 2_000, takes_ms=19_000)
    stage.run(200)
    stage.cut(0)
    for _ in range(3):
        stage.run(SILENT_MS * 0.6)
        stage.elect().start()
    assert stage.world.oracle.being("p0.1").charged is None, "nobody has been silent for long enough under one office"
    assert held.how == "ok"
    stage.run(SILENT_MS + 2_000)
    assert stage.world.oracle.being("p0.1").charged == frozenset({"main"})
    stage.heal()
    stage.end()


def test_11_a_successor_dies_in_recovery_and_a_third_finishes() -> None:
    stage = Stage(team(1_000), proxies=3)
    stage.call(0, 600, takes_ms=10_000)
    stage.run(200)
    stage.proxy(0).crash()
    journal = stage.world.journals["p0.1"]  # pyright: ignore[reportArgumentType]
    stage.keep("p1", ALL)
    stage.proxy(1).recover(journal)
    stage.run(500)
    assert stage.serve(2, 600).how == "reserved"
    stage.proxy(1).crash()
    stage.let_go()
    stage.proxy(2).recover(journal)
    stage.until(lambda: stage.world.oracle.being("p0.1").final)
    assert (stage.held(), stage.spent()) == (0, 600), "the lost call is charged at its hold"
    stage.end()


def test_12_a_recovery_run_twice_counts_once() -> None:
    stage = Stage(team(1_000))
    assert stage.serve(0, 200).how == "ok"
    stage.call(0, 300, takes_ms=10_000)
    stage.run(200)
    stage.proxy(0).crash()
    journal = stage.world.journals["p0.1"]  # pyright: ignore[reportArgumentType]
    recover(stage.proxy(1), stage.world, journal, again=True)
    stage.run(1_000)
    numbers = [event.n for event in journal.events]
    journal.done = False
    recover(stage.proxy(1), stage.world, journal, again=True)
    stage.until(lambda: stage.world.oracle.being("p0.1").final)
    stage.run(500)
    assert [event.n for event in journal.events] == numbers
    assert stage.first.state.balance(stage.window()).spent == 500
    journal.done = True
    stage.end()


def test_13_an_answer_is_lost_and_the_caller_gives_up() -> None:
    stage = Stage(team(1_000))
    stage.keep(stage.first.name, "p0")
    caller = stage.call(0, 800, patience_ms=100)
    stage.run(2_500)  # longer than the ask is repeated
    assert caller.how == "gone"
    assert stage.held() == 800
    stage.let_go()
    stage.run(10_000)
    assert stage.held() == 0, "a beat shows what the proxy did not know it had"
    assert stage.serve(1, 1_000).how == "ok"
    stage.end()


def test_14_a_late_copy_of_a_larger_ask_after_a_recall() -> None:
    stage = Stage(team(1_000))
    copies = stage.keep("p0", stage.first.name)
    caller = stage.call(0, 900, share=0.0)
    stage.until(lambda: bool(copies.letters))
    copies.deliver()
    stage.let_go()
    stage.until(lambda: caller.how == "ok")
    assert stage.serve(1, 900, share=0.0).how == "ok", "the first one's idle money is recalled"
    copies.deliver()
    stage.run(50)
    assert max(record.granted_nusd for record in stage.grants() if record.instance == "p0.1") == 900
    stage.run(15_000)
    assert stage.held() == 0
    stage.end()


def test_14b_the_same_after_the_wallet_was_forgotten() -> None:
    stage = Stage(team(1_000, "60s"))
    copies = stage.keep("p0", stage.first.name, "receive")
    stage.call(0, 900, share=0.0, patience_ms=50)
    stage.until(lambda: bool(copies.letters))
    stage.let_go()
    bank = stage.proxy(0).life_now
    assert bank is not None
    stage.world.estate.add(budget("other", 5_000, kind="team", scope="team0"))
    stage.run(30_000)
    assert stage.serve(0, 10).how == "ok"
    serial = next(arg.serial for _, _, _, args in copies.letters for arg in args if isinstance(arg, Ask))
    wallet = bank.bank.vault.wallets.get(serial)
    assert wallet is None or wallet.draining
    copies.deliver()
    stage.run(8_000)
    assert all(lot.out == 0 for lot in stage.lots(0) if lot.aid[1] == serial)
    stage.end()


def test_15_a_recall_crosses_an_ask() -> None:
    stage = Stage(team(1_000))
    first = stage.call(0, 500, takes_ms=50)
    stage.until(lambda: first.how == "ok")
    kept = stage.keep("p0", stage.first.name, "receive")
    second = stage.call(0, 700)  # asks for more
    stage.until(lambda: bool(kept.letters))
    other = stage.call(1, 500)  # its recall meets the ask that is under way
    stage.run(100)
    stage.let_go()
    kept.deliver()
    stage.until(lambda: second.how != "" and other.how != "")
    assert sorted((second.how, other.how)) in (["exceeded", "ok"], ["ok", "reserved"])
    assert stage.spent() <= 1_000
    stage.end()


def test_16_two_calls_bigger_than_half_the_rest_do_not_starve_each_other() -> None:
    stage = Stage(team(1_000))
    one = stage.call(0, 600, takes_ms=300)
    two = stage.call(1, 600, takes_ms=300)
    stage.until(lambda: one.how != "" and two.how != "")
    assert sorted((one.how, two.how)) == ["ok", "reserved"]
    assert stage.world.counts["asks"] < 12
    assert stage.world.counts["recalls"] < 12
    stage.end()


def test_a_level_is_loosened_when_presumed_spend_comes_back() -> None:
    stage = Stage(team(1_000))
    assert stage.serve(1, 1).how == "ok"
    assert stage.serve(1, 1_000).how == "exceeded"  # the crossing is in the log before much is spent
    stage.call(0, 600, share=0.2, takes_ms=1_000)
    stage.run(200)
    stage.cut(0)
    stage.until(lambda: stage.world.oracle.presumed(stage.window()) == 600)
    assert stage.serve(1, 500).how == "exceeded", "what a silent instance held is presumed spent"
    stage.until(lambda: stage.world.levels["main"].least == 400)
    stage.heal()
    stage.call(0, 1)
    stage.until(lambda: stage.world.oracle.being("p0.1").final)
    stage.run(200)
    assert stage.world.levels["main"].state == "open" or stage.world.levels["main"].least > 500
    assert stage.serve(1, 500).how == "ok"
    stage.end()


def test_answers_that_leave_carry_the_lease() -> None:
    stage = Stage(team(1_000))
    kept = stage.keep(stage.first.name, "p0")
    stage.call(0, 100)
    stage.until(lambda: bool(kept.letters))
    replies = [arg for _, _, _, args in kept.letters for arg in args if isinstance(arg, Answer)]
    assert replies[0].lease_ms == SHORT.lease_ms
    stage.let_go()
    stage.end()
