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
"""The services besides the proxies. Of some more than one process may run: of the enforcers one decides, of the
schedulers one ticks, and the others follow; auths are all alike, and the proxies ask the first."""

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
WITH_PEPPERS = frozenset({AUTH, BOOKKEEPER, SCHEDULER, PROXY})
"""Who knows whose key somebody comes with. The enforcer is asked by nobody."""

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


def service_names(settings: LocalSettings) -> dict[str, str]:
    """The process names of all services but the proxies with the service of each, in the order of starting."""
    counts = {AUTH: settings.auths, ENFORCER: settings.enforcers, SCHEDULER: settings.schedulers}
    return {
        _numbered(service, number): service for service in SERVICES for number in range(1, counts.get(service, 1) + 1)
    }


def proxy_names(settings: LocalSettings) -> dict[str, int]:
    """The proxies' process names with their front doors: proxy, proxy-2, …; further workers of one end in w2, w3, …"""
    return {
        _numbered(PROXY, number) + (f"-w{worker}" if worker > 1 else ""): port
        for number, port in enumerate(settings.ports, 1)
        for worker in range(1, settings.workers + 1)
    }


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def service_specs(
    settings: LocalSettings, wiring: Wiring, secrets: Secrets, models: Models, inherited: Mapping[str, str]
) -> list[Spec]:
    """The services, in the order of starting."""

    def spec(name: str, service: str) -> Spec:
        env = service_env(service, settings, wiring, secrets, inherited)
        env["TUNDISH_INTERNAL_PORT"] = str(wiring.ports[name])
        argv = (sys.executable, "-m", "services", "serve", service)
        return Spec(name=name, argv=argv, env=env, grace_s=SERVICE_GRACE_S, quiet=SERVICE_QUIET)

    def proxy_spec(name: str, port: int) -> Spec:
        base = spec(name, PROXY)
        env = {**base.env, **_front_door(settings, port, wiring, models)}
        return msgspec.structs.replace(base, env=env, stop_rank=RANK_PROXY, grace_s=settings.drain_s + SERVICE_GRACE_S)

    return [
        *(spec(name, service) for name, service in service_names(settings).items()),
        *(proxy_spec(name, port) for name, port in proxy_names(settings).items()),
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


def _front_door(settings: LocalSettings, port: int, wiring: Wiring, models: Models) -> dict[str, str]:
    """What only proxies are told. Simulated models get the simulator's key, never a real one."""
    env = {"TUNDISH_HOST": settings.host, "TUNDISH_PORT": str(port)}
    if wiring.simulator_url is not None:
        env[SIMULATOR_VARIABLE] = wiring.simulator_url
        if settings.simulator_url is None:
            env |= dict.fromkeys(models.key_variables, SIMULATOR_KEY)
    return env


def _inheritable(inherited: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in inherited.items() if name not in OURS_ALONE}
