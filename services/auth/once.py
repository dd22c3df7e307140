"""`Idempotency-Key`: a request that is repeated does its work once, and its answer can be asked for again.

The claim of a key stores a random seed, from which the request draws all its ids and secrets. When the process dies
after its work and before its answer, the repeat draws the same ones, finds what it made itself, and answers from that.
"""

import asyncio
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256

import msgspec

from services.auth.draws import SEED_BYTES, Draws
from services.auth.store_once import OnceStore, Place, Row
from shared.clock import Clock
from shared.errors import ApiError, StoreUnavailable
from shared.ids import uuid7
from shared.sealing import SealBroken, Sealer

log = logging.getLogger(__name__)

HEADER = b"idempotency-key"
REPLAYED = "idempotency-replayed"
RUN_MAX_S = 25.0
"""How long one attempt may take: less than the lease of its claim, so that no two are ever at work."""
HURRY_S = 0.2
"""How long a request that works without Postgres waits for its claim: it is a revocation."""
KEEP_WAIT_S = 0.5
"""How long an answer waits for the table."""
ANSWER_BYTES_MAX = 4_000_000
"""A longer answer is not kept: its request is done again, with the same draws."""
CLAIMS_MAX = 2
"""A row may go between the claim that found it and the look at it."""
RETRY_AFTER_S = 1
FULL_RETRY_AFTER_S = 60
SWEEP_EVERY_S = 30.0
SWEEPS_PER_ROUND_MAX = 20
_KEY = re.compile(rb"[\x20-\x7e]{1,200}")
_SEED, _ANSWER = "once-seed", "once-answer"

Work = Callable[[Draws], Awaitable[bytes]]


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done once. `insist`: without the claim it is not done at all; what does not insist may be done
    twice without harm."""

    place: Place
    fingerprint: bytes
    insist: bool = True


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, byte for byte; `replayed`: it had been given before."""

    body: bytes
    replayed: bool = False


def claim_of(raw: bytes, *, scope: str, apart: bytes, request: tuple[bytes, ...], insist: bool) -> Claim:
    """The claim of one request. `apart` parts requests of one scope that may not see each other's answers; `request`
    is what makes it this request. Raises ApiError 400 for a header that is no key."""
    if _KEY.fullmatch(raw) is None or not raw.strip():
        raise ApiError(
            400,
            "invalid_idempotency_key",
            "Idempotency-Key: use 1 to 200 printable ASCII characters, such as a UUID.",
            param="Idempotency-Key",
        )
    name = sha256(sha256(apart).digest() + raw).digest()
    return Claim(place=Place(scope, name), fingerprint=_hash(request), insist=insist)


def _hash(parts: tuple[bytes, ...]) -> bytes:
    return sha256(b"".join(sha256(part).digest() for part in parts)).digest()


class Once:
    """Claims, does, keeps and repeats. Two instances over one database keep out of each other's way."""

    def __init__(self, store: OnceStore, sealer: Sealer, clock: Clock) -> None:
        self._store = store
        self._sealer = sealer
        self._clock = clock

    async def use(self, claim: Claim, work: Work) -> Done:
        """The answer of `work`, done now or earlier. Raises what it raises, and ApiError 409, 422, 429, 503."""
        owner = uuid7()
        try:
            async with asyncio.timeout(None if claim.insist else HURRY_S):
                found = await self._claimed(claim, owner)
        except (StoreUnavailable, TimeoutError):
            if claim.insist:
                raise
            found = Draws()
        if isinstance(found, Done):
            return found
        return await self._attempt(claim, owner, found, work) if found.repeatable else Done(body=await work(found))

    async def sweep(self) -> None:
        """Remove what has expired, for ever."""
        while True:
            with suppress(StoreUnavailable):
                for _ in range(SWEEPS_PER_ROUND_MAX):
                    if not await self._store.sweep():
                        break
            await asyncio.sleep(SWEEP_EVERY_S)

    # ---- the claim -----------------------------------------------------------------------------------

    async def _claimed(self, claim: Claim, owner: str) -> Draws | Done:
        """The draws of an attempt that has the claim, or the answer that was given before."""
        place, seed = claim.place, secrets.token_bytes(SEED_BYTES)
        began_ms = int(self._clock.now().timestamp() * 1000)
        sealed = self._sealer.seal(_SEED, _context(place), seed)
        for _ in range(CLAIMS_MAX):
            if await self._store.claim(
                place, fingerprint=claim.fingerprint, seed=sealed, began_ms=began_ms, owner=owner
            ):
                return Draws(seed=seed, began_ms=began_ms)
            row = await self._store.look(place)
            if row is not None:
                return await self._again(claim, owner, row)
        return _crowded(claim)

    async def _again(self, claim: Claim, owner: str, row: Row) -> Draws | Done:
        """What becomes of a request that came before. Raises ApiError 409, 422."""
        place = claim.place
        if row.fingerprint != claim.fingerprint:
            raise ApiError(
                422,
                "idempotency_key_reused",
                "This Idempotency-Key was sent with another request before: send a new key with each new request.",
                param="Idempotency-Key",
            )
        if row.answer is not None:
            return Done(body=self._open(_ANSWER, place, row.answer), replayed=True)
        if row.leased or not await self._store.take_over(place, row.owner, owner):
            if claim.insist:
                raise _in_progress()
            return Draws()
        return Draws(seed=self._open(_SEED, place, row.seed), began_ms=row.began_ms, again=True)

    def _open(self, purpose: str, place: Place, sealed: bytes) -> bytes:
        try:
            return self._sealer.open(purpose, _context(place), sealed)
        except SealBroken as error:
            raise ApiError(
                409,
                "idempotency_answer_lost",
                "This request was made before under a pepper that is no longer listed in TUNDISH_PEPPERS: look what"
                " became of it, and send a new Idempotency-Key if it is to be done (again).",
                param="Idempotency-Key",
            ) from error

    # ---- the attempt ---------------------------------------------------------------------------------

    async def _attempt(self, claim: Claim, owner: str, draws: Draws, work: Work) -> Done:
        bound = asyncio.timeout(RUN_MAX_S)
        try:
            async with bound:
                body = await work(draws)
        except ApiError as error:
            await self._give_up(claim.place, owner, nothing_done=error.status < 500 and not draws.again)
            raise
        except TimeoutError as error:
            await self._give_up(claim.place, owner, nothing_done=False)
            if not bound.expired():
                raise
            raise ApiError(
                503,
                "unavailable",
                "This took too long. Repeat it with the same Idempotency-Key: it goes on from there.",
            ) from error
        except Exception:
            await self._give_up(claim.place, owner, nothing_done=False)
            raise
        await self._keep(claim.place, owner, body)
        return Done(body=body)

    async def _keep(self, place: Place, owner: str, body: bytes) -> None:
        """Keep the answer; what is not kept is done again by a repeat, with the same draws."""
        if len(body) > ANSWER_BYTES_MAX:
            await self._give_up(place, owner, nothing_done=False)
            return
        try:
            async with asyncio.timeout(KEEP_WAIT_S):
                await self._store.finish(place, owner, self._sealer.seal(_ANSWER, _context(place), body))
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("an answer was given and could not be kept for its Idempotency-Key: %s", error)

    async def _give_up(self, place: Place, owner: str, *, nothing_done: bool) -> None:
        """Let a repeat try at once. Refused at the first attempt, nothing was done, and the key is free again."""
        try:
            async with asyncio.timeout(KEEP_WAIT_S):
                await (self._store.forget if nothing_done else self._store.let_go)(place, owner)
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("an Idempotency-Key stays taken until its lease ends: %s", error)


def _context(place: Place) -> str:
    return f"{place.scope}/{place.name.hex()}"


def _crowded(claim: Claim) -> Draws:
    """No row there and none made: the scope is full. Raises ApiError 429."""
    if not claim.insist:
        return Draws()
    raise ApiError(
        429,
        "too_many_idempotency_keys",
        "Too many requests with an Idempotency-Key within ten minutes: wait, or leave the header out.",
        param="Idempotency-Key",
        retry_after_s=FULL_RETRY_AFTER_S,
    )


def _in_progress() -> ApiError:
    return ApiError(
        409,
        "idempotency_in_progress",
        "A request with this Idempotency-Key is being done at this moment: repeat it in a second.",
        param="Idempotency-Key",
        retry_after_s=RETRY_AFTER_S,
    )
