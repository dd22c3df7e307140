"""Snapshots, pure: what goes in comes out, and what is odd about one is a reason not to use it."""

from datetime import UTC, datetime
from hashlib import sha256

import msgspec
import pytest

from services.ledger.domain import snapshot
from services.ledger.domain.snapshot import Chunk, Extent, Manifest, Unusable
from services.ledger.domain.state import Account, Allotment, Balance, Crossing, Instance, LedgerState, Meter
from shared.events import AccountWindow
from shared.ids import AccountId, InstanceId, KeyId
from shared.topology import AUTH, LEDGER

A = AccountWindow(AccountId("a:key_1"), 0)
STREAMS = {AUTH: Extent("long ago", 1, 9), LEDGER: Extent("yesterday", 1, 50)}
AT = datetime(2026, 11, 2, tzinfo=UTC)


def full_state() -> LedgerState:
    """A state with something in every corner, passing fields included."""
    allotment = Allotment(
        key_id=KeyId("key_1"),
        term=(A,),
        attached=(AccountWindow(AccountId("a:org_1"), 3),),
        granted=90,
        settled=30,
        returned=10,
        rseq=4,
    )
    allotment.said_spent = 44
    instance = Instance(floor=7, above={9, 12}, allotments={1: allotment, 5: Allotment(settled=3)}, heard_ms=123)
    crossed = {"80%": Crossing(spent_nusd=81, at_ms=1_700_000_000_000)}
    balance = Balance(spent=81, escrow=50, crossed=crossed, unfolded=14, freed=Meter(second=3, amounts=[1]))
    state = LedgerState(
        partition=0,
        accounts={"a:key_1": Account(windows={0: balance, 4: Balance(spent=1)}, highest=4)},
        instances={"p1": instance, "p2": Instance(last_n=3, floor=3, final=True)},
        epoch=6,
        holder=InstanceId("e1"),
        auth_pos=9,
        ledger_pos=48,
        grant_seq=50,
        auth_need=8,
        usage_need=40,
        escrow=50,
    )
    state.dirty.add(("a:key_1", 0))
    state.untold.add(("a:key_1", 0, "80%"))
    return state


def packed_with(state: LedgerState, **changes: object) -> tuple[Manifest, list[bytes]]:
    frozen = snapshot.freeze(state)
    packed = snapshot.pack(frozen)
    pieces = snapshot.cut(packed)
    manifest = Manifest(
        snapshot="0-e1-0",
        partition=0,
        at=AT,
        positions=snapshot.positions_of(state),
        grant_seq=state.grant_seq,
        created={name: stream.created for name, stream in STREAMS.items()},
        chunks=tuple(Chunk(number, number + 1) for number in range(len(pieces))),
        size=len(frozen),
        digest=snapshot.digest(packed),
        shape=snapshot.SHAPE,
    )
    return msgspec.structs.replace(manifest, **changes), pieces


def test_what_goes_in_comes_out_but_for_what_passes() -> None:
    state = full_state()
    manifest, pieces = packed_with(state)
    manifest = snapshot.read_manifest(msgspec.json.encode(manifest))
    snapshot.check(manifest, 0, STREAMS)
    back = snapshot.restore(manifest, pieces)
    assert back != state
    snapshot.forget_passing(state)
    assert back == state
    instance = back.instances["p1"]
    balance = back.accounts["a:key_1"].windows[0]
    assert (instance.heard_ms, instance.allotments[1].said_spent) == (None, 0)
    assert (balance.unfolded, balance.freed, balance.spent, balance.escrow) == (0, None, 81, 50)


def test_a_large_state_is_cut_into_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "CHUNK_BYTES", 1_000)
    state = LedgerState(partition=0)
    for number in range(500):
        state.account(sha256(str(number).encode()).hexdigest()).balance(0).spent = number
    manifest, pieces = packed_with(state)
    assert len(pieces) > 10
    assert {len(piece) for piece in pieces[:-1]} == {1_000}
    assert snapshot.restore(manifest, pieces) == state
    with pytest.raises(Unusable, match="not those that its manifest describes"):
        snapshot.restore(manifest, [*pieces[1:], pieces[0]])
    with pytest.raises(Unusable, match="not those"):
        snapshot.restore(manifest, pieces[:-1])


@pytest.mark.parametrize(
    ("streams", "says"),
    [
        ({AUTH: Extent("long ago", 1, 9), LEDGER: Extent("today", 1, 90)}, "LEDGER was made anew"),
        ({AUTH: Extent("today", 1, 9), LEDGER: Extent("yesterday", 1, 90)}, "AUTH was made anew"),
        ({AUTH: Extent("long ago", 1, 8), LEDGER: Extent("yesterday", 1, 90)}, "AUTH ends at 8"),
        ({AUTH: Extent("long ago", 1, 9), LEDGER: Extent("yesterday", 1, 47)}, "LEDGER ends at 47"),
        ({AUTH: Extent("long ago", 1, 9), LEDGER: Extent("yesterday", 1, 49)}, "before decision 50"),
        ({AUTH: Extent("long ago", 1, 9), LEDGER: Extent("yesterday", 50, 90)}, "begins at 50"),
    ],
)
def test_a_snapshot_must_fit_the_streams_as_they_stand(streams: dict[str, Extent], says: str) -> None:
    manifest, _ = packed_with(full_state())
    with pytest.raises(Unusable, match=says):
        snapshot.check(manifest, 0, streams)


def test_a_snapshot_of_another_version_or_partition_is_not_used() -> None:
    manifest, _ = packed_with(full_state(), shape="0.old")
    with pytest.raises(Unusable, match="another version"):
        snapshot.check(manifest, 0, STREAMS)
    manifest, _ = packed_with(full_state())
    with pytest.raises(Unusable, match="of partition 0"):
        snapshot.check(manifest, 1, STREAMS)


@pytest.mark.parametrize("frozen", [b"", b"{", b"[1]", b'{"partition":0,"epoch":"x"}'])
def test_content_that_cannot_be_read_is_no_state(frozen: bytes) -> None:
    packed = snapshot.pack(frozen)
    manifest, _ = packed_with(full_state(), size=len(frozen), digest=snapshot.digest(packed))
    with pytest.raises(Unusable):
        snapshot.restore(manifest, [packed])


@pytest.mark.parametrize("change", [{"size": 10}, {"size": 10**6}, {"size": 0}, {"grant_seq": 51}, {"partition": 2}])
def test_a_manifest_that_lies_is_found_out(change: dict[str, int]) -> None:
    manifest, pieces = packed_with(full_state(), **change)
    with pytest.raises(Unusable):
        snapshot.restore(manifest, pieces)


def test_bytes_that_are_not_packed_are_no_state() -> None:
    manifest, _ = packed_with(full_state(), digest=snapshot.digest(b"plain"))
    with pytest.raises(Unusable, match="cannot be read"):
        snapshot.restore(manifest, [b"plain"])


def test_a_manifest_that_is_none_says_so() -> None:
    with pytest.raises(Unusable, match="manifest cannot be read"):
        snapshot.read_manifest(b"junk")
