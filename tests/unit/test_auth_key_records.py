"""What the proxies see of versions, teams and organizations, and in which order it is written."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.auth.domain import key as domain
from services.auth.domain import renewing, versions
from services.auth.domain.key import IssueKey
from services.auth.domain.key_state import HashedSecret, KeyState
from services.auth.domain.records import Record, Records, in_order
from services.auth.domain.renewing import Mint
from services.auth.domain.rotation import RotationChange
from services.auth.domain.scope import ScopeChange
from services.auth.domain.stamp import IDS_PER_DECISION, Stamp
from shared.errors import ApiError
from shared.events import (
    AnyAuthEvent,
    KeySecretDelivered,
    KeySecretRehashed,
    KeySecretRetired,
    OrgBlocked,
    OrgCreated,
    OrgDeleted,
    OrgUnblocked,
    TeamBlocked,
    TeamCreated,
    TeamDeleted,
    TeamUnblocked,
    decode_auth,
    encode,
)
from shared.ids import AccountId, EventId, KeyId, OrgId, TeamId, UserId, uuid7_from
from shared.policy import KeyRecord, OrgRecord, SecretRecord, TeamRecord
from shared.topology import key_kv, org_kv, secret_kv, team_kv

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORG, TEAM = OrgId("acme"), TeamId("search")


def stamp(n: int = 0) -> Stamp:
    ids = tuple(EventId(uuid7_from(1_700_000_000_000 + n, bytes([i]) * 10)) for i in range(IDS_PER_DECISION))
    return Stamp(at=T0 + timedelta(seconds=n), source="auth/test", actor="ada", ids=ids)


def secret(name: str, label: str = "p1") -> HashedSecret:
    return HashedSecret(label=label, digest=name.rjust(64, "0"), hint=f"sk-...{name}")


def issue(key: str, n: int = 0, *, team: TeamId | None = TEAM, exchange: bool = False) -> list[AnyAuthEvent]:
    command = IssueKey(
        key_id=KeyId(key),
        org_id=ORG,
        team_id=team,
        secret=secret(f"{key}-1"),
        account=AccountId("acct_0"),
        change=ScopeChange(alias=key, tags=("t",), model_aliases={"fast": "m"}),
        allowed_routes=("/v1/*",),
        user_id=UserId("ada"),
        rotation=RotationChange(exchange=True) if exchange else RotationChange(),
    )
    return domain.decide_issue(None, command, stamp(n))


class World:
    """A fold of AUTH, the state of one key, and a bucket that is written group by group."""

    def __init__(self) -> None:
        self.records = Records()
        self.state: KeyState | None = None
        self.bucket: dict[str, Record] = {}
        self.touched: list[str] = []
        self.seq = 0

    def tell(self, *events: AnyAuthEvent) -> list[str]:
        """The names that changed."""
        changed: list[str] = []
        for event in events:
            self.seq += 1
            changed += self.records.apply(decode_auth(encode(event)), self.seq)
        self.touched += changed
        return changed

    def key(self, events: Iterable[AnyAuthEvent]) -> list[str]:
        """The same, of the key that is looked at."""
        found = list(events)
        for event in found:
            self.state = domain.evolve(self.state, event)
        return self.tell(*found)

    def scopes(self) -> None:
        self.tell(OrgCreated(**stamp().envelope(0), org_id=ORG))
        self.tell(TeamCreated(**stamp().envelope(0), team_id=TEAM, org_id=ORG))

    @property
    def living(self) -> KeyState:
        assert self.state is not None
        return self.state

    def record(self) -> KeyRecord:
        found = self.records.key(self.living.key_id)
        assert found is not None
        return found

    def flush(self) -> None:
        """Write what was touched; after each group nothing works that should not, and what worked goes on."""
        works = {record.key_id: record for record in self.secrets() if record in self.records.by_name.values()}
        for group in in_order(self.touched, self.records):
            for name in group:
                record = self.records.by_name.get(name)
                if record is None:
                    self.bucket.pop(name, None)
                else:
                    self.bucket[name] = record
            self.check()
            for key_id, record in works.items():
                versions_there = {one.version for one in self.secrets() if one.key_id == key_id}
                assert record.version in versions_there, "what works goes on working"
        self.touched.clear()
        assert self.bucket == self.records.by_name

    def secrets(self) -> list[SecretRecord]:
        return [record for record in self.bucket.values() if isinstance(record, SecretRecord)]

    def check(self) -> None:
        for record in self.secrets():
            key = self.bucket.get(key_kv(record.key_id))
            assert isinstance(key, KeyRecord), "no secret without its policy"
            assert org_kv(key.org_id) in self.bucket
            assert key.team_id is None or team_kv(key.team_id) in self.bucket


@pytest.fixture
def world() -> World:
    world = World()
    world.scopes()
    return world


def mint(world: World, n: int) -> None:
    world.key(renewing.decide_mint(world.living, Mint(secret=secret(f"k-{n}")), stamp(n)))


def test_what_is_set_on_a_key_is_in_its_record(world: World) -> None:
    world.key(issue("k"))
    record = world.record()
    assert (record.tags, record.model_aliases, record.allowed_routes) == (("t",), {"fast": "m"}, ("/v1/*",))
    assert (record.user_id, record.role, record.reach) == ("ada", None, None)
    assert (record.newest, record.collectable) == (1, False)


def test_a_new_version_and_its_end(world: World) -> None:
    world.key(issue("k", exchange=True))
    first, second = secret_kv("p1", "k-1".rjust(64, "0")), secret_kv("p1", "k-2".rjust(64, "0"))
    mint(world, 2)
    assert (world.record().newest, world.record().collectable) == (2, True)
    assert set(world.records.secrets_of(KeyId("k"))) == {first, second}

    collected = renewing.decide_delivered(world.living, 2, "exchange", stamp(3))
    changed = world.key(collected)
    assert set(changed) == {key_kv("k"), first}
    assert not world.record().collectable
    old = world.records.by_name[first]
    assert isinstance(old, SecretRecord)
    assert old.not_after == T0 + timedelta(seconds=3, hours=24)

    world.key(renewing.decide_retire(world.living, 1, "expired", stamp(4)))
    assert world.records.secrets_of(KeyId("k")) == (second,)
    assert world.record().newest == 2


@pytest.mark.parametrize(("version", "newest", "collectable"), [(1, 3, False), (2, 3, False), (3, 2, False)])
def test_after_a_leak_nothing_is_collected(world: World, version: int, newest: int, collectable: bool) -> None:
    world.key(issue("k", exchange=True))
    mint(world, 2)
    mint(world, 3)
    assert world.record().collectable
    world.key(renewing.decide_leaked(world.living, stamp(5), versions=[version]))
    assert (world.record().newest, world.record().collectable) == (newest, collectable)


def test_deliveries_by_other_ways_change_nothing(world: World) -> None:
    world.key(issue("k", exchange=True))
    mint(world, 2)
    for way, version in (("response", 2), ("exchange", 1)):
        event = KeySecretDelivered(**stamp().envelope(0), key_id=KeyId("k"), version=version, target=way)
        assert world.tell(event) == []
    assert world.record().collectable


def test_a_secret_under_a_new_pepper_works_all_the_time(world: World) -> None:
    world.key(issue("k"))
    world.flush()
    old, new = ("p1", "k-1".rjust(64, "0")), ("p2", "f" * 64)
    changed = world.key(renewing.decide_rehash(world.living, old, new, stamp(1)))
    assert changed == [secret_kv(*new), secret_kv(*old)]
    assert in_order(world.touched, world.records) == [[secret_kv(*new)], [secret_kv(*old)]], "the new name comes first"
    world.flush()
    record = world.records.by_name[secret_kv(*new)]
    assert record == SecretRecord(key_id=KeyId("k"), version=1, seq=world.seq)

    again = KeySecretRehashed(**stamp(2).envelope(0), key_id=KeyId("k"), version=1, label="p2", digest="f" * 64)
    assert world.tell(again) == [], "said twice"
    world.key(renewing.decide_rehash(world.living, new, old, stamp(3)))
    world.flush()
    world.key(renewing.decide_rehash(world.living, old, new, stamp(4)))
    world.key(domain.decide_delete(world.living, stamp(5)))
    groups = in_order(world.touched, world.records)
    assert groups[0] == [secret_kv(*new), secret_kv(*old)], "of a dead key no name works on"
    world.flush()


def test_events_about_versions_of_no_key(world: World) -> None:
    for event in (
        KeySecretRetired(**stamp().envelope(0), key_id=KeyId("x"), version=1, reason="expired"),
        KeySecretRehashed(**stamp().envelope(0), key_id=KeyId("x"), version=1, label="p2", digest="d" * 64),
        KeySecretDelivered(**stamp().envelope(0), key_id=KeyId("x"), version=1, target="exchange"),
    ):
        assert world.tell(event) == []


def test_blocking_a_team_and_an_organization(world: World) -> None:
    for event, name, blocked in (
        (TeamBlocked(**stamp().envelope(0), team_id=TEAM), team_kv(TEAM), True),
        (OrgBlocked(**stamp().envelope(0), org_id=ORG), org_kv(ORG), True),
        (TeamUnblocked(**stamp().envelope(0), team_id=TEAM), team_kv(TEAM), False),
        (OrgUnblocked(**stamp().envelope(0), org_id=ORG), org_kv(ORG), False),
    ):
        assert world.tell(event) == [name]
        record = world.records.by_name[name]
        assert isinstance(record, TeamRecord | OrgRecord)
        assert record.blocked is blocked


def test_a_deleted_team_goes_after_its_keys(world: World) -> None:
    world.key(issue("k"))
    world.tell(*issue("other"))
    gone = TeamDeleted(**stamp(1).envelope(0), team_id=TEAM)
    assert world.tell(gone) == [team_kv(TEAM)]
    record = world.records.by_name[team_kv(TEAM)]
    assert isinstance(record, TeamRecord)
    assert record.blocked
    assert world.tell(TeamUnblocked(**stamp(2).envelope(0), team_id=TEAM)) == [], "it stays so"
    world.key(domain.decide_delete(world.living, stamp(3)))
    assert team_kv(TEAM) in world.records.by_name
    other = domain.evolve(None, issue("other")[0])
    changed = world.tell(*domain.decide_delete(other, stamp(4)))
    assert changed[-1] == team_kv(TEAM)
    assert set(world.records.by_name) == {org_kv(ORG)}


def test_a_deleted_organization_goes_last_of_all(world: World) -> None:
    world.key(issue("k"))
    world.tell(OrgDeleted(**stamp(1).envelope(0), org_id=ORG), TeamDeleted(**stamp(1).envelope(1), team_id=TEAM))
    assert {org_kv(ORG), team_kv(TEAM)} <= set(world.records.by_name)
    world.key(domain.decide_delete(world.living, stamp(2)))
    assert world.records.by_name == {}
    assert [group[0][0] for group in in_order(world.touched, world.records)] == ["s", "k", "t", "o"]


def test_an_empty_team_and_organization_go_at_once(world: World) -> None:
    world.tell(TeamDeleted(**stamp(1).envelope(0), team_id=TEAM))
    assert set(world.records.by_name) == {org_kv(ORG)}
    world.tell(OrgDeleted(**stamp(1).envelope(0), org_id=ORG))
    assert world.records.by_name == {}
    assert world.tell(OrgBlocked(**stamp(2).envelope(0), org_id=ORG)) == []


STEPS = st.lists(
    st.sampled_from(
        ["mint", "mint0", "collect", "deliver", "expire", "leak", "leak-old", "rehash", "rehash-back", "flush", "team",
         "delete"]
    ),
    max_size=25,
)  # fmt: skip


@given(STEPS)
@settings(max_examples=200, deadline=None)
def test_whatever_becomes_of_versions_records_and_state_agree(steps: list[str]) -> None:
    world = World()
    world.scopes()
    world.key(issue("k", exchange=True))
    for n, step in enumerate(steps, start=2):
        state, at = world.living, stamp(n * 100_000)
        if state.deleted_at is not None and step not in ("flush", "team"):
            continue
        living = versions.living_versions(state)
        newest = max((one.version for one in living), default=0)
        try:
            match step:
                case "mint" | "mint0":
                    grace_s = 0 if step == "mint0" else 60
                    command = Mint(secret=secret(f"k-{n}"), grace_s=grace_s)
                    world.key(renewing.decide_mint(state, command, at))
                case "collect":
                    world.key(renewing.decide_delivered(state, newest, "exchange", at))
                case "deliver":
                    world.key(renewing.decide_delivered(state, newest, "response", at))
                case "expire":
                    world.key(renewing.decide_expired(state, at))
                case "leak":
                    world.key(renewing.decide_leaked(state, at, versions=[newest]))
                case "leak-old":
                    world.key(renewing.decide_leaked(state, at, versions=[newest - 1]))
                case "rehash" | "rehash-back":
                    for one in living:
                        label = "p2" if step == "rehash" else "p1"
                        world.key(
                            renewing.decide_rehash(
                                world.living, (one.label, one.digest), (label, label + one.digest[2:]), at
                            )
                        )
                case "team":
                    world.tell(TeamDeleted(**at.envelope(0), team_id=TEAM))
                case "delete":
                    world.key(domain.decide_delete(state, at))
                case _:
                    world.flush()
        except ApiError as refusal:
            if refusal.code != "too_many_versions":
                raise
        agree(world)
    world.flush()


def agree(world: World) -> None:
    state, records = world.living, world.records
    if state.deleted_at is not None:
        assert records.key(state.key_id) is None
        assert records.secrets_of(state.key_id) == ()
        return
    living = versions.living_versions(state)
    expected = {
        secret_kv(one.label, one.digest): (one.version, one.not_after) for one in living
    }  # fmt: skip
    found = {name: records.by_name[name] for name in records.secrets_of(state.key_id)}
    assert {
        name: (record.version, record.not_after) for name, record in found.items() if isinstance(record, SecretRecord)
    } == expected
    newest = versions.newest(state)
    if newest is not None:
        record = world.record()
        assert (record.newest, record.collectable) == (newest.version, versions.is_collectable(state, newest))
