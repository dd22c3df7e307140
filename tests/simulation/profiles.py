"""How large and how rough a simulated world is."""

from dataclasses import dataclass, replace

from shared.allotment import (
    ASK_WAIT_MS,
    BEAT_MS,
    EXCEEDED_TTL_MS,
    LEASE_MS,
    MARGIN_MS,
    MAX_CALL_MS,
    RECALL_GAP_MS,
    RECALL_WAIT_MS,
    RESERVED_TTL_MS,
    RETRANSMIT_MS,
)


@dataclass(frozen=True)
class Terms:
    """The constants that proxies and enforcers agree on, in milliseconds."""

    lease_ms: int = LEASE_MS
    max_call_ms: int = MAX_CALL_MS
    margin_ms: int = MARGIN_MS
    beat_ms: int = BEAT_MS
    ask_wait_ms: int = ASK_WAIT_MS
    retransmit_ms: int = RETRANSMIT_MS
    recall_wait_ms: int = RECALL_WAIT_MS
    recall_gap_ms: int = RECALL_GAP_MS
    reserved_ttl_ms: int = RESERVED_TTL_MS
    exceeded_ttl_ms: int = EXCEEDED_TTL_MS
    horizon_ms: int = 10_000
    idle_after_ms: int = 5_000
    forget_after_ms: int = 300_000
    shares: int = 2


SHORT = Terms(
    lease_ms=15_000,
    max_call_ms=20_000,
    margin_ms=2_000,
    retransmit_ms=60,
    recall_gap_ms=50,
    reserved_ttl_ms=100,
    exceeded_ttl_ms=2_000,
    horizon_ms=5_000,
    forget_after_ms=8_000,
    shares=4,
)
"""Shortened, so that instances die and windows end within a run."""


@dataclass(frozen=True)
class Profile:
    """One kind of world. Times are in seconds of the world; `every` figures are means, 0 means never."""

    name: str
    terms: Terms = SHORT
    mode: str = "strict"
    """Budgets: `strict`, `default`, or `mixed` by chance."""
    proxies: tuple[int, int] = (2, 6)
    enforcers: tuple[int, int] = (2, 2)
    teams: int = 2
    keys: int = 4
    demand_s: float = 100
    calls_per_s: float = 2.5
    pressure: tuple[float, float] = (0.5, 4.0)
    """Demand against the budgets."""
    loss: float = 0.02
    doubled: float = 0.03
    slow: float = 0.02
    skew_ms: float = 500
    proxy_crash_every_s: float = 40
    proxy_pause_every_s: float = 80
    enforcer_crash_every_s: float = 60
    enforcer_pause_every_s: float = 40
    cut_every_s: float = 25
    cut_s: float = 40
    change_every_s: float = 12
    correct_every_s: float = 60
    slow_log_every_s: float = 30
    storm: bool = False
    """In its second half everything goes wrong much more often."""
    lost_journals: float = 0.1
    idle: int = 0
    """So many proxies stop getting calls a little after the start."""


BASE = Profile(name="base")
HARSH = replace(
    BASE,
    name="harsh",
    proxies=(4, 8),
    enforcers=(2, 3),
    loss=0.05,
    doubled=0.10,
    slow=0.05,
    storm=True,
    demand_s=80,
    proxy_pause_every_s=25,
    cut_every_s=10,
    slow_log_every_s=10,
    change_every_s=6,
)
SIXTEEN = replace(BASE, name="sixteen", proxies=(12, 16), keys=6, demand_s=60, calls_per_s=1.2)
DEFAULT = replace(BASE, name="default-mode", mode="default")
MIXED = replace(BASE, name="mixed", mode="mixed", loss=0.03)
LOSSY = replace(BASE, name="lossy", loss=0.35, doubled=0.10, demand_s=60)
CALM = replace(
    BASE,
    name="calm",
    loss=0,
    doubled=0,
    slow=0,
    proxy_crash_every_s=0,
    proxy_pause_every_s=0,
    enforcer_crash_every_s=0,
    enforcer_pause_every_s=0,
    cut_every_s=0,
    slow_log_every_s=0,
    change_every_s=0,
    correct_every_s=0,
    lost_journals=0,
)
PRODUCT = replace(BASE, name="product", terms=Terms(), demand_s=90, lost_journals=0.05)
"""The constants that the product runs with."""

PROFILES = {found.name: found for found in (BASE, HARSH, SIXTEEN, DEFAULT, MIXED, LOSSY, CALM, PRODUCT)}
