"""One call on its way, from its admission to its bill."""

from typing import NamedTuple

from services.proxy.domain.admission import Caller, Lineage
from services.proxy.domain.asked import Asked
from services.proxy.domain.deployments import Deployment, Way
from services.proxy.domain.holds.prepare import Prepared
from services.proxy.domain.limits.rate_answer import Headers
from services.proxy.domain.paths import Route
from services.proxy.domain.transform import Transform
from services.proxy.holds import Hold
from services.proxy.journal import Journal, OpenRecord
from services.proxy.limits import Ticket
from services.proxy.publisher import Publisher
from shared.ids import InstanceId


class Books(NamedTuple):
    """Where the calls of one instance are written down."""

    journal: Journal
    publisher: Publisher
    instance: InstanceId


class Call:
    """One call on its way: who, what, the money held for it, and when things happened.

    `followed`: it goes on in the background, where somebody else settles it.
    """

    __slots__ = (
        "asked",
        "books",
        "caller",
        "deployment",
        "first_byte_ns",
        "followed",
        "held_nusd",
        "hold",
        "lineage",
        "opened",
        "prepared",
        "region",
        "route",
        "settled",
        "started_ns",
        "ticket",
        "transform",
        "upstream_from_ns",
        "upstream_until_ns",
        "way",
    )

    def __init__(
        self,
        *,
        caller: Caller,
        lineage: Lineage,
        route: Route,
        asked: Asked,
        deployment: Deployment,
        way: Way,
        prepared: Prepared,
        started_ns: int,
    ) -> None:
        self.caller = caller
        self.lineage = lineage
        self.route = route
        self.asked = asked
        self.deployment = deployment
        self.way = way
        self.prepared = prepared
        self.transform: Transform | None = None
        self.started_ns = started_ns
        self.held_nusd = prepared.need.amount
        self.hold: Hold | None = None
        self.ticket: Ticket | None = None
        self.opened: OpenRecord | None = None
        self.books: Books | None = None
        self.region: str | None = None
        self.settled = False
        self.followed = False
        self.first_byte_ns = 0
        self.upstream_from_ns = 0
        self.upstream_until_ns = 0

    @property
    def endpoint(self) -> str:
        """The operation's name in events and metrics."""
        return str(self.route.endpoint)

    @property
    def model(self) -> str:
        """The public name of the model."""
        return self.asked.model

    @property
    def call_id(self) -> str:
        """The call's own id; empty before it was written down."""
        return "" if self.opened is None else self.opened.call_id

    @property
    def limits_left(self) -> Headers:
        """`x-ratelimit-*` for the answer's head, as of now."""
        return () if self.ticket is None else self.ticket.headers
