"""A process that dies between its commit and its answer: the repeat with the same `Idempotency-Key` gets the answer.

Every row that honours the key is done, its answer is taken out of the table as if the process had died before it was
kept, and the request is repeated. What was made is there once, and secrets are the same.
"""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from tests.integration.test_roles import ROWS, Request
from tests.support.auth import MASTER_KEY
from tests.support.auth_process import auth_process
from tests.support.matrix import Matrix
from tests.support.operations import all_operations
from tests.support.servers import PostgresServer

ONCE = sorted(f"{row.method} {row.path}" for row in all_operations() if row.once)
EXPECTED = {"POST /key/exchange": 404}
GONE = {
    "DELETE /organization/delete",
    "POST /organization/delete",
    "POST /team/delete",
    "POST /team/member_delete",
    "POST /user/delete",
    "POST /budget/delete",
    "POST /key/delete",
}
"""What is no more after the first attempt: the repeat says so, and does nothing."""
MOVING = {
    "revoked_at",
    "versions",
    "updated_at",
    "last_rotation_at",
    "key_rotation_at",
    "warnings",
    "fleet",
    "recorded",
    "created_at",
}
"""What may differ between two looks at the same thing."""


@pytest.fixture(scope="module")
def world(postgres_server: PostgresServer) -> Iterator[Matrix]:
    with auth_process(postgres_server) as auth:
        yield Matrix(auth)
        assert "Traceback" not in auth.output, auth.output


def sent(world: Matrix, name: str, request: Request, key: str, credential: str = MASTER_KEY) -> Any:
    method, path = name.split(" ", 1)
    return world.auth.client.request(
        method,
        re.sub(r"\{[^}]+\}", request.named, path),
        headers={"authorization": f"Bearer {credential}", "idempotency-key": key},
        json=request.body,
        params=request.query,
    )


def die(world: Matrix) -> None:
    """Leave the claims behind as dead processes do, some time later."""

    async def run() -> None:
        connection = await asyncpg.connect(world.auth.database, server_settings={"search_path": "auth"})
        await connection.execute("UPDATE once SET answer = NULL, lease_until = now() - interval '1 second'")
        await connection.close()

    asyncio.run(run())


@pytest.mark.parametrize("name", ONCE)
def test_a_repeat_after_a_death_answers_as_the_first_attempt_would_have(world: Matrix, name: str) -> None:
    row = ROWS[name]
    thing = world.fresh(row.thing, "team") if row.thing else ""
    request, key = row.ask(world, thing, "team"), world.new("once")
    first = sent(world, name, request, key)
    assert first.status_code == EXPECTED.get(name, row.done), first.text
    if first.status_code >= 400:
        return
    done = world.changes()
    die(world)
    second = sent(world, name, request, key)
    assert world.changes() == done, "the repeat did something again"
    assert "idempotency-replayed" not in second.headers
    if name in GONE:
        assert (second.status_code, second.json()["error"]["type"]) == (404, "not_found_error")
        return
    assert second.status_code == 200, second.text
    assert still(second.json()) == still(first.json())
    third = sent(world, name, request, key)
    assert (third.content, third.headers["idempotency-replayed"]) == (second.content, "true")


def still(answer: Any) -> Any:
    """An answer without what moves."""
    if isinstance(answer, dict):
        return {name: still(value) for name, value in answer.items() if name not in MOVING}
    return [still(value) for value in answer] if isinstance(answer, list) else answer


def test_an_exchange_whose_answer_was_lost_is_asked_for_again(world: Matrix) -> None:
    """Without the key a second collection is signalled; with it the same secret comes again."""
    minted = world.auth.made("/key/generate", {"rotation_delivery": [{"type": "exchange"}], "grace_period": "1h"})
    world.auth.made(f"/key/{minted['token_id']}/rotate", {})
    first = sent(world, "POST /key/exchange", Request(), "lost", minted["key"])
    assert first.status_code == 200, first.text
    again = sent(world, "POST /key/exchange", Request(), "lost", minted["key"])
    assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
    die(world)
    after = sent(world, "POST /key/exchange", Request(), "lost", minted["key"])
    assert (after.status_code, after.json()["key"]) == (200, first.json()["key"])
    assert sent(world, "POST /key/exchange", Request(), "other", minted["key"]).status_code == 409
    new = first.json()["key"]
    assert sent(world, "POST /key/exchange", Request(), "lost", new).status_code == 404, "another secret, another claim"


def test_a_lost_answer_is_not_given_to_a_secret_that_leaked_meanwhile(world: Matrix) -> None:
    minted = world.auth.made("/key/generate", {"rotation_delivery": [{"type": "exchange"}], "grace_period": "1h"})
    world.auth.made(f"/key/{minted['token_id']}/rotate", {})
    first = sent(world, "POST /key/exchange", Request(), "leaked", minted["key"])
    assert first.status_code == 200
    world.auth.made("/key/revoke", {"key": minted["key"], "leaked": True})
    again = sent(world, "POST /key/exchange", Request(), "leaked", minted["key"])
    assert again.status_code == 401
    assert first.json()["key"] not in again.text


def test_a_refused_mint_can_be_corrected_under_the_same_key(world: Matrix) -> None:
    alias = world.new("alias")
    world.auth.made("/key/generate", {"key_alias": alias})
    taken = sent(world, "POST /key/generate", Request({"key_alias": alias}), "corrected")
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "key_alias_taken")
    right = sent(world, "POST /key/generate", Request({"key_alias": world.new("alias")}), "corrected")
    assert right.status_code == 200
