"""Settings of the auth service, read once at start."""

from typing import Literal, cast

import msgspec

from services.auth.rotation.configured import RotationSettings, rotation_settings
from shared.settings import Common, Env, common, peppers, postgres_url

LeakAction = Literal["revoke", "rotate"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the service needs to know. Times are milliseconds."""

    common: Common
    postgres_url: str
    peppers: dict[str, bytes]
    relay_wait_ms: int
    spend_wait_ms: int
    leak_action: LeakAction
    rotation: RotationSettings = RotationSettings()


def load(env: Env | None = None) -> Settings:
    """Read the environment; raises SettingsError naming what is wrong."""
    env = env or Env()
    return Settings(
        common=common("auth", env),
        postgres_url=postgres_url(env),
        peppers=peppers(env),
        relay_wait_ms=env.integer("TUNDISH_AUTH_RELAY_WAIT_MS", 2_000, low=0, high=30_000),
        spend_wait_ms=env.integer("TUNDISH_AUTH_SPEND_WAIT_MS", 2_000, low=100, high=30_000),
        leak_action=cast("LeakAction", env.choice("TUNDISH_LEAK_ACTION", "revoke", ("revoke", "rotate"))),
        rotation=rotation_settings(env),
    )
