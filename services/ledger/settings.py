"""Settings of the two ledger processes, from the environment."""

import msgspec

from shared.allotment import LEASE_MS
from shared.settings import Common, Env, common, peppers, postgres_url

SERVE_ALONE_S_MIN = 5
SERVE_ALONE_S_MAX = 86_400
SNAPSHOT_EVERY = 20_000
SNAPSHOT_EVERY_MAX = 100_000_000


class EnforcerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The enforcer needs NATS and nothing else.

    `lease_ms`: how long a proxy may go on without an enforcer. `snapshot_every`: messages of the log between two
    snapshots of the state.
    """

    common: Common
    lease_ms: int = LEASE_MS
    snapshot_every: int = SNAPSHOT_EVERY


class BookkeeperSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The bookkeeper also needs its database, and the peppers (label to pepper, the current one first): by them it
    knows whose key somebody comes with."""

    common: Common
    postgres_url: str
    peppers: dict[str, bytes]


def enforcer_settings(env: Env | None = None) -> EnforcerSettings:
    """Read and check them all; raises SettingsError."""
    env = env or Env()
    alone_s = env.integer("TUNDISH_SERVE_ALONE_S", LEASE_MS // 1000, low=SERVE_ALONE_S_MIN, high=SERVE_ALONE_S_MAX)
    return EnforcerSettings(
        common=common("ledger-enforcer", env),
        lease_ms=alone_s * 1000,
        snapshot_every=env.integer("TUNDISH_SNAPSHOT_EVERY", SNAPSHOT_EVERY, low=1, high=SNAPSHOT_EVERY_MAX),
    )


def bookkeeper_settings(env: Env | None = None) -> BookkeeperSettings:
    """Read and check them all; raises SettingsError."""
    env = env or Env()
    return BookkeeperSettings(
        common=common("ledger-bookkeeper", env), postgres_url=postgres_url(env), peppers=peppers(env)
    )
