"""Who is calling: revocation beats every record, and the unknown is refused."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
@pytest.mark.parametrize("entry", [ENTRY, OLD_ENTRY, key_kv(KEY), team_kv(TEAM), org_kv(ORG)])
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


@pytest.mark.parametrize(
    ("entry", "kind", "words"),
    [
        (key_kv(KEY), "blocked", "This key is blocked"),
        (team_kv(TEAM), "blocked", "The team of this key is blocked"),
        (org_kv(ORG), "blocked", "The organization of this key is blocked"),
        (key_kv(KEY), "deleted", "This API key was deleted"),
        (team_kv(TEAM), "deleted", "The team of this API key was deleted"),
        (org_kv(ORG), "deleted", "The organization of this API key was deleted"),
        (ENTRY, "leaked", "This API key was reported as leaked"),
    ],
)
def test_a_refusal_says_what_is_revoked(entry: str, kind: RevocationKind, words: str) -> None:
    directory = loaded(RECORDS, {entry: revocation(kind)})
    with pytest.raises(Refused, match=words):
        directory.find(SECRET, NOW)
    assert (directory.current(KEY) is None) == (entry != ENTRY)


def test_a_team_that_is_revoked_leaves_other_teams_alone() -> None:
    directory = loaded()
    directory.find(SECRET, NOW)
    directory._put_revoked(team_kv("other"), revocation("deleted"))
    assert directory.find(SECRET, NOW).key_id == KEY
    directory._put_revoked(team_kv(TEAM), b"rubbish")
    assert refused(directory) == (403, "key_blocked")
    directory._remove_revoked(team_kv(TEAM))
    assert directory.find(SECRET, NOW).key_id == KEY


SECOND = "sk-the-next-version"
NEXT = HASHER.entries(SECOND)[0]


def test_versions_share_what_is_counted_by_key_and_say_which_they_are() -> None:
    ends = NOW + timedelta(hours=1)
    directory = loaded({**RECORDS, ENTRY: secret(not_after=ends), NEXT: secret(version=2), key_kv(KEY): key(newest=2)})
    old, new = directory.find(SECRET, NOW), directory.find(SECOND, NOW)
    assert (old.version, new.version) == (1, 2)
    assert old.common is new.common
    assert old.limits is new.limits
    assert new.overlap == ()
    assert dict(old.overlap) == {
        b"x-tundish-key-version": b"1",
        b"x-tundish-key-newest": b"2",
        b"x-tundish-key-ends": b"2026-03-01T13:00:00Z",
    }
    directory._put_key(key_kv(KEY), key(seq=9, newest=2, collectable=True))
    assert dict(directory.find(SECRET, NOW).overlap)[b"x-tundish-key-exchange"] == b"true"
    assert refused(directory, ends) == (401, "key_retired")
    assert directory.find(SECOND, ends).key_id == KEY


def test_an_older_secret_whose_end_is_not_known_says_none() -> None:
    directory = loaded({**RECORDS, key_kv(KEY): key(newest=3)})
    assert [name for name, _ in directory.find(SECRET, NOW).overlap] == [
        b"x-tundish-key-version",
        b"x-tundish-key-newest",
    ]


def test_a_newer_end_of_a_secret_counts_at_once() -> None:
    directory = loaded()
    assert directory.find(SECRET, NOW).retires_at is None
    directory._put_key(ENTRY, secret(seq=5, not_after=NOW))
    assert refused(directory) == (401, "key_retired")


def test_a_secret_under_an_older_pepper_is_told_of_once_for_each_change() -> None:
    told: list[tuple[str, str, bytes]] = []
    directory = loaded({**{name: value for name, value in RECORDS.items() if name != ENTRY}, OLD_ENTRY: secret()})
    directory.outdated = lambda *seen: told.append(seen)
    for _ in range(3):
        directory.find(SECRET, NOW)
    assert told == [(KEY, OLD_ENTRY, sha256(SECRET.encode()).digest())]
    directory._put_key(ENTRY, secret(seq=8))
    directory._remove_key(OLD_ENTRY)
    assert directory.find(SECRET, NOW).key_id == KEY
    assert len(told) == 1


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["put", "remove", "revoke", "unrevoke", "forget"]),
        st.sampled_from([ENTRY, OLD_ENTRY, NEXT, key_kv(KEY), team_kv(TEAM), org_kv(ORG)]),
        st.integers(0, 3),
    ),
    max_size=25,
)


def written(name: str, number: int, seq: int) -> bytes:
    if name in (ENTRY, OLD_ENTRY, NEXT):
        return secret(seq=seq, version=1 + number % 2, not_after=NOW if number == 3 else None)
    if name == key_kv(KEY):
        return key(seq=seq, newest=1 + number, collectable=number == 2, blocked=number == 3)
    if name == team_kv(TEAM):
        return team(seq=seq, blocked=number == 1, tags=("a", "b")[:number])
    return org(seq=seq, blocked=number == 1, model_aliases={"fast": f"m{number}"})


def told_by(directory: Directory, sent: str) -> object:
    try:
        caller = directory.find(sent, NOW)
    except Refused as error:
        return error.code, error.message
    return msgspec.structs.replace(caller, _lineages={}, _models={})


@given(OPERATIONS)
def test_what_stands_ready_is_what_a_fresh_look_finds(operations: list[tuple[str, str, int]]) -> None:
    directory, records = loaded(), dict(RECORDS)
    revocations: dict[str, bytes] = {}
    for seq, (operation, name, number) in enumerate(operations, 100):
        match operation:
            case "put":
                records[name] = written(name, number, seq)
                directory._put_key(name, records[name])
            case "remove":
                records.pop(name, None)
                directory._remove_key(name)
            case "revoke":
                revocations[name] = revocation(("deleted", "blocked", "leaked")[number % 3])  # type: ignore[arg-type]
                directory._put_revoked(name, revocations[name])
            case "unrevoke":
                revocations.pop(name, None)
                directory._remove_revoked(name)
            case _:
                directory.forget(KEY)
        fresh = loaded(records, revocations)
        for sent in (SECRET, SECOND):
            assert told_by(directory, sent) == told_by(fresh, sent)
        assert type(current_of(directory)) is type(current_of(fresh))


def current_of(directory: Directory) -> object:
    try:
        return directory.current(KEY)
    except Refused as error:
        return error.code


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
