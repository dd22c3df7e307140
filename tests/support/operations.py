"""All rows of auth's API, without a service behind them: for what is written and checked from the rows alone."""

import inspect
import pkgutil
from importlib import import_module
from unittest.mock import MagicMock

from services.auth import api
from services.auth.api.operations import Operation


def all_operations() -> list[Operation]:
    """The rows of every `*_operations` of `services.auth.api`; what they would work with is a stand-in."""
    found: list[Operation] = []
    for module in sorted(entry.name for entry in pkgutil.iter_modules(api.__path__)):
        content = import_module(f"{api.__name__}.{module}")
        for name, make in vars(content).items():
            if name.endswith("_operations") and make.__module__ == content.__name__:
                found += make(*(MagicMock() for _ in inspect.signature(make).parameters))
    return found
