"""What an answer tells of the accounts behind an allotment: spend as it counts, the limit in force, never a part."""

from datetime import timedelta

import msgspec
import pytest

from services.ledger.domain.tuning import Tuning
from shared.allotment import FIGURES_MAX, Answer, Figure, NotActive, Row, decode_reply, encode
from shared.ids import AccountId
from shared.policy import Increase
from tests.support.ledger import (
    EPOCH,
    KEY,
    ORG,
    OTHER,
    P2,
    TEAM,
    ask,
    beat,
    budget,
    budget_set,
    close,
    corrected,
    gives_back,
    key_issued,
    used,
    window,
)
from tests.support.ledger_desk import Bureau

A = window("a:key_1")
T = window("a:team_1")
BOTH = ("a:key_1", "a:team_1")


def bureau(limit: int = 100, **more: object) -> Bureau:
    return Bureau(key_issued(), budget_set(budget(KEY, limit, **more)))  # pyright: ignore[reportArgumentType]


def team_bureau() -> Bureau:
    return Bureau(
        key_issued(),
        key_issued(OTHER),
        budget_set(budget(KEY, 100)),
        budget_set(budget(OTHER, 100)),
        budget_set(budget(TEAM, 150, kind="team")),
    )


def figure(spent: int, limit: int = 100, account: str = "a:key_1", *, own: bool = True) -> Figure:
    return Figure(AccountId(account), limit, spent, own)


def test_a_first_grant_tells_of_an_untouched_budget() -> None:
    said = bureau().ask(ask(30))
    assert (said.figures, said.counted) == ((figure(0),), 0)


def test_folded_usage_is_in_the_figures_and_the_askers_part_is_named() -> None:
    at = bureau()
    at.ask(ask(30))
    at.ask(ask(20, instance=P2))
    at.fold(used(1, 12, A), used(1, 5, A, instance=P2))
    said = at.ask(ask(40, rseq=2, rows=(Row(1, 0, 12, 30, 0),)))
    assert (said.figures, said.counted) == ((figure(17),), 12)


def test_spend_that_proxies_report_counts_before_its_events_and_not_twice_with_them() -> None:
    at = bureau()
    at.ask(ask(30))
    at.ask(ask(20, instance=P2))
    at.serve(beat(Row(1, 0, 7, 20, 0), instance=P2))
    said = at.ask(ask(40, rseq=2, rows=(Row(1, 0, 12, 30, 0),)))
    assert (said.figures, said.counted) == ((figure(19),), 12)
    at.fold(used(1, 12, A), used(1, 7, A, instance=P2))
    said = at.ask(ask(50, rseq=3, rows=(Row(1, 0, 12, 30, 0),)))
    assert (said.figures, said.counted) == ((figure(19),), 12)


def test_events_that_are_faster_than_the_ask_are_the_askers_own_too() -> None:
    at = bureau()
    at.ask(ask(30))
    at.fold(used(1, 12, A), used(2, 3, A))
    said = at.ask(ask(40, rseq=2, rows=(Row(1, 0, 12, 30, 3),)))
    assert (said.figures, said.counted) == ((figure(15),), 15)


def test_every_limited_account_is_told_the_narrowest_scope_first() -> None:
    at = team_bureau()
    at.ask(ask(20, lineage=BOTH))
    at.ask(ask(20, key=OTHER, lineage=("a:key_2", "a:team_1"), instance=P2))
    at.fold(used(1, 9, A, T), used(1, 4, window("a:key_2"), T, instance=P2, key=OTHER))
    said = at.ask(ask(30, rseq=2, lineage=BOTH))
    assert said.figures == (figure(9), figure(13, 150, "a:team_1", own=False))
    assert said.counted == 9


def test_a_budget_for_one_model_is_not_the_keys_own_spend() -> None:
    at = Bureau(
        key_issued(),
        budget_set(budget(KEY, 50, account="a:gpt", model="gpt-*"), budget(KEY, 100)),
    )
    said = at.ask(ask(10, lineage=("a:gpt", "a:key_1"), model="gpt-5"))
    assert said.figures == (figure(0, 50, "a:gpt", own=False), figure(0))


def test_a_new_window_starts_from_nothing_and_the_old_one_keeps_its_figures() -> None:
    at = bureau(duration="1h")
    first = at.ask(ask(30))
    at.fold(used(1, 12, first.term[0]))
    at.pass_ms(3_600_000)
    at.serve(beat(Row(1, 0, 12, 30, 0)))
    late = at.ask(ask(40, rseq=2, rows=(Row(1, 0, 12, 30, 0),)))
    assert (late.verdict, late.figures, late.counted) == ("policy", (figure(12),), 12)
    fresh = at.ask(ask(10, serial=2))
    assert fresh.term[0].index == first.term[0].index + 1
    assert (fresh.figures, fresh.counted) == ((figure(0),), 0)


def test_the_limit_is_the_one_in_force() -> None:
    at = bureau(increase=Increase(amount_nusd=25, until=EPOCH + timedelta(hours=1)))
    assert at.ask(ask(10)).figures == (figure(0, 125),)
    at.pass_ms(3_600_000)
    at.serve(beat(Row(1, 0, 0, 10, 0)))
    assert at.ask(ask(20, rseq=2)).figures == (figure(0, 100),)
    at.learn(budget_set(budget(KEY, 300)))
    assert at.ask(ask(30, rseq=3)).figures == (figure(0, 300),)


def test_a_correction_lowers_the_spend() -> None:
    at = bureau()
    at.ask(ask(30))
    at.fold(used(1, 12, A), corrected(1, (A, -10)))
    said = at.ask(ask(40, rseq=2))
    assert (said.figures, said.counted) == ((figure(2),), 12)


def test_a_refusal_of_a_known_allotment_has_figures_and_one_without_a_term_has_none() -> None:
    at = bureau()
    at.ask(ask(90))
    at.fold(used(1, 90, A))
    refused = at.ask(ask(200, rseq=2, rows=(Row(1, 0, 90, 90, 0),)))
    assert (refused.verdict, refused.figures, refused.counted) == ("exceeded", (figure(90),), 90)
    refused = at.ask(ask(200, serial=2))
    assert (refused.verdict, refused.figures, refused.counted) == ("exceeded", (), 0)


def test_one_who_waited_for_money_hears_the_figures_of_the_moment_he_is_served() -> None:
    at = bureau()
    at.ask(ask(90, instance=P2))
    (token,) = at.post(ask(50))
    at.settle()
    assert token not in at.replies
    at.fold(used(1, 8, A, instance=P2))
    at.serve(gives_back(Row(1, 82, 8, 90, 0), instance=P2))
    assert (at.answer(token).verdict, at.answer(token).figures) == ("ok", (figure(8),))


def test_what_a_silent_instance_is_presumed_to_have_spent_counts_on_a_strict_budget() -> None:
    at = Bureau(key_issued(), budget_set(budget(KEY, 100, strict=True)), tuning=Tuning(lease_ms=5_000))
    at.ask(ask(30, instance=P2))
    at.pass_ms(3_600_000)
    at.settle()
    assert at.state.balance(A).presumed == 30
    assert at.ask(ask(10)).figures == (figure(30),)


def test_a_closed_instance_is_told_no_figures() -> None:
    at = bureau()
    at.ask(ask(30))
    at.serve(close(5))
    said = at.ask(ask(40, rseq=2))
    assert (said.verdict, said.figures, said.counted) == ("closed", (), 0)


@pytest.mark.parametrize(("accounts", "told"), [(FIGURES_MAX, FIGURES_MAX), (FIGURES_MAX + 1, 0)])
def test_long_lineages_are_not_told_at_all_rather_than_in_part(accounts: int, told: int) -> None:
    names = [f"a:{n}" for n in range(accounts)]
    at = Bureau(key_issued(), budget_set(*(budget(ORG, 100, kind="org", account=name) for name in names)))
    said = at.ask(ask(10, lineage=tuple(names)))
    assert (said.verdict, len(said.figures)) == ("ok", told)


def test_who_is_sent_away_is_told_nothing() -> None:
    at = bureau()
    (token,) = at.post(ask(10, rev=99))
    at.settle()
    at.pass_ms(at.tuning.park_ms)
    at.settle()
    assert isinstance(at.replies[token], NotActive)


class _Older(msgspec.Struct, frozen=True, kw_only=True, tag="answer", omit_defaults=True):
    """An answer as a reader knows it that has never heard of figures."""

    serial: int
    granted: int
    tight: bool = False


def test_older_readers_and_older_senders_do_without() -> None:
    said = bureau().ask(ask(30))
    data = encode(said)
    assert decode_reply(data) == said
    assert msgspec.json.decode(data, type=_Older) == _Older(serial=1, granted=30)
    plain = msgspec.structs.replace(said, figures=(), counted=0)
    assert b"figures" not in encode(plain)
    assert b"counted" not in encode(plain)
    older = decode_reply(encode(plain))
    assert isinstance(older, Answer)
    assert (older.figures, older.counted) == ((), 0)


def test_a_limit_that_went_away_is_told_no_more() -> None:
    at = team_bureau()
    at.ask(ask(20, lineage=BOTH))
    at.learn(budget_set(budget(KEY, None)))
    said = at.ask(ask(30, rseq=2, lineage=("a:team_1",)))
    assert (said.verdict, said.figures) == ("policy", (figure(0, 150, "a:team_1", own=False),))
