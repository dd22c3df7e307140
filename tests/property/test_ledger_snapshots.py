"""The same protocol with enforcers that start from snapshots, fresh ones and old ones: nothing else may change."""

from datetime import UTC, datetime

import pytest

from services.ledger.domain import snapshot
from services.ledger.domain.desk import Desk
from services.ledger.domain.snapshot import Extent, Manifest
from services.ledger.domain.state import LedgerState
from shared.topology import AUTH, LEDGER
from tests.property.test_ledger_properties import Protocol, run
from tests.support.ledger import balances
from tests.support.ledger_world import TUNING, Enforcer

STREAMS = {AUTH: Extent("once", 1, 10**9), LEDGER: Extent("once", 1, 10**9)}


def kept(state: LedgerState) -> tuple[Manifest, list[bytes]]:
    """A snapshot of a state, as it would be stored."""
    frozen = snapshot.freeze(state)
    packed = snapshot.pack(frozen)
    manifest = Manifest(
        snapshot="0-e-0",
        partition=0,
        at=datetime(2026, 11, 1, tzinfo=UTC),
        positions=snapshot.positions_of(state),
        grant_seq=state.grant_seq,
        created={name: stream.created for name, stream in STREAMS.items()},
        chunks=(),
        size=len(frozen),
        digest=snapshot.digest(packed),
        shape=snapshot.SHAPE,
    )
    return manifest, snapshot.cut(packed)


class ProtocolWithSnapshots(Protocol):
    """`restart` goes back to the last snapshot, taken some time ago; `tidy` to one that is taken now."""

    def __init__(self) -> None:
        super().__init__()
        self.snapshot = kept(self.world.enforcers[0].state)

    def restart(self, which: int) -> None:
        manifest, chunks = self.snapshot
        self.snapshot = kept(self.world.enforcers[1 - which].state)
        snapshot.check(manifest, 0, STREAMS)
        old = self.world.enforcers[which]
        new = self.world.enforcers[which] = Enforcer(self.world, old.skew)
        new.state = snapshot.restore(manifest, chunks)
        new.desk = Desk(new.state, TUNING)
        new.usage_read = new.state.ledger_pos

    def tidy(self, which: int) -> None:
        before = balances(self.world.enforcers[which].state)
        self.snapshot = kept(self.world.enforcers[which].state)
        self.restart(which)
        assert balances(self.world.enforcers[which].state) == before


@pytest.mark.parametrize("seed", range(8))
def test_long_runs_from_snapshots(seed: int) -> None:
    run(ProtocolWithSnapshots(), 5_000 + seed, 1_500)


@pytest.mark.parametrize("seed", range(4))
def test_a_snapshot_at_any_moment_and_the_rest_of_the_logs_are_the_whole(seed: int) -> None:
    """Without the broom, which may drop at other moments, a start from a snapshot gives the very same balances."""
    machine = Protocol()
    run(machine, 6_000 + seed, 600)
    logs = machine.world.logs
    truth = balances(logs.fold())
    reader = Enforcer(machine.world)
    machine.world.enforcers = [reader]
    while reader.state.grant_seq < len(logs.grants) or reader.usage_read < len(logs.usage):
        for log in ("auth", "grants", "usage"):
            reader.read(log, 17)
            reader.state = snapshot.restore(*kept(reader.state))
    reader.read("auth", 10_000)
    assert balances(reader.state) == truth
