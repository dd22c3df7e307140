"""What instances tell each other about rate limits: bounded messages, greetings, farewells, and bounded memory."""

import pytest

from services.proxy.domain.limits.fleet import BEAT_MS, DEAD_MS, PEERS_MAX, REFRESH_MS, ROWS_PER_TICK_MAX, Fleet
from services.proxy.domain.limits.gossip import MESSAGE_BYTES_MAX, ROWS_PER_MESSAGE_MAX, News, Row, decode, encode


def row(quota_id: str = "0123r", *, wants: int = 0, gave: dict[str, int] | None = None) -> Row:
    return Row(quota_id, 10, 5, 0, wants, gave or {}, ((0, 1),), True)


def use(fleet: Fleet, quota_id: str, now_ms: int) -> None:
    quota = fleet.quota(quota_id, 10, now_ms)
    quota.add(1, now_ms)
    fleet.used(quota)


def test_a_message_survives_the_wire() -> None:
    news = News(instance="a", seq=3, at_ms=17, rows=(row(gave={"b": 4}),), hello=True)
    assert decode(encode(news)) == news
    assert len(encode(News(instance="a", seq=1, at_ms=1))) < 60


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b"{}",
        b"[" * 100,
        b" " * (MESSAGE_BYTES_MAX + 1),
        encode(News(instance="a", seq=1, at_ms=1, rows=(row(),) * (ROWS_PER_MESSAGE_MAX + 1))),
    ],
)
def test_what_nobody_sends_is_not_read(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(data)


def test_rows_are_cut_into_messages_and_ticks() -> None:
    fleet = Fleet("a")
    for number in range(ROWS_PER_TICK_MAX + 150):
        use(fleet, f"{number}r", 0)
    first, second = fleet.tick(0), fleet.tick(100)
    assert [len(news.rows) for news in first] == [ROWS_PER_MESSAGE_MAX] * (ROWS_PER_TICK_MAX // ROWS_PER_MESSAGE_MAX)
    assert [len(news.rows) for news in second] == [100, 50]
    assert [news.seq for news in first + second] == list(range(1, len(first) + 3))
    assert fleet.tick(200) == []


def test_a_quiet_instance_shows_that_it_lives() -> None:
    fleet = Fleet("a")
    assert [news.hello for news in fleet.tick(0)] == [True]
    assert fleet.tick(BEAT_MS - 1) == []
    assert [news.hello for news in fleet.tick(BEAT_MS)] == [False]


def test_only_changed_buckets_are_told_and_all_of_them_again_later() -> None:
    fleet = Fleet("a")
    use(fleet, "0123r", 0)
    fleet.tick(0)
    use(fleet, "0123r", 2_000)
    ((told,),) = [news.rows for news in fleet.tick(2_000)]
    assert (told.amounts, told.whole) == (((2, 1),), False)
    ((told,),) = [news.rows for news in fleet.tick(REFRESH_MS)]
    assert (told.amounts, told.whole) == (((0, 1), (2, 1)), True)


def test_a_newcomer_is_told_everything_at_once() -> None:
    fleet = Fleet("a")
    use(fleet, "0123r", 0)
    fleet.tick(0)
    fleet.heard(News(instance="b", seq=1, at_ms=5, hello=True), 50)
    assert fleet.urgent
    ((told,),) = [news.rows for news in fleet.tick(50)]
    assert told.whole
    quiet = Fleet("c")
    quiet.tick(0)
    quiet.heard(News(instance="b", seq=1, at_ms=5, hello=True), 50)
    assert len(quiet.tick(50)) == 1


def test_members_come_and_go() -> None:
    fleet = Fleet("b")
    for name in ("c", "a"):
        fleet.heard(News(instance=name, seq=1, at_ms=0), 0)
    assert (fleet.size, fleet.rank) == (3, 1)
    fleet.heard(News(instance="a", seq=2, at_ms=0, leaving=True), 10)
    assert (fleet.size, fleet.rank) == (2, 0)
    for at in range(0, DEAD_MS + 1, BEAT_MS):
        fleet.heard(News(instance="b", seq=1, at_ms=at), at)
    fleet.tick(DEAD_MS + 1)
    assert fleet.size == 2, "heard itself for just as long as the other was silent"
    fleet.heard(News(instance="b", seq=2, at_ms=DEAD_MS + 1), DEAD_MS + 1)
    fleet.tick(DEAD_MS + 1)
    assert fleet.size == 1
    fleet.heard(News(instance="c", seq=2, at_ms=0), DEAD_MS + 2)
    assert fleet.size == 2
    assert [news.leaving for news in fleet.leave(DEAD_MS + 3)][-1]


def test_who_hears_not_even_itself_buries_nobody() -> None:
    fleet = Fleet("b")
    fleet.heard(News(instance="a", seq=1, at_ms=0), 0)
    for now in range(0, 60_000, 500):
        fleet.tick(now)
    assert fleet.size == 2


def test_the_number_of_members_is_bounded() -> None:
    fleet = Fleet("a")
    for number in range(PEERS_MAX + 50):
        fleet.heard(News(instance=f"p{number}", seq=1, at_ms=0), 0)
    assert fleet.size == PEERS_MAX + 1


def test_rights_that_are_given_are_counted_off_at_once_and_counted_on_when_heard() -> None:
    one, two = Fleet("1"), Fleet("2")
    for fleet, other in ((one, "2"), (two, "1")):
        fleet.heard(News(instance=other, seq=1, at_ms=0), 0)
        fleet.heard(News(instance=fleet.me, seq=1, at_ms=0), 0)
    for _ in range(5):
        assert two.quota("0123r", 10, 0).fits(1, 0)
        use(two, "0123r", 0)
    (asks,) = two.tick(0)
    assert asks.rows[0].wants > 0
    one.heard(msg := News(instance="2", seq=2, at_ms=0, rows=asks.rows), 1)
    assert one.urgent
    (gives,) = one.tick(1)
    assert one.quota("0123r", 10, 1).rights == 0
    two.heard(gives_late := News(instance="1", seq=3, at_ms=1, rows=gives.rows), 2)
    two.heard(gives_late, 3)
    one.heard(msg, 3)
    assert two.quota("0123r", 10, 3).fits(1, 3)
    assert two.quota("0123r", 10, 3).rights == 10


def test_a_late_settlement_under_a_forgotten_limit_is_not_told() -> None:
    fleet = Fleet("a")
    quota = fleet.quota("0123p", 10, 0)
    quota.add(1, 0)
    fleet._forget([quota])
    fleet.used(quota)
    assert fleet.tick(0)[0].rows == ()


def test_rows_that_say_nothing_take_no_memory() -> None:
    fleet = Fleet("a")
    empty = Row("0123r", 10, 5, 0, 0, {}, (), True)
    fleet.heard(News(instance="b", seq=1, at_ms=0, rows=(empty, row(""), row("0123x"))), 0)
    assert len(fleet) == 0
