"""The simulated resource as operations and handlers see it."""

from datetime import datetime
from typing import Any, Protocol, TypeVar, cast

import msgspec

from deploy.simulator.deployments import Deployment, Deployments
from deploy.simulator.faults import Faults
from deploy.simulator.options import Options
from deploy.simulator.served import ServedCall, ServedLog
from deploy.simulator.settings import Settings
from deploy.simulator.usage import Usage
from shared.clock import Clock

T = TypeVar("T")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One call that the simulator makes to itself, as a line of a batch.

    `surface` and `path` as in the table of operations: `v1` and `chat/completions`.
    """

    surface: str
    path: str
    body: bytes
    content_type: bytes = b"application/json"
    tier: str = ""
    billed_as: str = ""
    client_request_id: str | None = None


class LineResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a line: status, JSON body, and the request id."""

    status: int
    body: bytes
    request_id: str


class Runner(Protocol):
    """Runs a line as if it had come over the wire, and bills it."""

    def __call__(self, line: Line) -> LineResult:
        """The line's result; errors are results too."""
        ...


class Site:
    """The simulated resource: what handlers may read and use. `run` makes a call to the resource itself."""

    run: Runner

    def __init__(self, options: Options, clock: Clock) -> None:
        self.options = options
        self.key = options.key.encode()
        self.clock = clock
        self.settings = Settings()
        self.deployments = Deployments(options)
        self.faults = Faults()
        self.served = ServedLog(options.log)
        self._kept: dict[type[Any], object] = {}

    def one(self, kind: type[T]) -> T:
        """The only object of a kind, made without arguments when first asked for: stores of handlers."""
        found = self._kept.get(kind)
        if found is None:
            found = self._kept[kind] = kind()
        return cast("T", found)

    def bill(
        self,
        *,
        at: datetime,
        id: str,  # noqa: A002
        request_id: str,
        deployment: Deployment,
        usage: Usage,
        surface: str,
        operation: str,
        stream: bool = False,
        status: int = 200,
        fault: str | None = None,
        client_request_id: str | None = None,
        spilled_from: str | None = None,
    ) -> ServedCall:
        """Put a call into the served log; `completed` is the caller's to set once all bytes are handed over."""
        billed = ServedCall(
            seq=self.served.next_seq(),
            at=at,
            id=id,
            request_id=request_id,
            deployment=deployment.name,
            model=deployment.model,
            surface=surface,
            operation=operation,
            stream=stream,
            status=status,
            usage=usage,
            fault=fault,
            client_request_id=client_request_id,
            spilled_from=spilled_from,
            provisioned=deployment.ptu is not None,
            routed=deployment.router,
        )
        self.served.add(billed)
        return billed
