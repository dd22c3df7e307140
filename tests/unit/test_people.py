"""Whose secret that is, and whether it is in force: the mirrors as every service that lets people in has them."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
import pytest

from shared.access import SecretHasher
from shared.bus import Bus
from shared.errors import ApiError
from shared.ids import KeyId, OrgId, TeamId
from shared.people import People
from shared.policy import KeyRecord, OrgRecord, Revocation, SecretRecord, TeamRecord
from shared.topology import key_kv, org_kv, secret_kv, team_kv

NOW = datetime(2026, 5, 1, tzinfo=UTC)
HASHER = SecretHasher({"p2": b"2" * 32, "p1": b"1" * 32})
KEY, TEAM, ORG = KeyId("key_1"), TeamId("search"), OrgId("research")
KEY_RECORD = KeyRecord(seq=1, key_id=KEY, org_id=ORG, team_id=TEAM, alias="the-key")
TEAM_RECORD = TeamRecord(seq=1, team_id=TEAM, org_id=ORG)
ORG_RECORD = OrgRecord(seq=1, org_id=ORG)
ENTRY = Revocation(kind="blocked", at=NOW, actor="master-key")
UNREADABLE = b'{"kind":"frozen","at":"2031-01-01T00:00:00Z"}'
"""As a later version may write it."""


class Still:
    """A clock that stands still."""

    def now(self) -> datetime:
        return NOW

    def monotonic_ms(self) -> int:
        return 0


def name_of(secret: str, label: str = "p2") -> str:
    return secret_kv(label, HASHER.digest(secret, label))


def record(version: int = 1, not_after: datetime | None = None) -> SecretRecord:
    return SecretRecord(key_id=KEY, version=version, seq=1, not_after=not_after)


def people(keys: dict[str, Any] | None = None, revoked: dict[str, Any] | None = None, *, ready: bool = True) -> People:
    """People as both buckets say: one key of one team with the secret `sk-1`, and what is said besides."""
    found = People(cast("Bus", None), HASHER, Still())
    content: dict[str, Any] = {
        name_of("sk-1"): record(),
        key_kv(KEY): KEY_RECORD,
        team_kv(TEAM): TEAM_RECORD,
        org_kv(ORG): ORG_RECORD,
        "position": {"any": "thing"},
    }
    found._load_keys(encoded(content | (keys or {})))
    found._load_revoked(encoded(revoked or {}))
    if ready:
        found.keys_mirror._loaded.set()
        found.revoked_mirror._loaded.set()
    return found


def encoded(content: dict[str, Any]) -> dict[str, bytes]:
    return {
        name: value if isinstance(value, bytes) else msgspec.json.encode(value)
        for name, value in content.items()
        if value is not None
    }


def why(found: People, secret: str = "sk-1") -> str | None:
    """Why a secret is refused; None when it is in force, "unknown" when it is nobody's."""
    try:
        return None if found.holder(secret) is not None else "unknown"
    except ApiError as error:
        refused = error
    assert refused.status == {"invalid_api_key": 401, "unavailable": 503}[refused.code]
    assert secret not in refused.message
    return refused.message.removeprefix("The API key is ").rstrip(".") if refused.status == 401 else refused.code


def test_a_secret_in_force_is_its_keys() -> None:
    found = people()
    assert found.holder("sk-1") == KEY_RECORD
    assert found.holder("sk-2") is None


def test_under_any_listed_pepper() -> None:
    found = people({name_of("sk-old", "p1"): record()})
    assert why(found, "sk-old") is None
    assert set(found.secrets_of(KEY)) == {name_of("sk-1"), name_of("sk-old", "p1")}


def test_before_everything_is_loaded_nobody_is_let_in() -> None:
    assert why(people(ready=False)) == "unavailable"
    half = people(ready=False)
    half.keys_mirror._loaded.set()
    assert why(half) == "unavailable"


@pytest.mark.parametrize("name", [name_of("sk-1"), key_kv(KEY), team_kv(TEAM), org_kv(ORG)])
@pytest.mark.parametrize("kind", ["deleted", "blocked", "leaked"])
def test_an_entry_against_a_secret_its_key_team_or_organization_revokes(name: str, kind: Any) -> None:
    assert why(people(revoked={name: msgspec.structs.replace(ENTRY, kind=kind)})) == "revoked"


@pytest.mark.parametrize("name", [name_of("sk-2"), key_kv("key_2"), team_kv("research"), org_kv("search")])
def test_an_entry_against_others_does_not(name: str) -> None:
    assert why(people(revoked={name: ENTRY})) is None


@pytest.mark.parametrize("name", [name_of("sk-1"), key_kv(KEY), team_kv(TEAM), org_kv(ORG)])
def test_an_entry_that_cannot_be_read_revokes_all_the_same(name: str) -> None:
    found = people(revoked={name: UNREADABLE})
    assert why(found) == "revoked"
    found._remove_revoked(name)
    assert why(found) is None
    found._put_revoked(name, UNREADABLE)
    assert why(found) == "revoked"
    found._load_revoked({})
    assert why(found) is None


def test_an_entry_that_becomes_readable_is_an_entry_like_others() -> None:
    found = people(revoked={key_kv(KEY): UNREADABLE})
    assert found.revocation_of(KEY) is None
    found._put_revoked(key_kv(KEY), msgspec.json.encode(ENTRY))
    assert found.revocation_of(KEY) == ENTRY
    found._remove_revoked(key_kv(KEY))
    assert why(found) is None


@pytest.mark.parametrize("name", [key_kv(KEY), team_kv(TEAM), org_kv(ORG)])
def test_a_record_that_cannot_be_read_does_not_leave_the_one_before_in_force(name: str) -> None:
    found = people()
    found._put_key(name, b'{"seq":2,"blocked":"since tuesday"}')
    assert why(found) == "revoked"
    found._load_keys(encoded({name_of("sk-1"): record(), key_kv(KEY): KEY_RECORD}))
    assert why(found) is None


def test_a_secret_that_cannot_be_read_is_nobodys() -> None:
    found = people()
    found._put_key(name_of("sk-1"), b"{}")
    assert why(found) == "unknown"
    assert found.secrets_of(KEY) == ()


@pytest.mark.parametrize(
    "change",
    [
        {key_kv(KEY): msgspec.structs.replace(KEY_RECORD, blocked=True)},
        {team_kv(TEAM): msgspec.structs.replace(TEAM_RECORD, blocked=True)},
        {org_kv(ORG): msgspec.structs.replace(ORG_RECORD, blocked=True)},
    ],
)
def test_blocked_by_a_record_wherever_above(change: dict[str, Any]) -> None:
    found = people(change)
    assert why(found) == "blocked"
    for name in change:
        found._put_key(name, encoded({name: people_record(name)})[name])
    assert why(found) is None


def people_record(name: str) -> Any:
    return {key_kv(KEY): KEY_RECORD, team_kv(TEAM): TEAM_RECORD, org_kv(ORG): ORG_RECORD}[name]


def test_a_key_and_a_version_end_when_they_end() -> None:
    later, now = NOW + timedelta(seconds=1), NOW
    for end, said in ((later, None), (now, "expired")):
        assert why(people({key_kv(KEY): msgspec.structs.replace(KEY_RECORD, expires_at=end)})) == said
        assert why(people({name_of("sk-1"): record(not_after=end)})) == said
    two = people({name_of("sk-1"): record(not_after=now), name_of("sk-2"): record(2)})
    assert (why(two, "sk-1"), why(two, "sk-2")) == ("expired", None)


def test_a_secret_without_its_key_is_refused() -> None:
    assert why(people({key_kv(KEY): None})) == "revoked"


def test_revoked_comes_before_blocked_and_expired() -> None:
    dead = msgspec.structs.replace(KEY_RECORD, blocked=True, expires_at=NOW)
    assert why(people({key_kv(KEY): dead})) == "blocked"
    assert why(people({key_kv(KEY): dead}, {org_kv(ORG): ENTRY})) == "revoked"


def test_a_key_without_a_team_is_not_asked_for_one() -> None:
    alone = msgspec.structs.replace(KEY_RECORD, team_id=None)
    assert why(people({key_kv(KEY): alone}, {team_kv(TEAM): ENTRY, "t.None": ENTRY})) is None


def test_what_is_removed_is_gone() -> None:
    found = people()
    assert found.find_alias("the-key") == KEY
    assert found.secret("sk-1") == (name_of("sk-1"), record())
    for name in (name_of("sk-1"), key_kv(KEY), team_kv(TEAM), org_kv(ORG), "position"):
        found._remove_key(name)
    assert (found.secrets, found.keys, found.teams, found.orgs) == ({}, {}, {}, {})
    assert (found.secrets_of(KEY), found.find_alias("the-key"), found.secret("sk-1")) == ((), None, None)
