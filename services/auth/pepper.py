"""Secrets from an older pepper to the current one, as they are used; and which peppers are still needed.

A stored hash cannot be turned into one under another pepper; the secret can, whenever it is sent. Proxies say on WORK
what they see, with the sealed SHA-256 of the secret as proof, and this service sees the secrets of its own callers. A
pepper that no living secret stands under, and that seals nothing, can be taken out of the settings.
"""

import asyncio
import logging
from collections import Counter as Tally
from collections.abc import Sequence
from hashlib import sha256

import msgspec

from services.auth.answers.pepper import PepperRow, PepperStatus
from services.auth.commits import Commits
from services.auth.domain import renewing
from services.auth.domain.key_state import KeyState
from services.auth.domain.stamp import Stamp
from services.auth.relay import Relay
from services.auth.secret import Vault
from services.auth.store import Duplicate
from services.auth.store_pepper import PepperStore
from shared.access import Keyring
from shared.bus import Bus, WorkQueue
from shared.bus.tail import Message
from shared.bus.work import attempts_of
from shared.errors import StoreError, StoreUnavailable, VersionConflict
from shared.events import AnyAuthEvent, SecretSeen, decode_work
from shared.ids import KeyId
from shared.people import People
from shared.policy import KeyRecord
from shared.sealing import REHASH, SealBroken, Sealer
from shared.telemetry import Counter
from shared.topology import REHASH_DURABLE, WORK, key_kv, secret_kv

log = logging.getLogger(__name__)

ACTOR = "pepper-rotation"
BATCH = 50
AGAIN_S = 5.0
ATTEMPTS_MAX = 20
"""After so many attempts that failed an item is dropped: the secret is told of again when it is used again."""
REASONS_MAX = 20
"""Reasons for which something was refused that are logged, once each."""
WAITING_MAX = 1_000
TOLD_MAX = 100_000
_SHA256_BYTES = 32
KEEPS = (
    "ids of stored objects (files, responses, batches) that were given out under a pepper open no more without it:"
    " keep it for 90 days after it was replaced, if callers still use such ids"
)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A secret of a key that stands under the pepper `old_label`; `inner` is its SHA-256."""

    key_id: KeyId
    old_label: str
    inner: bytes


class Rehashing:
    """Moves versions to the current pepper."""

    def __init__(
        self,
        bus: Bus,
        commits: Commits,
        people: People,
        relay: Relay,
        vault: Vault,
        sealer: Sealer,
        *,
        outcomes: Counter,
    ) -> None:
        self._bus = bus
        self._commits = commits
        self._people = people
        self._relay = relay
        self._vault = vault
        self._sealer = sealer
        self._outcomes = outcomes
        self._said: set[str] = set()
        self._own: asyncio.Queue[Seen] = asyncio.Queue(WAITING_MAX)
        self._told: set[str] = set()

    # ---- what is seen here ---------------------------------------------------------------------------

    def saw(self, secret: str) -> None:
        """A credential was sent to this service; when it stands under an older pepper it is moved. Never waits."""
        entries = self._vault.hasher.entries(secret)
        if len(entries) < 2 or entries[0] in self._people.secrets:
            return
        old = next((name for name in entries[1:] if name in self._people.secrets), None)
        if old is None or old in self._told:
            return
        if len(self._told) >= TOLD_MAX:
            self._told.clear()
        inner = sha256(secret.encode()).digest()
        seen = Seen(key_id=self._people.secrets[old].key_id, old_label=_label(old), inner=inner)
        try:
            self._own.put_nowait(seen)
        except asyncio.QueueFull:
            return  # its next use says it again
        self._told.add(old)

    async def run_own(self) -> None:
        """Move what was seen here, for ever. What the database does not take is forgotten until its next use."""
        while True:
            seen = await self._own.get()
            try:
                await self.move(seen)
            except StoreError as error:
                log.info("a secret of the key %s stays under an older pepper for now: %s", seen.key_id, error)
                self._told.discard(self._name(seen, seen.old_label))

    # ---- what proxies see ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Consume until the connection changes. Raises BusUnavailable; start it anew then."""
        async with WorkQueue(self._bus, WORK, REHASH_DURABLE) as queue:
            while True:
                for message, reply in await queue.fetch(BATCH):
                    if await self._done(message, attempts_of(reply)):
                        await queue.ack([reply])
                    else:
                        await queue.nak(reply, delay_s=AGAIN_S)

    async def _done(self, message: Message, attempts: int) -> bool:
        """Whether an item needs no further attempt."""
        try:
            event = decode_work(message.data)
        except msgspec.MsgspecError as error:
            log.error("an item of %s at %d cannot be read and is dropped: %s", WORK, message.seq, error)
            return True
        if not isinstance(event, SecretSeen):
            log.error("an item of %s at %d is no secret that was seen and is dropped", WORK, message.seq)
            return True
        seen = self._proven(event)
        if seen is None:
            return True
        try:
            await self.move(seen)
        except (StoreUnavailable, VersionConflict) as error:
            log.info("a secret of the key %s waits to be moved to another pepper: %s", seen.key_id, error)
            return False
        except Exception:
            final = attempts >= ATTEMPTS_MAX
            log.exception("a secret of the key %s could not be moved to another pepper", seen.key_id)
            return final
        return True

    async def move(self, seen: Seen) -> bool:
        """Store a version under the current pepper, if it lives and stands as was said; whether it did.

        Raises StoreUnavailable, VersionConflict.
        """
        hasher = self._vault.hasher
        if seen.old_label == hasher.current or seen.old_label not in hasher.labels:
            return self._refused(f"the pepper {seen.old_label!r} is not an older one")
        old = (seen.old_label, hasher.digest_of_sha256(seen.inner, seen.old_label))
        new = (hasher.current, hasher.digest_of_sha256(seen.inner))
        names = (secret_kv(*old), key_kv(seen.key_id))
        if any(name in self._people.revoked for name in names):
            return self._ended("ignored")  # an entry stands under the old name and would not stand under the new one

        def decide(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            if state is None or state.deleted_at is not None:
                return []
            return renewing.decide_rehash(state, old, new, stamp)

        try:
            change = await self._commits.key(seen.key_id, decide, actor=ACTOR)
        except (ValueError, Duplicate):
            return self._ended("ignored")  # a key that never was, or a hash that is another key's
        self._relay.tell(change.position)
        return self._ended("moved" if change.position is not None else "ignored")

    def _proven(self, event: SecretSeen) -> Seen | None:
        """What an item says, when whoever wrote it has seen a secret; whose it is `move` finds out."""
        try:
            inner = self._sealer.open(REHASH, event.key_id, event.sealed)
        except SealBroken as error:
            self._refused(str(error))
            return None
        if len(inner) != _SHA256_BYTES:
            self._refused("what is sealed is no SHA-256")
            return None
        return Seen(key_id=event.key_id, old_label=event.old_label, inner=inner)

    def _name(self, seen: Seen, label: str) -> str:
        return secret_kv(label, self._vault.hasher.digest_of_sha256(seen.inner, label))

    def _refused(self, why: str) -> bool:
        """Count what proves nothing, and say it once: it is no work of a proxy that works as it should."""
        if why not in self._said and len(self._said) < REASONS_MAX:
            self._said.add(why)
            log.warning("that a secret was seen is not believed (and not logged again): %s", why)
        return self._ended("refused")

    def _ended(self, outcome: str) -> bool:
        self._outcomes.add(1, outcome)
        return outcome == "moved"


class Watching:
    """The keys of callers, as the gatekeeper asks for them; every secret in force that is sent here is looked at."""

    def __init__(self, keyring: Keyring, rehashing: Rehashing) -> None:
        self._keyring = keyring
        self._rehashing = rehashing

    def holder(self, secret: str) -> KeyRecord | None:
        """As the keyring says. Raises ApiError 401, 503."""
        record = self._keyring.holder(secret)
        if record is not None:
            self._rehashing.saw(secret)
        return record


class Peppers:
    """Which peppers are in use."""

    def __init__(self, store: PepperStore, labels: Sequence[str]) -> None:
        self._store = store
        self._labels = tuple(labels)

    async def status(self) -> PepperStatus:
        """Every label of the settings and of living secrets, the current one first. Raises StoreUnavailable."""
        living = Tally(await self._store.living())
        sealed = Tally(await self._store.sealed())
        current = self._labels[0]
        rows = [
            PepperRow(
                label=label,
                current=label == current,
                configured=label in self._labels,
                secrets=living[label],
                sealed=sealed[label],
                removable=label in self._labels and label != current and not living[label] and not sealed[label],
            )
            for label in dict.fromkeys((*self._labels, *sorted({*living, *sealed})))
        ]
        missing = [row.label for row in rows if not row.configured]
        warnings = [_missing(row) for row in rows if not row.configured]
        if any(row.removable for row in rows):
            warnings.append(KEEPS)
        return PepperStatus(
            current=current,
            peppers=rows,
            ok=not missing,
            removable=[row.label for row in rows if row.removable],
            missing=missing,
            warnings=warnings,
        )


def _missing(row: PepperRow) -> str:
    return (
        f"{row.secrets} living secrets (and {row.sealed} sealed texts) need the pepper {row.label!r}, which is not"
        " in TUNDISH_PEPPERS: these keys are refused. Put it back, after the current one"
    )


def _label(name: str) -> str:
    """The pepper's label in a secret's name."""
    return name.removeprefix("s.").rpartition(".")[0]
