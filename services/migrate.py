"""`tundish migrate`: Postgres schemas first, then streams, buckets and consumers of NATS.

It is safe to run at any time and by several at once: migrations are applied once under a lock, and the
topology is compared before it is changed. Servers that are still starting are waited for.
"""

import asyncio
from collections.abc import Awaitable, Callable

from shared import pg
from shared.bus import Bus
from shared.bus.apply import apply
from shared.errors import BusUnavailable, StoreUnavailable, TundishError
from shared.settings import Env, postgres_url

SCHEMAS = (
    ("services.auth", "auth"),
    ("services.ledger.bookkeeper", "ledger"),
    ("services.scheduler", "scheduler"),
)
"""(package with a `migrations` folder, schema of Postgres)."""

WAIT_S_DEFAULT = 60
WAIT_S_MAX = 3_600
RETRY_S = 0.5
REPLICAS_MAX = 5

Progress = Callable[[str], None]


async def run(env: Env, progress: Progress) -> None:
    """Migrate both servers. Raises SettingsError, or the last error of a server that stayed away."""
    postgres = postgres_url(env)
    nats = env.text("TUNDISH_NATS_URL", meaning="the URL of the user `admin` of NATS")
    replicas = env.integer("TUNDISH_REPLICAS", 1, low=1, high=REPLICAS_MAX)
    wait_s = env.integer("TUNDISH_MIGRATE_WAIT_S", WAIT_S_DEFAULT, low=0, high=WAIT_S_MAX)

    async def schemas() -> None:
        for package, schema in SCHEMAS:
            await pg.migrate(postgres, schema=schema, package=package, progress=progress)

    async def topology() -> None:
        bus = await Bus.open(nats, user="admin", name="tundish-migrate")
        try:
            await apply(bus, replicas=replicas, progress=progress)
        finally:
            await bus.close()

    await when_up("Postgres", schemas, wait_s=wait_s, progress=progress)
    await when_up("NATS", topology, wait_s=wait_s, progress=progress)


async def when_up(server: str, work: Callable[[], Awaitable[None]], *, wait_s: float, progress: Progress) -> None:
    """Do `work`, again while the server is unavailable, for at most `wait_s` seconds; then raise its error.

    Any other error is raised at once. `work` must be harmless to repeat.
    """
    until = asyncio.get_running_loop().time() + wait_s
    said = False
    while True:
        try:
            return await work()
        except (StoreUnavailable, BusUnavailable) as error:
            if asyncio.get_running_loop().time() >= until:
                raise TundishError(f"{server} did not come up within {wait_s:g} s: {error}") from error
            if not said:
                progress(f"waiting up to {wait_s:g} s for {server}: {error}")
                said = True
        await asyncio.sleep(RETRY_S)
