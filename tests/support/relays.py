"""Relays alone: a call, a scripted reply of Foundry's, a till that only writes down what it is told."""

from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from services.proxy.call import Call
from services.proxy.domain.asked import Asked
from services.proxy.domain.deployments import Way
from services.proxy.domain.facts import ModelFacts
from services.proxy.domain.meters import Reading
from services.proxy.domain.money.figures import UNKNOWN, Figures
from services.proxy.domain.paths import Dialect, Endpoint, Route
from services.proxy.domain.transform import Transform
from services.proxy.relay.complaints import Complaints
from services.proxy.relay.stream import StreamRelay
from services.proxy.relay.whole import WholeRelay
from services.proxy.till import Till
from services.proxy.upstream import Reply
from shared.pricing import Usage
from shared.tasks import Supervisor
from tests.support.clock import FakeClock
from tests.unit.asgi_driver import Exchange

HOST, KEY = "foundry-one.openai.azure.com", "a-credential-of-foundrys"


class Settled(NamedTuple):
    """What the till was told: `how` is `reading`, `free` or `lost`."""

    how: str
    outcome: str
    status: int
    reading: Reading = Reading()
    tokens: int = 0
    whole: bool = True

    @property
    def usage(self) -> Usage | None:
        return self.reading.usage


class NotingTill:
    """Writes down, charges nothing."""

    def __init__(self, log: list[str]) -> None:
        self.settled: list[Settled] = []
        self._log = log

    def settle_reading(
        self, call: Call, reading: Reading, reply_tokens: int, *, outcome: str, status: int, whole: bool = True
    ) -> int:
        self._note(Settled("reading", outcome, status, reading, reply_tokens, whole))
        return 1_234

    def settle_free(self, call: Call, *, outcome: str, status: int) -> None:
        self._note(Settled("free", outcome, status))

    def settle_lost(self, call: Call, *, outcome: str, status: int) -> None:
        self._note(Settled("lost", outcome, status))

    def settle_filtered(self, call: Call, *, outcome: str, status: int) -> None:
        self._note(Settled("filtered", outcome, status))

    def figures(self, call: Call) -> Figures:
        return UNKNOWN

    def _note(self, settled: Settled) -> None:
        self.settled.append(settled)
        self._log.append("used")


def call_of(
    wire: Endpoint,
    *,
    inject: bool = False,
    dialect: Dialect = "openai",
    transform: Transform | None = None,
    translation: Any = None,
    units: Usage | None = None,
    tier: str = "",
) -> Call:
    """A call that has been opened; its endpoint is its wire."""
    call = SimpleNamespace(
        route=Route(endpoint=wire, dialect=dialect),
        way=Way(url="https://x", wire=wire, translation=translation),
        asked=Asked(model="public", endpoint=wire, stream=True, units=units or Usage(), tier=tier),
        prepared=SimpleNamespace(inject=inject),
        transform=transform,
        deployment=SimpleNamespace(
            name="chat-mini", id="d-1", base="", host=HOST, headers=(("api-key", KEY),), secrets=(HOST, KEY),
            facts=ModelFacts(),
        ),
        call_id="call-1",
        model="public",
        limits_left=(),
        started_ns=0,
        first_byte_ns=0,
        upstream_from_ns=0,
        upstream_until_ns=0,
    )  # fmt: skip
    return cast(Call, call)


class Bench:
    """Passes scripted replies on through the real relays."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.till = NotingTill(self.log)
        self.tasks = Supervisor()
        self.clock = FakeClock()
        self.complaints = Complaints(self.clock)

    @property
    def settled(self) -> Settled:
        """The one thing the till was told."""
        (one,) = self.till.settled
        return one

    async def stream(self, call: Call, reply: object, exchange: Exchange | None = None) -> Exchange:
        exchange = exchange or Exchange([], self.log)
        relay = StreamRelay(cast(Till, self.till), self.tasks, self.complaints)
        await relay.relay(call, cast(Reply, reply), exchange.receive, exchange.send, [])
        return exchange

    async def whole(self, call: Call, reply: object) -> Exchange:
        exchange = Exchange([], self.log)
        await WholeRelay(cast(Till, self.till), self.complaints).relay(call, cast(Reply, reply), exchange.send, [])
        return exchange

    async def close(self) -> None:
        await self.tasks.close()


class ScriptedReply:
    """A reply of Foundry's by script: bytes are chunks, exceptions are raised, functions are awaited first."""

    def __init__(self, *steps: Any, status: int = 200, **headers: str) -> None:
        self.status = status
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.steps = list(steps)

    def header(self, name: str) -> str | None:
        return self._headers.get(name)

    async def chunk(self) -> bytes | None:
        while self.steps:
            step = self.steps.pop(0)
            if isinstance(step, Exception):
                raise step
            if isinstance(step, bytes):
                return step
            await step()
        return None
