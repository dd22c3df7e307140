"""Settings of the two ledger processes, from the environment."""

import msgspec

from shared.settings import Common, Env, common, postgres_url


class EnforcerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The enforcer needs NATS and nothing else."""

    common: Common


class BookkeeperSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The bookkeeper also needs its database."""

    common: Common
    postgres_url: str


def enforcer_settings(env: Env | None = None) -> EnforcerSettings:
    """Read and check them all; raises SettingsError."""
    return EnforcerSettings(common=common("ledger-enforcer", env))


def bookkeeper_settings(env: Env | None = None) -> BookkeeperSettings:
    """Read and check them all; raises SettingsError."""
    return BookkeeperSettings(common=common("ledger-bookkeeper", env), postgres_url=postgres_url(env))
