"""Sealed ids: what was sealed opens for its owner, as its kind, under any known pepper, and in no other way."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain.admission import Refused
from services.proxy.domain.objects.seal import TEXT_MAX, Kind, Opened, Seal, is_upstream_id, not_found, prefix_of

PEPPERS = {"p1": b"1" * 32}
SEAL = Seal(PEPPERS)
KINDS: tuple[Kind, ...] = get_args(Kind)
TEAM_A, TEAM_B = "team:team_a", "team:team_b"

tails = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.", min_size=4, max_size=120)
prefixes = st.sampled_from(["resp_", "msg_", "rs_", "fc_", "file-", "assistant-", "batch_", "cntr_", "ws_"])
kinds = st.sampled_from(KINDS)


@given(kinds, st.text(max_size=60), prefixes, tails)
def test_what_is_sealed_opens(kind: Kind, owner: str, prefix: str, tail: str) -> None:
    text = SEAL.seal(kind, owner, "dep1", prefix + tail)
    assert SEAL.open(kind, owner, text) == Opened(kind=kind, deployment="dep1", upstream=prefix + tail)
    assert SEAL.seal(kind, owner, "dep1", prefix + tail) == text
    assert len(text) <= TEXT_MAX
    assert text.startswith(prefix_of(kind, prefix + tail))
    assert prefix + tail not in text


@given(kinds, kinds, prefixes, tails)
def test_another_owner_or_another_kind_opens_nothing(kind: Kind, other: Kind, prefix: str, tail: str) -> None:
    text = SEAL.seal(kind, TEAM_A, "dep1", prefix + tail)
    assert SEAL.open(kind, TEAM_B, text) is None
    if other != kind:
        assert SEAL.open(other, TEAM_A, text) is None
        swapped = prefix_of(other, prefix + tail) + text.removeprefix(prefix_of(kind, prefix + tail))
        assert SEAL.open(other, TEAM_A, swapped) is None


@given(kinds, tails, st.data())
def test_a_damaged_id_opens_nothing(kind: Kind, tail: str, data: st.DataObject) -> None:
    text = SEAL.seal(kind, TEAM_A, "dep1", "resp_" + tail)
    at = data.draw(st.integers(0, len(text) - 1))
    char = data.draw(st.sampled_from("abcXYZ019-_=+/. \n\0é"))
    damaged = text[:at] + char + text[at + 1 :]
    assert damaged == text or SEAL.open(kind, TEAM_A, damaged) is None
    assert SEAL.open(kind, TEAM_A, text[:at]) is None
    assert SEAL.open(kind, TEAM_A, text + char) is None


@given(kinds, st.text(max_size=700))
def test_anything_else_opens_nothing(kind: Kind, text: str) -> None:
    assert SEAL.open(kind, TEAM_A, text) is None


def test_items_keep_the_beginning_of_their_names_and_it_cannot_be_exchanged() -> None:
    text = SEAL.seal("item", TEAM_A, "dep1", "rs_0123456789")
    assert text.startswith("rs_")
    assert SEAL.open("item", TEAM_A, "msg_" + text[3:]) is None


def test_every_pepper_opens_and_the_first_seals() -> None:
    text = SEAL.seal("file", TEAM_A, "dep1", "file-abcdef")
    newer = Seal({"p2": b"2" * 32, **PEPPERS})
    assert newer.open("file", TEAM_A, text) is not None
    assert newer.seal("file", TEAM_A, "dep1", "file-abcdef") != text
    assert Seal({"p2": b"2" * 32}).open("file", TEAM_A, text) is None
    assert Seal({"p1": b"2" * 32}).open("file", TEAM_A, text) is None


def test_the_one_answer_for_everything_that_is_not_the_callers() -> None:
    with pytest.raises(Refused) as foreign:
        SEAL.must_open("file", TEAM_B, SEAL.seal("file", TEAM_A, "dep1", "file-abcdef"))
    with pytest.raises(Refused) as nonsense:
        SEAL.must_open("file", TEAM_B, "file-x")
    gone = not_found()
    for one in (foreign.value, nonsense.value):
        assert (one.status, one.code, one.message, one.param, one.extra, one.headers) == (
            404, gone.code, gone.message, gone.param, gone.extra, gone.headers,
        )  # fmt: skip


@pytest.mark.parametrize("text", ["", "resp_", "1234", "../files", "file-", "a b_cdef", "x" * 300, 5, None, "resp_a/b"])
def test_what_is_no_id_of_foundrys(text: object) -> None:
    assert not is_upstream_id(text)
