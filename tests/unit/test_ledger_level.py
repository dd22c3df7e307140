"""Levels: what machines read about an account, written when something changes and only then."""

from datetime import timedelta

from services.ledger.domain.level import level_of
from services.ledger.domain.tuning import Tuning
from shared.allotment import Level, Row, decode_level, encode
from shared.policy import Increase
from tests.support.ledger import (
    EPOCH,
    KEY,
    P2,
    ask,
    beat,
    budget,
    budget_set,
    close,
    corrected,
    key_issued,
    used,
    window,
)
from tests.support.ledger_desk import Bureau

A = window("a:key_1")


def bureau(limit: int | None = 100, tuning: Tuning | None = None, **more: object) -> Bureau:
    return Bureau(key_issued(), budget_set(budget(KEY, limit, **more)), tuning=tuning)  # pyright: ignore[reportArgumentType]


def post(at: Bureau) -> list[Level]:
    """Write all levels that are due."""
    written: list[Level] = []
    for _ in range(20):
        due = at.desk.board.due(at.now, 100)
        if not due:
            return written
        for level in due:
            at.desk.board.posted(level)
        written += due
    raise AssertionError("levels are due for ever")


def states(levels: list[Level]) -> list[tuple[str, int]]:
    return [(level.state, level.least) for level in levels]


def test_an_account_about_which_nothing_was_told_has_no_level() -> None:
    at = bureau()
    at.ask(ask(40))
    at.fold(used(1, 40, A))
    at.settle()
    assert post(at) == []


def test_the_first_refusal_writes_what_is_refused_from_now_on() -> None:
    at = bureau(duration="1h")
    at.ask(ask(60, instance=P2))
    at.fold(used(1, 60, A, instance=P2))
    assert at.ask(ask(50)).verdict == "exceeded"
    (level,) = post(at)
    assert (level.account, level.state, level.window_index, level.least) == (A.account, "exhausted", 0, 41)
    assert (level.limit, level.spent) == (100, 60)
    assert level.until_s == int((EPOCH + timedelta(hours=1)).timestamp())
    assert level.refusal is not None
    assert (level.refusal.scope_id, level.refusal.room, level.refusal.spent) == (KEY, 40, 60)
    assert post(at) == []
    assert decode_level(encode(level)) == level


def test_a_smaller_refusal_lowers_the_level_and_a_larger_one_does_not() -> None:
    at = bureau()
    at.ask(ask(90, instance=P2))
    at.fold(used(1, 5, A, instance=P2))
    assert at.ask(ask(100)).verdict == "exceeded"
    assert states(post(at)) == [("exhausted", 96)]
    assert at.ask(ask(98, serial=2)).verdict == "exceeded"
    assert post(at) == []
    at.fold(used(2, 85, A, instance=P2))
    assert at.ask(ask(11, serial=3)).verdict == "exceeded"
    assert states(post(at)) == [("exhausted", 11)]


def test_what_proxies_report_counts_before_it_is_folded() -> None:
    at = bureau()
    at.ask(ask(90, instance=P2))
    at.serve(beat(Row(1, 0, 90, 90, 0), instance=P2))
    assert at.ask(ask(20)).verdict == "exceeded"
    (level,) = post(at)
    assert (level.state, level.least) == ("exhausted", 20)
    assert level.refusal is not None
    assert (level.refusal.spent, level.refusal.reserved, level.refusal.room) == (90, 0, 10)


def test_a_call_larger_than_the_whole_limit_changes_no_level() -> None:
    at = bureau()
    assert at.ask(ask(101)).verdict == "exceeded"
    assert post(at) == []
    at.fold(used(1, 10, A, serial=None))
    assert at.ask(ask(95)).verdict == "exceeded"
    assert states(post(at)) == [("exhausted", 91)]
    assert at.ask(ask(101, serial=2)).verdict == "exceeded"
    assert post(at) == []
    assert at.state.balance(A).least == 95


def test_a_full_budget_with_spend_on_its_way_refuses_from_one_up() -> None:
    at = bureau()
    at.ask(ask(50, instance=P2))
    at.fold(used(1, 100, A, serial=None))
    at.serve(beat(Row(1, 0, 50, 50, 0), instance=P2))
    assert states(post(at)) == [("exhausted", 1)]


def test_all_spent_refuses_everything() -> None:
    at = bureau()
    at.ask(ask(150))
    post(at)
    at.fold(used(1, 100, A, serial=None))
    at.settle()
    assert states(post(at)) == [("exhausted", 1)]


def test_a_raised_limit_a_correction_and_given_back_presumption_open_it() -> None:
    at = bureau()
    at.fold(used(1, 100, A, serial=None))
    at.settle()
    assert states(post(at)) == [("exhausted", 1)]
    at.learn(budget_set(budget(KEY, 150)))
    at.settle()
    assert states(post(at)) == [("open", 0)]
    at.fold(used(2, 50, A, serial=None))
    at.settle()
    assert states(post(at)) == [("exhausted", 1)]
    at.fold(corrected(1, (A, -150)))
    at.settle()
    (level,) = post(at)
    assert (level.state != "exhausted", level.spent, level.limit) == (True, 0, 150)


def test_presumed_spend_exhausts_and_its_end_opens() -> None:
    at = bureau(60, Tuning(lease_ms=10_000, max_call_ms=1_000, margin_ms=100), strict=True)
    at.ask(ask(60))
    at.pass_ms(60_000)
    at.settle()
    assert states(post(at)) == [("exhausted", 1)]
    at.serve(close(0))
    assert [level.state for level in post(at)] == ["open"]


def test_a_limit_that_changes_without_giving_room_is_written_too() -> None:
    at = bureau()
    at.fold(used(1, 150, A, serial=None))
    at.settle()
    post(at)
    at.learn(budget_set(budget(KEY, 120)))
    at.settle()
    (level,) = post(at)
    assert (level.state, level.limit) == ("exhausted", 120)


def test_an_increase_and_its_end() -> None:
    at = bureau()
    at.fold(used(1, 100, A, serial=None))
    at.settle()
    post(at)
    until = EPOCH + timedelta(minutes=30)
    at.learn(budget_set(budget(KEY, 100, increase=Increase(amount_nusd=50, until=until))))
    at.settle()
    (level,) = post(at)
    assert (level.state, level.limit) == ("open", 150)
    at.now = until
    at.settle()
    (level,) = post(at)
    assert (level.state, level.limit) == ("exhausted", 100)


def test_a_new_window_opens_it() -> None:
    at = bureau(duration="1h")
    at.fold(used(1, 100, A, serial=None))
    at.settle()
    post(at)
    at.now = EPOCH + timedelta(hours=1)
    at.settle()
    (level,) = post(at)
    assert (level.state, level.window_index, level.spent, level.least) == ("open", 1, 0, 0)


def test_a_removed_account_is_open() -> None:
    at = bureau()
    at.fold(used(1, 100, A, serial=None))
    at.settle()
    post(at)
    at.learn(budget_set(kind="key", scope_id=KEY))
    at.settle()
    assert [level.state for level in post(at)] == ["open"]


def test_warnings_show_as_soft() -> None:
    at = bureau(None, soft=50, duration="1h")
    at.fold(used(1, 60, A, serial=None))
    at.settle()
    (level,) = post(at)
    assert (level.state, level.limit, level.refusal) == ("soft", None, None)
    at.now = EPOCH + timedelta(hours=1)
    at.settle()
    assert [level.state for level in post(at)] == ["open"]


def test_later_levels_have_higher_numbers_whoever_writes_them() -> None:
    at = bureau()
    at.fold(used(1, 100, A, serial=None))
    at.settle()
    (first,) = post(at)
    successor = Bureau(logs=at.logs)
    stored = Level(account=A.account, state="exhausted", window_index=0, seq=1_000, limit=100, least=1)
    successor.desk.board.begin([stored])
    assert post(successor) == []  # the bucket says so already
    successor.learn(budget_set(budget(KEY, 200)))
    successor.settle()
    (level,) = post(successor)
    assert level.seq > 1_000 > first.seq


def test_a_successor_writes_what_its_predecessor_could_not() -> None:
    at = bureau()
    at.fold(used(1, 100, A, serial=None))
    at.settle()
    successor = Bureau(logs=at.logs)
    assert states(post(successor)) == [("exhausted", 1)]


def test_a_successor_opens_what_is_exhausted_only_in_the_bucket() -> None:
    at = bureau(duration="1h")
    at.ask(ask(1))
    stored = Level(account=A.account, state="exhausted", window_index=0, seq=5, limit=100, least=1)
    at.desk.board.begin([stored])
    assert [(level.state, level.seq > 5) for level in post(at)] == [("open", True)]


def test_a_refusal_whose_record_failed_writes_nothing() -> None:
    at = bureau()
    at.post(ask(101))
    batch = at.next()
    assert batch is not None
    at.desk.dropped(batch, "no answer")
    assert post(at) == []
    assert at.state.balance(A).least == 0


def test_an_unknown_account_has_no_level() -> None:
    assert level_of(bureau().state, "a:nobody", EPOCH, 0) is None
