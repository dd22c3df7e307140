"""A stack with a deployment of every kind, shared by the tests of realtime sessions, raw routes and isolation."""

import shutil
from collections.abc import Iterator

import pytest

from tests.support.stack import Stack, stack_folder
from tests.support.surfaces import CONFIG, Ledger

RENEW_S = "2"
"""How long a realtime session's hold stands here: short enough for a test to see it renewed."""


@pytest.fixture(scope="session")
def surfaces() -> Iterator[Stack]:
    """The running stack."""
    with stack_folder() as folder:
        config = folder / "models.yaml"
        shutil.copy(CONFIG, config)
        stack = Stack(folder / "home", config=config, env={"TUNDISH_REALTIME_RENEW_S": RENEW_S}).start()
        yield stack
        assert stack.stop() == 0
        errors = [number for number, line in enumerate(stack.output) if "Traceback" in line]
        assert not errors, "".join(list(stack.output)[errors[0] : errors[0] + 60])


@pytest.fixture
def ledger(surfaces: Stack) -> Ledger:
    """What this test has had served and booked."""
    return Ledger(surfaces)


@pytest.fixture(scope="session")
def ledger_key(surfaces: Stack) -> str:
    """A key for requests that nobody pays for."""
    return surfaces.mint(key_alias="nobody-pays", max_budget=1)
