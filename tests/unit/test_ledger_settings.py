"""Settings of the enforcer: defaults, and wrong values named with what is right."""

import pytest

from services.ledger.settings import enforcer_settings
from shared.errors import SettingsError
from shared.settings import Env

NEEDED = {
    "TUNDISH_MASTER_KEY": "sk-master-key-of-the-tests-0123456789",
    "TUNDISH_NATS_URL": "nats://127.0.0.1:4222",
    "TUNDISH_TOKEN": "own",
}


def test_defaults() -> None:
    settings = enforcer_settings(Env(NEEDED))
    assert (settings.lease_ms, settings.snapshot_every) == (900_000, 20_000)


def test_what_is_set_is_taken() -> None:
    settings = enforcer_settings(Env(NEEDED | {"TUNDISH_SERVE_ALONE_S": "5", "TUNDISH_SNAPSHOT_EVERY": "1"}))
    assert (settings.lease_ms, settings.snapshot_every) == (5_000, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TUNDISH_SERVE_ALONE_S", "4"),
        ("TUNDISH_SERVE_ALONE_S", "86401"),
        ("TUNDISH_SERVE_ALONE_S", "soon"),
        ("TUNDISH_SNAPSHOT_EVERY", "0"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        enforcer_settings(Env(NEEDED | {name: value}))
