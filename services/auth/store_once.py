"""The table of `Idempotency-Key`s. Its times are those of the database: several instances share them.

Every method raises StoreUnavailable when the database does not answer.
"""

import msgspec

from services.auth.store_database import Database, rows, value

LEASE_S = 30
"""After that a request whose process died is somebody else's to finish."""
KEEP_S = 600
SCOPE_MAX = 10_000
"""Rows that one actor may have at a time."""
SWEEP_MAX = 1_000
"""Rows that one statement removes."""

_CLAIM = """
INSERT INTO once (scope, name, fingerprint, seed, began_ms, owner, lease_until, expires_at)
SELECT $1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7), now() + make_interval(secs => $8)
WHERE (SELECT count(*) FROM (SELECT FROM once WHERE scope = $1 LIMIT $9) AS living) < $9
ON CONFLICT (scope, name) DO UPDATE SET
    fingerprint = EXCLUDED.fingerprint, seed = EXCLUDED.seed, began_ms = EXCLUDED.began_ms, owner = EXCLUDED.owner,
    attempts = 1, lease_until = EXCLUDED.lease_until, expires_at = EXCLUDED.expires_at, answer = NULL
WHERE once.expires_at <= now()
RETURNING 1
"""
_LOOK = """
SELECT fingerprint, seed, began_ms, owner, answer, lease_until > now() AS leased FROM once
WHERE scope = $1 AND name = $2 AND expires_at > now()
"""
_TAKE_OVER = """
UPDATE once SET owner = $4, attempts = attempts + 1,
    lease_until = now() + make_interval(secs => $5), expires_at = now() + make_interval(secs => $6)
WHERE scope = $1 AND name = $2 AND owner = $3 AND answer IS NULL AND lease_until <= now() AND expires_at > now()
RETURNING 1
"""
_FINISH = """
UPDATE once SET answer = $4, expires_at = now() + make_interval(secs => $5)
WHERE scope = $1 AND name = $2 AND owner = $3 RETURNING 1
"""
_FORGET = "DELETE FROM once WHERE scope = $1 AND name = $2 AND owner = $3 AND answer IS NULL RETURNING 1"
_LET_GO = (
    "UPDATE once SET lease_until = now() WHERE scope = $1 AND name = $2 AND owner = $3 AND answer IS NULL RETURNING 1"
)
_SWEEP = """
DELETE FROM once WHERE (scope, name) IN (
    SELECT scope, name FROM once WHERE expires_at <= now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
) RETURNING 1
"""


class Place(msgspec.Struct, frozen=True):
    """Where a row stands."""

    scope: str
    name: bytes


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A request that came before. `leased`: somebody is at work on it; `answer` None: it was not answered."""

    fingerprint: bytes
    seed: bytes
    began_ms: int
    owner: str
    answer: bytes | None
    leased: bool


class OnceStore:
    """Claims, their take-over and their answers; all by single statements."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, place: Place, *, fingerprint: bytes, seed: bytes, began_ms: int, owner: str) -> bool:
        """Make the row, in place of one that has expired; False when there is one, or the scope is full."""
        async with self._database.connection() as connection:
            return bool(
                await value(
                    connection, _CLAIM,
                    place.scope, place.name, fingerprint, seed, began_ms, owner, LEASE_S, KEEP_S, SCOPE_MAX,
                )
            )  # fmt: skip

    async def look(self, place: Place) -> Row | None:
        """The row that stands there."""
        async with self._database.connection() as connection:
            found = await rows(connection, _LOOK, place.scope, place.name)
        if not found:
            return None
        return Row(
            fingerprint=found[0]["fingerprint"],
            seed=found[0]["seed"],
            began_ms=found[0]["began_ms"],
            owner=str(found[0]["owner"]),
            answer=found[0]["answer"],
            leased=found[0]["leased"],
        )

    async def take_over(self, place: Place, before: str, owner: str) -> bool:
        """Become the owner of a row whose lease is over; False when somebody else was faster."""
        async with self._database.connection() as connection:
            found = await value(connection, _TAKE_OVER, place.scope, place.name, before, owner, LEASE_S, KEEP_S)
        return bool(found)

    async def finish(self, place: Place, owner: str, answer: bytes) -> None:
        """Keep the answer; nothing happens when somebody else has taken the row over."""
        async with self._database.connection() as connection:
            await value(connection, _FINISH, place.scope, place.name, owner, answer, KEEP_S)

    async def forget(self, place: Place, owner: str) -> None:
        """Remove the row: nothing was done."""
        async with self._database.connection() as connection:
            await value(connection, _FORGET, place.scope, place.name, owner)

    async def let_go(self, place: Place, owner: str) -> None:
        """End the lease: whoever repeats the request goes on with it."""
        async with self._database.connection() as connection:
            await value(connection, _LET_GO, place.scope, place.name, owner)

    async def sweep(self) -> int:
        """Remove rows that have expired, a bounded number of them; how many."""
        async with self._database.connection() as connection:
            return len(await rows(connection, _SWEEP, SWEEP_MAX))
