"""Migrations against a real PostgreSQL: once, in order, under a lock, and whole or not at all."""

import asyncio
import sys
from pathlib import Path

import asyncpg
import pytest

from shared.errors import SettingsError, StoreError, StoreUnavailable
from shared.pg import migrate, migrations_of, open_pool

FIRST = "CREATE TABLE one (a int); CREATE TABLE two (b int);"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The migrations folder of a package made for this test, called `migrated`."""
    folder = tmp_path / "migrated" / "migrations"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "0001_first.sql").write_text(FIRST)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "migrated", raising=False)
    return folder


async def run(url: str, schema: str = "room") -> list[str]:
    lines: list[str] = []
    await migrate(url, schema=schema, package="migrated", progress=lines.append)
    return lines


async def tables(url: str, schema: str = "room") -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = $1 ORDER BY tablename", schema
        )
    finally:
        await connection.close()
    return [row["tablename"] for row in rows]


async def test_applied_once_and_in_order(database: str, package: Path) -> None:
    assert await run(database) == ["migration room/0001_first.sql applied"]
    (package / "0002_second.sql").write_text("ALTER TABLE one ADD COLUMN more int; DROP TABLE two;")
    (package / "notes.txt").write_text("not a migration")
    (package / "3_odd.sql").write_text("not a migration either")
    assert await run(database) == [
        "migration room/0001_first.sql applied before",
        "migration room/0002_second.sql applied",
    ]
    assert await tables(database) == ["migration", "one"]


async def test_a_changed_file_is_refused(database: str, package: Path) -> None:
    await run(database)
    (package / "0001_first.sql").write_text(FIRST + " CREATE TABLE three (c int);")
    with pytest.raises(StoreError, match=r"room/0001_first.sql was changed"):
        await run(database)
    assert "three" not in await tables(database)


async def test_a_failing_migration_leaves_nothing_of_itself_and_says_which_it_was(database: str, package: Path) -> None:
    (package / "0002_broken.sql").write_text("CREATE TABLE half (a int); SELECT no_such_function();")
    with pytest.raises(StoreError, match=r"room/0002_broken.sql.*no_such_function"):
        await run(database)
    assert await tables(database) == ["migration", "one", "two"]
    (package / "0002_broken.sql").write_text("CREATE TABLE half (a int);")
    assert (await run(database))[-1] == "migration room/0002_broken.sql applied"


@pytest.mark.usefixtures("package")
async def test_many_at_once_do_it_once(database: str) -> None:
    said = await asyncio.gather(*(run(database) for _ in range(6)))
    assert sum("migration room/0001_first.sql applied" in lines for lines in said) == 1


@pytest.mark.usefixtures("package")
async def test_schemas_do_not_see_each_other(database: str) -> None:
    await run(database, "room")
    await run(database, "hall")
    assert await tables(database, "room") == await tables(database, "hall") == ["migration", "one", "two"]


async def test_two_files_with_one_number_are_refused(database: str, package: Path) -> None:
    (package / "0001_also.sql").write_text("SELECT 1;")
    with pytest.raises(StoreError, match="0001"):
        await run(database)


@pytest.mark.usefixtures("package")
async def test_a_database_that_is_not_there() -> None:
    with pytest.raises(StoreUnavailable):
        await run("postgresql://tundish:pw@127.0.0.1:1/none")


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("url", ["nonsense", "http://x", "postgresql://u:pw@h:port/db"])
async def test_a_url_that_cannot_be_read_is_a_matter_of_settings(url: str) -> None:
    with pytest.raises(SettingsError, match="URL"):
        await run(url)


@pytest.mark.usefixtures("package")
async def test_a_wrong_password_is_an_error_and_not_an_absence(database: str) -> None:
    with pytest.raises(StoreError, match="password") as caught:
        await run(database.replace("tests-only", "wrong-one"))
    assert not isinstance(caught.value, StoreUnavailable)
    assert "wrong-one" not in str(caught.value)


@pytest.mark.usefixtures("package")
async def test_a_lock_that_somebody_keeps_is_not_waited_for_without_end(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shared.pg import migrations

    monkeypatch.setattr(migrations, "MIGRATION_WAIT_MS", 200)
    holder = await asyncpg.connect(database)
    try:
        await holder.execute("SELECT pg_advisory_lock($1)", migrations.LOCK_KEY)
        with pytest.raises(StoreError, match="another migration"):
            async with asyncio.timeout(10):
                await run(database)
    finally:
        await holder.close()


async def test_a_pool_finds_its_schema_and_speaks_utc(database: str, package: Path) -> None:
    await run(database)
    pool = await open_pool(database, schema="room", name="test")
    try:
        await pool.execute("INSERT INTO one VALUES (1)")
        assert await pool.fetchval("SELECT count(*) FROM room.one") == 1
        assert await pool.fetchval("SHOW timezone") == "UTC"
        assert await pool.fetchval("SHOW application_name") == "test"
    finally:
        await pool.close()


@pytest.mark.parametrize("package", ["services.auth", "services.ledger.bookkeeper", "services.scheduler"])
def test_our_migrations_are_numbered_without_gaps(package: str) -> None:
    numbers = [number for number, _, _ in migrations_of(package)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers


@pytest.mark.parametrize(
    ("package", "schema"),
    [("services.auth", "auth"), ("services.ledger.bookkeeper", "ledger"), ("services.scheduler", "scheduler")],
)
async def test_our_migrations_apply(database: str, package: str, schema: str) -> None:
    lines: list[str] = []
    await migrate(database, schema=schema, package=package, progress=lines.append)
    assert len(lines) == len(migrations_of(package))
    assert await tables(database, schema)
