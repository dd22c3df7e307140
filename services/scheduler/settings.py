"""Settings of the scheduler, from the environment."""

import msgspec

from shared.settings import Common, Env, common, peppers, postgres_url

KEEP_DAYS_DEFAULT = 30
KEEP_DAYS_MAX = 3_650


class SchedulerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`keep_days`: finished ticks and decisions on rotation older than this are deleted.

    `peppers` (label to pepper, the current one first) tell whose key somebody comes with.
    """

    common: Common
    postgres_url: str
    peppers: dict[str, bytes]
    keep_days: int


def load_settings(env: Env | None = None) -> SchedulerSettings:
    """Read them; raises SettingsError."""
    env = env or Env()
    return SchedulerSettings(
        common=common("scheduler", env),
        postgres_url=postgres_url(env),
        peppers=peppers(env),
        keep_days=env.integer("TUNDISH_SCHEDULER_KEEP_DAYS", KEEP_DAYS_DEFAULT, low=1, high=KEEP_DAYS_MAX),
    )
