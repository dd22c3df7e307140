"""A reported secret that is replaced: its end is near at once, and sometimes it has to be revoked instead."""

from datetime import timedelta

import msgspec
import pytest

from services.auth.domain.key_state import KeyState
from services.auth.domain.leaking import LEAK_GRACE_S, decide_replaced
from services.auth.domain.renewing import Mint, decide_collected, decide_delivered, decide_mint
from services.auth.domain.versions import EXCHANGE, is_collectable, living_versions, way_of
from shared.events import KeySecretLimited, KeySecretMinted, RotationTerms
from tests.unit.test_auth_versions import HOOK, T0, evolve, hashed, key_with, stamp

PUSH = RotationTerms(grace="24h", targets=(HOOK,))
BOTH = msgspec.structs.replace(PUSH, exchange=True)


def first(terms: RotationTerms = PUSH) -> KeyState:
    return key_with(**msgspec.structs.asdict(terms))


def replaced(key: KeyState, leaked: int = 1, minutes: float = 0, n: int = 50) -> KeyState:
    return evolve(key, decide_replaced(key, leaked, hashed(n), stamp(minutes)))


def ends(key: KeyState, version: int) -> timedelta | None:
    end = next(one.not_after for one in key.secrets if one.version == version)
    return None if end is None else end - T0


@pytest.mark.parametrize(("grace", "seconds"), [("24h", LEAK_GRACE_S), ("60s", 60)])
def test_the_leaked_one_ends_soon_while_the_new_one_is_undelivered(grace: str, seconds: int) -> None:
    key = replaced(first(msgspec.structs.replace(PUSH, grace=grace)))
    assert [one.version for one in living_versions(key)] == [1, 2]
    assert ends(key, 1) == timedelta(seconds=seconds)
    after = evolve(key, decide_delivered(key, 2, way_of(HOOK), stamp(1)))
    later = ends(after, 1)
    assert later is not None
    assert later <= timedelta(seconds=seconds), "its delivery does not give it more time"


def test_terms_that_end_it_by_the_clock_do_not_give_it_more() -> None:
    key = replaced(first(msgspec.structs.replace(PUSH, retire="after_grace")))
    assert ends(key, 1) == timedelta(seconds=LEAK_GRACE_S)
    sooner = first()
    limit = KeySecretLimited(
        **stamp().envelope(0), key_id=sooner.key_id, version=1, not_after=T0 + timedelta(seconds=9)
    )
    assert ends(replaced(evolve(sooner, [limit])), 1) == timedelta(seconds=9)


def test_a_second_report_revokes() -> None:
    key = replaced(first())
    assert decide_replaced(key, 1, hashed(51), stamp(1)) == []


def test_one_that_is_on_its_way_already_is_enough() -> None:
    key = evolve(first(), decide_mint(first(), Mint(secret=hashed(2)), stamp()))
    events = decide_replaced(key, 1, hashed(51), stamp())
    assert not any(isinstance(event, KeySecretMinted) for event in events)
    key = evolve(key, events)
    assert ends(key, 1) == timedelta(seconds=LEAK_GRACE_S)
    assert decide_replaced(key, 1, hashed(52), stamp(1)) == []


def test_it_is_revoked_when_a_newer_one_is_there_or_can_be_collected() -> None:
    key = evolve(first(BOTH), decide_mint(first(BOTH), Mint(secret=hashed(2)), stamp()))
    assert decide_replaced(key, 1, hashed(51), stamp()) == [], "the finder could collect it"
    collected = evolve(key, decide_collected(key, 2, 1, stamp()))
    assert decide_replaced(collected, 1, hashed(51), stamp()) == [], "the finder has it, perhaps"
    delivered = evolve(key, decide_delivered(key, 2, way_of(HOOK), stamp()))
    assert decide_replaced(delivered, 1, hashed(51), stamp()) == []


def test_it_is_revoked_when_none_can_be_brought() -> None:
    assert decide_replaced(first(RotationTerms(exchange=True)), 1, hashed(51), stamp()) == []
    assert decide_replaced(msgspec.structs.replace(first(), blocked=True), 1, hashed(51), stamp()) == []
    assert decide_replaced(first(), 7, hashed(51), stamp()) == []


def test_nothing_is_collected_with_a_reported_secret() -> None:
    key = replaced(first(BOTH))
    assert not is_collectable(key, key.secrets[-1])
    key = evolve(key, decide_delivered(key, 2, way_of(HOOK), stamp(1)))
    key = evolve(key, decide_mint(key, Mint(secret=hashed(3)), stamp(2)))
    assert decide_collected(key, 3, 1, stamp(2)) == []
    taken = evolve(key, decide_collected(key, 3, 2, stamp(2)))
    assert EXCHANGE in taken.secrets[-1].delivered
