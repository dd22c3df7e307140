"""All of the renewal of secrets, wired: what asks for it, what carries it out, and what is heard of it."""

import asyncio

from services.auth.parts import Parts
from services.auth.rotation.announcing import Announcing
from services.auth.rotation.configured import RotationSettings
from services.auth.rotation.delivering import Delivering
from services.auth.rotation.exchanging import Exchanging
from services.auth.rotation.minting import Minting
from services.auth.rotation.retiring import Retiring
from services.auth.rotation.saga import Saga
from services.auth.store_database import Database
from services.auth.store_rotation import Pending
from shared.bus import Bus
from shared.sealing import Sealer
from shared.tasks import Supervisor
from shared.telemetry import Metrics


class Rotation:
    """The parts of it. `minting`, `exchanging` and `pending` are for the API, the others are loops."""

    def __init__(
        self, parts: Parts, bus: Bus, database: Database, sealer: Sealer, settings: RotationSettings, metrics: Metrics
    ) -> None:
        wake, announce = asyncio.Event(), asyncio.Event()
        commits, clock, source = parts.commits, parts.clock, parts.commits.source
        outcomes = metrics.counter(
            "tundish_auth_rotations_total", "What came of renewals of secrets since the start.", "outcome"
        )
        deliveries = metrics.counter(
            "tundish_auth_deliveries_total", "Attempts to bring a new secret to its owner.", "target", "outcome"
        )
        self.pending = Pending(database)
        self.minting = Minting(
            commits,
            self.pending,
            parts.relay,
            parts.vault,
            sealer,
            clock,
            source=source,
            wake=wake,
            outcomes=outcomes,
        )
        self.delivering = Delivering(
            commits,
            parts.views,
            self.pending,
            parts.people,
            parts.relay,
            parts.couriers,
            sealer,
            clock,
            source=source,
            wake=wake,
            announce=announce,
            deliveries=deliveries,
        )
        self.retiring = Retiring(
            commits, self.pending, parts.relay, clock, source=source, announce=announce, outcomes=outcomes
        )
        self.exchanging = Exchanging(
            commits,
            parts.views,
            self.pending,
            parts.people,
            parts.relay,
            parts.revoking,
            sealer,
            clock,
            source=source,
            twice=settings.twice,
            announce=announce,
            deliveries=deliveries,
        )
        self.announcing = Announcing(bus, self.pending, clock, wake=announce)
        self.saga = Saga(bus, self.minting)
        metrics.gauge(
            "tundish_auth_deliveries_waiting",
            "Deliveries of new secrets that are outstanding.",
            lambda: self.delivering.outstanding,
        )
        metrics.gauge(
            "tundish_auth_deliveries_oldest_seconds",
            "For how long the oldest outstanding delivery has been waiting.",
            lambda: self.delivering.oldest_age_s,
        )

    def keep(self, tasks: Supervisor) -> None:
        """Start the loops."""
        tasks.keep("rotation-due", self.saga.run)
        tasks.keep("rotation-deliveries", self.delivering.run)
        tasks.keep("rotation-ends", self.retiring.run)
        tasks.keep("rotation-signals", self.announcing.run)
