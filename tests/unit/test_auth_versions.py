"""Versions of a secret: minted, delivered, in overlap, over."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.auth.domain import versions
from services.auth.domain.key_state import HashedSecret, KeyState
from services.auth.domain.renewing import (
    Mint,
    decide_collected,
    decide_delivered,
    decide_expired,
    decide_leaked,
    decide_mint,
    decide_rehash,
    decide_retire,
    decide_settle,
)
from services.auth.domain.stamp import IDS_PER_DECISION, Stamp
from services.auth.domain.versions import (
    EXCHANGE,
    RESPONSE,
    VersionEvent,
    evolve_versions,
    fallen,
    in_flight,
    is_collectable,
    living_versions,
    newest,
    status_of,
    waiting,
    way_of,
)
from shared.errors import ApiError
from shared.events import AnyAuthEvent, KeySecretMinted, KeySecretRetired, RotationTerms, Target
from shared.ids import EventId, KeyId, OrgId

T0 = datetime(2026, 3, 1, tzinfo=UTC)
VAULT = Target(kind="key_vault", place="https://kv1.vault.azure.net", name="team-search")
HOOK = Target(kind="webhook", place="https://hooks.example.com/a?token=hush")
CLUSTER = Target(kind="kubernetes", place="apps", name="search/OPENAI_API_KEY")


def stamp(minutes: float = 0) -> Stamp:
    ids = tuple(EventId(f"e{n}") for n in range(IDS_PER_DECISION))
    return Stamp(at=T0 + timedelta(minutes=minutes), source="test", actor="master-key", ids=ids)


def hashed(n: int, label: str = "p1") -> HashedSecret:
    return HashedSecret(label=label, digest=f"{n:064x}", hint=f"sk-...{n:04d}")


def evolve(key: KeyState, events: list[AnyAuthEvent]) -> KeyState:
    for event in events:
        assert isinstance(event, VersionEvent)
        key = evolve_versions(key, event)
    return key


def key_with(**terms: Any) -> KeyState:
    key = KeyState(
        key_id=KeyId("key_1"),
        org_id=OrgId("default"),
        created_at=T0,
        created_by="master-key",
        updated_at=T0,
        updated_by="master-key",
        rotation=RotationTerms(**terms) if terms else None,
    )
    first = KeySecretMinted(
        **stamp().envelope(0), key_id=key.key_id, version=1, label="p1", digest=f"{1:064x}", hint="sk-...0001"
    )
    return evolve_versions(key, first)


def mint(key: KeyState, n: int, minutes: float, **more: Any) -> KeyState:
    return evolve(key, decide_mint(key, Mint(secret=hashed(n), **more), stamp(minutes)))


def ends(key: KeyState) -> dict[int, datetime | None]:
    return {one.version: one.not_after for one in living_versions(key)}


def test_the_first_version_is_nobodys_delivery() -> None:
    key = key_with(targets=(VAULT,))
    assert in_flight(key) is None
    assert waiting(key) == {}
    assert [status_of(key, one, T0) for one in key.secrets] == ["current"]


def test_after_delivery_the_old_one_lives_until_all_targets_have_the_new() -> None:
    key = mint(key_with(targets=(VAULT, HOOK), grace="30m"), 2, 10)
    assert ends(key) == {1: None, 2: None}
    assert [status_of(key, one, T0) for one in key.secrets] == ["current", "pending"]
    assert waiting(key) == {2: (VAULT, HOOK)}
    key = evolve(key, decide_delivered(key, 2, way_of(VAULT), stamp(11), detail="0123"))
    assert ends(key) == {1: None, 2: None}
    assert waiting(key) == {2: (HOOK,)}
    assert [status_of(key, one, T0) for one in key.secrets] == ["overlap", "current"]
    key = evolve(key, decide_delivered(key, 2, way_of(HOOK), stamp(12)))
    assert ends(key) == {1: T0 + timedelta(minutes=42), 2: None}
    assert waiting(key) == {}
    assert in_flight(key) is None
    assert decide_expired(key, stamp(41)) == []
    key = evolve(key, decide_expired(key, stamp(42)))
    assert ends(key) == {2: None}
    assert key.secrets[0].retired_for == "expired"
    assert decide_expired(key, stamp(43)) == []


def test_after_grace_the_old_one_ends_whatever_becomes_of_the_delivery() -> None:
    key = mint(key_with(targets=(VAULT,), grace="30m", retire="after_grace"), 2, 10)
    assert ends(key) == {1: T0 + timedelta(minutes=40), 2: None}
    key = evolve(key, decide_delivered(key, 2, way_of(VAULT), stamp(20)))
    assert ends(key) == {1: T0 + timedelta(minutes=40), 2: None}, "a delivery does not prolong it"


def test_what_is_delivered_twice_is_said_once() -> None:
    key = mint(key_with(targets=(VAULT,)), 2, 10)
    key = evolve(key, decide_delivered(key, 2, way_of(VAULT), stamp(11)))
    assert decide_delivered(key, 2, way_of(VAULT), stamp(12)) == []
    assert decide_delivered(key, 9, way_of(VAULT), stamp(12)) == []


def test_the_same_due_instant_mints_once_and_an_older_one_not_at_all() -> None:
    due = T0 + timedelta(minutes=10)
    key = mint(key_with(targets=(VAULT,), interval="10m", anchor=T0), 2, 10, due_at=due)
    assert key.rotated_due_at == due
    for other in (due, due - timedelta(minutes=10)):
        assert decide_mint(key, Mint(secret=hashed(3), due_at=other), stamp(11)) == []
    assert decide_mint(key, Mint(secret=hashed(2)), stamp(11)) == [], "the same secret is the same request"
    forms = ((hashed(9, "p9").label, hashed(9).digest), (hashed(2).label, hashed(2).digest))
    again = Mint(secret=hashed(9, "p9"), forms=forms)
    assert decide_mint(key, again, stamp(11)) == [], "under whichever pepper it is stored"


def test_exchange_counts_as_the_delivery_where_nothing_else_is_set() -> None:
    key = mint(key_with(exchange=True, grace="1h"), 2, 10)
    fresh = newest(key)
    assert fresh is not None and is_collectable(key, fresh)
    assert waiting(key) == {2: ()}
    key = evolve(key, decide_delivered(key, 2, EXCHANGE, stamp(20)))
    assert ends(key) == {1: T0 + timedelta(minutes=80), 2: None}
    assert waiting(key) == {}
    assert decide_delivered(key, 2, EXCHANGE, stamp(21)) == []


def test_beside_push_targets_either_way_counts_for_its_own() -> None:
    key = mint(key_with(targets=(VAULT,), exchange=True, grace="1h"), 2, 10)
    key = evolve(key, decide_delivered(key, 2, EXCHANGE, stamp(20)))
    assert ends(key) == {1: None, 2: None}, "the vault does not have it yet"
    assert waiting(key) == {2: (VAULT,)}
    key = evolve(key, decide_delivered(key, 2, way_of(VAULT), stamp(30)))
    assert ends(key)[1] == T0 + timedelta(minutes=90)

    other = mint(key_with(targets=(VAULT,), exchange=True, grace="1h"), 2, 10)
    other = evolve(other, decide_delivered(other, 2, way_of(VAULT), stamp(20)))
    assert ends(other)[1] == T0 + timedelta(minutes=80)
    assert waiting(other) == {2: ()}, "it can still be collected"
    other = evolve(other, decide_delivered(other, 2, EXCHANGE, stamp(30)))
    assert ends(other)[1] == T0 + timedelta(minutes=80)
    assert waiting(other) == {}


def test_regenerated_without_grace_the_old_ones_end_now() -> None:
    key = mint(key_with(), 2, 10, shown=True, grace_s=0)
    assert ends(key) == {2: None}
    assert key.secrets[0].retired_for == "replaced"
    assert key.secrets[1].delivered == (RESPONSE,)
    assert in_flight(key) is None


def test_regenerated_with_grace_a_sooner_end_stays() -> None:
    key = mint(key_with(), 2, 10, shown=True, grace_s=600)
    key = mint(key, 3, 11, shown=True, grace_s=6_000)
    assert ends(key) == {1: T0 + timedelta(minutes=20), 2: T0 + timedelta(minutes=111), 3: None}


def test_regenerated_with_a_shorter_grace_a_later_end_comes_nearer() -> None:
    key = mint(mint(key_with(), 1, 0), 2, 10, shown=True, grace_s=86_400)
    key = mint(key, 3, 20, shown=True, grace_s=60)
    assert ends(key) == {1: T0 + timedelta(minutes=21), 2: T0 + timedelta(minutes=21), 3: None}


def test_regenerated_while_another_is_on_its_way_that_one_is_given_up() -> None:
    key = mint(key_with(targets=(VAULT,)), 2, 10)
    key = mint(key, 3, 11, shown=True, grace_s=600)
    assert key.secrets[1].retired_for == "undelivered"
    assert waiting(key) == {3: (VAULT,)}, "the targets get it too"
    assert ends(key) == {1: T0 + timedelta(minutes=21), 3: None}


def test_a_version_with_a_newer_one_beside_it_is_brought_nowhere_any_more() -> None:
    key = mint(key_with(targets=(HOOK,)), 2, 10, shown=True, grace_s=6_000)
    assert waiting(key) == {2: (HOOK,)}
    key = mint(key, 3, 11, shown=True, grace_s=6_000)
    assert waiting(key) == {3: (HOOK,)}
    key = evolve(key, decide_delivered(key, 3, way_of(HOOK), stamp(12)))
    assert waiting(key) == {}
    assert in_flight(key) is None


def test_too_many_at_once_are_refused_and_an_end_of_all_helps() -> None:
    key = key_with()
    for n in range(2, versions.OVERLAP_MAX + 1):
        key = mint(key, n, n, shown=True, grace_s=86_400)
    with pytest.raises(ApiError) as refused:
        mint(key, 99, 20, shown=True, grace_s=86_400)
    assert refused.value.code == "too_many_versions"
    key = mint(key, 99, 20, shown=True, grace_s=0)
    assert len(living_versions(key)) == 1


def test_no_decision_needs_more_ids_than_a_stamp_has() -> None:
    key = key_with()
    for n in range(2, versions.OVERLAP_MAX + 1):
        key = mint(key, n, n, shown=True, grace_s=86_400)
    assert len(decide_mint(key, Mint(secret=hashed(50), shown=True, grace_s=0), stamp(20))) + 4 <= IDS_PER_DECISION


def test_after_a_leak_the_newer_one_is_collected_by_nobody() -> None:
    key = mint(key_with(exchange=True), 2, 10)
    key = evolve(key, decide_leaked(key, stamp(11), versions={1}))
    assert key.secrets[0].retired_for == "leaked"
    assert waiting(key) == {}
    assert status_of(key, key.secrets[0], T0) == "leaked"
    [event] = decide_settle(key, stamp(12))
    assert isinstance(event, KeySecretRetired)
    assert (event.version, event.reason) == (2, "undelivered")


def collected(key: KeyState, version: int, sent: int, minutes: float) -> KeyState:
    return evolve(key, decide_collected(key, version, sent, stamp(minutes)))


def test_what_was_collected_with_a_leaked_version_falls_with_it() -> None:
    key = collected(mint(key_with(exchange=True, grace="3d"), 2, 1), 2, 1, 2)
    key = collected(mint(key, 3, 3), 3, 2, 4)
    key = mint(key, 4, 5, shown=True, grace_s=3600)
    assert [secret.collected_with for secret in key.secrets] == [0, 1, 2, 0]
    assert fallen(key, {2}) == {2, 3}
    assert fallen(key, {4}) == {4}
    over = key
    for version in (1, 2):
        over = evolve(over, decide_retire(over, version, "expired", stamp(6)))
    for one, ended in ((key, {1, 2, 3}), (over, {3})):
        events = decide_leaked(one, stamp(7), versions=[1])
        assert {event.version for event in events if isinstance(event, KeySecretRetired)} == ended
        assert [secret.version for secret in living_versions(evolve(one, events))] == [4]
        assert decide_leaked(evolve(one, events), stamp(8), versions=[1]) == []


def test_a_version_shown_or_pushed_to_its_owner_falls_too_when_it_was_collected() -> None:
    """Whoever had the leaked one has this one as well."""
    shown = mint(key_with(exchange=True), 2, 1, shown=True, grace_s=3600)
    assert fallen(shown, {1}) == {1}
    assert fallen(collected(shown, 2, 1, 2), {1}) == {1, 2}
    pushed = mint(key_with(exchange=True, targets=(HOOK,)), 2, 1)
    pushed = evolve(pushed, decide_delivered(pushed, 2, way_of(HOOK), stamp(2)))
    assert fallen(collected(pushed, 2, 1, 3), {1}) == {1, 2}


def test_a_version_long_forgotten_is_taken_for_a_collected_one() -> None:
    key = key_with(exchange=True, grace="1m")
    for n in range(2, 70):
        key = collected(mint(key, n, 10 * n), n, n - 1, 10 * n + 1)
        key = evolve(key, decide_expired(key, stamp(10 * n + 5)))
    assert min(secret.version for secret in key.secrets) > 5
    assert 69 in fallen(key, {3})
    assert fallen(key, {69}) == {69}


def test_nothing_is_collected_with_a_version_that_is_over() -> None:
    key = mint(mint(key_with(exchange=True), 2, 1, shown=True, grace_s=3600), 3, 2)
    key = evolve(key, decide_retire(key, 1, "replaced", stamp(3)))
    assert decide_collected(key, 3, 1, stamp(4)) == []
    assert len(decide_collected(key, 3, 2, stamp(4))) > 0


def test_a_leak_of_the_key_ends_all_versions_and_the_key_stays() -> None:
    key = mint(key_with(), 2, 10, shown=True, grace_s=600)
    key = evolve(key, decide_leaked(key, stamp(11)))
    assert living_versions(key) == ()
    assert decide_leaked(key, stamp(12)) == []
    key = mint(key, 3, 13, shown=True, grace_s=0)
    assert ends(key) == {3: None}


def test_uncollected_until_the_old_one_ended_it_is_given_up() -> None:
    key = mint(key_with(exchange=True, grace="30m", retire="after_grace"), 2, 10)
    key = evolve(key, decide_expired(key, stamp(40)))
    assert waiting(key) == {}
    key = evolve(key, decide_settle(key, stamp(40)))
    assert key.secrets[1].retired_for == "undelivered"
    assert decide_settle(key, stamp(41)) == []


def test_with_the_last_outstanding_target_gone_what_was_delivered_counts() -> None:
    key = mint(key_with(targets=(VAULT, HOOK), grace="1h"), 2, 10)
    key = evolve(key, decide_delivered(key, 2, way_of(VAULT), stamp(11)))
    key = msgspec.structs.replace(key, rotation=RotationTerms(targets=(VAULT,), grace="1h"))
    assert waiting(key) == {}
    key = evolve(key, decide_settle(key, stamp(12)))
    assert in_flight(key) is None
    assert ends(key) == {1: T0 + timedelta(minutes=72), 2: None}


def test_a_deleted_key_waits_for_nothing() -> None:
    key = mint(key_with(targets=(VAULT,), exchange=True), 2, 10)
    assert waiting(msgspec.structs.replace(key, deleted_at=T0)) == {}


def test_rehashed_the_version_is_the_same() -> None:
    key = key_with()
    old, new = ("p1", f"{1:064x}"), ("p2", f"{7:064x}")
    key = evolve(key, decide_rehash(key, old, new, stamp(1)))
    assert (key.secrets[0].label, key.secrets[0].digest, key.secrets[0].version) == (*new, 1)
    assert decide_rehash(key, old, new, stamp(2)) == []
    assert decide_rehash(key, new, new, stamp(2)) == []
    key = evolve(key, decide_retire(key, 1, "leaked", stamp(3)))
    assert decide_rehash(key, new, old, stamp(4)) == []


def test_the_history_of_a_busy_key_is_bounded() -> None:
    key = key_with()
    for n in range(2, versions.RETIRED_KEPT + 30):
        key = mint(key, n, n, shown=True, grace_s=0)
    assert len(key.secrets) == versions.RETIRED_KEPT + 1
    assert key.secrets[-1].version == versions.RETIRED_KEPT + 29


def test_the_name_of_a_target_tells_nothing_that_opens_it() -> None:
    assert way_of(VAULT) == "key_vault:kv1.vault.azure.net/team-search"
    assert way_of(CLUSTER) == "kubernetes:apps/search/OPENAI_API_KEY"
    assert "hush" not in way_of(HOOK)
    assert way_of(HOOK) != way_of(Target(kind="webhook", place="https://hooks.example.com/b"))


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["due", "vault", "exchange", "regenerate", "expire", "settle", "leak"]), st.integers(0, 9)
    ),
    max_size=40,
)


@given(ACTIONS, st.booleans(), st.booleans(), st.sampled_from(["after_delivery", "after_grace"]))
def test_no_order_of_events_leaves_the_owner_without_a_secret(
    actions: list[tuple[str, int]], push: bool, exchange: bool, retire: str
) -> None:
    """With `after_delivery` there is at every moment a living version that was handed to somebody, unless it leaked."""
    key = key_with(targets=(VAULT,) if push else (), exchange=exchange, grace="10m", retire=retire)
    leaked = False
    for n, (action, wait) in enumerate(actions, start=2):
        at = stamp(n * 7 + wait)
        flying = in_flight(key)
        match action:
            case "due" if flying is None and (push or exchange) and len(living_versions(key)) < versions.OVERLAP_MAX:
                events = decide_mint(key, Mint(secret=hashed(n)), at)
            case "vault" if flying is not None and waiting(key).get(flying.version):
                events = decide_delivered(key, flying.version, way_of(VAULT), at)
            case "exchange" if (last := newest(key)) is not None and is_collectable(key, last):
                events = decide_delivered(key, last.version, EXCHANGE, at)
            case "regenerate":
                events = decide_mint(key, Mint(secret=hashed(n), shown=True, grace_s=0), at)
                leaked = False
            case "expire":
                events = decide_expired(key, at)
            case "settle":
                events = decide_settle(key, at)
            case "leak" if wait == 0:
                events = decide_leaked(key, at)
                leaked = True
            case _:
                events = []
        key = evolve(key, events)
        held = [one for one in living_versions(key) if one.version == 1 or one.delivered]
        if retire == "after_delivery" and not leaked:
            assert held
            assert any(one.not_after is None for one in held)
        for version in waiting(key):
            assert any(one.version == version for one in living_versions(key))
