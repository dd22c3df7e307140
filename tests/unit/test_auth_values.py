"""Values of requests: bounds, and the field that is named when one is broken."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from services.auth import schemas
from services.auth.domain import fields, values
from services.auth.schemas import DeleteKeys, GenerateKey, UpdateKey, read
from shared.errors import ApiError

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def refused(call: Callable[[], object], param: str | None) -> None:
    with pytest.raises(ApiError) as refusal:
        call()
    assert refusal.value.status == 400
    assert refusal.value.param == param


def test_models() -> None:
    assert values.models(None) == values.models([]) == values.models(["all-team-models"]) == ()
    assert values.models(["a", "b", "a"]) == ("a", "b")
    assert values.models(["*"]) == values.models(["all-proxy-models"]) == ("*",)
    for bad in ([""], ["x" * 201], ["a\n"], ["gpt-*"], ["no-default-models"], [f"m{n}" for n in range(201)]):
        refused(lambda bad=bad: values.models(bad), "models")
    assert len(values.models([f"m{n}" for n in range(200)])) == 200


def test_metadata() -> None:
    assert values.metadata(None) == {}
    assert values.metadata({"a": "\\u0000"}) == {"a": "\\u0000"}, "the six characters are no NUL"
    deep: dict[str, object] = {}
    for _ in range(40):
        deep = {"a": [deep]}
    wrong: list[dict[str, object]] = [deep, {"a": "x" * 16_400}, {"a": "\x00"}, {"\x00": 1}]
    for bad in wrong:
        refused(lambda bad=bad: values.metadata(bad), "metadata")


def test_money_and_limits() -> None:
    assert values.money("max_budget", 0.05) == 50_000_000
    assert values.money("max_budget", None) is None
    assert values.money("max_budget", 0) == 0
    for bad in (-1, float("nan"), float("inf"), 1e30):
        refused(lambda bad=bad: values.money("max_budget", bad), "max_budget")
    assert values.limit("rpm_limit", 0) == 0
    for bad in (-1, 10**12 + 1):
        refused(lambda bad=bad: values.limit("rpm_limit", bad), "rpm_limit")


def test_durations_and_zones() -> None:
    assert values.expiry("30m", NOW) == NOW + timedelta(minutes=30)
    assert values.expiry(None, NOW) is None
    assert values.window_duration("1mo") == "1mo"
    assert values.zone("Europe/Berlin") == "Europe/Berlin"
    for bad in ("", "30", "-1d", "1 d", "200y", "9999999999d"):
        refused(lambda bad=bad: values.expiry(bad, NOW), "duration")
        refused(lambda bad=bad: values.window_duration(bad), "budget_duration")
    for bad in ("", "Mars/Base", "../../etc/passwd", "/etc/passwd", "Europe", "x" * 5000):
        refused(lambda bad=bad: values.zone(bad), "budget_timezone")


def test_names_and_ids() -> None:
    assert values.name("key_alias", "team search é") == "team search é"
    for bad in ("", "  ", "x" * 201, "a\nb", "a\u2028b", "a\x9fb"):
        refused(lambda bad=bad: values.name("key_alias", bad), "key_alias")
    assert values.scope_id("team_id", "9b2e-A_1") == "9b2e-A_1"
    for bad in ("", "a.b", "a b", "a*", ">", "é", "x" * 101, "a\n"):
        refused(lambda bad=bad: values.scope_id("team_id", bad), "team_id")
    for bad in ("", "x" * 513, "a\x00"):
        refused(lambda bad=bad: values.refuse_odd("key", bad), "key")


def test_custom_secrets() -> None:
    assert values.custom_secret("sk-1234567890123") == "sk-1234567890123"
    for bad in ("sk-123456789012", "xx-1234567890123", "sk-1234567890 123", "sk-é234567890123", "sk-" + "x" * 300):
        with pytest.raises(ApiError) as refusal:
            values.custom_secret(bad)
        assert bad not in refusal.value.message


def test_reading_a_request() -> None:
    body = b'{"key_alias": "a", "max_budget": 5, "user_id": null}'
    assert read(body, fields.GENERATE_KEY, GenerateKey) == GenerateKey(key_alias="a", max_budget=5)
    change = read(b'{"key": "k", "max_budget": null}', fields.UPDATE_KEY, UpdateKey)
    assert change.max_budget is None
    assert change.soft_budget is not None, "absent is not null"
    terms = schemas.budget_change_of(change)
    assert terms.limit_nusd is None
    assert terms.soft_nusd is not None
    refused(lambda: read(b'{"max_budget": true}', fields.GENERATE_KEY, GenerateKey), "max_budget")
    refused(lambda: read(b'{"models": ["a", 1]}', fields.GENERATE_KEY, GenerateKey), "models")
    refused(lambda: read(b"{}", fields.NAME_KEY, schemas.NameKey), None)
    for body in (b"", b"[1]", b'"x"', b"{", b"\xff\xfe", b"[" * 100_000):
        with pytest.raises(ApiError) as refusal:
            read(body, fields.GENERATE_KEY, GenerateKey)
        assert refusal.value.code == "invalid_json"


def test_targets_of_a_deletion() -> None:
    assert schemas.targets_of(DeleteKeys(keys=["a"])) == (["a"], [])
    assert schemas.targets_of(DeleteKeys(key_aliases=["b"], keys=[])) == ([], ["b"])
    for bad in (DeleteKeys(), DeleteKeys(keys=["a"], key_aliases=["b"]), DeleteKeys(keys=["a"] * 101)):
        with pytest.raises(ApiError):
            schemas.targets_of(bad)
