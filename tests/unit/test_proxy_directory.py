"""Who is calling: revocation beats every record, and the unknown is refused."""

from datetime import UTC, datetime, timedelta
from typing import cast

import msgspec
import pytest

from services.proxy.directory import Directory
from services.proxy.domain.admission import Refused
from shared.access import SecretHasher
from shared.bus import Bus
from shared.ids import AccountId, KeyId, OrgId, TeamId
from shared.policy import Budget, KeyRecord, OrgRecord, Revocation, RevocationKind, SecretRecord, TeamRecord
from shared.topology import key_kv, org_kv, secret_kv, team_kv
from shared.windows import WindowSpec
from tests.fakes.bus import FakeBus

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HASHER = SecretHasher({"p2": b"2" * 32, "p1": b"1" * 32})
SECRET = "sk-a-virtual-key"
KEY, TEAM, ORG = KeyId("k1"), TeamId("t1"), OrgId("o1")
ENTRY = HASHER.entries(SECRET)[0]
OLD_ENTRY = HASHER.entries(SECRET)[1]


def pack(record: object) -> bytes:
    return msgspec.json.encode(record)


def key(**more: object) -> bytes:
    return pack(KeyRecord(**{"seq": 5, "key_id": KEY, "org_id": ORG, "team_id": TEAM, **more}))  # type: ignore[arg-type]


def secret(**more: object) -> bytes:
    return pack(SecretRecord(**{"key_id": KEY, "version": 1, "seq": 4, **more}))  # type: ignore[arg-type]


def team(**more: object) -> bytes:
    return pack(TeamRecord(**{"seq": 3, "team_id": TEAM, "org_id": ORG, **more}))  # type: ignore[arg-type]


def org(**more: object) -> bytes:
    return pack(OrgRecord(**{"seq": 2, "org_id": ORG, **more}))  # type: ignore[arg-type]


def revocation(kind: RevocationKind) -> bytes:
    return pack(Revocation(kind=kind, at=NOW, actor="master-key"))


RECORDS = {ENTRY: secret(), key_kv(KEY): key(), team_kv(TEAM): team(), org_kv(ORG): org()}


def empty() -> Directory:
    return Directory(cast(Bus, FakeBus()), HASHER, 4)


def loaded(records: dict[str, bytes] = RECORDS, revoked: dict[str, bytes] | None = None) -> Directory:
    directory = empty()
    directory._load_keys(records)
    directory.keys._loaded.set()
    directory.keys.fresh = True
    directory._load_revoked(revoked or {})
    directory.revoked._loaded.set()
    return directory


def refused(directory: Directory, at: datetime = NOW) -> tuple[int, str]:
    with pytest.raises(Refused) as error:
        directory.find(SECRET, at)
    assert SECRET not in error.value.message
    return error.value.status, error.value.code


def test_finds_who_calls() -> None:
    caller = loaded().find(SECRET, NOW)
    assert (caller.key_id, caller.team_id, caller.org_id, caller.policy_rev) == (KEY, TEAM, ORG, 5)
    assert loaded({**RECORDS, OLD_ENTRY: secret()}).find(SECRET, NOW).key_id == KEY


def test_an_older_pepper_still_counts() -> None:
    records = {name: value for name, value in RECORDS.items() if name != ENTRY}
    assert loaded({**records, OLD_ENTRY: secret()}).find(SECRET, NOW).key_id == KEY


@pytest.mark.parametrize("half", ["keys", "revoked", ""])
def test_until_both_mirrors_are_loaded_nobody_is_admitted(half: str) -> None:
    directory = empty()
    directory._load_keys(RECORDS)
    if half:
        getattr(directory, half)._loaded.set()
    assert not directory.ready
    assert refused(directory) == (503, "starting")


def test_an_unknown_secret() -> None:
    assert refused(loaded({})) == (401, "invalid_api_key")


def test_while_the_mirror_catches_up_an_unknown_secret_may_be_a_new_one() -> None:
    directory = loaded({})
    directory.keys.fresh = False
    assert refused(directory) == (503, "keys_stale")


REVOKED = {"deleted": (401, "key_revoked"), "leaked": (401, "key_revoked"), "blocked": (403, "key_blocked")}


@pytest.mark.parametrize("kind", ["deleted", "leaked", "blocked"])
@pytest.mark.parametrize("entry", [ENTRY, key_kv(KEY)])
def test_a_revocation_beats_the_record_in_either_order(kind: RevocationKind, entry: str) -> None:
    before = loaded({}, {})
    before._put_revoked(entry, revocation(kind))
    for name, value in RECORDS.items():
        before._put_key(name, value)
    assert refused(before) == REVOKED[kind]

    after = loaded()
    after.find(SECRET, NOW)
    after._put_revoked(entry, revocation(kind))
    assert refused(after) == REVOKED[kind]
    after._put_key(key_kv(KEY), key(seq=99))
    after._put_key(ENTRY, secret(seq=99))
    after._load_keys(RECORDS)
    assert refused(after) == REVOKED[kind]

    at_load = loaded(RECORDS, {entry: revocation(kind)})
    assert refused(at_load) == REVOKED[kind]
    at_load._remove_revoked(entry)
    assert at_load.find(SECRET, NOW).key_id == KEY


def test_a_revoked_secret_without_record_says_so() -> None:
    assert refused(loaded({}, {ENTRY: revocation("deleted")})) == (401, "key_revoked")


@pytest.mark.parametrize("value", [b"rubbish", b"{}", b'{"kind":"exploded"}', b"\xff"])
def test_a_revocation_that_cannot_be_read_still_revokes(value: bytes) -> None:
    assert refused(loaded(RECORDS, {key_kv(KEY): value})) == (403, "key_blocked")
    directory = loaded()
    directory._put_revoked(key_kv(KEY), value)
    assert refused(directory) == (403, "key_blocked")
    assert directory.current(KEY) is None


def test_a_retired_secret() -> None:
    records = {**RECORDS, ENTRY: secret(not_after=NOW)}
    assert refused(loaded(records)) == (401, "key_retired")
    assert loaded(records).find(SECRET, NOW - timedelta(microseconds=1)).key_id == KEY


def test_a_change_of_the_team_or_organization_is_joined_anew() -> None:
    directory = loaded()
    assert directory.find(SECRET, NOW).blocked is None
    directory._put_key(team_kv(TEAM), team(seq=10, blocked=True))
    assert (directory.find(SECRET, NOW).blocked, directory.find(SECRET, NOW).policy_rev) == ("team", 10)
    directory._put_key(team_kv(TEAM), team(seq=11))
    directory._put_key(org_kv(ORG), org(seq=12, blocked=True))
    assert directory.find(SECRET, NOW).blocked == "organization"
    directory._put_key(org_kv(ORG), org(seq=13, models=("phi-4",)))
    assert not directory.find(SECRET, NOW).may_use("gpt-4o")


def test_a_changed_budget_changes_the_lineage() -> None:
    directory = loaded()
    assert directory.find(SECRET, NOW).lineage("m").accounts == ()
    budget = Budget(
        account=AccountId("acc"), scope_kind="key", scope_id=KEY, window=WindowSpec(anchor=NOW), limit_nusd=1
    )
    directory._put_key(key_kv(KEY), key(seq=9, budgets=(budget,)))
    assert directory.find(SECRET, NOW).lineage("m").accounts == ("acc",)
    current = directory.current(KEY)
    assert current is not None
    assert current.lineage("m").accounts == ("acc",)


def test_an_older_record_never_replaces_a_newer_one() -> None:
    directory = loaded()
    directory._put_key(key_kv(KEY), key(seq=20, blocked=True))
    directory._put_key(key_kv(KEY), key(seq=19))
    assert directory.find(SECRET, NOW).blocked == "key"


def test_removals() -> None:
    directory = loaded()
    directory.find(SECRET, NOW)
    directory._remove_key(key_kv(KEY))
    assert refused(directory) == (401, "invalid_api_key")
    assert directory.current(KEY) is None
    directory = loaded()
    directory._remove_key(ENTRY)
    assert refused(directory) == (401, "invalid_api_key")


@pytest.mark.parametrize("missing", [team_kv(TEAM), org_kv(ORG)])
def test_a_key_whose_inheritance_has_not_arrived_is_not_unlimited(missing: str) -> None:
    records = {name: value for name, value in RECORDS.items() if name != missing}
    assert refused(loaded(records)) == (503, "starting")


@pytest.mark.parametrize("name", [key_kv(KEY), team_kv(TEAM), org_kv(ORG), ENTRY])
def test_a_record_that_cannot_be_read_is_not_the_old_one(name: str) -> None:
    directory = loaded()
    directory.find(SECRET, NOW)
    directory._put_key(name, b'{"seq":"new format"}')
    assert refused(directory)[0] in (401, 503)
    assert refused(loaded({**RECORDS, name: b"\xff"}))[0] in (401, 503)


def test_records_of_a_later_version_are_ignored() -> None:
    directory = loaded({**RECORDS, "z.new": b"{}", "odd": b"{}"})
    directory._put_key("z.other", b"rubbish")
    assert directory.find(SECRET, NOW).key_id == KEY
    assert secret_kv("p2", "x").startswith("s.")
