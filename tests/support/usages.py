"""Usages by the names of their classes, for tests that go through all of them."""

import msgspec

from shared.pricing import STANDARD, Usage


def usage_of(classes: dict[str, int], *, tier: str = STANDARD, kind: str = "") -> Usage:
    """A usage with so many units of each class."""
    return msgspec.convert({**classes, "tier": tier, "kind": kind}, Usage)
