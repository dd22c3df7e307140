"""`POST /key/exchange`: whoever has an older secret of a key collects the newest one, once."""

import asyncio
from typing import TYPE_CHECKING

from services.auth.answers.rotation import CollectedKey
from services.auth.api.operations import Ask
from services.auth.commits import Commits
from services.auth.domain import key as keys
from services.auth.domain.key_state import KeyState, SecretState
from services.auth.domain.renewing import decide_collected
from services.auth.domain.stamp import Stamp
from services.auth.domain.versions import EXCHANGE, is_collectable, newest, old_ends_at
from services.auth.keys.revoking import Revoking
from services.auth.relay import Relay
from services.auth.rotation import signals
from services.auth.rotation.configured import Twice
from services.auth.rotation.minting import PURPOSE, context
from services.auth.store_rotation import Pending, keep_collected, put_signal
from services.auth.store_views import Views
from shared.clock import Clock
from shared.errors import ApiError, BusError
from shared.events import AnyAuthEvent, KeySecretDelivered
from shared.ids import KeyId
from shared.people import People
from shared.sealing import SealBroken, Sealer
from shared.telemetry import Counter
from shared.topology import secret_kv

if TYPE_CHECKING:
    from shared.pg import PgConnection

LOOKS_MAX = 100
LOOK_S = 0.02
"""How often, and how far apart, it is looked whether the proxies know a secret."""


class Exchanging:
    """Hands out new secrets for old ones."""

    def __init__(
        self,
        commits: Commits,
        views: Views,
        pending: Pending,
        people: People,
        relay: Relay,
        revoking: Revoking,
        sealer: Sealer,
        clock: Clock,
        *,
        source: str,
        twice: Twice,
        announce: asyncio.Event,
        deliveries: Counter,
    ) -> None:
        self._commits = commits
        self._views = views
        self._pending = pending
        self._people = people
        self._relay = relay
        self._revoking = revoking
        self._sealer = sealer
        self._clock = clock
        self._source = source
        self._twice: Twice = twice
        self._announce = announce
        self._deliveries = deliveries

    async def collect(self, ask: Ask) -> CollectedKey:
        """The newest secret. Raises ApiError 401, 404, 409, 503."""
        found = self._people.secret(ask.secret or "")
        if found is None or ask.caller.key_id is None:
            raise ApiError(
                404,
                "nothing_to_collect",
                "Send the old secret of a virtual key as the credential: there is nothing to collect with this one.",
                kind="not_found_error",
            )
        key_id, sent = ask.caller.key_id, found[1].version
        claim = ask.draws.short_id("collect")
        names = {found[0], *self._names(key_id, sent)}
        await self._check_standing(names)
        if ask.draws.again:
            before = await self._pending.collected(claim)
            if before is not None:
                return await self._answer(key_id, *before)
        key = keys.living(await self._views.key(key_id))
        secret = newest(key)
        if secret is None or secret.version <= sent:
            raise _nothing()
        if not is_collectable(key, secret):
            if EXCHANGE in secret.delivered:
                raise await self._again(key, secret)
            raise _nothing()
        sealed = await self._pending.sealed(key_id, secret.version)
        if sealed is None:  # somebody else collects it at this moment, or it was settled otherwise
            raise await self._missed(key_id, secret.version)
        await self._until_in_force(secret)
        text = self._open(key_id, secret.version, sealed)  # before it is taken: it must be readable
        await self._take(key_id, secret.version, sent, claim if ask.draws.repeatable else None, sealed)
        await self._check_standing(names)  # a leak that was reported before this finds it collected, or is found here
        self._deliveries.add(1, EXCHANGE, "delivered")
        return await self._shown(key_id, secret.version, text)

    def _names(self, key_id: KeyId, version: int) -> list[str]:
        """The names under which a version stands."""
        secrets = self._people.secrets
        names = self._people.secrets_of(key_id)
        return [name for name in names if name in secrets and secrets[name].version == version]

    async def _check_standing(self, names: set[str]) -> None:
        """Look in the bucket itself, which the mirror may be behind. Raises ApiError 401, 503."""
        try:
            revoked = await self._revoking.standing(names)
        except BusError as error:
            raise ApiError(
                503,
                "unavailable",
                "The message bus does not answer: try again shortly. The old secret works meanwhile.",
            ) from error
        if revoked:
            raise ApiError(401, "invalid_api_key", "The API key is revoked.", kind="authentication_error")

    async def _take(self, key_id: KeyId, version: int, sent: int, claim: str | None, sealed: bytes) -> None:
        """Record that it was collected; only one does. Raises ApiError 409."""

        def decide(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return decide_collected(keys.living(state), version, sent, stamp)

        async def keep(connection: "PgConnection", state: KeyState, events: list[AnyAuthEvent]) -> None:
            for event in events:
                if isinstance(event, KeySecretDelivered):
                    if claim is not None:
                        await keep_collected(connection, claim, version, sealed, event.at)
                    signal = signals.delivered(state, version, EXCHANGE, at=event.at, source=self._source)
                    await put_signal(connection, *signal)

        change = await self._commits.key(key_id, decide, actor=key_id, cause="collected by exchange", beside=keep)
        self._announce.set()
        self._relay.tell(change.position)
        if change.position is None:
            raise await self._missed(key_id, version)

    async def _missed(self, key_id: KeyId, version: int) -> ApiError:
        """The refusal of who came a moment too late."""
        key = keys.living(await self._views.key(key_id))
        secret = next((one for one in key.secrets if one.version == version), None)
        return _nothing() if secret is None or EXCHANGE not in secret.delivered else await self._again(key, secret)

    async def _again(self, key: KeyState, secret: SecretState) -> ApiError:
        """Signal a second collection, and block the key if that is wanted; the refusal."""
        block = self._twice == "block"
        if block:
            order = await self._revoking.order_for_key("blocked", key.key_id)
            await self._revoking.revoke([order], "service:auth", cause="a new secret was collected twice")
        now = self._clock.now()
        signal = signals.collected_again(key, secret.version, blocked=block, at=now, source=self._source)
        await self._pending.put(*signal)
        self._announce.set()
        self._deliveries.add(1, EXCHANGE, "again")
        return ApiError(
            409,
            "already_collected",
            "The new secret was handed out before. If that was not you, somebody else has the old one: tell whoever"
            " administers this key, who can regenerate it." + (" The key is blocked now." if block else ""),
        )

    async def _answer(self, key_id: KeyId, version: int, sealed: bytes) -> CollectedKey:
        return await self._shown(key_id, version, self._open(key_id, version, sealed))

    async def _shown(self, key_id: KeyId, version: int, text: str) -> CollectedKey:
        key = keys.living(await self._views.key(key_id))
        return CollectedKey(
            key=text,
            token_id=key_id,
            version=version,
            old_key_expires=old_ends_at(key, version),
        )

    def _open(self, key_id: KeyId, version: int, sealed: bytes) -> str:
        try:
            return self._sealer.open(PURPOSE, context(key_id, version), sealed).decode()
        except SealBroken as error:
            raise ApiError(
                503,
                "unavailable",
                "The new secret cannot be opened: the pepper that it was sealed under is not listed any more. The key"
                " must be regenerated.",
            ) from error

    async def _until_in_force(self, secret: SecretState) -> None:
        """Wait until the proxies know the new secret: whoever gets it may use it at once. Raises ApiError 503."""
        name = secret_kv(secret.label, secret.digest)
        for _ in range(LOOKS_MAX):
            if name in self._people.secrets:
                return
            await asyncio.sleep(LOOK_S)
        raise ApiError(
            503, "unavailable", "The new secret is not in force yet: try again shortly. The old one works meanwhile."
        )


def _nothing() -> ApiError:
    return ApiError(
        404,
        "nothing_to_collect",
        "There is no newer secret to collect with the one that was sent.",
        kind="not_found_error",
    )
