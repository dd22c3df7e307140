"""Scenarios 17 to 25: windows, limits that come and go, modes, names, and the wall."""

from dataclasses import replace

import msgspec
import pytest

from services.ledger.domain.fold import fold_auth
from services.ledger.domain.state import LedgerState
from shared.policy import Budget, ScopeKind
from shared.windows import window_at
from tests.simulation.ending import check_folds
from tests.simulation.profiles import CALM, SHORT
from tests.simulation.run import simulate
from tests.simulation.stage import ALL, Stage, budget, team
from tests.simulation.wall import Case, drive


def scoped(found: Budget, kind: ScopeKind, scope: str) -> Budget:
    return msgspec.structs.replace(found, scope_kind=kind, scope_id=scope)


def test_17_a_window_rolls_over_with_a_call_running_and_clocks_that_differ() -> None:
    stage = Stage(team(1_000, "60s"))
    one, two = stage.world.proxies
    one.watch.skew_ms, two.watch.skew_ms = 500, -500
    stage.first.watch.skew_ms = 300
    stage.second.watch.skew_ms = -300
    assert stage.world.agenda.now < 10_000
    stage.run(59_000 - stage.world.agenda.now)
    running = stage.call(0, 900, takes_ms=5_000)
    stage.run(800)  # the ledger's clock is in the new window, most others are not
    assert stage.serve(1, 900).how == "ok"
    highest = stage.world.oracle.highest["main"]
    stage.elect().start()  # its successor's clock is behind
    assert stage.serve(1, 50).how == "ok"
    assert stage.world.oracle.highest["main"] == highest == 1
    stage.until(lambda: running.how == "ok")
    assert (stage.spent(index=0), stage.spent(index=1)) == (900, 950), "a call belongs to the window that admitted it"
    stage.end()


def test_18_windows_of_org_team_and_key_roll_at_different_times() -> None:
    stage = Stage(team(1_000, "70s"), key_budgets=(budget("own", 600, "50s"),))
    stage.world.estate.add(scoped(budget("all", 2_000, "90s"), "org", "org"))
    stage.run(500)
    seen: set[tuple[int, ...]] = set()
    for _ in range(36):
        stage.serve(0, 200, takes_ms=300)
        stage.call(1, 150, takes_ms=2_000)
        stage.run(5_000)
        seen |= {tuple(place.index for place in record.term) for record in stage.grants()}
    assert len(seen) >= 5
    for window, spent in stage.world.truth.finished.items():
        limit = {"main": 1_000, "own": 600, "all": 2_000}[window.account]
        assert spent <= limit
    stage.end()


def test_19_a_team_gains_a_limit_under_running_calls() -> None:
    stage = Stage(team(None), proxies=3, key_budgets=(budget("own", 1_000),))
    assert stage.serve(2, 50).how == "ok"
    stage.proxy(2).stop()
    stage.run(1_000)
    unlimited = stage.call(0, 400, key="key1", takes_ms=5_000)  # holds no money at all
    under_key = stage.call(0, 300, takes_ms=5_000)  # holds money of the key's budget only
    stage.run(300)
    stage.world.estate.change("main", limit_nusd=500)
    stage.run(600)
    assert stage.serve(1, 250).how == "reserved", "what was out beneath the team counts, too"
    stage.until(lambda: unlimited.how == "ok" and under_key.how == "ok")
    stage.run(2_000)
    assert stage.serve(1, 250).how == "exceeded", "the cost of calls from before is reported, not hidden"
    assert stage.spent() == 750
    stage.end()


def test_20_a_budget_for_one_model_appears_and_exceeded_is_not_premature() -> None:
    stage = Stage(team(1_000))
    assert stage.serve(0, 100, model="gpt-a").how == "ok"
    stage.world.estate.add(scoped(budget("model", 300, model="gpt-a"), "team", "team0"))
    stage.run(600)
    assert stage.serve(0, 200, model="gpt-a").how == "ok"
    running = stage.call(0, 100, model="gpt-a", share=0.0, takes_ms=1_500)
    stage.run(200)
    assert stage.serve(1, 60, model="gpt-a").how == "reserved"
    assert stage.serve(1, 60, model="gpt-b").how == "ok"
    stage.until(lambda: running.how == "ok")
    stage.run(1_000)
    assert stage.serve(1, 60, model="gpt-a").how == "ok"
    assert stage.serve(1, 301, model="gpt-a").how == "exceeded"
    stage.end()


def test_21_a_proxy_without_its_policy_admits_nothing() -> None:
    stage = Stage(team(1_000))
    stage.proxy(0).crash()
    stage.keep(ALL, "p0", "_loaded")
    stage.proxy(0).start()
    stage.proxy(0).mirror.loaded = False
    assert stage.serve(0, 10).how == "refused"
    stage.run(2_000)
    assert stage.serve(0, 10).how == "ok"
    stage.end()


def test_22_default_mode_one_allotments_deficit_is_no_others_money() -> None:
    stage = Stage(team(1_000, strict=False))
    one = stage.call(0, 500, takes_ms=400)
    two = stage.call(1, 500, takes_ms=400)
    stage.until(lambda: one.how == "ok" and two.how == "ok")
    assert stage.spent() == 1_600
    stage.run(300)
    assert stage.serve(1, 10).how == "exceeded"
    stage.run(500)
    assert stage.first.state.balance(stage.window()).escrow == 0
    assert stage.first.state.balance(stage.window()).overdraft == 600
    stage.end()


def test_23_the_same_process_begins_again_while_old_messages_are_on_their_way() -> None:
    stage = Stage(team(1_000))
    kept = stage.keep("p0", stage.first.name, "receive")
    stage.call(0, 700, takes_ms=200)
    stage.until(lambda: bool(kept.letters))
    stage.let_go()
    stage.proxy(0).crash()
    stage.proxy(0).start()
    stage.run(2_000)
    assert stage.serve(0, 300).how == "ok"
    kept.deliver()  # an ask of the old instance: its money is granted to nobody who could spend it
    stage.run(100)
    assert stage.proxy(0).life_now is not None
    assert stage.serve(0, 500).how == "reserved"
    journal = stage.world.journals["p0.1"]  # pyright: ignore[reportArgumentType]
    stage.proxy(1).recover(journal)
    stage.until(lambda: stage.world.oracle.being("p0.1").final)
    stage.run(300)
    assert stage.serve(0, 500).how == "ok"
    stage.end()


def test_24_ten_times_the_demand_while_most_holders_are_idle() -> None:
    profile = replace(CALM, name="wall", terms=SHORT, proxies=(16, 16), demand_s=15, calls_per_s=19)
    walled = drive(Case("12 of 16 idle", profile, 12, ""))
    assert walled.spent >= 0.99


@pytest.mark.parametrize("profile", [replace(CALM, demand_s=30)])
def test_25_three_logs_folded_in_other_interleavings(profile: object) -> None:
    world = simulate(7, profile)  # pyright: ignore[reportArgumentType]
    check_folds(world)
    empty = LedgerState(partition=0)
    for seq, decree in enumerate(world.logs.auth, 1):
        fold_auth(empty, decree.event, seq)
    found = world.estate.budgets()[0]
    assert window_at(found.window, world.enforcers[0].watch.now()).index >= 0
    assert empty.directory.budgets[found.account] == found
