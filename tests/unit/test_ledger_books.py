"""Balances of the books as a pure fold, the replay of the log, and the check of prices."""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.bookkeeper.store_rows import Row, columns, event_uuid, ids, insert_sql, text
from services.ledger.domain.books import Books, Replay, Spent, compare, correct, entry_of, fold, repriced, subtract
from services.ledger.domain.usage import BALANCE_MAX, COUNT_MAX, read_usage
from shared.events import AccountWindow, AnyUsage, Change, UsageCorrected, UsageRecorded, encode, usage_batch
from shared.ids import InstanceId
from shared.pricing import CLASSES, PriceRow, Rates, Usage, price
from tests.support.ledger import EPOCH, KEY, ORG, P2, TEAM, event_id, used, window
from tests.support.usages import usage_of

A = window("a:key_1")
T = window("a:team_1", 3)
SCOPES = (("key", KEY), ("team", TEAM), ("org", ORG))


def booked(*events: UsageRecorded) -> Books:
    return fold(Books(), map(entry_of, events))


def spent_in(books: Books) -> dict[tuple[str, int], tuple[int, int]]:
    return {key: (sums.spent_nusd, sums.overdraft_nusd) for key, sums in books.accounts.items()}


def correction(n: int, *changes: tuple[AccountWindow, int], instance: str = "books") -> UsageCorrected:
    return UsageCorrected(
        id=event_id(),
        at=EPOCH,
        source="ledger-bookkeeper/books",
        instance=InstanceId(instance),
        partition=0,
        n=n,
        scope_kind="key",
        scope_id=KEY,
        changes=tuple(Change(window, delta, 100) for window, delta in changes),
        actor="ann",
        reason="a test",
    )


def test_every_scope_of_a_call_is_charged_and_the_windows_it_names() -> None:
    books = booked(used(1, 10, A, T), used(2, 5, A), used(3, 1, team=None))
    assert {scope: total.total_nusd for scope, total in books.totals.items()} == {
        ("key", KEY): 16,
        ("team", TEAM): 15,
        ("org", ORG): 16,
    }
    assert spent_in(books) == {("a:key_1", 0): (15, 0), ("a:team_1", 3): (10, 0)}
    assert (books.events, books.totals["key", KEY].calls, books.totals["key", KEY].input_tokens) == (3, 3, 30)


def test_the_replay_takes_each_number_once() -> None:
    replay = Replay()
    first = [used(2, 5), used(1, 3), used(1, 3, instance=P2)]
    assert replay.take(first) == first
    assert replay.take([used(1, 3), used(3, 4)])[0].n == 3
    assert replay.books.totals["org", ORG].total_nusd == 15


def test_overdraft_is_cost_beyond_the_hold_where_money_was_held() -> None:
    books = booked(
        used(1, 10, A, T, held=4),
        used(2, 10, A, held=40),  # what another call had to spare is no excuse
        used(3, 10, A, held=0, serial=None),  # nothing was held, nothing promised
        used(4, 7, A, held=7, measured="lost"),
    )
    assert {scope: total.overdraft_nusd for scope, total in books.totals.items()} == {
        ("key", KEY): 6,
        ("team", TEAM): 6,
        ("org", ORG): 6,
    }
    assert spent_in(books) == {("a:key_1", 0): (37, 6), ("a:team_1", 3): (10, 6)}


def test_a_correction_changes_the_windows_it_names_and_nothing_else() -> None:
    replay = Replay()
    fresh = replay.take([used(1, 10, A, T), correction(1, (A, -10)), correction(1, (A, -10)), correction(2, (T, 5))])
    assert len(fresh) == 3
    assert spent_in(replay.books) == {("a:key_1", 0): (0, 0), ("a:team_1", 3): (15, 0)}
    assert (replay.books.events, replay.books.corrections) == (1, 2)
    assert {total.total_nusd for total in replay.books.totals.values()} == {10}


def test_a_correction_may_come_before_the_usage_it_is_about() -> None:
    late = Replay()
    late.take([correction(1, (A, -10)), used(1, 10, A)])
    assert spent_in(late.books) == {("a:key_1", 0): (0, 0)}


def test_corrections_have_numbers_of_their_own_instance() -> None:
    replay = Replay()
    assert len(replay.take([used(1, 10, A), correction(1, (A, -1)), correction(1, (A, -1), instance="other")])) == 3


def test_a_comparison_names_each_figure_that_differs() -> None:
    log = booked(used(1, 10, A), used(2, 5, A, T))
    assert compare(booked(used(2, 5, A, T), used(1, 10, A)), log) == []
    found = {(entry.what, entry.id, entry.books_nusd, entry.log_nusd) for entry in compare(booked(used(1, 10, A)), log)}
    assert found == {
        ("event count", "all", 1, 2),
        ("key total", KEY, 10, 15),
        ("team total", TEAM, 10, 15),
        ("org total", ORG, 10, 15),
        ("account window", "a:key_1#0", 10, 15),
        ("account window", "a:team_1#3", 0, 5),
        *((f"{kind} prompt token count", scope, 10, 20) for kind, scope in SCOPES),
        *((f"{kind} completion token count", scope, 5, 10) for kind, scope in SCOPES),
    }


def test_a_comparison_sees_corrections_and_overdraft() -> None:
    log = correct(booked(used(1, 10, A, held=4)), [correction(1, (A, -3)).changes])
    found = {(entry.what, entry.id, entry.books_nusd, entry.log_nusd) for entry in compare(booked(used(1, 10, A)), log)}
    assert found == {
        ("correction count", "all", 0, 1),
        ("key overdraft", KEY, 0, 6),
        ("team overdraft", TEAM, 0, 6),
        ("org overdraft", ORG, 0, 6),
        ("account window", "a:key_1#0", 10, 7),
        ("account window overdraft", "a:key_1#0", 0, 6),
    }


def test_what_came_later_is_taken_away() -> None:
    books = booked(used(1, 10, A), used(2, 5, T))
    subtract(books, booked(used(2, 5, T)))
    assert compare(books, booked(used(1, 10, A))) == []
    later = correct(booked(used(2, 5, A, held=1)), [correction(1, (A, -2)).changes])
    books = correct(booked(used(1, 10, A), used(2, 5, A, held=1)), [correction(1, (A, -2)).changes])
    assert books.accounts["a:key_1", 0] == Spent(spent_nusd=13, overdraft_nusd=4)
    subtract(books, later)
    assert compare(books, booked(used(1, 10, A))) == []


amounts = st.integers(0, 50)
calls = st.builds(
    lambda n, cost, held, serial, windows, team: used(n, cost, *windows, held=held, serial=serial, team=team),
    st.integers(1, 12),
    amounts,
    amounts,
    st.sampled_from([None, 1]),
    st.lists(st.sampled_from([A, T]), unique=True, max_size=2),
    st.sampled_from([None, TEAM]),
)
corrections = st.builds(
    lambda n, delta, window: correction(n, (window, delta)),
    st.integers(1, 12),
    st.integers(-60, 60),
    st.sampled_from([A, T]),
)
logs = st.lists(calls | corrections, max_size=30, unique_by=lambda event: (event.instance, event.n))


def replayed(log: Iterable[AnyUsage]) -> Books:
    replay = Replay()
    replay.take(log)
    return replay.books


@given(logs, st.data())
def test_order_and_repetition_change_no_balance(log: list[AnyUsage], data: st.DataObject) -> None:
    again = data.draw(st.permutations(log + data.draw(st.lists(st.sampled_from(log)) if log else st.just([]))))
    assert compare(replayed(log), replayed(again)) == []


@given(logs, st.integers(0, 30))
def test_books_less_what_came_later_are_the_books_of_then(log: list[AnyUsage], cut: int) -> None:
    books = replayed(log)
    subtract(books, replayed(log[cut:]))
    assert compare(books, replayed(log[:cut])) == []


@given(logs)
def test_an_account_has_what_its_calls_cost_and_what_was_corrected(log: list[AnyUsage]) -> None:
    books = replayed(log)
    charged = [event for event in log if isinstance(event, UsageRecorded) and A in event.windows]
    deltas = [
        change.delta_nusd
        for event in log
        if isinstance(event, UsageCorrected)
        for change in event.changes
        if change.window == A
    ]
    assert books.spent("a:key_1", 0).spent_nusd == sum(event.cost_nusd for event in charged) + sum(deltas)
    assert books.spent("a:key_1", 0).overdraft_nusd == sum(
        max(0, event.cost_nusd - event.held_nusd) for event in charged if event.serial is not None
    )


ROW = PriceRow(model="m", rates=Rates(input=1_000_000_000, output=4_000_000_000))
USAGE = Usage(input=100, output=50)


def test_the_price_check_tells_what_the_row_gives() -> None:
    right = price(USAGE, ROW)
    assert repriced(used(1, right, usage=USAGE), ROW) is None
    assert repriced(used(1, right + 1, usage=USAGE), ROW) == right
    assert repriced(used(1, 999, usage=USAGE, measured="lost"), ROW) is None
    assert repriced(used(1, 999, usage=USAGE), None) is None


# ---- reading messages -----------------------------------------------------------------------------------


def test_a_message_gives_its_events() -> None:
    events = [used(1, 3), used(2, 4)]
    assert read_usage(usage_batch([encode(event) for event in events])) == (events, [])


def test_one_bad_event_leaves_its_neighbours() -> None:
    good = used(2, 4)
    events, bad = read_usage(b"[7," + encode(good) + b',{"type":"usage.recorded.v9"}]')
    assert events == [good]
    assert [piece.index for piece in bad] == [0, 2]
    assert bad[0].data == b"7"


@pytest.mark.parametrize("data", [b"", b"{}", b"[", b"\xff", b"null", b"[" * 5_000])
def test_what_is_no_list_is_set_aside_whole(data: bytes) -> None:
    events, bad = read_usage(data)
    assert events == []
    assert [(piece.index, piece.data) for piece in bad] == [(-1, data)]


@pytest.mark.parametrize(
    "change",
    [
        {"cost_nusd": -1},
        {"cost_nusd": COUNT_MAX + 1},
        {"n": 0},
        *({"usage": usage_of({name: -5})} for name in (*CLASSES, "reasoning")),
        *({"usage": usage_of({name: COUNT_MAX + 1})} for name in (*CLASSES, "reasoning")),
        {"windows": (window("a", -1),)},
        {"windows": (window("a", 2**31),)},
        {"status": 2**31},
        {"duration_ms": -1},
        {"started_at": datetime(2026, 1, 1)},  # noqa: DTZ001
    ],
)
def test_numbers_that_fit_no_book_are_set_aside(change: dict[str, object]) -> None:
    event = msgspec.structs.replace(used(1, 3), **change)
    events, bad = read_usage(usage_batch([encode(event), encode(used(2, 1))]))
    assert [kept.n for kept in events] == [2]
    assert [piece.index for piece in bad] == [0]


def test_usage_and_corrections_share_a_message() -> None:
    events = [used(1, 3), correction(1, (A, -(10**17)))]
    assert read_usage(usage_batch([encode(event) for event in events])) == (events, [])


@pytest.mark.parametrize(
    "change",
    [
        {"n": 0},
        {"partition": -1},
        {"changes": (Change(window("a", -1), 1),)},
        {"changes": (Change(A, BALANCE_MAX + 1),)},
        {"changes": (Change(A, 1, -BALANCE_MAX - 1),)},
        {"at": datetime(2026, 1, 1)},  # noqa: DTZ001
    ],
)
def test_corrections_that_fit_no_book_are_set_aside(change: dict[str, object]) -> None:
    event = msgspec.structs.replace(correction(1, (A, 3)), **change)
    events, bad = read_usage(usage_batch([encode(event), encode(used(2, 1))]))
    assert [kept.n for kept in events] == [2]
    assert [piece.index for piece in bad] == [0]


# ---- rows -----------------------------------------------------------------------------------------------


def test_a_row_has_one_value_per_column() -> None:
    rows = [Row(used(1, 3)), Row(used(2, 4), 5)]
    arrays = columns(ids(rows), [(7, rows[0]), (8, rows[1])])
    assert insert_sql("t").count("$") == len(arrays)
    assert all(len(array) == 2 for array in arrays)
    assert arrays[1:3] == [[7, 8], [None, 5]]


def test_texts_that_postgres_cannot_keep_are_mended() -> None:
    assert text("plain") == "plain"
    assert text("Grüße") == "Grüße"
    assert text("a\0b") == "a\ufffdb"
    assert text("\ud800x") == "?x"


def test_an_id_that_is_no_uuid_gets_one() -> None:
    event = used(1, 1)
    assert str(event_uuid(event.id)) == event.id
    assert event_uuid("odd") == event_uuid("odd") != event_uuid("other")


def test_times_are_kept_with_their_zone() -> None:
    assert used(1, 1).started_at.tzinfo is UTC
