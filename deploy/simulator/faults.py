"""Faults: what a test tells a deployment to do wrong, and how often."""

from collections.abc import Callable
from typing import Annotated

import msgspec

from deploy.simulator.errors import as_anthropic, invalid
from deploy.simulator.fault_kinds import ERRORS, RATE_HEADERS, Target, by_status
from deploy.simulator.wire import JSON_TYPE, Headers

__all__ = ["Fault", "Faults", "Target", "instead"]

MAX_FAULTS = 1_000
MAX_DELAY_MS = 600_000
ANY = "*"
REDIRECT_TO = "https://redirected.invalid/"

INSTEAD = frozenset({"status", "html", "redirect", *ERRORS})
"""Kinds that replace the answer, so that nothing is billed; the others change how it is made or delivered."""
BROKEN_STREAMS = frozenset({"midstream_error", "midstream_error_done", "responses_failed", "responses_error_first"})
"""Kinds that end a stream with an error: of a chat without or with `[DONE]`, of Responses in Azure's order
(failed, then error) or OpenAI's. Each fits every dialect; plain bodies come through whole."""
KINDS = INSTEAD | BROKEN_STREAMS | {"delay", "slow_first_byte", "stall", "reset", "empty", "no_usage"}

DEFAULT_STATUS = {"status": 429, "html": 502, "redirect": 307}
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\r\n"


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One fault.

    `deployment`: its name, or `*` for all. `operation`: only calls of this operation (`chat`, `responses`,
    `messages`, …), or `*`; requests that name no deployment are hit by their own name here only.
    `kind`: see KINDS. `count`: how many calls it still hits; null is every call until it is removed.
    `status`: what `status`, `html` and `redirect` answer; `empty` is a 200 without a body and billed, with
    another status it is not billed.
    `delay_ms`: waits before the answer (`delay` and all that replace it), before the first body byte
    (`slow_first_byte`), or in the middle (`stall`; 0 stalls until the reader leaves).
    `after_events`: how many events of a stream come before a `stall`, `reset` or broken stream; of a plain
    body the first half comes unless it is 0. A `reset` after 0 events closes the connection before any byte.
    `headers`: set on the answer, over its own. `body`: JSON, or a string that is sent as it is.
    """

    id: int = 0
    deployment: str = ANY
    operation: str = ANY
    kind: str = "status"
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] | None = None
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None
    delay_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_DELAY_MS)] = 0
    after_events: Annotated[int, msgspec.Meta(ge=0)] = 4
    headers: dict[str, str] = {}
    body: msgspec.Raw = msgspec.Raw(b"null")
    hits: int = 0

    @property
    def replaces(self) -> bool:
        """Whether the real answer is never made."""
        return self.kind in INSTEAD or (self.kind == "empty" and self.status not in (None, 200))

    @property
    def breaks_stream(self) -> bool:
        """Whether a stream ends with an error after `after_events` events."""
        return self.kind in BROKEN_STREAMS

    @property
    def shown_status(self) -> int:
        """The status of an answer that is replaced."""
        if self.status is None and self.kind in ERRORS:
            nobody = Target(deployment="", model="", region="", operation="")
            return ERRORS[self.kind](nobody, "")[0]
        return self.status or DEFAULT_STATUS.get(self.kind, 200)

    def check(self) -> None:
        """Raise ValueError where the fault makes no sense."""
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r}; known kinds: {', '.join(sorted(KINDS))}")
        self.header_pairs()

    def body_bytes(self) -> bytes | None:
        """The bytes of `body`: JSON as given, a string without its quotes; None when none was given."""
        raw = bytes(self.body)
        if raw == b"null":
            return None
        return msgspec.json.decode(raw, type=str).encode() if raw[:1] == b'"' else raw

    def header_pairs(self) -> Headers:
        """`headers` as they go over the wire."""
        pairs = self.headers.items()
        return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs]


class Faults:
    """The faults in force: a deployment's own come before those of `*`, older ones before newer ones."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._last_id = 0

    def add(self, fault: Fault) -> Fault:
        """Put a fault in force; raises ValueError when there are too many or it makes no sense."""
        if len(self._faults) >= MAX_FAULTS:
            raise ValueError(f"there are {MAX_FAULTS} faults already; remove some with DELETE /_sim/faults")
        fault.check()
        self._last_id += 1
        fault.id, fault.hits = self._last_id, 0
        self._faults.append(fault)
        return fault

    def all(self) -> list[Fault]:
        """The faults in force."""
        return list(self._faults)

    def remove(self, chosen: Callable[[Fault], bool]) -> int:
        """Take away the chosen faults; how many they were."""
        before = len(self._faults)
        self._faults = [fault for fault in self._faults if not chosen(fault)]
        return before - len(self._faults)

    def take(self, deployment: str, operation: str, header: bytes | None) -> Fault | None:
        """The fault that the next call of a deployment suffers, counted down; one its own header asks for wins.

        Raises a 400 for a header that is no fault.
        """
        if header is not None:
            return from_header(header)
        if not self._faults:
            return None
        for name in (deployment, ANY):
            for fault in self._faults:
                if fault.deployment == name and fault.operation in (operation, ANY):
                    return self._hit(fault)
        return None

    def take_row(self, name: str, header: bytes | None) -> Fault | None:
        """The fault that the next request of a path without a deployment suffers, by the row's name."""
        if header is not None:
            return from_header(header)
        return next((self._hit(fault) for fault in self._faults if fault.operation == name), None)

    def _hit(self, fault: Fault) -> Fault:
        fault.hits += 1
        if fault.count is not None:
            fault.count -= 1
            if fault.count == 0:
                self._faults.remove(fault)
        return fault


def from_header(header: bytes) -> Fault:
    """The fault of an `x-sim-fault` header: `rate_older`, or `kind=status status=503 delay_ms=5`."""
    words = header.decode("latin-1").replace(",", " ").split()
    pairs = [word.partition("=") for word in words]
    fields = {name if equals else "kind": value if equals else name for name, equals, value in pairs}
    try:
        fault = msgspec.convert(fields, Fault, strict=False)
        fault.check()
    except (msgspec.ValidationError, ValueError) as error:
        raise invalid(f"x-sim-fault: {error}", "sim_fault") from error
    return fault


def instead(fault: Fault, target: Target, request_id: str) -> tuple[int, Headers, bytes]:
    """Status, headers and body of an answer that a fault puts in the place of the real one."""
    status = fault.shown_status
    given = fault.body_bytes()
    headers: Headers = [JSON_TYPE]
    if fault.kind == "html":
        headers = [(b"content-type", b"text/html")]
        body = HTML
    elif fault.kind == "empty":
        headers, body, given = [], b"", None
    elif fault.kind == "redirect":
        headers, body = [(b"location", REDIRECT_TO.encode())], b""
    else:
        more, body = _known(fault, status, target, request_id)
        headers += more
    if given is not None:
        body = given
        if bytes(fault.body)[:1] == b'"' and fault.kind == "status":
            headers[0] = (b"content-type", b"text/plain; charset=utf-8")
    own = fault.header_pairs()
    named = {key for key, _ in own}
    return status, [pair for pair in headers if pair[0] not in named] + own, body


def _known(fault: Fault, status: int, target: Target, request_id: str) -> tuple[Headers, bytes]:
    if fault.kind in ERRORS:
        _, headers, known = ERRORS[fault.kind](target, request_id)
    else:
        headers = RATE_HEADERS if status == 429 else []
        known = by_status(status, target, request_id)
    body = msgspec.json.encode(known)
    return headers, as_anthropic(status, body, request_id) if target.anthropic else body
