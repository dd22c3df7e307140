"""Settings: read once, and every error names the variable and the remedy."""

from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.settings import Env, common, peppers, postgres_url, refuse_weak_master_key

MASTER = "sk-the-master-key-of-this-test-1234"
LEAST = {
    "TUNDISH_MASTER_KEY": MASTER,
    "TUNDISH_NATS_URL": "nats://auth:pw@127.0.0.1:4222",
    "TUNDISH_TOKEN": "token",
}


def test_the_least_that_a_service_needs() -> None:
    settings = common("auth", Env(LEAST))
    assert (settings.internal_host, settings.internal_port) == ("127.0.0.1", 4001)
    assert settings.home == Path.cwd() / ".tundish"
    assert settings.ledger_url == "http://127.0.0.1:4002"
    assert settings.peer_tokens == {}
    assert common("proxy", Env(LEAST)).internal_port == 4005


@pytest.mark.parametrize("missing", sorted(LEAST))
def test_what_is_missing_is_named(missing: str) -> None:
    for values in ({**LEAST, missing: "  "}, {name: value for name, value in LEAST.items() if name != missing}):
        with pytest.raises(SettingsError, match=missing):
            common("auth", Env(values))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TUNDISH_INTERNAL_PORT", "http", "whole number"),
        ("TUNDISH_INTERNAL_PORT", "0", "1 to 65535"),
        ("TUNDISH_INTERNAL_PORT", "65536", "1 to 65535"),
        ("TUNDISH_PARTITIONS", "0", "1 to 1024"),
        ("TUNDISH_LOG", "xml", "text, json"),
        ("TUNDISH_LOG_LEVEL", "loud", "debug, info"),
        ("TUNDISH_PEER_TOKENS", "auth", "name:value"),
        ("TUNDISH_PEER_TOKENS", "auth:,proxy:x", "name:value"),
        ("TUNDISH_MASTER_KEY", "sk-1234", "too weak"),
        ("TUNDISH_MASTER_KEY", "a" * 64, "too weak"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_right(name: str, value: str, words: str) -> None:
    with pytest.raises(SettingsError, match=name) as caught:
        common("auth", Env({**LEAST, name: value}))
    assert words in str(caught.value)


def test_secrets_are_not_repeated_in_errors() -> None:
    with pytest.raises(SettingsError) as caught:
        refuse_weak_master_key("hunter2hunter2")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(SettingsError) as caught:
        peppers(Env({"TUNDISH_PEPPERS": "p1:nothex-hunter2"}))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(SettingsError) as caught:
        Env({"TUNDISH_PEER_TOKENS": "hunter2"}).pairs("TUNDISH_PEER_TOKENS")
    assert "hunter2" not in str(caught.value)


def test_pairs_keep_their_order_and_their_colons() -> None:
    env = Env({"X": " b:2 , a:1:1 ,,"})
    assert list(env.pairs("X").items()) == [("b", "2"), ("a", "1:1")]


def test_peppers_are_labelled_bytes_current_first() -> None:
    found = peppers(Env({"TUNDISH_PEPPERS": f"p2:{'22' * 32},p1:{'11' * 32}"}))
    assert list(found) == ["p2", "p1"]
    assert found["p1"] == b"\x11" * 32
    for bad in ("", "p1:22", "p1:" + "g" * 64):
        with pytest.raises(SettingsError, match="TUNDISH_PEPPERS"):
            peppers(Env({"TUNDISH_PEPPERS": bad}))


def test_the_database_url_is_needed_where_it_is_asked_for() -> None:
    assert postgres_url(Env({"TUNDISH_POSTGRES_URL": "postgresql://x"})) == "postgresql://x"
    with pytest.raises(SettingsError, match="TUNDISH_POSTGRES_URL"):
        postgres_url(Env({}))


def test_a_path_is_absolute_and_knows_the_home_folder() -> None:
    assert Env({"X": "~/data"}).path("X", "y") == Path.home() / "data"
    assert Env({}).path("X", "y") == Path.cwd() / "y"
