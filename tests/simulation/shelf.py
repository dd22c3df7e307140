"""Snapshots of the enforcers' state, as the product writes and reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from services.ledger.domain.snapshot import forget_passing, freeze
from services.ledger.domain.state import LedgerState

if TYPE_CHECKING:
    from tests.simulation.enforcer import Enforcer
    from tests.simulation.world import World

EVERY = 40
"""Messages of LEDGER between two snapshots."""


class Shelf:
    """Keeps the newest snapshot; whoever starts may begin with it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._frozen = b""
        self._position = 0
        self.restored = 0

    def offer(self, enforcer: Enforcer) -> None:
        """An enforcer that reads both kinds in their common order may write a snapshot."""
        if not enforcer.split and enforcer.state.ledger_pos >= self._position + EVERY:
            self._frozen = freeze(enforcer.state)
            self._position = enforcer.state.ledger_pos

    def lend(self, enforcer: Enforcer) -> None:
        """A start from the snapshot, by chance from nothing."""
        if not self._frozen or enforcer.split or self._world.random.random() < 0.2:
            return
        state = msgspec.json.decode(self._frozen, type=LedgerState)
        forget_passing(state)
        enforcer.begin_with(state)
        self.restored += 1
