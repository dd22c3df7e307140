"""Sealed texts: opened where they belong, by any listed pepper, and by nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sealing import FORMAT, LABEL_BYTES_MAX, SealBroken, Sealer

OLD = {"p1": b"1" * 32}
BOTH = {"p2": b"2" * 32, "p1": b"1" * 32}
SECRET = b"sk-a-secret-that-waits"


@given(st.text(max_size=20), st.text(max_size=20), st.binary(max_size=200))
def test_what_is_sealed_opens_where_it_belongs(purpose: str, context: str, plaintext: bytes) -> None:
    sealer = Sealer(BOTH)
    assert sealer.open(purpose, context, sealer.seal(purpose, context, plaintext)) == plaintext


def test_no_two_sealed_forms_are_alike_and_none_shows_the_text() -> None:
    sealer = Sealer(BOTH)
    forms = {sealer.seal("pending", "key_1", SECRET) for _ in range(50)}
    assert len(forms) == 50
    assert not any(SECRET[:8] in form for form in forms)


@pytest.mark.parametrize(("purpose", "context"), [("once", "key_1"), ("pending", "key_2"), ("pending", "")])
def test_a_text_that_was_moved_does_not_open(purpose: str, context: str) -> None:
    sealer = Sealer(BOTH)
    with pytest.raises(SealBroken):
        sealer.open(purpose, context, sealer.seal("pending", "key_1", SECRET))


def test_a_new_pepper_in_front_still_opens_what_the_old_one_sealed() -> None:
    sealed = Sealer(OLD).seal("pending", "key_1", SECRET)
    later = Sealer(BOTH)
    assert later.open("pending", "key_1", sealed) == SECRET
    assert later.label_of(sealed) == "p1"
    assert later.label_of(later.seal("pending", "key_1", SECRET)) == "p2"


def test_without_its_pepper_a_text_stays_shut() -> None:
    sealed = Sealer(BOTH).seal("pending", "key_1", SECRET)
    for other in (OLD, {"p2": b"3" * 32}):
        with pytest.raises(SealBroken) as caught:
            Sealer(other).open("pending", "key_1", sealed)
        assert SECRET.decode() not in str(caught.value)
    with pytest.raises(SealBroken):
        Sealer(OLD).label_of(sealed)


def test_every_changed_bit_is_noticed() -> None:
    sealer = Sealer(BOTH)
    sealed = sealer.seal("pending", "key_1", SECRET)
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(SealBroken):
            sealer.open("pending", "key_1", bytes(changed))


@given(st.one_of(st.binary(max_size=64), st.binary(max_size=64).map(lambda tail: FORMAT + b"\x02p2" + tail)))
def test_anything_else_is_no_sealed_text(text: bytes) -> None:
    with pytest.raises(SealBroken):
        Sealer(BOTH).open("pending", "key_1", text)


def test_an_endless_label_is_refused_at_once() -> None:
    with pytest.raises(ValueError):
        Sealer({"p" * (LABEL_BYTES_MAX + 1): b"1" * 32})
