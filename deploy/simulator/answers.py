"""What a surface hands over: an answer ready to be delivered, and what Foundry bills for it."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

import msgspec

from deploy.simulator.deployments import Deployment
from deploy.simulator.errors import FoundryError, openai
from deploy.simulator.faults import Fault
from deploy.simulator.usage import Usage
from deploy.simulator.wire import Caller

SSE_TYPE = (b"content-type", b"text/event-stream; charset=utf-8")

T = TypeVar("T")


class Answer(msgspec.Struct, kw_only=True, gc=False):
    """A 200 in the making: either a `body`, or `events` for a stream.

    `usage` None is a call that Foundry would not bill. `charged` is the admission estimate for the rate
    headers.
    """

    id: str
    usage: Usage | None
    charged: int
    body: bytes = b""
    events: Iterable[bytes] | None = None
    delay_ms: int = 0
    chunk_delay_ms: int = 0


class Call(msgspec.Struct, kw_only=True, gc=False):
    """The circumstances of one call, as every surface needs them."""

    caller: Caller
    request_id: str
    serial: str
    created: int
    fault: Fault | None = None


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
