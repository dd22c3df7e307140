"""The data plane in one process and one loop: everything real but Foundry, NATS and the enforcer."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec

from services.proxy.body import BODY_WAIT_S, Patience
from services.proxy.catalog import PriceRegister
from services.proxy.directory import Directory
from services.proxy.domain.choice import Models
from services.proxy.domain.deployments import Deployment
from services.proxy.domain.facts import FactBook, ModelFacts, Sizes
from services.proxy.domain.objects import Places, Seal
from services.proxy.domain.prices import PriceBook
from services.proxy.domain.surfaces import ways_of
from services.proxy.front import FrontDoor
from services.proxy.inference import Inference
from services.proxy.journal import Journal, OpenRecord, Segment
from services.proxy.limits import RateLimits
from services.proxy.models import ModelPages
from services.proxy.publisher import Publisher
from services.proxy.till import Till
from services.proxy.treasury import Treasury
from services.proxy.upstream import Reply, Upstream, UpstreamError, UpstreamRequest
from shared.access import SecretHasher
from shared.bus import Bus
from shared.events import UsageRecorded
from shared.http import Health
from shared.ids import AccountId, InstanceId, KeyId, OrgId
from shared.policy import Budget, KeyRecord, Limits, OrgRecord, SecretRecord
from shared.pricing import PriceRow, Rates
from shared.tasks import Supervisor
from shared.telemetry import Counter
from shared.topology import allot_subject, key_kv, org_kv
from shared.windows import WindowSpec
from tests.fakes.bus import FakeBus
from tests.fakes.enforcer import ACCOUNT, FakeEnforcer
from tests.support.clock import FakeClock

ME = InstanceId("00000000-instance-me")
MASTER = "sk-the-master-key-of-this-test-1234"
SECRET, FREE_SECRET = "sk-limited", "sk-unlimited"
STRICT_SECRET, MODEL_SECRET, RATED_SECRET, BOTH_SECRET = "sk-strict", "sk-model", "sk-rated", "sk-both"
SOFT = AccountId("acc-soft")
ROW = PriceRow(model="gpt-4o", rates=Rates(input=2_500_000_000, output=10_000_000_000))
NANO_PER_INPUT, NANO_PER_OUTPUT = 2_500, 10_000

Step = bytes | Exception | Callable[[], Awaitable[None]]


class FakeReply:
    """A reply of Foundry by script: bytes are chunks, exceptions are raised, functions are awaited first."""

    def __init__(self, status: int, headers: dict[str, str], steps: list[Step]) -> None:
        self.status = status
        self.headers = headers
        self.steps = list(steps)

    def header(self, name: str) -> str | None:
        return self.headers.get(name)

    async def chunk(self) -> bytes | None:
        while self.steps:
            step = self.steps.pop(0)
            if isinstance(step, Exception):
                raise step
            if isinstance(step, bytes):
                return step
            await step()
        return None


class FakeUpstream:
    """Foundry: gives the next scripted reply, or raises it."""

    def __init__(self) -> None:
        self.replies: list[FakeReply | Exception] = []
        self.requests: list[UpstreamRequest] = []
        self.left = 0
        self.leave_error: Exception | None = None

    def json(self, content: object, status: int = 200, **headers: str) -> None:
        self.whole(json.dumps(content).encode(), status, **headers)

    def whole(self, body: bytes, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.replies.append(FakeReply(status, {"content-type": kind, **named}, [body] if body else []))

    def stream(self, *steps: Step) -> None:
        self.replies.append(FakeReply(200, {"content-type": "text/event-stream; charset=utf-8"}, list(steps)))

    @asynccontextmanager
    async def open(self, request: UpstreamRequest) -> AsyncGenerator[Reply]:
        self.requests.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        try:
            yield reply
        finally:
            self.left += 1
            if self.leave_error is not None:
                raise self.leave_error

    async def close(self) -> None:
        pass


class LoggedJournal(Journal):
    """Writes for real, and into a list shared with the recorded `send`."""

    def __init__(self, root: Path, log: list[str]) -> None:
        super().__init__(root, ME)
        self.log = log

    def opened(self, record: OpenRecord) -> None:
        super().opened(record)
        self.log.append("opened")

    def used(self, call_id: str, event: bytes) -> Segment:
        segment = super().used(call_id, event)
        self.log.append("used")
        return segment


class DataPlane:
    """A front door whose every part can be looked at.

    `sk-limited` has a budget, `sk-unlimited` has none, `sk-strict` a strict one; `sk-model` one for `gpt-4o` alone and
    a soft limit, `sk-rated` rate limits and nothing else, `sk-both` the same rate limits and a budget.
    """

    def __init__(self, root: Path, limit_nusd: int = 10**9) -> None:
        self.log: list[str] = []
        self.clock = FakeClock()
        self.enforcer = FakeEnforcer(self.clock, limit_nusd)
        self.bus = FakeBus(responders={allot_subject(0): self.enforcer})
        bus = cast(Bus, self.bus)
        self.journal = LoggedJournal(root, self.log)
        self.tasks = Supervisor()
        self.directory = Directory(bus, HASHER, 1)
        self.load_keys()
        self.publisher = Publisher(bus, self.journal, 1)
        self.treasury = Treasury(bus, self.directory, self.clock, ME, 1)
        self.upstream = FakeUpstream()
        self.models = {
            "gpt-4o": [deployment("gpt-4o", "azure", ROW)],
            "phi-4": [deployment("phi-4", "azure_ai", ROW)],
            "secret-model": [deployment("secret-model", "azure", ROW)],
            "unpriced": [deployment("unpriced", "azure", None)],
            "gpt-5": [deployment("gpt-5", "azure", ROW)],
            "mystery": [deployment("mystery", "azure_ai", ROW)],
        }
        self.till = Till(
            journal=self.journal,
            publisher=self.publisher,
            treasury=self.treasury,
            register=PriceRegister(bus, [ROW]),
            book=PriceBook([ROW]),
            clock=self.clock,
            instance=ME,
        )
        self.limits = RateLimits(self.clock, ME)
        self.inference = Inference(
            directory=self.directory,
            treasury=self.treasury,
            till=self.till,
            upstream=cast(Upstream, self.upstream),
            models=Models(self.models),
            clock=self.clock,
            tasks=self.tasks,
            master_key=MASTER,
            body_bytes_max=10_000,
            default_output_tokens=100,
            exceeded_status=402,
            limits=self.limits,
            seal=Seal({"p": b"0" * 32}),
            places=Places(self.models),
            patience=Patience(BODY_WAIT_S),
        )
        self.refused = Counter("refused", "", ("code",))
        self.door = FrontDoor(
            inference=self.inference,
            forwarder=None,
            health=Health(),
            pages=ModelPages(self.models),
            calls=Counter("calls", "", ("endpoint",)),
            refused=self.refused,
        )

    def load_keys(self) -> None:
        models = ("gpt-4o", "phi-4", "unpriced", "gone", "gpt-5", "mystery")
        org = OrgId("o1")
        records: dict[str, object] = {org_kv(org): OrgRecord(seq=1, org_id=org)}
        keys: tuple[tuple[str, str, tuple[Budget, ...], Limits], ...] = (
            ("k1", SECRET, (budget("k1"),), Limits()),
            ("k2", FREE_SECRET, (), Limits()),
            ("k3", STRICT_SECRET, (budget("k3", strict=True),), Limits()),
            ("k4", MODEL_SECRET, (budget("k4", model="gpt-4o"), budget("k4", soft=True)), Limits()),
            ("k5", RATED_SECRET, (), Limits(rpm=2, tpm=10_000, parallel=1)),
            ("k6", BOTH_SECRET, (budget("k6"),), Limits(rpm=2, tpm=10_000, parallel=1)),
        )
        for key, secret, budgets, limits in keys:
            records[key_kv(key)] = KeyRecord(
                seq=2, key_id=KeyId(key), org_id=org, models=models, budgets=budgets, limits=limits
            )
            records[HASHER.entries(secret)[0]] = SecretRecord(key_id=KeyId(key), version=1, seq=3)
        self.directory._load_keys({name: msgspec.json.encode(record) for name, record in records.items()})
        self.directory._load_revoked({})
        self.directory.keys._loaded.set()
        self.directory.keys.fresh = True
        self.directory.revoked._loaded.set()

    def events(self) -> list[UsageRecorded]:
        """What the publisher was given."""
        return [msgspec.json.decode(event, type=UsageRecorded) for _, event, _ in self.publisher._lanes[0].waiting]

    def holds(self) -> int:
        return sum(wallet.holds for wallet in self.treasury.bank.vault.wallets.values())

    def spent(self) -> int:
        return sum(wallet.spent for wallet in self.treasury.bank.vault.wallets.values())

    def quiet(self) -> bool:
        """Nothing is held, open or counted as running any more."""
        return not (self.holds() or self.journal.calls_open or self.inference.running)

    async def close(self) -> None:
        await self.treasury.stop()
        await self.tasks.close()
        self.journal.close(remove=True)


HASHER = SecretHasher({"p1": b"1" * 32})


FACTS = FactBook([Sizes(model="gpt-4o", context_window=128_000, max_output=16_384)])


def budget(key: str, *, strict: bool = False, model: str | None = None, soft: bool = False) -> Budget:
    return Budget(
        account=SOFT if soft else ACCOUNT,
        scope_kind="key",
        scope_id=key,
        window=WindowSpec(anchor=datetime(2026, 1, 1, tzinfo=UTC)),
        limit_nusd=None if soft else 1,
        soft_nusd=1 if soft else None,
        strict=strict,
        model=model,
    )


def deployment(model: str, provider: str, row: PriceRow | None) -> Deployment:
    base = "https://foundry.example/"
    return Deployment(
        model=model,
        name=f"{model}-deployment",
        provider=provider,
        host="foundry.example",
        base=base.rstrip("/"),
        family="openai" if provider == "azure" else "open",
        surface="classic" if provider == "azure" else "models",
        ways=ways_of(
            provider,
            f"{model}-deployment",
            base,
            None,
            "openai" if provider == "azure" else "open",
            "classic" if provider == "azure" else "models",
        ),
        headers=(("api-key", "foundry-key"),),
        row=row,
        fixed_price=False,
        priced_by="test",
        facts=ModelFacts() if model == "mystery" else FACTS.facts(model),
    )


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "gpt-4o", "messages": [], **fields}).encode()


def refuse(kind: Any) -> UpstreamError:
    return UpstreamError(kind, f"it was {kind}")


async def gate(event: asyncio.Event) -> None:
    await event.wait()
