"""UUIDv7: valid, ordered by time, readable."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from shared.ids import short_id, time_of, uuid7, uuid7_from

moments = st.integers(0, 2**48 - 1)
randoms = st.binary(min_size=10, max_size=10)


@given(moments, randoms)
def test_the_form_is_that_of_the_rfc(unix_ms: int, random: bytes) -> None:
    uuid = UUID(uuid7_from(unix_ms, random))
    assert uuid.version == 7
    assert uuid.variant == "specified in RFC 4122"
    assert uuid.int >> 80 == unix_ms
    assert str(uuid) == uuid7_from(unix_ms, random)


@given(moments, randoms, moments, randoms)
def test_ids_sort_by_time(first_ms: int, first: bytes, second_ms: int, second: bytes) -> None:
    if first_ms < second_ms:
        assert uuid7_from(first_ms, first) < uuid7_from(second_ms, second)


@given(st.integers(0, 253_000_000_000_000), randoms)
def test_the_time_can_be_read_back(unix_ms: int, random: bytes) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=unix_ms)
    assert abs(time_of(uuid7_from(unix_ms, random)) - moment) < timedelta(milliseconds=1)


def test_all_random_bits_are_used() -> None:
    assert uuid7_from(0, b"\xff" * 10) == "00000000-0000-7fff-bfff-ffffffffffff"
    assert uuid7_from(0, b"\0" * 10) == "00000000-0000-7000-8000-000000000000"


def test_ids_differ() -> None:
    assert len({uuid7() for _ in range(10_000)}) == 10_000


def test_a_short_id_is_opaque_and_safe_as_a_part_of_a_subject() -> None:
    made = short_id("key")
    assert made.startswith("key_")
    assert len(made) == 36
    assert made.replace("_", "").isalnum()
