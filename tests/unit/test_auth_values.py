"""Values of requests: bounds, and the field that is named when one is broken."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from msgspec import UNSET

from services.auth.asked import aliases_of, change_of, names_a_budget, patch_of, rates_of
from services.auth.domain import values
from services.auth.domain.fields import keys as fields
from services.auth.domain.fields import scopes as scope_fields
from services.auth.domain.rates import RatePatch
from services.auth.schemas import scopes as scope_schemas
from services.auth.schemas.base import read
from services.auth.schemas.keys import GenerateKey, NameKeys, UpdateKey, targets_of
from shared.errors import ApiError
from shared.events import WindowTerms
from shared.money import NUSD_PER_USD
from shared.policy import Increase

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
    assert values.models(["gpt-*", "no-default-models"]) == ("gpt-*", "no-default-models")
    for bad in ([""], ["x" * 201], ["a\n"], ["g**"], [" gpt"], ["*a*b*c*d*e"], [f"m{n}" for n in range(201)]):
        refused(lambda bad=bad: values.models(bad), "models")
    assert len(values.models([f"m{n}" for n in range(200)])) == 200


def test_model_aliases() -> None:
    assert values.model_aliases("aliases", None) == {}
    assert values.model_aliases("aliases", {"fast": "gpt-4o-mini", "same": "same"}) == {
        "fast": "gpt-4o-mini",
        "same": "same",
    }
    wrong = [{"": "m"}, {"a": ""}, {"a*": "m"}, {"a": "m*"}, {"a": "b", "b": "c"}, {f"a{n}": "m" for n in range(101)}]
    for bad in wrong:
        refused(lambda bad=bad: values.model_aliases("aliases", bad), "aliases")
    assert aliases_of("aliases", UNSET) is UNSET
    assert aliases_of("aliases", None) == {}


def test_tags() -> None:
    assert values.tags(None) == ()
    assert values.tags(["a", "cost centre 7", "a"]) == ("a", "cost centre 7")
    for bad in ([""], [" "], ["a\n"], ["x" * 101], [f"t{n}" for n in range(21)]):
        refused(lambda bad=bad: values.tags(bad), "tags")


def test_allowed_routes() -> None:
    routes = ["/v1/chat/completions", "/v1/*", "/openai/deployments/{model}/chat/completions", "openai_routes"]
    assert values.routes([*routes, "/v1/*"], role=False) == tuple(routes)
    assert values.routes(None, role=True) == ()
    assert values.routes(["management_routes"], role=True) == ("management_routes",)
    for bad in (["chat"], ["v1/*"], ["/a*b"], ["/a b"], ["/" + "x" * 200], [""], ["management_routes"], ["//evil?q"]):
        refused(lambda bad=bad: values.routes(bad, role=False), "allowed_routes")
    for bad in (["/v1/*"], ["llm_api_routes"], ["management_routes", "info_routes"]):
        refused(lambda bad=bad: values.routes(bad, role=True), "allowed_routes")
    refused(lambda: values.routes([f"/{n}" for n in range(101)], role=False), "allowed_routes")


def test_a_secret_by_its_hash() -> None:
    assert values.secret_sha256("AB" * 32) == bytes.fromhex("ab" * 32)
    for bad in ("", "ab" * 31, "sk-" + "a" * 61, "g" * 64):
        refused(lambda bad=bad: values.secret_sha256(bad), "key_hash")


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
    assert (values.money("max_budget", 1e-9), values.money("max_budget", 1e9)) == (1, 10**18)
    for bad in (-1, float("nan"), float("inf"), 1e30, 1e-10, 9.9e-10, 1_000_000_001):
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


def test_an_alias_is_no_id_and_no_secret() -> None:
    for good in ("team search", "key_1", "key_" + "g" * 32, "ask-me", "KEY_" + "a" * 32):
        assert values.key_alias(good) == good
    assert values.key_alias(None) is None
    for bad in ("key_01a2070863157f87992ba813c36d9d0f", "sk-looks-like-a-secret-0123456789", "sk-", ""):
        refused(lambda bad=bad: values.key_alias(bad), "key_alias")


def test_custom_secrets() -> None:
    assert values.custom_secret("sk-1234567890123") == "sk-1234567890123"
    for bad in ("sk-123456789012", "xx-1234567890123", "sk-1234567890 123", "sk-é234567890123", "sk-" + "x" * 300):
        with pytest.raises(ApiError) as refusal:
            values.custom_secret(bad)
        assert bad not in refusal.value.message


def test_a_secret_of_ones_own_for_a_key_with_a_role_is_as_strong_as_the_master_key() -> None:
    for good in ("sk-" + "abcdefgh" * 3, "sk-4567890123456789ab"):
        assert values.custom_secret(good, role=True) == good
    for weak in ("sk-aaaaaaaaaaaaa", "sk-" + "a" * 40, "sk-" + "abcd" * 10, "sk-4567890abcdef"):
        assert values.custom_secret(weak) == weak
        with pytest.raises(ApiError, match="a key with a role needs") as refusal:
            values.custom_secret(weak, param="new_key", role=True)
        assert (refusal.value.status, refusal.value.param) == (400, "new_key")
        assert weak not in refusal.value.message


def test_reading_a_request() -> None:
    body = b'{"key_alias": "a", "max_budget": 5, "agent_id": null}'
    assert read(body, fields.GENERATE_KEY, GenerateKey) == GenerateKey(key_alias="a", max_budget=5)
    change = read(b'{"key": "k", "max_budget": null}', fields.UPDATE_KEY, UpdateKey)
    assert change.max_budget is None
    assert change.soft_budget is UNSET, "absent is not null"
    assert (patch_of(change).limit_nusd, patch_of(change).soft_nusd) == (None, UNSET)
    refused(lambda: read(b'{"max_budget": true}', fields.GENERATE_KEY, GenerateKey), "max_budget")
    refused(lambda: read(b'{"models": ["a", 1]}', fields.GENERATE_KEY, GenerateKey), "models")
    refused(lambda: read(b"{}", scope_fields.UPDATE_TEAM, scope_schemas.UpdateTeam), "team_id")
    for body in (b"", b"[1]", b'"x"', b"{", b"\xff\xfe", b"[" * 100_000):
        with pytest.raises(ApiError) as refusal:
            read(body, fields.GENERATE_KEY, GenerateKey)
        assert refusal.value.code == "invalid_json"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"max_budget": "5"}', "max_budget: must be a number or null, and is a text"),
        (b'{"max_budget": true}', "max_budget: must be a number or null, and is a truth value"),
        (b'{"models": "gpt"}', "models: must be a list or null, and is a text"),
        (b'{"models": ["a", 1]}', "models[1]: must be a text, and is a number"),
        (b'{"metadata": []}', "metadata: must be an object or null, and is a list"),
        (b'{"rpm_limit": 1.5}', "rpm_limit: must be a whole number or null, and is a number with decimals"),
        (b'{"model_rpm_limit": {"ok": 1, "gpt-4.1": "x"}}',
         "model_rpm_limit['gpt-4.1']: must be a whole number, and is a text"),
        (b'{"budget_limits": [{"max_budget": 1}]}', "budget_limits[0].budget_duration: is missing"),
        (b'{"model_max_budget": {"a": {"budget_limit": 1}, "b": {"rpm": 1}}}',
         "model_max_budget['b']: 'rpm' is not a field of an entry: use budget_limit,"),
        (b'{"model_max_budget": {"a": {"budget_limit": null}, "b": {"budget_limit": []}}}',
         "model_max_budget['b'].budget_limit: must be a number or null, and is a list"),
        (b'{"model_max_budget": {"gpt-4.1": {"budget_limit": -1}}}', "model_max_budget['gpt-4.1'].budget_limit: -1.0"),
        (b'{"budget_limits": [{"max_budget": 1, "budget_duration": "1M"}]}',
         "budget_limits[0].budget_duration: '1M' is not a duration: did you mean '1mo'?"),
        (b'{"budget_limits": [{"max_budget": 1, "budget_duration": "5h", "budget_timezone": "Japan"}]}',
         "budget_limits[0]: budget_timezone means"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_in_plain_words(body: bytes, said: str) -> None:
    with pytest.raises(ApiError) as refusal:
        change_of(read(body, fields.GENERATE_KEY, GenerateKey), None, None, NOW)
    assert refusal.value.message.startswith(said)
    assert "`" not in refusal.value.message
    assert refusal.value.param in fields.GENERATE_KEY.known


def test_limits_per_model_stand_beside_metadata() -> None:
    for name in ("model_rpm_limit", "model_tpm_limit"):
        with pytest.raises(ApiError, match=f"send {name} beside metadata") as refusal:
            values.metadata({name: {"gpt-4o": 5}})
        assert (refusal.value.code, refusal.value.param) == ("field_not_supported", "metadata")
        assert values.metadata({name: {}}) == {name: {}}


WRONG_MONEY = [
    (b'{"max_budget": NaN}', "max_budget"),
    (b'{"max_budget": -Infinity}', "max_budget"),
    (b'{"budget_limits": [{"max_budget": NaN, "budget_duration": "1d"}]}', "max_budget"),
    (b'{"max_budget": 1e300}', "max_budget"),
    (b'{"soft_budget": -0.01}', "soft_budget"),
    (b'{"budget_limits": {}}', "budget_limits"),
    (b'{"budget_limits": [{"max_budget": 1}]}', "budget_limits"),
    (b'{"budget_limits": [{"budget_duration": "1d"}]}', "budget_limits"),
    (b'{"budget_limits": [{"max_budget": true, "budget_duration": "1d"}]}', "budget_limits"),
    (b'{"budget_limits": [{"max_budget": -1, "budget_duration": "1d"}]}', "budget_limits"),
    (b'{"budget_limits": [{"max_budget": 1, "budget_duration": "soon"}]}', "budget_limits"),
    (b'{"budget_limits": [{"max_budget": 1, "budget_duration": "1d", "reset_at": "x"}]}', "budget_limits"),
    (b'{"budget_limits": [{"max_budget": 1, "budget_duration": "5h", "budget_timezone": "Japan"}]}', "budget_limits"),
    (b'{"budget_limits": [{"max_budget": 1, "budget_duration": "1d", "soft_budget": 2}]}', "budget_limits"),
    (b'{"model_max_budget": {"": {"budget_limit": 1}}}', "model_max_budget"),
    (b'{"model_max_budget": {"gpt**": {"budget_limit": 1}}}', "model_max_budget"),
    (b'{"model_max_budget": {"a*b*c*d*e*f": {"budget_limit": 1}}}', "model_max_budget"),
    (b'{"model_max_budget": {" gpt": {"budget_limit": 1}}}', "model_max_budget"),
    (b'{"model_max_budget": {"gpt\\n": {"budget_limit": 1}}}', "model_max_budget"),
    (b'{"model_max_budget": {"gpt": 5}}', "model_max_budget"),
    (b'{"model_max_budget": {"gpt": {}}}', "model_max_budget"),
    (b'{"model_max_budget": {"gpt": {"budget_limit": false}}}', "model_max_budget"),
    (b'{"model_max_budget": {"gpt": {"budget_limit": 1, "max_budget": 1}}}', "model_max_budget"),
    (b'{"model_max_budget": {"gpt": {"budget_limit": 1, "rpm_limit": 1}}}', "model_max_budget"),
    (b'{"model_max_budget": {"m": {"max_budget": 1, "time_period": "1d", "budget_duration": ""}}}', "model_max_budget"),
    (b'{"budget_thresholds": [0]}', "budget_thresholds"),
    (b'{"budget_thresholds": [101]}', "budget_thresholds"),
    (b'{"budget_thresholds": [80, 80]}', "budget_thresholds"),
    (b'{"budget_thresholds": [true]}', "budget_thresholds"),
    (b'{"budget_thresholds": [1,2,3,4,5,6,7,8,9,10,11]}', "budget_thresholds"),
    (b'{"budget_thresholds": 80}', "budget_thresholds"),
    (b'{"budget_mode": "Strict"}', "budget_mode"),
    (b'{"budget_mode": true}', "budget_mode"),
    (b'{"max_parallel_requests": 1.5}', "max_parallel_requests"),
    (b'{"max_parallel_requests": -1}', "max_parallel_requests"),
    (b'{"rpm_limit": true}', "rpm_limit"),
    (b'{"model_rpm_limit": {"gpt": true}}', "model_rpm_limit"),
    (b'{"model_rpm_limit": {"gpt": -1}}', "model_rpm_limit"),
    (b'{"model_tpm_limit": {"": 1}}', "model_tpm_limit"),
    (b'{"model_tpm_limit": []}', "model_tpm_limit"),
    (b'{"temp_budget_increase": 5}', "temp_budget_expiry"),
    (b'{"temp_budget_expiry": "2026-03-02T00:00:00Z"}', "temp_budget_increase"),
    (b'{"temp_budget_increase": 5, "temp_budget_expiry": null}', "temp_budget_expiry"),
    (b'{"temp_budget_increase": 0, "temp_budget_expiry": "2026-03-02T00:00:00Z"}', "temp_budget_increase"),
    (b'{"temp_budget_increase": -5, "temp_budget_expiry": "2026-03-02T00:00:00Z"}', "temp_budget_increase"),
    (b'{"temp_budget_increase": 5, "temp_budget_expiry": "2026-03-01T00:00:00Z"}', "temp_budget_expiry"),
    (b'{"temp_budget_increase": 5, "temp_budget_expiry": "2026-03-02"}', "temp_budget_expiry"),
    (b'{"temp_budget_increase": 5, "temp_budget_expiry": "2126-03-02T00:00:00Z"}', "temp_budget_expiry"),
    (b'{"temp_budget_increase": 5, "temp_budget_expiry": "9999-12-31T23:59:59-14:00"}', "temp_budget_expiry"),
    (b'{"temp_budget_increase": 5, "temp_budget_expiry": "tomorrow"}', "temp_budget_expiry"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param"), WRONG_MONEY)
def test_what_is_wrong_about_money_is_named(body: bytes, param: str) -> None:
    def asking() -> object:
        return change_of(read(body, fields.GENERATE_KEY, GenerateKey), None, None, NOW)

    refused(asking, param)


def test_too_many_windows_and_models() -> None:
    windows = [{"max_budget": 1, "budget_duration": f"{n}d"} for n in range(1, 10)]
    models = {f"m{n}": {"budget_limit": 1} for n in range(51)}
    for name, value in (
        ("budget_limits", windows),
        ("model_max_budget", models),
        ("model_rpm_limit", {f"m{n}": 1 for n in range(101)}),
    ):
        body = msgspec.json.encode({name: value})
        refused(
            lambda body=body: change_of(read(body, scope_fields.NEW_TEAM, scope_schemas.NewTeam), None, None, NOW), name
        )


def test_what_is_asked_for_in_either_spelling() -> None:
    body = b"""{"max_budget": 100, "budget_duration": "1mo", "budget_timezone": "Europe/Berlin",
        "budget_limits": [{"max_budget": 5, "budget_duration": "1d", "budget_timezone": "Asia/Tokyo"}],
        "model_max_budget": {"gpt-*": {"budget_limit": 2, "time_period": "1d"},
                             "o3": {"max_budget": 3, "budget_duration": "5h", "soft_budget": 1}},
        "budget_thresholds": [90, 50], "budget_mode": "strict", "rpm_limit": 0, "model_rpm_limit": {"gpt-*": 9}}"""
    request = read(body, fields.GENERATE_KEY, GenerateKey)
    patch = patch_of(request)
    assert patch.windows == (WindowTerms(limit_nusd=5 * NUSD_PER_USD, duration="1d", zone="Asia/Tokyo"),)
    assert patch.models == (
        WindowTerms(limit_nusd=2 * NUSD_PER_USD, duration="1d", model="gpt-*"),
        WindowTerms(limit_nusd=3 * NUSD_PER_USD, soft_nusd=NUSD_PER_USD, duration="5h", model="o3"),
    )
    assert (patch.thresholds, patch.strict) == ((50, 90), True)
    assert rates_of(request) == RatePatch(rpm=0, model_rpm={"gpt-*": 9})
    assert names_a_budget(request)
    for nothing in (b"{}", b'{"max_budget": null, "budget_limits": [], "model_max_budget": {}, "rpm_limit": 3}'):
        assert not names_a_budget(read(nothing, fields.GENERATE_KEY, GenerateKey))


def test_a_temporary_increase_in_any_zone_is_kept_in_utc() -> None:
    body = b'{"temp_budget_increase": 5, "temp_budget_expiry": "2026-03-02T01:00:00+02:00"}'
    change = change_of(read(body, fields.UPDATE_KEY, UpdateKey), None, None, NOW)
    until = datetime(2026, 3, 1, 23, tzinfo=UTC)
    assert change.money.increase == Increase(amount_nusd=5 * NUSD_PER_USD, until=until)
    cleared = read(b'{"temp_budget_increase": null, "temp_budget_expiry": null}', fields.UPDATE_KEY, UpdateKey)
    assert change_of(cleared, None, None, NOW).money.increase is None


def test_targets_of_a_deletion() -> None:
    assert targets_of(NameKeys(keys=["a"])) == (["a"], [])
    assert targets_of(NameKeys(key_aliases=["b"], keys=[])) == ([], ["b"])
    for bad in (NameKeys(), NameKeys(keys=["a"], key_aliases=["b"]), NameKeys(keys=["a"] * 101)):
        with pytest.raises(ApiError):
            targets_of(bad)
