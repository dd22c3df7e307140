"""What an operation hands over: an answer ready to be delivered, and what Foundry bills for it."""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import msgspec

from deploy.simulator.deployments import Deployment
from deploy.simulator.errors import FoundryError, openai
from deploy.simulator.faults import Fault
from deploy.simulator.settings import Settings
from deploy.simulator.site import Site
from deploy.simulator.usage import Usage
from deploy.simulator.wire import Caller, Headers

SSE_TYPE = (b"content-type", b"text/event-stream; charset=utf-8")

T = TypeVar("T")


class Answer(msgspec.Struct, kw_only=True, gc=False):
    """An answer in the making: either a `body`, or `events` for a stream (always a 200).

    `usage` None is a call that Foundry would not bill. `charged` is the admission estimate in tokens for the
    rate limits, of which `charged_output` for output (0 where the limits do not tell them apart).
    `commit` is called once the call is admitted and billed, before its first byte: the place to store things.
    """

    id: str
    usage: Usage | None
    charged: int = 0
    charged_output: int = 0
    body: bytes = b""
    events: Iterable[bytes] | None = None
    delay_ms: int = 0
    chunk_delay_ms: int = 0
    status: int = 200
    content_type: bytes = b"application/json"
    headers: Headers = []
    commit: Callable[[], None] | None = None


class Call(msgspec.Struct, kw_only=True, gc=False):
    """The circumstances of one call, as every operation needs them.

    `created` in Unix seconds; `surface` as in the table of surfaces.
    """

    caller: Caller
    request_id: str
    serial: str
    created: int
    surface: str
    site: Site
    fault: Fault | None = None

    @property
    def settings(self) -> Settings:
        """The resource's switches."""
        return self.site.settings

    @property
    def with_usage(self) -> bool:
        """Whether the answer tells its usage: a fault may leave it out."""
        return self.fault is None or self.fault.kind != "no_usage"


class Request(Protocol):
    """A parsed request of any operation: what the application needs to route, answer and bill it."""

    model: str | None

    @property
    def streamed(self) -> bool:
        """Whether the answer is a stream of events."""
        ...

    def answer(self, deployment: Deployment, call: Call) -> Answer:
        """The deployment's answer; raises FoundryError for what it refuses."""
        ...


def decode(body: bytes, shape: type[T]) -> T:
    """The request body as `shape`; raises Foundry's 400 for bytes that are no JSON or of the wrong shape."""
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        text = str(error)
        at = text.rpartition("$.")[2].rstrip("`") if "$." in text else None
        raise FoundryError(400, openai(f"Invalid request body: {text}", "invalid_type", at)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = "We could not parse the JSON body of your request: valid JSON is expected."
        raise FoundryError(400, openai(message, None, None)) from error
