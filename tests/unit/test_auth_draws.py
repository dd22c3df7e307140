"""Draws: by chance, or the same again from a seed."""

from hypothesis import given
from hypothesis import strategies as st

from services.auth.draws import SEED_BYTES, Draws
from services.auth.secret import ALPHABET, PREFIX, mistyped
from shared.ids import time_of

SEEDS = st.binary(min_size=SEED_BYTES, max_size=SEED_BYTES)


def drawn(draws: Draws) -> list[str]:
    return [draws.short_id("key"), draws.secret(), draws.short_id("acct"), draws.secret(), draws.short_id("key")]


@given(SEEDS, st.integers(0, 2**48 - 1))
def test_a_seed_draws_the_same_again_and_never_the_same_twice(seed: bytes, began_ms: int) -> None:
    first = drawn(Draws(seed=seed, began_ms=began_ms))
    assert drawn(Draws(seed=seed, began_ms=began_ms, again=True)) == first
    assert len(set(first)) == len(first)


@given(SEEDS)
def test_what_else_is_drawn_between_changes_nothing(seed: bytes) -> None:
    """An attempt that finds another state of affairs may need fewer ids; those that it needs are the same."""
    whole, other = Draws(seed=seed), Draws(seed=seed)
    key, secret, _, _, second = drawn(whole)
    assert (other.secret(), other.short_id("key"), other.short_id("key")) == (secret, key, second)


@given(st.one_of(st.none(), SEEDS))
def test_secrets_have_their_shape(seed: bytes | None) -> None:
    secret = Draws(seed=seed).secret()
    assert secret.startswith(PREFIX)
    assert len(secret) == 52
    assert set(secret[3:]) <= set(ALPHABET)
    assert not mistyped(secret)


def test_another_seed_draws_others() -> None:
    assert not set(drawn(Draws(seed=b"1" * 32))) & set(drawn(Draws(seed=b"2" * 32)))


def test_ids_tell_when_the_request_began() -> None:
    kind, _, rest = Draws(seed=b"1" * 32, began_ms=1_700_000_000_123).short_id("key").partition("_")
    assert kind == "key"
    assert time_of(rest).timestamp() == 1_700_000_000.123


def test_without_a_seed_nothing_repeats() -> None:
    assert len({Draws().short_id("key") for _ in range(50)} | {Draws().secret() for _ in range(50)}) == 100
