"""Settings of the proxy."""

from pathlib import Path

import msgspec

from shared.settings import Common, Env, common, peppers


class ProxySettings(msgspec.Struct, frozen=True, kw_only=True):
    """See docs/configuration.md for each variable."""

    common: Common
    peppers: dict[str, bytes]
    config: Path
    host: str
    port: int
    admin: bool
    upstream: str
    upstream_idle_s: int
    body_bytes_max: int
    default_output_tokens: int
    exceeded_status: int
    drain_s: int
    realtime_renew_s: int


def load(env: Env | None = None) -> ProxySettings:
    """Read the environment. Raises SettingsError."""
    env = env or Env()
    return ProxySettings(
        common=common("proxy", env),
        peppers=peppers(env),
        config=env.path("TUNDISH_CONFIG", "deploy/local/config.yaml"),
        host=env.text("TUNDISH_HOST", "127.0.0.1"),
        port=env.integer("TUNDISH_PORT", 4000, low=1, high=65_535),
        admin=env.choice("TUNDISH_ADMIN", "on", ("on", "off")) == "on",
        upstream=env.choice("TUNDISH_UPSTREAM", "pyreqwest", ("pyreqwest", "httpx")),
        upstream_idle_s=env.integer("TUNDISH_UPSTREAM_IDLE_S", 600, low=1, high=600),
        body_bytes_max=env.integer("TUNDISH_BODY_BYTES_MAX", 32 * 1024 * 1024, low=1024, high=512 * 1024 * 1024),
        default_output_tokens=env.integer("TUNDISH_DEFAULT_OUTPUT_TOKENS", 1_000, low=1, high=1_000_000),
        exceeded_status=int(env.choice("TUNDISH_BUDGET_EXCEEDED_STATUS", "402", ("402", "429", "422", "400"))),
        drain_s=env.integer("TUNDISH_DRAIN_S", 30, low=0, high=600),
        realtime_renew_s=env.integer("TUNDISH_REALTIME_RENEW_S", 240, low=1, high=300),
    )
