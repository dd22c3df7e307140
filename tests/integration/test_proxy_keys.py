"""What a proxy and auth tell each other of keys, on a real NATS and with the permissions of both."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import pytest

from services.proxy.applied import Applied, Word
from services.proxy.directory import Directory
from services.proxy.domain.admission import Refused
from services.proxy.rehash import Rehash
from shared.access import SecretHasher
from shared.bus import Bucket, Bus, WorkQueue
from shared.clock import SystemClock
from shared.events import SecretSeen
from shared.ids import KeyId, OrgId, TeamId
from shared.policy import KeyRecord, OrgRecord, Revocation, SecretRecord, TeamRecord
from shared.sealing import REHASH, Sealer
from shared.tasks import Supervisor
from shared.topology import (
    APPLIED_SUBJECT,
    KEYS_BUCKET,
    REHASH_DURABLE,
    REVOKED_BUCKET,
    WORK,
    key_kv,
    org_kv,
    team_kv,
)
from tests.support.servers import NatsServer

PEPPER_BYTES = {"p2": b"2" * 32, "p1": b"1" * 32}
PEPPERS = SecretHasher(PEPPER_BYTES)
SECRET = "sk-under-an-older-pepper"
NEW, OLD = PEPPERS.entries(SECRET)
KEY, TEAM, ORG = KeyId("k1"), TeamId("t1"), OrgId("o1")
RECORDS = {
    org_kv(ORG): OrgRecord(seq=1, org_id=ORG),
    team_kv(TEAM): TeamRecord(seq=2, team_id=TEAM, org_id=ORG),
    key_kv(KEY): KeyRecord(seq=3, key_id=KEY, org_id=ORG, team_id=TEAM),
    OLD: SecretRecord(key_id=KEY, version=1, seq=3),
}


class Town(NamedTuple):
    """Auth's connection, the words it hears, and a proxy's directory."""

    auth: Bus
    words: asyncio.Queue[Word]
    directory: Directory

    async def heard(self, revision: int) -> None:
        """Wait until the proxy says that it has applied a revision."""
        async with asyncio.timeout(20):
            while (await self.words.get()).revision < revision:
                pass

    def refused(self) -> str:
        """Why the proxy refuses the secret."""
        with pytest.raises(Refused) as caught:
            self.directory.find(SECRET, datetime.now(UTC))
        return caught.value.code


@pytest.fixture
async def town(nats: NatsServer) -> AsyncIterator[Town]:
    auth = await Bus.open(nats.url_for("auth"), user="auth", name="auth")
    proxy = await Bus.open(nats.url_for("proxy"), user="proxy", name="proxy")
    tasks = Supervisor()
    words: asyncio.Queue[Word] = asyncio.Queue()
    await auth.subscribe(APPLIED_SUBJECT, lambda data: words.put_nowait(msgspec.json.decode(data, type=Word)))
    keys = Bucket(auth, KEYS_BUCKET)
    for name, record in RECORDS.items():
        await keys.put(name, msgspec.json.encode(record))
    directory = Directory(proxy, PEPPERS, 1)
    applied = Applied(proxy, directory.revoked, SystemClock(), "me")
    rehash = Rehash(proxy, SystemClock(), Sealer(PEPPER_BYTES), "me", directory.forget)
    directory.outdated = rehash.seen
    for name, work in (("k", directory.keys.run), ("r", directory.revoked.run), ("a", applied.run), ("h", rehash.run)):
        tasks.keep(name, work)
    async with asyncio.timeout(20):
        await directory.keys.wait_ready()
        await directory.revoked.wait_ready()
    yield Town(auth, words, directory)
    await tasks.close()
    await proxy.close()
    await auth.close()


@pytest.mark.parametrize("name", [OLD, NEW, key_kv(KEY), team_kv(TEAM), org_kv(ORG)])
async def test_auth_hears_when_a_revocation_is_in_force(town: Town, name: str) -> None:
    assert (await town.words.get()).instance == "me"
    assert town.directory.find(SECRET, datetime.now(UTC)).key_id == KEY
    revoked = Bucket(town.auth, REVOKED_BUCKET)
    entry = msgspec.json.encode(Revocation(kind="deleted", at=datetime.now(UTC), actor="master-key"))
    await town.heard(await revoked.put(name, entry))
    assert town.refused() == "key_revoked"
    await revoked.delete(name)
    await town.heard(await revoked.put("k.other", entry))
    assert town.directory.find(SECRET, datetime.now(UTC)).key_id == KEY


async def test_many_at_once_are_few_words(town: Town) -> None:
    revoked = Bucket(town.auth, REVOKED_BUCKET)
    entry = msgspec.json.encode(Revocation(kind="blocked", at=datetime.now(UTC), actor="master-key"))
    revisions = await asyncio.gather(*(revoked.put(f"k.other{number}", entry) for number in range(200)))
    await town.heard(max(revisions))
    assert town.directory.find(SECRET, datetime.now(UTC)).key_id == KEY


async def test_a_secret_under_an_older_pepper_becomes_work_for_auth(town: Town) -> None:
    for _ in range(5):
        town.directory.find(SECRET, datetime.now(UTC))
    async with WorkQueue(town.auth, WORK, REHASH_DURABLE) as queue:
        fetched: list[bytes] = []
        while not fetched:
            got = await queue.fetch(10)
            fetched += [message.data for message, _ in got]
            await queue.ack([reply for _, reply in got])
    (seen,) = (msgspec.json.decode(data, type=SecretSeen) for data in fetched)
    assert (seen.key_id, seen.old_label) == (KEY, OLD.split(".")[1])
    inner = Sealer(PEPPER_BYTES).open(REHASH, KEY, seen.sealed)
    assert PEPPERS.digest_of_sha256(inner, seen.old_label) == OLD.rpartition(".")[2], "and auth finds out the new name"
    assert SECRET.encode() not in fetched[0]
