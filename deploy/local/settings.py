"""What the local runner reads from its environment."""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from deploy.local.errors import UpError

DEFAULT_CONFIG = Path(__file__).with_name("config.yaml")
WORKERS_MAX = 64
PROXIES_MAX = 16
ENFORCERS = 2
ENFORCERS_MAX = 8
AUTHS_MAX = 8
SCHEDULERS_MAX = 8
PORT_MAX = 65_535
DEFAULT_PORT = 4_000
DRAIN_S = 30
DRAIN_S_MAX = 600
NATS_SYNC = re.compile(r"always|[1-9][0-9]{0,5}(ms|s|m)")


class LocalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one start. Paths are absolute; a URL that is None means "start an embedded server".

    Proxy number i (from 0) has the front door `port` + i, which its `workers` share. `drain_s` is how long a proxy
    lets calls in flight end when it stops (it reads the setting itself).
    """

    home: Path
    config: Path
    host: str
    port: int
    workers: int
    proxies: int
    enforcers: int
    auths: int
    schedulers: int
    postgres_url: str | None
    nats_url: str | None
    nats_sync: str
    nats_monitor_port: int | None
    drain_s: int
    master_key: str | None
    peppers: str | None
    simulator_url: str | None
    debug: bool

    @property
    def ports(self) -> range:
        """The front doors, the first proxy's first."""
        return range(self.port, self.port + self.proxies)


def load_settings(environ: Mapping[str, str], directory: Path) -> LocalSettings:
    """Read the settings; relative paths count from `directory`. Raises UpError with what to change.

    An empty variable counts as not set, as in compose files.
    """

    def text(name: str) -> str | None:
        return environ.get(name, "").strip() or None

    def number(name: str, default: int, low: int, high: int) -> int:
        value = text(name)
        if value is None:
            return default
        if not value.isascii() or not value.isdigit() or not low <= int(value) <= high:
            raise UpError(f"{name} is {value!r}; it must be a whole number from {low} to {high}.")
        return int(value)

    sync = text("TUNDISH_NATS_SYNC") or "always"
    if not NATS_SYNC.fullmatch(sync):
        raise UpError(f"TUNDISH_NATS_SYNC is {sync!r}; it must be `always` or a time such as 500ms, 10s or 2m.")
    config = (directory / (text("TUNDISH_CONFIG") or DEFAULT_CONFIG)).absolute()
    if not config.is_file():
        raise UpError(f"TUNDISH_CONFIG is {config}, and there is no such file. Correct the path or unset it.")
    settings = LocalSettings(
        home=(directory / (text("TUNDISH_HOME") or ".tundish")).absolute(),
        config=config,
        host=text("TUNDISH_HOST") or "127.0.0.1",
        port=number("TUNDISH_PORT", DEFAULT_PORT, 1, PORT_MAX),
        workers=number("TUNDISH_WORKERS", 1, 1, WORKERS_MAX),
        proxies=number("TUNDISH_PROXIES", 1, 1, PROXIES_MAX),
        enforcers=number("TUNDISH_ENFORCERS", ENFORCERS, 1, ENFORCERS_MAX),
        auths=number("TUNDISH_AUTHS", 1, 1, AUTHS_MAX),
        schedulers=number("TUNDISH_SCHEDULERS", 1, 1, SCHEDULERS_MAX),
        postgres_url=text("TUNDISH_POSTGRES_URL"),
        nats_url=text("TUNDISH_NATS_URL"),
        nats_sync=sync,
        nats_monitor_port=number("TUNDISH_NATS_MONITOR_PORT", 0, 1, PORT_MAX) or None,
        drain_s=number("TUNDISH_DRAIN_S", DRAIN_S, 0, DRAIN_S_MAX),
        master_key=text("TUNDISH_MASTER_KEY"),
        peppers=text("TUNDISH_PEPPERS"),
        simulator_url=text("TUNDISH_SIMULATOR_URL"),
        debug=(text("TUNDISH_LOG_LEVEL") or "").lower() == "debug",
    )
    if settings.ports[-1] > PORT_MAX:
        raise UpError(f"TUNDISH_PORT is {settings.port}: there are no {settings.proxies} ports from there on.")
    return settings
