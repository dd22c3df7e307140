"""Whether a key may call at all: the rules before money."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from services.proxy.domain.admission import Caller, Refused, check_caller, check_model, join
from shared.ids import AccountId, KeyId, OrgId, TeamId
from shared.policy import Budget, KeyRecord, Limits, OrgRecord, TeamRecord
from shared.topology import partition_of
from shared.windows import WindowSpec

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPEC = WindowSpec(anchor=NOW)


def budget(scope: str, *, limit: int | None) -> Budget:
    return Budget(
        account=AccountId(f"acc-{scope}-{limit}"),
        scope_kind="key" if scope == "key" else "team" if scope == "team" else "org",
        scope_id=scope,
        window=SPEC,
        limit_nusd=limit,
        soft_nusd=5,
    )


def key(**more: object) -> KeyRecord:
    return KeyRecord(**{"seq": 7, "key_id": KeyId("k1"), "org_id": OrgId("o1"), **more})  # type: ignore[arg-type]


def team(**more: object) -> TeamRecord:
    return TeamRecord(**{"seq": 9, "team_id": TeamId("t1"), "org_id": OrgId("o1"), **more})  # type: ignore[arg-type]


def org(**more: object) -> OrgRecord:
    return OrgRecord(**{"seq": 3, "org_id": OrgId("o1"), **more})  # type: ignore[arg-type]


def refusal(caller: Caller, at: datetime = NOW) -> Refused:
    with pytest.raises(Refused) as refused:
        check_caller(caller, at)
    return refused.value


def test_joins_everything_a_key_inherits() -> None:
    caller = join(
        key(budgets=(budget("key", limit=10),), team_id=TeamId("t1")),
        team(budgets=(budget("team", limit=None),)),
        org(budgets=(budget("org", limit=0),)),
        8,
    )
    lineage = caller.lineage("any")
    assert lineage.accounts == ("acc-key-10", "acc-org-0")
    assert [item.account for item in lineage.watched] == ["acc-team-None"]
    assert (lineage.model, lineage.strict) == ("", False)
    assert (caller.policy_rev, caller.partition) == (9, partition_of("o1", 8))
    assert (caller.key_id, caller.team_id, caller.org_id) == ("k1", "t1", "o1")


def test_a_key_without_team() -> None:
    caller = join(key(), None, org(), 1)
    lineage = caller.lineage("any")
    assert (caller.team_id, lineage.accounts, lineage.watched, caller.policy_rev) == (None, (), (), 7)
    check_caller(caller, NOW)


def test_a_budget_for_a_model_counts_for_its_calls_only() -> None:
    mini = msgspec.structs.replace(budget("team", limit=5), account=AccountId("acc-mini"), model="*-mini", strict=True)
    caller = join(key(budgets=(budget("key", limit=10),), team_id=TeamId("t1")), team(budgets=(mini,)), org(), 1)
    assert caller.common is None
    assert caller.lineage("gpt-4o-mini").accounts == ("acc-key-10", "acc-mini")
    assert caller.lineage("gpt-4o").accounts == ("acc-key-10",)
    assert (caller.lineage("gpt-4o-mini").strict, caller.lineage("gpt-4o").strict) == (True, False)
    assert caller.lineage("gpt-4o-mini") is caller.lineage("gpt-4o-mini")


def test_rate_limits_of_every_scope_that_has_some() -> None:
    caller = join(
        key(limits=Limits(rpm=3), team_id=TeamId("t1")), team(model_limits={"gpt-*": Limits(tpm=9)}), org(), 1
    )
    assert [(item.scope_kind, item.scope_id) for item in caller.limits] == [("key", "k1"), ("team", "t1")]
    assert caller.limits[0].limits == Limits(rpm=3)
    assert caller.limits[1].model_limits == {"gpt-*": Limits(tpm=9)}


@pytest.mark.parametrize(
    ("records", "who"),
    [
        ((key(blocked=True), team(), org()), "key"),
        ((key(), team(blocked=True), org()), "team"),
        ((key(), team(), org(blocked=True)), "organization"),
    ],
)
def test_a_block_anywhere_blocks(records: tuple[KeyRecord, TeamRecord, OrgRecord], who: str) -> None:
    refused = refusal(join(*records, 1))
    assert (refused.status, refused.code) == (403, "key_blocked")
    said = "This key is blocked" if who == "key" else f"The {who} of this key is blocked"
    assert said in refused.message


def test_expiry_is_the_first_instant_that_is_too_late() -> None:
    caller = join(key(expires_at=NOW), None, org(), 1)
    check_caller(caller, NOW - timedelta(microseconds=1))
    refused = refusal(caller)
    assert (refused.status, refused.code) == (401, "key_expired")
    assert NOW.isoformat() in refused.message


@pytest.mark.parametrize(
    ("lists", "allowed"),
    [
        (((), (), ()), True),
        ((("gpt-4o",), (), ()), True),
        ((("phi-4",), (), ()), False),
        ((("*",), (), ()), True),
        (((), ("gpt-4o",), ()), True),
        (((), ("phi-4",), ()), False),
        ((("gpt-4o",), ("phi-4",), ()), False),
        ((("gpt-4o",), ("gpt-4o",), ("phi-4",)), False),
        ((("*",), ("phi-4",), ()), False),
        ((("gpt-4",), (), ()), False),
    ],
)
def test_key_team_and_organization_must_all_allow(lists: tuple[tuple[str, ...], ...], allowed: bool) -> None:
    caller = join(key(models=lists[0]), team(models=lists[1]), org(models=lists[2]), 1)
    assert caller.may_use("gpt-4o") is allowed
    assert caller.may_use("gpt-4o") is allowed


def test_a_model_that_is_not_allowed_does_not_tell_whether_it_exists() -> None:
    caller = join(key(models=("phi-4",)), None, org(), 1)
    answers: list[tuple[int, str, str | None]] = []
    for known in (True, False):
        with pytest.raises(Refused) as refused:
            check_model(caller, "gpt-4o", known)
        answers.append((refused.value.status, refused.value.code, refused.value.param))
    assert answers == [(403, "model_not_allowed", "model")] * 2


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(Refused, match="'gpt-9'") as refused:
        check_model(join(key(), None, org(), 1), "gpt-9", known=False)
    assert (refused.value.status, refused.value.code, refused.value.param) == (404, "model_not_found", "model")


def test_the_memory_of_model_names_is_bounded() -> None:
    caller = join(key(models=("a",)), None, org(), 1)
    assert [caller.may_use(f"m{index}") for index in range(1_500)] == [False] * 1_500
    assert len(caller._models) == 1_000
    assert caller.may_use("a")
