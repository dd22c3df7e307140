"""Fixtures for every test."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.stack import Stack, stack_folder

# A machine that does other things besides is no defect of the code.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

pytest_plugins = ["tests.support.servers"]


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The whole product on its default configuration, shared by the tests that only call it."""
    with stack_folder() as folder:
        running = Stack(folder / "home").start()
        yield running
        assert running.stop() == 0
