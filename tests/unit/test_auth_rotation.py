"""The terms of renewal: what may be asked, when a secret is due, and how far it has come."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from services.auth.domain.key_state import KeyState
from services.auth.domain.rotation import (
    due_of,
    next_at,
    obstacle,
    rotation_after,
    stage_of,
)
from services.auth.domain.versions import way_of
from services.auth.rotation.asked import rotation_change
from services.auth.rotation.delivering import is_told, pause_after
from services.auth.schemas.rotation import RotationFields
from shared.errors import ApiError
from shared.events import RotationTerms, Target
from tests.unit.test_auth_versions import HOOK, T0, VAULT, evolve, key_with, mint, stamp

EXCHANGE = [{"type": "exchange"}]


def terms(body: dict[str, Any], before: RotationTerms | None = None, at: datetime = T0) -> RotationTerms | None:
    return rotation_after(before, rotation_change(msgspec.convert(body, RotationFields)), at)


def refusal(body: dict[str, Any], before: RotationTerms | None = None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        terms(body, before)
    assert caught.value.status == 400
    return caught.value


def test_the_terms_of_a_new_key() -> None:
    body = {"auto_rotate": True, "rotation_interval": "30d", "rotation_delivery": EXCHANGE}
    assert terms(body) == RotationTerms(interval="30d", anchor=T0, grace="24h", exchange=True)
    vault = {"type": "key_vault", "vault": "https://KV1.vault.azure.net/", "secret": "team-search"}
    hook = {"type": "webhook", "url": HOOK.place}
    cluster = {"type": "kubernetes", "namespace": "apps", "secret": "search", "entry": "OPENAI_API_KEY"}
    found = terms({"rotation_delivery": [vault, hook, cluster], "rotation_retire": "after_grace", "grace_period": "0s"})
    assert found is not None
    assert found.targets == (VAULT, HOOK, Target(kind="kubernetes", place="apps", name="search/OPENAI_API_KEY"))
    assert (found.interval, found.retire, found.grace) == (None, "after_grace", "0s")


def test_without_a_way_to_the_owner_it_is_refused_with_the_four_ways() -> None:
    error = refusal({"auto_rotate": True, "rotation_interval": "30d"})
    assert error.code == "no_delivery"
    assert all(way in error.message for way in ("key_vault", "webhook", "kubernetes", "exchange"))
    before = RotationTerms(interval="30d", anchor=T0, exchange=True)
    assert refusal({"rotation_delivery": []}, before).code == "no_delivery"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"auto_rotate": True, "rotation_delivery": EXCHANGE}, "rotation_interval"),
        ({"rotation_interval": "30d", "rotation_delivery": EXCHANGE}, "rotation_interval"),
        ({"auto_rotate": True, "rotation_interval": "59s", "rotation_delivery": EXCHANGE}, "rotation_interval"),
        ({"auto_rotate": True, "rotation_interval": "1h", "rotation_delivery": EXCHANGE}, "grace_period"),
        (
            {"auto_rotate": True, "rotation_interval": "1h", "grace_period": "1h", "rotation_delivery": EXCHANGE},
            "grace_period",
        ),
        ({"grace_period": "0s", "rotation_delivery": EXCHANGE}, "grace_period"),
        ({"grace_period": "1h"}, "grace_period"),
        ({"grace_period": "soon", "rotation_delivery": EXCHANGE}, "grace_period"),
        ({"rotation_retire": "never", "rotation_delivery": EXCHANGE}, "rotation_retire"),
        ({"rotation_delivery": [{"type": "pigeon"}]}, "rotation_delivery"),
        ({"rotation_delivery": [{"type": "exchange", "url": "https://a.example"}]}, "rotation_delivery"),
        ({"rotation_delivery": [{"type": "webhook"}]}, "rotation_delivery"),
        ({"rotation_delivery": [{"type": "webhook", "url": "ftp://a.example"}]}, "rotation_delivery"),
        ({"rotation_delivery": [{"type": "webhook", "url": "https://u:p@a.example/"}]}, "rotation_delivery"),
        ({"rotation_delivery": [{"type": "webhook", "url": "https://@a.example/"}]}, "rotation_delivery"),
        ({"rotation_delivery": [{"type": "webhook", "url": "https://a.example/#x"}]}, "rotation_delivery"),
        ({"rotation_delivery": [{"type": "webhook", "url": "https://a.example:99999/"}]}, "rotation_delivery"),
        ({"rotation_delivery": [{"type": "webhook", "url": "https://a.example\\@b.example/"}]}, "rotation_delivery"),
        ({"rotation_delivery": [{"type": "webhook", "url": "https://[::1/"}]}, "rotation_delivery"),
        ({"rotation_delivery": [{"type": "webhook", "url": "https:///x"}]}, "rotation_delivery"),
        ({"rotation_delivery": [{"type": "webhook", "url": "https://a.example/\r\nx: y"}]}, "rotation_delivery"),
        ({"rotation_delivery": [{"type": "webhook", "url": "https://a.example/"}] * 2}, "rotation_delivery"),
        (
            {"rotation_delivery": [{"type": "key_vault", "vault": "https://kv1.vault.azure.net/x", "secret": "a"}]},
            "rotation_delivery",
        ),
        (
            {"rotation_delivery": [{"type": "key_vault", "vault": "http://kv1.vault.azure.net", "secret": "a"}]},
            "rotation_delivery",
        ),
        (
            {"rotation_delivery": [{"type": "key_vault", "vault": "https://kv1.vault.azure.net", "secret": "a/b"}]},
            "rotation_delivery",
        ),
        (
            {"rotation_delivery": [{"type": "kubernetes", "namespace": "a/b", "secret": "s", "entry": "E"}]},
            "rotation_delivery",
        ),
        (
            {"rotation_delivery": [{"type": "kubernetes", "namespace": "a", "secret": "../s", "entry": "E"}]},
            "rotation_delivery",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    assert refusal(body).param == param


def test_a_change_leaves_alone_what_it_does_not_name() -> None:
    before = RotationTerms(interval="30d", anchor=T0, grace="2h", exchange=True)
    later = T0 + timedelta(days=40)
    assert terms({}, before, later) == before
    assert terms({"auto_rotate": True, "rotation_interval": "30d"}, before, later) == before, "the anchor stays"
    assert terms({"rotation_interval": "60d"}, before, later) == msgspec.structs.replace(
        before, interval="60d", anchor=later
    )
    assert terms({"grace_period": None}, before, later) == msgspec.structs.replace(before, grace="24h")
    assert terms({"auto_rotate": False}, before, later) == msgspec.structs.replace(before, interval=None, anchor=None)
    assert terms({"auto_rotate": False, "rotation_delivery": None}, before, later) is None


def rotating(**more: Any) -> KeyState:
    return key_with(interval="10m", anchor=T0, targets=(VAULT,), grace="5m", **more)


def test_missed_instants_are_one_and_nothing_drifts() -> None:
    key = rotating()
    now = T0 + timedelta(minutes=47, seconds=3)
    newest = T0 + timedelta(minutes=40)
    for said in (10, 20, 30, 40):
        assert due_of(key, T0 + timedelta(minutes=said), now) == newest
    key = mint(key, 2, 47.05, due_at=newest)
    for said in (10, 20, 30, 40):
        assert due_of(key, T0 + timedelta(minutes=said), now) is None
    assert next_at(key, now) == T0 + timedelta(minutes=50)
    assert due_of(key, T0 + timedelta(minutes=50), now) is None, "that is not yet"
    late = T0 + timedelta(minutes=49, seconds=30)
    assert due_of(key, T0 + timedelta(minutes=50), late) == T0 + timedelta(minutes=50), "clocks differ a little"


def test_what_is_no_instant_of_the_terms_is_not_due() -> None:
    now = T0 + timedelta(hours=1)
    key = rotating()
    assert due_of(key, T0, now) is None
    assert due_of(key, T0 - timedelta(minutes=10), now) is None
    assert due_of(key, T0 + timedelta(minutes=15), now) is None
    assert due_of(key_with(targets=(VAULT,)), T0 + timedelta(minutes=10), now) is None


def test_what_stands_against_a_new_secret() -> None:
    now = T0 + timedelta(minutes=11)
    key = rotating()
    replace = msgspec.structs.replace
    assert obstacle(key, now) is None
    assert obstacle(replace(key, blocked=True), now) == "blocked"
    assert obstacle(replace(key, deleted_at=T0), now) == "deleted"
    assert obstacle(replace(key, expires_at=now), now) == "expired"
    assert obstacle(replace(key, rotation=None), now) == "no_delivery"
    assert obstacle(mint(key, 2, 10), now) == "in_flight"
    from services.auth.domain.renewing import decide_leaked

    lone = key_with(exchange=True)
    assert obstacle(evolve(lone, decide_leaked(lone, stamp(1))), now) == "no_collector"


def test_the_stages_of_a_renewal() -> None:
    from services.auth.domain.renewing import decide_delivered, decide_expired

    key = rotating()
    at = lambda minutes: T0 + timedelta(minutes=minutes)  # noqa: E731
    assert stage_of(key_with(), at(1)) == "off"
    assert stage_of(key_with(targets=(VAULT,)), at(1)) == "manual"
    assert stage_of(key, at(9)) == "scheduled"
    assert stage_of(key, at(10.5)) == "due"
    key = mint(key, 2, 10.5, due_at=at(10))
    assert stage_of(key, at(11)) == "minted"
    key = evolve(key, decide_delivered(key, 2, way_of(VAULT), stamp(11)))
    assert stage_of(key, at(12)) == "overlap"
    key = evolve(key, decide_expired(key, stamp(16)))
    assert stage_of(key, at(16)) == "scheduled"


def test_how_often_a_delivery_is_tried_and_when_somebody_hears() -> None:
    assert [pause_after(n).total_seconds() for n in (1, 2, 3, 7, 8, 9, 500)] == [5, 10, 20, 320, 640, 900, 900]
    now = datetime(2026, 3, 2, tzinfo=UTC)
    assert [is_told(n, None, now) for n in (1, 2, 3)] == [False, False, True]
    assert not is_told(9, now - timedelta(hours=23), now)
    assert is_told(99, now - timedelta(hours=24), now)


@pytest.mark.parametrize(
    "host", ["a..b", ".a.b", "%00", "a%2fb", "xn--", "xn--a-0", "-a.b", "a-.b", "a;b", "a" * 70, "a." * 130]
)
def test_a_host_that_can_have_no_name_is_refused(host: str) -> None:
    error = refusal({"rotation_delivery": [{"type": "webhook", "url": f"https://{host}/hook"}]})
    assert (error.code, error.param) == ("invalid_value", "rotation_delivery")
    refusal({"rotation_delivery": [{"type": "key_vault", "vault": f"https://{host}", "secret": "a"}]})


@pytest.mark.parametrize("host", ["a", "a.b.", "my_host.local", "xn--bcher-kva.example", "127.0.0.1", "[::1]", "A.B"])
def test_a_host_that_can_have_a_name_is_none_of_those(host: str) -> None:
    found = terms({"rotation_delivery": [{"type": "webhook", "url": f"https://{host}/hook"}]})
    assert found is not None
    assert found.targets[0].place == f"https://{host}/hook"
