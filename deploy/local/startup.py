"""The start, step by step: servers, migrations, services, front door."""

from collections.abc import Mapping

import httpx
import msgspec

from deploy.local import nats, postgres
from deploy.local.banner import shown_path, signals_path
from deploy.local.children import RANK_NATS, Child, Spec
from deploy.local.errors import UpError
from deploy.local.models import Models
from deploy.local.postgres_place import Place, find_place
from deploy.local.printer import Printer
from deploy.local.secrets import write_private
from deploy.local.settings import LocalSettings
from deploy.local.stack import (
    NATS_USERS,
    SIMULATOR,
    Secrets,
    Wiring,
    migrate_spec,
    proxy_names,
    service_names,
    service_specs,
    simulator_spec,
)
from deploy.local.supervisor import Supervisor
from deploy.local.waiting import PROBE_LIMIT_S, http_probe, last_lines, nats_probe, wait_ready

SERVER_LIMIT_S = 60.0
MIGRATE_LIMIT_S = 120.0
SERVICE_LIMIT_S = 60.0
NATS_GRACE_S = 15.0
SERVER_ENV = {"PATH": "/usr/bin:/bin", "TZ": "UTC"}


def port_names(settings: LocalSettings, models: Models) -> list[str]:
    """The processes that need an internal port."""
    names = [*service_names(settings), *proxy_names(settings)]
    if settings.postgres_url is None:
        names.append("postgres")
    if settings.nats_url is None:
        names.append("nats")
    if starts_simulator(settings, models):
        names.append(SIMULATOR)
    return names


def starts_simulator(settings: LocalSettings, models: Models) -> bool:
    """Whether a simulator is to be started: the config names it, and nobody brought one."""
    return bool(models.simulated) and settings.simulator_url is None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one start is to be: internal `ports` by process name, `inherited` environment.

    `urls` are those of the front doors, the first proxy's first.
    """

    settings: LocalSettings
    secrets: Secrets
    models: Models
    ports: Mapping[str, int]
    urls: tuple[str, ...]
    inherited: Mapping[str, str]


class Startup:
    """One start of the whole. `place` is known once the embedded PostgreSQL has one."""

    def __init__(self, plan: Plan, supervisor: Supervisor, printer: Printer) -> None:
        self.place: Place | None = None
        self._plan = plan
        self._settings = plan.settings
        self._ports = plan.ports
        self._supervisor = supervisor
        self._printer = printer

    async def run(self) -> None:
        """Everything, in order, until the front door is open. Raises UpError when a step fails."""
        wiring = await self._servers()
        await self._migrate(wiring)
        await self._services(wiring)

    async def _servers(self) -> Wiring:
        """Start the servers that nobody brought; both begin before either is waited for."""
        settings = self._settings
        broker = None if settings.nats_url else self._start_nats()
        postgres_url = settings.postgres_url or await self._postgres()
        if broker is not None:
            port = self._ports["nats"]
            await wait_ready("NATS", nats_probe(port), SERVER_LIMIT_S, broker)
            self._printer.say(f"NATS is ready on 127.0.0.1:{port}")
        simulator = settings.simulator_url
        if starts_simulator(settings, self._plan.models):
            simulator = f"http://127.0.0.1:{self._ports[SIMULATOR]}"
        return Wiring(
            ports=self._ports, postgres_url=postgres_url, nats_urls=self._nats_urls(), simulator_url=simulator
        )

    def _start_nats(self) -> Child:
        settings = self._settings
        passwords = nats.user_passwords(settings.home)
        signals = nats.user_url(nats.SUBSCRIBER, passwords[nats.SUBSCRIBER], self._ports["nats"])
        write_private(signals_path(settings.home), signals + "\n")
        config = nats.write_config(
            settings.home,
            port=self._ports["nats"],
            passwords=passwords,
            sync=settings.nats_sync,
            monitor_port=settings.nats_monitor_port,
        )
        return self._supervisor.keep(
            Spec(
                name="nats",
                argv=(str(nats.server_binary()), "--config", str(config)),
                env=SERVER_ENV,
                stop_rank=RANK_NATS,
                death_signal=nats.DEATH_SIGNAL,
                grace_s=NATS_GRACE_S,
                quiet=() if settings.debug else nats.QUIET,
            )
        )

    def _nats_urls(self) -> dict[str, str]:
        """The URL for each NATS user; a server brought from outside has one for all."""
        if self._settings.nats_url is not None:
            return dict.fromkeys(NATS_USERS.values(), self._settings.nats_url)
        passwords = nats.user_passwords(self._settings.home)
        return {user: nats.user_url(user, secret, self._ports["nats"]) for user, secret in passwords.items()}

    async def _postgres(self) -> str:
        """Start the embedded PostgreSQL; returns the URL of the services' database."""
        home, port = self._settings.home, self._ports["postgres"]
        place = self.place = find_place(home)
        aside = postgres.set_aside_orphan(place, home)
        if aside is not None:
            self._printer.say(f"the database of an earlier, deleted data folder is kept in {aside}")
        superuser, role = postgres.superuser_password(home), postgres.role_password(home)
        if not (place.data / "PG_VERSION").exists():
            self._printer.say(f"making a PostgreSQL database in {shown_path(place.data)}")
        await postgres.make_cluster(place, superuser, self._run_once)
        postgres.clear_stale_pid(place, self._printer.say)
        child = self._supervisor.keep(postgres.server_spec(place, port, debug=self._settings.debug))
        probe = postgres.ready_probe(place, superuser, port, lambda: child.pid)
        await wait_ready("PostgreSQL", probe, SERVER_LIMIT_S, child)
        await postgres.ensure_database(superuser, role, port)
        user = "" if place.user is None else f", as the user {place.user.name}"
        self._printer.say(f"PostgreSQL is ready on 127.0.0.1:{port}{user}")
        return postgres.role_url(role, port)

    async def _run_once(self, spec: Spec, limit_s: float) -> str | None:
        failure, child = await self._supervisor.run_once(spec, limit_s)
        return None if failure is None else f"{failure}.{last_lines(child)}"

    async def _migrate(self, wiring: Wiring) -> None:
        plan = self._plan
        spec = migrate_spec(plan.settings, wiring, plan.secrets, plan.inherited)
        failure = await self._run_once(spec, MIGRATE_LIMIT_S)
        if failure is not None:
            raise UpError(f"The migration of databases and streams {failure}")
        self._printer.say("databases and streams are up to date")

    async def _services(self, wiring: Wiring) -> None:
        """Start the services together, then wait for each."""
        plan = self._plan
        specs = service_specs(plan.settings, wiring, plan.secrets, plan.models, plan.inherited)
        if starts_simulator(plan.settings, plan.models):
            self._supervisor.keep(simulator_spec(wiring.ports[SIMULATOR], plan.inherited))
        children = [self._supervisor.keep(spec) for spec in specs]
        async with httpx.AsyncClient(timeout=PROBE_LIMIT_S, trust_env=False, follow_redirects=False) as client:
            for child in children:
                name = child.spec.name
                url = f"http://127.0.0.1:{wiring.ports[name]}/health/readiness"
                await wait_ready(name, http_probe(client, url), SERVICE_LIMIT_S, child)
                self._printer.say(f"{name} is ready")
            for url in plan.urls:
                door = http_probe(client, f"{url}/health/readiness")
                await wait_ready("the front door", door, SERVICE_LIMIT_S, children[-1])
