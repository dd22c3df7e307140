"""Scenarios 1 to 8: the log, elections, and what may be believed of an append."""

from services.ledger.domain.fold import fold_auth, fold_grants, fold_usage
from services.ledger.domain.state import LedgerState
from shared.allotment import Answer, NotActive, Reply
from shared.events import AllotmentClosed, GrantBatch, UsageRecorded
from tests.simulation.ending import figures
from tests.simulation.stage import BUS, Stage, team


def answers(stage: Stage, proxy: int) -> list[Reply]:
    """Everything that leaves for a proxy from now on."""
    heard: list[Reply] = []
    machine = stage.proxy(proxy)

    def tap(_source: str, target: str, _deliver: object, args: tuple[object, ...]) -> bool:
        if target == machine.name:
            heard.extend(arg for arg in args if isinstance(arg, Answer | NotActive))
        return False

    stage.world.net.taps.append(tap)
    return heard


def test_01_two_copies_of_one_ask_in_a_batch_whose_append_fails() -> None:
    stage = Stage(team(1_000))
    heard = answers(stage, 0)
    kept = stage.keep(stage.first.name, BUS, "arrive")
    asks = stage.keep("p0", stage.first.name)
    caller = stage.call(0, 400)
    stage.until(lambda: bool(asks.letters))
    asks.deliver()
    asks.deliver()
    stage.until(lambda: bool(kept.letters))
    stage.until(lambda: any(isinstance(reply, NotActive) for reply in heard))
    assert not [reply for reply in heard if isinstance(reply, Answer) and reply.granted]
    assert stage.held() == 0
    stage.let_go()
    stage.until(lambda: caller.how != "")
    assert caller.how == "ok"
    assert {record.granted_nusd for record in stage.grants() if record.instance == "p0.1"} == {400}
    stage.end()


def test_02_an_append_lands_its_acknowledgement_is_lost_and_a_successor_is_elected() -> None:
    stage = Stage(team(1_000))
    kept = stage.keep(BUS, stage.first.name)
    caller = stage.call(0, 700)
    stage.until(lambda: stage.held() > 0)
    gone = stage.elect()
    assert kept.letters
    stage.let_go()
    stage.until(lambda: caller.how != "")
    assert caller.how == "ok" or stage.serve(0, 700).how == "ok"
    assert {record.granted_nusd for record in stage.grants()} == {700}, "the successor must not grant it again"
    stage.run(300)
    assert stage.serve(1, 400).how == "exceeded"
    gone.start()
    stage.end()


def test_03_an_old_enforcer_wakes_after_an_election_with_a_full_inbox() -> None:
    stage = Stage(team(1_000))
    old = stage.first
    stage.elect(crash=False)
    late = [old.receive] * 3
    decided = sum(isinstance(found, GrantBatch) and found.source == old.instance for found in stage.world.logs.ledger)
    first = stage.call(0, 600)
    stage.until(lambda: first.how == "ok")
    kept = stage.keep("p1", stage.first.name)
    second = stage.call(1, 600)
    stage.until(lambda: bool(kept.letters))
    for _, _, _, args in kept.letters:
        for receive in late:
            receive(*args)  # pyright: ignore[reportArgumentType]
    old.resume("_take")
    stage.run(50)
    stage.let_go()
    stage.until(lambda: second.how != "")
    assert second.how == "exceeded"
    after = sum(isinstance(found, GrantBatch) and found.source == old.instance for found in stage.world.logs.ledger)
    assert after == decided, "nothing that it decides on what it knew reaches the log"
    assert stage.spent() == 600
    stage.end()


def test_04_money_returned_and_granted_elsewhere() -> None:
    stage = Stage(team(1_000))
    assert stage.serve(0, 900, share=0.0).how == "ok"
    assert stage.serve(1, 900, share=0.0, takes_ms=20_000, patience_ms=5_000).how in ("ok", "reserved")
    running = stage.call(1, 900, takes_ms=15_000)
    stage.run(500)
    gone = stage.elect()
    gone.start()
    assert stage.serve(0, 200).how == "reserved"
    stage.until(lambda: running.how == "ok")
    stage.end()


def test_05_a_lowered_limit_survives_a_fail_over() -> None:
    stage = Stage(team(1_000))
    standby = stage.second
    stage.world.net.cuts.add((BUS, "p1"))  # the proxy that will ask has not heard of it, either
    standby.held.add("auth")
    position = standby.cursors["auth"]
    stage.world.estate.change("main", limit_nusd=500)
    stage.run(500)
    assert stage.serve(0, 300).how == "ok"
    assert standby.cursors["auth"] == position
    stage.first.crash()
    stage.run(6_000)
    assert stage.serve(1, 300).how == "unreachable"
    assert not standby.serving, "it may not decide before it has read what was decided on"
    standby.held.clear()
    stage.world.net.cuts.clear()
    stage.until(lambda: standby.serving)
    stage.run(1_000)
    assert stage.serve(1, 300).how == "exceeded"
    assert stage.spent() == 300
    stage.end()


def test_06_usage_folded_before_its_grant_comes_to_the_same() -> None:
    stage = Stage(team(1_000))
    standby = stage.second
    standby.split = True
    standby.cursors["grants"] = standby.cursors["usage"]
    standby.held.add("grants")
    assert stage.serve(0, 300).how == "ok"
    assert stage.serve(1, 200, share=0.5).how == "ok"
    stage.run(300)
    stage.until(lambda: standby.cursors["usage"] == len(stage.world.logs.ledger))
    usage_first = figures(standby.state)
    assert usage_first["main", 0][:2] == (400, 0)
    standby.read_ledger("grants", len(stage.world.logs.ledger))
    stage.first.read_ledger("usage", len(stage.world.logs.ledger))
    assert figures(standby.state) == figures(stage.first.state)
    stage.end()


def test_07_a_batch_published_again_long_after_its_instance_was_closed() -> None:
    stage = Stage(team(1_000))
    assert stage.serve(0, 300).how == "ok"
    stage.run(300)
    batch = next(found for found in stage.world.logs.ledger if isinstance(found, tuple))
    stage.proxy(0).stop()
    stage.until(lambda: stage.world.oracle.being("p0.1").final)
    stage.world.logs.publish(batch)
    stage.run(300)
    assert stage.first.state.balance(stage.window()).spent == 300
    assert stage.spent() == 300
    stage.end()


def test_08_a_slow_publisher_and_a_clean_close_at_the_wall() -> None:
    stage = Stage(team(1_000))
    proxy = stage.proxy(0)
    life = proxy.life_now
    assert life is not None
    kept = stage.keep("p0", BUS)
    assert stage.serve(0, 900).how == "ok"
    proxy.stop()
    life.journal.acked = life.journal.last_n  # it says its last word before its usage has arrived
    stage.until(lambda: stage.world.oracle.being("p0.1").last_n == 1)
    assert not stage.world.oracle.being("p0.1").final
    assert stage.serve(1, 200).how != "ok", "what is not folded is still held"
    stage.let_go()
    kept.deliver()
    stage.until(lambda: stage.world.oracle.being("p0.1").floor == 1)
    assert stage.serve(1, 100).how == "ok"
    life.journal.done = True
    stage.end()


def test_10b_a_successor_that_has_read_the_closing_but_not_the_usage_before_it() -> None:
    stage = Stage(team(1_000))
    assert stage.serve(0, 600).how == "ok"
    stage.run(300)
    stage.proxy(0).stop()
    stage.until(lambda: stage.world.oracle.being("p0.1").final)
    state = LedgerState(partition=0)
    logs = stage.world.logs
    for seq, decree in enumerate(logs.auth, 1):
        fold_auth(state, decree.event, seq)
    usage: list[UsageRecorded] = []
    for seq, message in enumerate(logs.ledger, 1):
        if isinstance(message, GrantBatch):
            fold_grants(state, message, seq)
        else:
            usage += [event for event in message if isinstance(event, UsageRecorded)]
    assert any(
        isinstance(record, AllotmentClosed)
        for message in logs.ledger
        if isinstance(message, GrantBatch)
        for record in message.records
    )
    assert state.balance(stage.window()).escrow >= 600, "until its usage is folded the money is still held"
    for event in usage:
        fold_usage(state, event)
    assert (state.balance(stage.window()).escrow, state.balance(stage.window()).spent) == (0, 600)
    stage.end()
