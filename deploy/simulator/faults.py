"""Faults: what a test tells a deployment to do wrong, and how often."""

from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias

import msgspec

from deploy.simulator import errors
from deploy.simulator.wire import JSON_TYPE, Headers

MAX_FAULTS = 1_000
MAX_DELAY_MS = 600_000
ANY = "*"
REDIRECT_TO = "https://redirected.invalid/"

Kind: TypeAlias = Literal[
    "status",
    "delay",
    "slow_first_byte",
    "stall",
    "reset",
    "html",
    "empty",
    "redirect",
    "midstream_error",
    "no_usage",
]
INSTEAD = frozenset({"status", "html", "redirect"})
"""Kinds that replace the answer, so that nothing is billed; the others change how it is made or delivered."""

DEFAULT_STATUS = {"status": 429, "html": 502, "redirect": 307}
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\r\n"
RATE_HEADERS: Headers = [
    (b"retry-after", b"1"),
    (b"retry-after-ms", b"0"),
    (b"x-ratelimit-remaining-requests", b"4"),
    (b"x-ratelimit-remaining-tokens", b"0"),
    (b"x-ratelimit-renewalperiod-tokens", b"60"),
    (b"x-ratelimit-reset-tokens", b"0"),
    (b"x-ratelimit-type", b"Tokens"),
]


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One fault.

    `deployment`: its name, or `*` for all.
    `count`: how many calls it still hits; null is every call until it is removed.
    `status`: what `status`, `html` and `redirect` answer; `empty` is a 200 without a body and billed, with
    another status it is not billed.
    `delay_ms`: waits before the answer (`delay` and all that replace it), before the first body byte
    (`slow_first_byte`), or in the middle (`stall`; 0 stalls until the reader leaves).
    `after_events`: how many events of a stream come before a `stall`, `reset` or `midstream_error`; of a
    plain body the first half comes unless it is 0. A `reset` after 0 events closes the connection before any
    byte.
    `headers`: set on the answer, over its own. `body`: JSON, or a string that is sent as it is.
    """

    id: int = 0
    deployment: str = ANY
    kind: Kind = "status"
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


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a fault hits, as Foundry's messages name it."""

    deployment: str
    model: str
    region: str
    operation: str


class Faults:
    """The faults in force: a deployment's own come before those of `*`, older ones before newer ones."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._last_id = 0

    def add(self, fault: Fault) -> Fault:
        """Put a fault in force; raises ValueError when there are too many or a header cannot be sent."""
        if len(self._faults) >= MAX_FAULTS:
            raise ValueError(f"there are {MAX_FAULTS} faults already; remove some with DELETE /_sim/faults")
        fault.header_pairs()
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

    def take(self, deployment: str) -> Fault | None:
        """The fault that the next call of a deployment suffers, counted down."""
        if not self._faults:
            return None
        for name in (deployment, ANY):
            for fault in self._faults:
                if fault.deployment == name:
                    return self._hit(fault)
        return None

    def _hit(self, fault: Fault) -> Fault:
        fault.hits += 1
        if fault.count is not None:
            fault.count -= 1
            if fault.count == 0:
                self._faults.remove(fault)
        return fault


def instead(fault: Fault, target: Target, request_id: str) -> tuple[int, Headers, bytes]:
    """Status, headers and body of an answer that a fault puts in the place of the real one."""
    status = fault.status or DEFAULT_STATUS.get(fault.kind, 200)
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
        if status == 429:
            headers += RATE_HEADERS
        body = msgspec.json.encode(_by_status(status, target, request_id))
    if given is not None:
        body = given
        if bytes(fault.body)[:1] == b'"' and fault.kind == "status":
            headers[0] = (b"content-type", b"text/plain; charset=utf-8")
    own = fault.header_pairs()
    named = {key for key, _ in own}
    return status, [pair for pair in headers if pair[0] not in named] + own, body


def _by_status(status: int, target: Target, request_id: str) -> dict[str, object]:
    """The body Foundry sends with a status when the test gives none."""
    match status:
        case 400:
            return errors.content_filter()
        case 401:
            return errors.azure("401", errors.WRONG_KEY)
        case 403:
            return errors.azure("403", "Access denied due to Virtual Network/Firewall rules.")
        case 404:
            return errors.azure("404", "Resource not found")
        case 408:
            return errors.azure("Timeout", "The operation was timeout.")
        case 429:
            return errors.rate_limited(target.deployment, target.model, target.region, target.operation)
        case 503 | 529:
            return errors.overloaded(request_id)
        case _ if status >= 500:
            return errors.server_error(request_id)
        case _:
            return errors.azure(str(status), f"The simulator was told to answer {status}.")
