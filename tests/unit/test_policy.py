"""What a key may do, and which accounts its calls are charged to."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from shared.ids import AccountId, KeyId, OrgId, TeamId
from shared.policy import Budget, Increase, KeyRecord, OrgRecord, ScopeKind, TeamRecord, allows, lineage_of, matches
from shared.windows import WindowSpec

AT = datetime(2026, 1, 1, tzinfo=UTC)


def budget(kind: ScopeKind, scope: str, number: int, limit: int | None = 1) -> Budget:
    return Budget(
        account=AccountId(f"{scope}-{number}"),
        scope_kind=kind,
        scope_id=scope,
        window=WindowSpec(anchor=AT, duration="30d"),
        limit_nusd=limit,
    )


ORG = OrgRecord(seq=1, org_id=OrgId("o"), budgets=(budget("org", "o", 1),))
TEAM = TeamRecord(seq=2, team_id=TeamId("t"), org_id=OrgId("o"), budgets=(budget("team", "t", 1),))
KEY = KeyRecord(seq=3, key_id=KeyId("k"), org_id=OrgId("o"), budgets=(budget("key", "k", 1), budget("key", "k", 2)))


def test_a_call_is_charged_to_every_account_narrowest_first() -> None:
    assert [entry.account for entry in lineage_of(ORG, TEAM, KEY)] == ["k-1", "k-2", "t-1", "o-1"]
    assert [entry.account for entry in lineage_of(ORG, None, KEY)] == ["k-1", "k-2", "o-1"]


def test_a_soft_limit_alone_holds_no_money() -> None:
    assert budget("key", "k", 1).limited
    assert not budget("key", "k", 1, limit=None).limited
    assert budget("key", "k", 1, limit=0).limited, "a limit of nothing is a limit"


@pytest.mark.parametrize(
    ("allowed", "model", "expected"),
    [
        ((), "gpt-4o", True),
        (("gpt-4o",), "gpt-4o", True),
        (("gpt-4o",), "gpt-4", False),
        (("gpt-4o",), "GPT-4o", False),
        (("*",), "anything", True),
        (("gpt-4o", "*"), "anything", True),
    ],
)
def test_allow_lists(allowed: tuple[str, ...], model: str, expected: bool) -> None:
    assert allows(allowed, model) is expected


@pytest.mark.parametrize("record", [ORG, TEAM, KEY])
def test_records_survive_the_bucket(record: OrgRecord | TeamRecord | KeyRecord) -> None:
    assert msgspec.json.decode(msgspec.json.encode(record), type=type(record)) == record


def test_a_record_of_a_later_version_is_understood() -> None:
    newer = b'{"seq":9,"key_id":"k","org_id":"o","invented_later":{"a":[1]}}'
    record = msgspec.json.decode(newer, type=KeyRecord)
    assert (record.seq, record.models, record.budgets) == (9, (), ())


@pytest.mark.parametrize(
    ("pattern", "model", "fits"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("*", "", True),
        ("gpt-*", "gpt-", True),
        ("*-mini", "gpt-4o-mini", True),
        ("gpt*mini", "gpt-4o-mini", True),
        ("gpt*mini", "gpt-4o-minis", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("a*a", "a", False),
    ],
)
def test_a_star_stands_for_any_text(pattern: str, model: str, fits: bool) -> None:
    assert matches(pattern, model) is fits


def test_a_temporary_increase_ends() -> None:
    until = datetime(2026, 12, 1, tzinfo=UTC)
    budget = Budget(
        account=AccountId("a"),
        scope_kind="key",
        scope_id="k",
        window=WindowSpec(anchor=datetime(2026, 1, 1, tzinfo=UTC)),
        limit_nusd=10,
        increase=Increase(amount_nusd=5, until=until),
    )
    assert budget.limit_at(until - timedelta(microseconds=1)) == 15
    assert budget.limit_at(until) == 10
    soft = Budget(account=budget.account, scope_kind="key", scope_id="k", window=budget.window, soft_nusd=1)
    assert soft.limit_at(until) is None
