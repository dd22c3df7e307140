"""The scheduler against a real database: one run per tick, whatever the number of schedulers."""

import asyncio
from datetime import datetime, timedelta

import asyncpg
import httpx
import pytest

from services.scheduler.app import run
from services.scheduler.domain.schedule import ATTEMPTS_MAX, Job
from services.scheduler.housekeeping import HOUSEKEEPING, Housekeeping
from services.scheduler.leadership import LEASE_S, Leadership
from services.scheduler.settings import load_settings
from services.scheduler.store import Store
from services.scheduler.store_rotation import RotationStore
from services.scheduler.worker import Worker
from shared.clock import SystemClock
from shared.errors import StoreError, StoreUnavailable
from shared.pg import migrate
from shared.settings import Env
from shared.telemetry import Metrics
from tests.support.clock import FakeClock
from tests.support.eventually import eventually
from tests.support.role_keys import PEPPERS
from tests.support.servers import PostgresServer, free_port

JOB = Job(name="probe", every_s=3_600)
MASTER = "sk-a-master-key-for-tests-0123456789"


@pytest.fixture
async def url(database: str) -> str:
    await migrate(database, schema="scheduler", package="services.scheduler", progress=lambda _line: None)
    return database


async def sql(url: str, query: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url, server_settings={"search_path": "scheduler"})
    try:
        return await connection.fetch(query, *arguments)
    finally:
        await connection.close()


class Runs:
    """The work of a job: counts, and fails when told."""

    def __init__(self) -> None:
        self.due: list[datetime] = []
        self.failing = False

    async def __call__(self, due_at: datetime) -> str:
        self.due.append(due_at)
        if self.failing:
            raise ValueError("told to fail")
        return "did it"


def worker(store: Store, clock: FakeClock, work: Runs) -> Worker:
    return Worker(
        JOB,
        work,
        store=store,
        clock=clock,
        may_run=lambda: True,
        ticks=Metrics().counter("ticks_total", "", "job", "outcome"),
    )


async def test_two_schedulers_run_each_tick_once(url: str) -> None:
    clock, runs = FakeClock(), Runs()
    stores = [Store(url, f"node{number}") for number in range(2)]
    workers = [worker(store, clock, runs) for store in stores]
    for _ in range(5):
        finished = await asyncio.gather(*(each.once() for each in workers for _ in range(3)))
        assert finished.count(True) == 1
        clock.advance(JOB.every_s)
    assert len(runs.due) == len(set(runs.due)) == 5
    for store in stores:
        await store.close()


async def test_missed_hours_are_made_good_by_one_run(url: str) -> None:
    clock, runs, store = FakeClock(), Runs(), Store(url, "node")
    here = worker(store, clock, runs)
    assert await here.once()
    clock.advance(10 * JOB.every_s)
    assert here.overdue_s() == 9 * JOB.every_s
    assert await here.once()
    assert not await here.once()
    assert len(runs.due) == 2
    await store.close()


async def test_a_failed_tick_is_tried_again_later_and_not_for_ever(url: str) -> None:
    clock, runs, store = FakeClock(), Runs(), Store(url, "node")
    here = worker(store, clock, runs)
    runs.failing = True
    assert not await here.once()
    assert not await here.once()
    assert len(runs.due) == 1, "the second try must wait"
    row = await store.newest(JOB.name)
    assert row is not None
    assert row.finished_at is None
    assert row.outcome == "ValueError: told to fail"
    for _ in range(ATTEMPTS_MAX + 3):
        await sql(url, "UPDATE tick SET claimed_until = now()")
        assert not await here.once()
    assert len(runs.due) == ATTEMPTS_MAX
    clock.advance(JOB.every_s)
    runs.failing = False
    assert await here.once(), "the next tick has tries of its own"
    await store.close()


async def test_a_claim_that_ran_out_is_taken_over_and_the_late_one_changes_nothing(url: str) -> None:
    clock = FakeClock()
    late, other = Store(url, "late"), Store(url, "other")
    due_at = clock.now()
    assert await late.claim("j", due_at, for_s=300, attempts_max=5) == 1
    assert await other.claim("j", due_at, for_s=300, attempts_max=5) is None
    await sql(url, "UPDATE tick SET claimed_until = now()")
    assert await other.claim("j", due_at, for_s=300, attempts_max=5) == 2
    assert not await late.finish("j", due_at, 1, "too late")
    assert not await late.fail("j", due_at, 1, "too late", retry_after_s=1)
    assert await other.finish("j", due_at, 2, "done")
    assert not await other.fail("j", due_at, 2, "after the end", retry_after_s=1)
    row = await other.newest("j")
    assert row is not None
    assert (row.claimed_by, row.outcome) == ("other", "done")
    await late.close()
    await other.close()


async def test_the_lease_has_one_holder_and_an_epoch_per_holder(url: str) -> None:
    clock = FakeClock()
    stores = Store(url, "a"), Store(url, "b")
    first, second = (Leadership(store, clock, name) for store, name in zip(stores, "ab", strict=True))
    await first.renew()
    await second.renew()
    assert (first.leading, second.leading) == (True, False)
    await first.renew()
    assert first.epoch == 1
    clock.advance(LEASE_S)
    assert not first.leading, "a lease that was not renewed is not believed in"
    await first.renew()
    assert (first.leading, first.epoch) == (True, 1)
    await first.resign()
    await second.renew()
    assert (second.leading, second.epoch) == (True, 2)
    await first.resign()
    await second.renew()
    assert second.leading, "only the holder can give the lease up"
    for store in stores:
        await store.close()


async def test_housekeeping_deletes_old_ticks_in_batches_but_the_newest_of_each_job(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.scheduler.housekeeping.BATCH_ROWS", 10)
    now = FakeClock().now()
    for job, days in (("old", range(40, 80)), ("new", range(5)), ("rare", (90, 95))):
        for day in days:
            await sql(
                url,
                "INSERT INTO tick (job, due_at, claimed_by, claimed_until, finished_at) VALUES ($1, $2, 'n', $2, $2)",
                job,
                now - timedelta(days=day),
            )
    store = Store(url, "node")
    said = await Housekeeping(store, RotationStore(store), keep_days=30).run(now)
    assert said == "deleted 40 ticks and 0 rotations older than 30 days, and 0 deleted keys"
    left = await sql(url, "SELECT job, count(*) AS n FROM tick GROUP BY job ORDER BY job")
    assert [(row["job"], row["n"]) for row in left] == [("new", 5), ("old", 1), ("rare", 1)]
    assert await store.last_finished("rare") == now - timedelta(days=90)
    await store.close()


async def test_a_missing_schema_is_named_with_the_remedy(database: str) -> None:
    store = Store(database, "node")
    with pytest.raises(StoreError, match="tundish migrate"):
        await store.last_finished("j")
    await store.close()


async def test_a_database_that_is_away_is_unavailable_and_comes_back(postgres_server: PostgresServer, url: str) -> None:
    store = Store(url, "node")
    assert await store.last_finished("j") is None
    postgres_server.stop()
    try:
        with pytest.raises(StoreUnavailable):
            await store.last_finished("j")
    finally:
        postgres_server.start()
    assert await store.last_finished("j") is None
    await store.close()


async def test_the_whole_service_ticks_and_tells(url: str) -> None:
    port = free_port()
    settings = load_settings(
        Env(
            {
                "TUNDISH_MASTER_KEY": MASTER,
                "TUNDISH_TOKEN": "token",
                "TUNDISH_PEPPERS": PEPPERS,
                "TUNDISH_NATS_URL": "nats://127.0.0.1:1",
                "TUNDISH_POSTGRES_URL": url,
                "TUNDISH_INTERNAL_PORT": str(port),
            }
        )
    )
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run(settings, SystemClock(), stop))
        admin = {"authorization": f"Bearer {MASTER}"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:

            async def ticked() -> httpx.Response | None:
                answer = await client.get("/scheduler/status", headers=admin)
                done = answer.status_code == 200 and (answer.json()["jobs"][0]["last"] or {}).get("finished_at")
                return answer if done else None

            answer = await eventually(ticked, unless=(httpx.TransportError,))
            assert answer is not None
            status = answer.json()
            assert status["leader"] is True
            assert status["epoch"] == 1
            assert status["jobs"][0]["name"] == HOUSEKEEPING.name
            assert status["jobs"][0]["last"]["outcome"].startswith("deleted 0 ticks and 0 rotations older than 30 days")
            assert (await client.get("/scheduler/status")).status_code == 401
            ready = await client.get("/health/readiness")
            checks = ready.json()["checks"]
            assert (checks["postgres"], checks["ticking"]) == ("ok", "ok")
            assert (ready.status_code, checks["nats"]) == (503, "not connected"), "there is no NATS here"
            page = (await client.get("/metrics", headers=admin)).text
            assert 'tundish_scheduler_ticks_total{job="housekeeping",outcome="ok"} 1' in page
            assert "tundish_scheduler_leader 1" in page
            assert "tundish_scheduler_overdue_seconds 0" in page
        stop.set()
    lease = await sql(url, "SELECT expires_at <= now() AS free FROM lease")
    assert lease[0]["free"], "an orderly end gives the lease up"
