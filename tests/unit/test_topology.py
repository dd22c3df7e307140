"""Streams, subjects and who may use which."""

import re
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import topology
from shared.bus.apply import bucket_config, stream_config
from shared.topology import BUCKETS, CONSUMERS, PERMISSIONS, STREAMS, partition_of

SERVICES = sorted(set(PERMISSIONS) - {"admin"})


def matches(pattern: str, subject: str) -> bool:
    """Whether a NATS pattern covers a subject (or a narrower pattern)."""
    wanted, given_ = pattern.split("."), subject.split(".")
    for place, token in enumerate(wanted):
        if token == ">":
            return len(given_) > place
        if place >= len(given_) or (token not in ("*", given_[place])) or (token == "*" and given_[place] == ">"):
            return False
    return len(wanted) == len(given_)


def may_publish(user: str, subject: str) -> bool:
    return any(matches(pattern, subject) for pattern in PERMISSIONS[user].publish)


def test_matching_itself() -> None:
    assert matches("a.>", "a.b.c")
    assert not matches("a.>", "a")
    assert matches("a.*", "a.b")
    assert not matches("a.*", "a.b.c")
    assert not matches("a.*", "a.>")


def test_no_two_streams_share_a_subject() -> None:
    subjects = [(stream.name, subject) for stream in STREAMS for subject in stream.subjects]
    for (name, one), (other, two) in combinations(subjects, 2):
        assert not matches(one, two), (name, other)
        assert not matches(two, one), (name, other)


@pytest.mark.parametrize(
    ("subject", "stream"),
    [
        (topology.auth_subject("key.issued.v1", "key_1"), topology.AUTH),
        (topology.usage_subject(0, "proxy_1"), topology.LEDGER),
        (topology.grant_subject(0, "enf_1"), topology.LEDGER),
        (topology.signal_subject("budget.exceeded", "team", "team_1"), topology.SIGNALS),
    ],
)
def test_every_subject_has_its_stream(subject: str, stream: str) -> None:
    found = [each.name for each in STREAMS if any(matches(pattern, subject) for pattern in each.subjects)]
    assert found == [stream]


def test_the_fence_covers_every_enforcer_of_its_partition_and_no_other() -> None:
    assert matches(topology.grant_fence(3), topology.grant_subject(3, "any"))
    assert not matches(topology.grant_fence(3), topology.grant_subject(33, "any"))
    assert not matches(topology.grant_fence(3), topology.usage_subject(3, "any"))


def test_requests_for_money_are_stored_nowhere() -> None:
    assert not any(matches(p, topology.allot_subject(0)) for stream in STREAMS for p in stream.subjects)


@given(st.text(max_size=80), st.integers(1, 1024))
def test_an_organization_has_one_partition(org: str, partitions: int) -> None:
    assert 0 <= partition_of(org, partitions) < partitions
    assert partition_of(org, partitions) == partition_of(org, partitions)


def test_partitions_are_the_same_for_ever() -> None:
    """The number is part of what is stored: another hash would send money to another ledger."""
    assert [partition_of(org, 16) for org in ("default", "org_1", "org_2")] == [15, 2, 8]


@pytest.mark.parametrize("user", SERVICES)
def test_no_service_can_create_change_or_empty_a_stream(user: str) -> None:
    streams = [stream.name for stream in STREAMS] + [f"KV_{bucket.name}" for bucket in BUCKETS]
    for stream in streams:
        for verb in ("CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE", "RESTORE", "SNAPSHOT"):
            assert not may_publish(user, f"$JS.API.STREAM.{verb}.{stream}")
    assert not may_publish(user, "$SYS.REQ.ANYTHING")


@pytest.mark.parametrize("user", SERVICES)
def test_a_service_hears_its_own_inbox_and_no_other(user: str) -> None:
    heard = PERMISSIONS[user].subscribe
    for other in PERMISSIONS:
        inbox = f"{topology.inbox_prefix(other)}.x"
        assert any(matches(pattern, inbox) for pattern in heard) == (other == user)


@pytest.mark.parametrize(
    ("subject", "writers"),
    [
        ("auth.key.issued.v1.key_1", {"auth"}),
        ("usage.v1.0.proxy_1", {"proxy"}),
        ("usage.v1.0.corrections", {"bookkeeper", "proxy"}),
        ("grant.v1.0.enf_1", {"enforcer"}),
        ("recall.v1.0.proxy_1", {"enforcer"}),
        ("gossip.v1.limits", {"proxy"}),
        ("$KV.budgets.acct_1", {"enforcer"}),
        ("$KV.snapshots.ledger.0", {"enforcer"}),
        ("signal.budget.exceeded.v1.key.key_1", {"enforcer"}),
        ("$KV.keys.k.key_1", {"auth"}),
        ("$KV.revoked.k.key_1", {"auth"}),
        ("$KV.catalog.p.abc", {"proxy"}),
        ("$KV.objects.o.file.d", {"proxy"}),
        ("$KV.pending.batch.c1", {"proxy"}),
        ("$KV.leases.ledger.0", {"enforcer"}),
        ("allot.v1.0", {"proxy"}),
    ],
)
def test_each_truth_has_one_writer(subject: str, writers: set[str]) -> None:
    assert {user for user in SERVICES if may_publish(user, subject)} == writers


@pytest.mark.parametrize("user", SERVICES)
def test_a_consumer_can_deliver_only_to_whoever_asks(user: str) -> None:
    """Only the consumer calls that name a stream in the subject are allowed, never the broad ones."""
    for pattern in PERMISSIONS[user].publish:
        if pattern.startswith("$JS.API.CONSUMER"):
            assert re.fullmatch(r"\$JS\.API\.CONSUMER\.(CREATE|INFO|DELETE|MSG\.NEXT)\.[A-Za-z_]+\..+", pattern)


def test_truth_is_never_thrown_away_to_make_room() -> None:
    configs = {stream.name: stream_config(stream, 1) for stream in STREAMS}
    for name in (topology.AUTH, topology.LEDGER):
        assert configs[name]["discard"] == "new"
        assert configs[name]["max_age"] == 0
        assert configs[name]["storage"] == "file"
        assert configs[name]["deny_delete"] is True
    assert configs[topology.AUTH]["deny_purge"] is True
    for bucket in BUCKETS:
        assert bucket_config(bucket, 3)["num_replicas"] == 3
        assert bucket_config(bucket, 1)["discard"] == "new"


def test_the_lease_runs_out_by_itself() -> None:
    leases = next(bucket for bucket in BUCKETS if bucket.name == topology.LEASES_BUCKET)
    assert bucket_config(leases, 1)["max_age"] == topology.LEASE_TTL_S * 1_000_000_000


def test_consumers_read_streams_that_exist() -> None:
    by_name = {stream.name: stream for stream in STREAMS}
    for consumer in CONSUMERS:
        subjects = by_name[consumer.stream].subjects
        assert any(
            consumer.filter_subject == subject
            or (subject.endswith(".>") and consumer.filter_subject.startswith(subject[:-1]))
            for subject in subjects
        )


def test_names_of_entries_are_opaque_and_short() -> None:
    assert topology.secret_kv("p1", "ab") == "s.p1.ab"
    assert topology.key_kv("k1") == "k.k1"
    assert topology.team_kv("t1") == "t.t1"
    assert topology.org_kv("o1") == "o.o1"
    assert topology.price_kv("p") == "p.p"
    assert topology.object_kv("o", "file", "d") == "o.file.d"
    assert topology.pending_kv("batch", "c1") == "batch.c1"
    assert topology.slot_kv(3) == "slot.3"
    assert topology.lease_kv(0) == "ledger.0"
