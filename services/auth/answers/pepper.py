"""Answers about peppers. A pepper itself is never shown."""

import msgspec


class PepperRow(msgspec.Struct, kw_only=True):
    """One pepper: how many living secrets stand under it, and how much waits sealed under it."""

    label: str
    current: bool
    configured: bool
    secrets: int
    sealed: int
    removable: bool


class PepperStatus(msgspec.Struct, kw_only=True):
    """`GET /pepper/status`. `removable` may be taken out of TUNDISH_PEPPERS; `missing` are needed and not in it, which
    is an error: `ok` is false then."""

    current: str
    peppers: list[PepperRow]
    ok: bool
    removable: list[str]
    missing: list[str]
    warnings: list[str]
