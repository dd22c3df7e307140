"""Fixtures for every test."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stack import Stack

pytest_plugins = ["tests.support.servers"]


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The whole product on its default configuration, shared by the tests that only call it."""
    with tempfile.TemporaryDirectory(prefix="tundish-test-") as folder:
        running = Stack(Path(folder) / "home").start()
        yield running
        assert running.stop() == 0
