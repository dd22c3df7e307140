"""The event table of auth: append-only, versioned, in the order of commits without holes."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from functools import partial
from typing import Any

import asyncpg
import msgspec
import pytest

from services.auth.commits import ATTEMPTS_MAX, Commits
from services.auth.domain import budget_object, renewing
from services.auth.domain import key as domain
from services.auth.domain import org as org_domain
from services.auth.domain.budget import BudgetPatch
from services.auth.domain.budget_object import Attached, BudgetState, DefineBudget
from services.auth.domain.key import IssueKey, UpdateKey
from services.auth.domain.key_state import HashedSecret, KeyState
from services.auth.domain.org import CreateOrg, OrgState
from services.auth.domain.rates import RatePatch
from services.auth.domain.scope import MoneyChange, ScopeChange
from services.auth.domain.stamp import Stamp
from services.auth.store import BudgetInUse, Duplicate, EventStore, NoSuchBudget
from services.auth.store_database import Database
from services.auth.store_views import Views
from shared.errors import StoreUnavailable, VersionConflict
from shared.events import AnyAuthEvent
from shared.ids import DEFAULT_ORG, AccountId, KeyId
from tests.support.auth import migrated
from tests.support.clock import FakeClock
from tests.support.servers import PostgresServer

CLOCK = FakeClock()


@pytest.fixture
async def db(database: str) -> AsyncGenerator[Database, None]:
    db = Database(await migrated(database))
    await db.open()
    commits = Commits(EventStore(db), CLOCK, "auth/test")
    create = CreateOrg(org_id=DEFAULT_ORG, account=AccountId("acct_o"))

    def decide(state: OrgState | None, stamp: Stamp) -> list[AnyAuthEvent]:
        return org_domain.decide_create(state, create, stamp)

    await commits.org(DEFAULT_ORG, decide, actor="system")
    yield db
    db.close()


def issue(n: int, *, alias: str | None = None, digest: str | None = None) -> IssueKey:
    secret = HashedSecret(label="p1", digest=digest or f"{n:064x}", hint="sk-...0000")
    return IssueKey(
        key_id=KeyId(f"key_{n}"),
        org_id=DEFAULT_ORG,
        secret=secret,
        account=AccountId(f"acct_{n}"),
        change=ScopeChange(alias=alias),
    )


def issuing(command: IssueKey, state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
    return domain.decide_issue(state, command, stamp)


async def mint(db: Database, command: IssueKey) -> int | None:
    commits = Commits(EventStore(db), CLOCK, "auth/test")
    return (await commits.key(command.key_id, partial(issuing, command), actor="ada")).position


async def test_events_cannot_be_changed_or_removed(db: Database, database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        for statement in (
            "UPDATE auth.event SET actor = 'eve'",
            "DELETE FROM auth.event",
            "TRUNCATE auth.event",
        ):
            with pytest.raises(asyncpg.RestrictViolationError, match="never changed"):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_positions_follow_commits_without_holes_under_concurrency(db: Database) -> None:
    store = EventStore(db)
    seen: list[int] = []
    done = asyncio.Event()

    async def read_along() -> None:
        position = 0
        while not (done.is_set() and position == await store.head()):
            for stored in await store.after(position, limit=3):
                seen.append(stored.position)
                position = stored.position

    async def write() -> None:
        async with asyncio.TaskGroup() as writers:
            for n in range(25):
                writers.create_task(mint(db, issue(n, alias="same" if n % 5 == 0 else None)))

    async with asyncio.TaskGroup() as group:
        group.create_task(read_along())
        with pytest.raises(ExceptionGroup) as problem:
            await write()
        done.set()
    assert all(isinstance(error, Duplicate) for error in problem.value.exceptions)
    head = await store.head()
    assert seen == list(range(1, head + 1)), "a reader that follows skips nothing, refused appends leave no hole"


async def test_two_writers_of_one_stream(db: Database) -> None:
    await mint(db, issue(1))
    store = EventStore(db)
    history = await store.load("key:key_1")
    state: KeyState | None = None
    for event in history:
        state = domain.evolve(state, event)
    stamp = Commits(store, CLOCK, "auth/test").stamp("ada")
    events = domain.decide_block(state, stamp)
    after = domain.evolve(state, events[0])
    await store.append("key:key_1", len(history), events, after)
    other = domain.decide_delete(state, Commits(store, CLOCK, "auth/test").stamp("bob"))
    with pytest.raises(VersionConflict):
        await store.append("key:key_1", len(history), other, domain.evolve(state, other[0]))
    assert [type(event).__name__ for event in await store.load("key:key_1")][-1] == "KeyBlocked"

    def block(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
        return domain.decide_block(state, stamp)

    commits = Commits(store, CLOCK, "auth/test")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(commits.key(KeyId("key_1"), block, actor="x")) for _ in range(5)]
    assert all(task.result().position is None for task in tasks), "blocking twice makes no event"


async def folded(store: EventStore, stream_id: str) -> tuple[KeyState, int]:
    """(the state of a key by all of its events, their number)."""
    history = await store.load(stream_id)
    state: KeyState | None = None
    for event in history:
        state = domain.evolve(state, event)
    assert state is not None
    return state, len(history)


class Unread(EventStore):
    """A store that counts how often a whole stream is read."""

    loads = 0

    async def load(self, stream_id: str) -> list[AnyAuthEvent]:
        self.loads += 1
        return await super().load(stream_id)


def noting(number: float, state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
    """Notes whose keys have no order, and whose numbers are of every kind."""
    metadata: dict[str, object] = {"z": number, "a": [number, -0.0, 1e300, 2**60, None, {"é": "\u2028"}]}
    change = ScopeChange(
        metadata=metadata,
        model_aliases={"z": "m", "a": "n"},
        tags=(f"t{number}",),
        rates=RatePatch(rpm=int(number) + 1, model_tpm={"z": 2, "a": 1}),
        money=MoneyChange(patch=BudgetPatch(limit_nusd=int(number * 10) + 5, duration="30d", zone="Europe/Berlin")),
    )
    expires_at = CLOCK.now() + timedelta(days=number, microseconds=1)
    update = UpdateKey(account=AccountId(f"a{number}"), change=change, expires_at=expires_at)
    return domain.decide_update(state, update, stamp)


def minting(n: int, state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
    secret = HashedSecret(label="p1", digest=f"{n:064x}", hint="sk-...0000")
    return renewing.decide_mint(domain.living(state), renewing.Mint(secret=secret, shown=True, grace_s=60), stamp)


async def test_a_key_is_folded_on_from_its_row(db: Database) -> None:
    """What the row says is what all events lead to, so the stream is not read again."""
    store = Unread(db)
    commits = Commits(store, CLOCK, "auth/test")
    key_id, stream = KeyId("key_1"), "key:key_1"

    async def same() -> None:
        assert await store.key("key_1") == await folded(EventStore(db), stream)

    await mint(db, issue(1, alias="one"))
    steps: list[partial[list[AnyAuthEvent]]] = [
        *(partial(noting, number) for number in (0.5, 1.0, 1e2, 3)),
        partial(domain.decide_block),
        partial(domain.decide_unblock, entry=None),
        *(partial(minting, n) for n in (100, 101)),
        partial(domain.decide_delete),
    ]
    for step in steps:
        change = await commits.key(key_id, step, actor="ada")
        assert change.position is not None
        await same()
    assert store.loads == 0, "the stream is never read whole"


@pytest.mark.parametrize(
    "older",
    [
        "shape = 'other'",
        "shape = NULL",
        "version = version - 1",
        "version = NULL, body = '{}'",
        "shape = 'other', body = '{\"of\": \"another program\"}'",
    ],
)
async def test_a_row_that_says_something_else_is_made_anew(db: Database, database: str, older: str) -> None:
    await mint(db, issue(1))
    store = Unread(db)
    commits = Commits(store, CLOCK, "auth/test")
    connection = await asyncpg.connect(database, server_settings={"search_path": "auth"})
    try:
        await connection.execute(f"UPDATE key_view SET {older}")
    finally:
        await connection.close()
    change = await commits.key(KeyId("key_1"), domain.decide_block, actor="ada")
    assert (change.state.blocked, store.loads) == (True, 1)
    assert await store.key("key_1") == await folded(EventStore(db), "key:key_1") == (change.state, 3)


async def test_who_is_never_fast_enough_pauses_and_gives_up(db: Database) -> None:
    await mint(db, issue(1))
    pauses: list[int] = []

    async def pause(attempts: int) -> None:
        pauses.append(attempts)

    faster = Commits(EventStore(db), CLOCK, "auth/fast")

    class Late(EventStore):
        """Whenever something is appended, somebody else was here in the meantime."""

        late = True

        async def append(self, *args: Any, **more: Any) -> int:
            if self.late:
                toggle = partial(domain.decide_unblock, entry=None) if len(pauses) % 2 else domain.decide_block
                await faster.key(KeyId("key_1"), toggle, actor="bob")
            return await super().append(*args, **more)

    store = Late(db)
    slow = Commits(store, CLOCK, "auth/slow", pause=pause)
    with pytest.raises(VersionConflict):
        await slow.key(KeyId("key_1"), partial(noting, 1), actor="ada")
    assert pauses == list(range(1, ATTEMPTS_MAX))
    store.late = False
    assert (await slow.key(KeyId("key_1"), partial(noting, 1), actor="ada")).position is not None


async def test_ten_changes_of_one_key_at_a_time_are_all_made(db: Database) -> None:
    await mint(db, issue(1))
    commits = Commits(EventStore(db), CLOCK, "auth/test")
    async with asyncio.TaskGroup() as group:
        made = [group.create_task(commits.key(KeyId("key_1"), partial(noting, n), actor="x")) for n in range(1, 7)]
    assert all(task.result().position is not None for task in made)


async def test_what_names_a_budget_object_holds_it(db: Database) -> None:
    """Two requests at once cannot attach an object and remove it: the database refuses the later one."""
    commits = Commits(EventStore(db), CLOCK, "auth/test")

    def define(state: BudgetState | None, stamp: Stamp) -> list[AnyAuthEvent]:
        command = DefineBudget(budget_id="b", patch=BudgetPatch(limit_nusd=5))
        return budget_object.decide_create(state, command, stamp)

    def remove(state: BudgetState | None, stamp: Stamp) -> list[AnyAuthEvent]:
        return budget_object.decide_remove(state, "b", Attached(), stamp)  # as if nothing were attached

    attachment = (await commits.budget("b", define, actor="ada")).state.attachment
    change = ScopeChange(money=MoneyChange(attach=attachment))
    await mint(db, msgspec.structs.replace(issue(1), change=change))
    with pytest.raises(BudgetInUse):
        await commits.budget("b", remove, actor="ada")
    assert await Views(db).attached(["b"]) == {"b": Attached(keys=1)}

    await commits.key(KeyId("key_1"), domain.decide_delete, actor="ada")
    assert await Views(db).attached(["b"]) == {"b": Attached()}
    await commits.budget("b", remove, actor="ada")
    assert await Views(db).budget("b") is None
    with pytest.raises(NoSuchBudget):
        await mint(db, msgspec.structs.replace(issue(2), change=change))
    assert await Views(db).key("key_2") is None


async def test_writers_of_one_stream_decide_again_when_another_was_faster(db: Database) -> None:
    await mint(db, issue(1))
    commits = Commits(EventStore(db), CLOCK, "auth/test")

    def tagging(tag: str, state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
        key = domain.living(state)
        metadata = {**key.metadata, tag: True}
        return domain.decide_update(
            state, UpdateKey(account=AccountId("a"), change=ScopeChange(metadata=metadata)), stamp
        )

    async with asyncio.TaskGroup() as group:
        for tag in "abcd":
            group.create_task(commits.key(KeyId("key_1"), partial(tagging, tag), actor="x"))
    state = await Views(db).key("key_1")
    assert state is not None
    assert set(state.metadata) == set("abcd"), "no writer undid another's change"


async def test_a_secret_and_an_alias_are_used_once(db: Database) -> None:
    await mint(db, issue(1, alias="a", digest="d" * 64))
    with pytest.raises(Duplicate) as alias:
        await mint(db, issue(2, alias="a"))
    with pytest.raises(Duplicate) as secret:
        await mint(db, issue(3, digest="d" * 64))
    assert (alias.value.what, secret.value.what) == ("key_alias", "secret")
    assert await EventStore(db).load("key:key_2") == []


async def test_what_is_stored_comes_back(db: Database) -> None:
    command = issue(1, alias='tab"quote and é漢字')
    await mint(db, command)
    assert (await Views(db).key("key_1")) is not None
    [issued, minted] = await EventStore(db).load("key:key_1")
    stored = await EventStore(db).after(1)
    assert [item.event.position for item in stored] == [2, 3]
    assert [item.scope_id for item in stored] == ["key_1", "key_1"]
    assert issued.at == minted.at == CLOCK.now()
    assert await EventStore(db).event_id_at(2) == issued.id
    assert await EventStore(db).event_id_at(99) is None


async def test_without_tables_and_without_a_server(postgres_server: PostgresServer, database: str) -> None:
    db = Database(database)
    with pytest.raises(StoreUnavailable, match="tundish migrate"):
        await db.open()
    assert "migrate" in (db.problem or "")
    await migrated(database)
    await db.open()
    assert db.problem is None
    postgres_server.stop()
    try:
        with pytest.raises(StoreUnavailable):
            await EventStore(db).head()
        assert db.problem is not None
    finally:
        postgres_server.start()
    for _ in range(9):
        try:
            await EventStore(db).head()
        except StoreUnavailable:
            continue  # a connection of before
        break
    assert db.problem is None
    db.close()
    with pytest.raises(StoreUnavailable):
        await EventStore(db).head()
    wrong = Database(database.replace("tundish:", "nobody:"))
    with pytest.raises(StoreUnavailable):
        await wrong.open()
