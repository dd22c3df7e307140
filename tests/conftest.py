"""Fixtures for every test."""

from collections.abc import Iterator

import pytest

from tests.support.stack import Stack, stack_folder

pytest_plugins = ["tests.support.servers"]


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The whole product on its default configuration, shared by the tests that only call it."""
    with stack_folder() as folder:
        running = Stack(folder / "home").start()
        yield running
        assert running.stop() == 0
