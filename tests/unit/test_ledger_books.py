"""Balances of the books as a pure fold, the replay of the log, and the check of prices."""

from datetime import UTC, datetime

import msgspec
import pytest

from services.ledger.bookkeeper.store_rows import Row, columns, event_uuid, ids, insert_sql, text
from services.ledger.domain.books import Books, Replay, compare, entry_of, fold, repriced, subtract
from services.ledger.domain.usage import COUNT_MAX, read_usage
from shared.events import UsageRecorded, encode, usage_batch
from shared.pricing import PriceRow, Rates, Usage, price
from tests.support.ledger import KEY, ORG, P2, TEAM, used, window

A = window("a:key_1")
T = window("a:team_1", 3)


def booked(*events: UsageRecorded) -> Books:
    return fold(Books(), map(entry_of, events))


def test_every_scope_of_a_call_is_charged_and_the_windows_it_names() -> None:
    books = booked(used(1, 10, A, T), used(2, 5, A), used(3, 1, team=None))
    assert {scope: total.total_nusd for scope, total in books.totals.items()} == {
        ("key", KEY): 16,
        ("team", TEAM): 15,
        ("org", ORG): 16,
    }
    assert books.accounts == {("a:key_1", 0): 15, ("a:team_1", 3): 10}
    assert (books.events, books.totals["key", KEY].calls, books.totals["key", KEY].input_tokens) == (3, 3, 30)


def test_the_replay_takes_each_number_once() -> None:
    replay = Replay()
    first = [used(2, 5), used(1, 3), used(1, 3, instance=P2)]
    assert replay.take(first) == first
    assert replay.take([used(1, 3), used(3, 4)])[0].n == 3
    assert replay.books.totals["org", ORG].total_nusd == 15


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
    }


def test_what_came_later_is_taken_away() -> None:
    books = booked(used(1, 10, A), used(2, 5, T))
    subtract(books, booked(used(2, 5, T)))
    assert compare(books, booked(used(1, 10, A))) == []


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
        {"usage": Usage(output=-5)},
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
