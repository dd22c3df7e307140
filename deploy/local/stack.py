"""What runs: the services and the simulator as child specs, each with exactly the environment it needs."""

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from deploy.local.children import RANK_PROXY, Spec
from deploy.local.models import SIMULATOR_VARIABLE, Models
from deploy.local.secrets import keep_secret, new_master_key, new_pepper, random_text
from deploy.local.settings import LocalSettings

AUTH = "auth"
BOOKKEEPER = "ledger-bookkeeper"
ENFORCER = "ledger-enforcer"
SCHEDULER = "scheduler"
PROXY = "proxy"
SIMULATOR = "simulator"
SERVICES = (AUTH, BOOKKEEPER, ENFORCER, SCHEDULER)
"""The services of which one process runs; besides them there are one or more proxies."""

NATS_USERS = {
    AUTH: "auth",
    BOOKKEEPER: "bookkeeper",
    ENFORCER: "enforcer",
    SCHEDULER: "scheduler",
    PROXY: "proxy",
    "migrate": "admin",
}
PEERS = {
    AUTH: (PROXY, SCHEDULER),
    BOOKKEEPER: (AUTH, PROXY, SCHEDULER),
    SCHEDULER: (AUTH, PROXY),
}
"""Who may call whose internal API, each with a token of its own."""

WITH_POSTGRES = frozenset({AUTH, BOOKKEEPER, SCHEDULER, "migrate"})
WITH_PEPPERS = frozenset({AUTH, PROXY})

OURS_ALONE = frozenset(
    {
        "TUNDISH_MASTER_KEY",
        "TUNDISH_NATS_URL",
        "TUNDISH_PEER_TOKENS",
        "TUNDISH_PEPPERS",
        "TUNDISH_POSTGRES_URL",
        "TUNDISH_TOKEN",
    }
)
"""Given to the services that need them, inherited by none."""

SIMULATOR_KEY = "sim-foundry-key"
SERVICE_GRACE_S = 15.0
"""How long a service has to end; a proxy has this after its drain time."""
SERVICE_QUIET = ("Embedded server is experimental",)
SIMULATOR_GRACE_S = 5.0


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """The installation's own secrets; `tokens` by service."""

    master_key: str
    peppers: str
    tokens: Mapping[str, str]


class Wiring(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything is: internal ports by process, server URLs, `nats_urls` by NATS user."""

    ports: Mapping[str, int]
    postgres_url: str
    nats_urls: Mapping[str, str]
    simulator_url: str | None


def load_secrets(settings: LocalSettings) -> Secrets:
    """The secrets of this data folder, made at the first start; the environment's own go before them."""
    home = settings.home
    return Secrets(
        master_key=settings.master_key or keep_secret(master_key_path(home), new_master_key()),
        peppers=settings.peppers or keep_secret(home / "pepper", new_pepper()),
        tokens={name: keep_secret(home / "tokens" / name, random_text(43)) for name in (*SERVICES, PROXY)},
    )


def master_key_path(home: Path) -> Path:
    """Where the generated master key is kept."""
    return home / "master.key"


def proxy_names(workers: int) -> list[str]:
    """The proxies' process names: proxy-1, proxy-2, …"""
    return [f"{PROXY}-{number}" for number in range(1, workers + 1)]


def service_specs(
    settings: LocalSettings, wiring: Wiring, secrets: Secrets, models: Models, inherited: Mapping[str, str]
) -> list[Spec]:
    """The services, in the order of starting."""

    def spec(name: str, service: str, *, rank: int | None = None, grace_s: float = SERVICE_GRACE_S) -> Spec:
        env = service_env(service, settings, wiring, secrets, inherited)
        env["TUNDISH_INTERNAL_PORT"] = str(wiring.ports[name])
        if service == PROXY:
            env |= _front_door(settings, wiring, models)
        argv = (sys.executable, "-m", "services", "serve", service)
        base = Spec(name=name, argv=argv, env=env, grace_s=grace_s, quiet=SERVICE_QUIET)
        return base if rank is None else msgspec.structs.replace(base, stop_rank=rank)

    proxies = proxy_names(settings.workers)
    return [
        *(spec(name, name) for name in SERVICES),
        *(spec(name, PROXY, rank=RANK_PROXY, grace_s=settings.drain_s + SERVICE_GRACE_S) for name in proxies),
    ]


def migrate_spec(settings: LocalSettings, wiring: Wiring, secrets: Secrets, inherited: Mapping[str, str]) -> Spec:
    """The program that brings databases, streams and buckets up to date."""
    return Spec(
        name="migrate",
        argv=(sys.executable, "-m", "services", "migrate"),
        env=service_env("migrate", settings, wiring, secrets, inherited),
        grace_s=SERVICE_GRACE_S,
    )


def simulator_spec(port: int, inherited: Mapping[str, str]) -> Spec:
    """The Foundry simulator. It keeps its served-call log in the file that TUNDISH_SIMULATOR_LOG names."""
    log_file = inherited.get("TUNDISH_SIMULATOR_LOG", "").strip()
    log = ("--log", log_file) if log_file else ()
    return Spec(
        name=SIMULATOR,
        argv=(sys.executable, "-m", "deploy.simulator", "--host", "127.0.0.1", "--port", str(port), *log),
        env=_inheritable(inherited),
        grace_s=SIMULATOR_GRACE_S,
    )


def service_env(
    service: str,
    settings: LocalSettings,
    wiring: Wiring,
    secrets: Secrets,
    inherited: Mapping[str, str],
) -> dict[str, str]:
    """The environment of one service: ours without the secrets of others, and what it needs to know."""
    env = _inheritable(inherited) | {
        "PYTHONUNBUFFERED": "1",
        "TUNDISH_HOME": str(settings.home),
        "TUNDISH_CONFIG": str(settings.config),
        "TUNDISH_AUTH_URL": f"http://127.0.0.1:{wiring.ports[AUTH]}",
        "TUNDISH_LEDGER_URL": f"http://127.0.0.1:{wiring.ports[BOOKKEEPER]}",
        "TUNDISH_SCHEDULER_URL": f"http://127.0.0.1:{wiring.ports[SCHEDULER]}",
        "TUNDISH_NATS_URL": wiring.nats_urls[NATS_USERS[service]],
        "TUNDISH_MASTER_KEY": secrets.master_key,
    }
    if service in secrets.tokens:
        env["TUNDISH_TOKEN"] = secrets.tokens[service]
    if service in PEERS:
        env["TUNDISH_PEER_TOKENS"] = ",".join(f"{peer}:{secrets.tokens[peer]}" for peer in PEERS[service])
    if service in WITH_POSTGRES:
        env["TUNDISH_POSTGRES_URL"] = wiring.postgres_url
    if service in WITH_PEPPERS:
        env["TUNDISH_PEPPERS"] = secrets.peppers
    return env


def _front_door(settings: LocalSettings, wiring: Wiring, models: Models) -> dict[str, str]:
    """What only proxies are told. Simulated models get the simulator's key, never a real one."""
    env = {"TUNDISH_HOST": settings.host, "TUNDISH_PORT": str(settings.port)}
    if wiring.simulator_url is not None:
        env[SIMULATOR_VARIABLE] = wiring.simulator_url
        if settings.simulator_url is None:
            env |= dict.fromkeys(models.key_variables, SIMULATOR_KEY)
    return env


def _inheritable(inherited: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in inherited.items() if name not in OURS_ALONE}
