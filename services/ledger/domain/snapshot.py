"""A snapshot: one partition's folded state as bytes, so that a start need not read the whole log again.

A snapshot is a help, never a truth: whatever is odd about it, the logs are read from their beginning instead. What
a process has only heard or measured itself (the *passing* fields) does not come back from it.
"""

import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256

import msgspec

from services.ledger.domain.state import LedgerState
from shared.topology import AUTH, LEDGER

FOLD = 1
"""Raise it when the same records fold to something else than before: older snapshots are ignored then."""
CHUNK_BYTES = 512 * 1024
STATE_BYTES_MAX = 2 * 1024 * 1024 * 1024
PACK_LEVEL = 1

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[LedgerState] = msgspec.json.Decoder(LedgerState)


class Unusable(Exception):
    """A snapshot must not be used; the text says why."""


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """One piece: its key's number and the revision it was written at."""

    number: int
    revision: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot is made of; it is written last, so what it names is complete.

    `positions` and `created` are by stream: how far the state has folded it, and which incarnation of it; `grant_seq`
    is the last decision in it. `size` is that of the state before packing, `digest` of the packed bytes, `shape` names
    the version of state and fold.
    """

    snapshot: str
    partition: int
    at: datetime
    positions: dict[str, int]
    grant_seq: int
    created: dict[str, str]
    chunks: tuple[Chunk, ...]
    size: int
    digest: str
    shape: str


class Extent(msgspec.Struct, frozen=True):
    """A stream as it stands: its incarnation, its first and its last sequence."""

    created: str
    first: int
    last: int


def shape() -> str:
    """A name for how this version writes and folds the state."""
    schema = _encoder.encode(msgspec.json.schema(LedgerState))
    return f"{FOLD}.{sha256(schema).hexdigest()[:16]}"


SHAPE = shape()


def freeze(state: LedgerState) -> bytes:
    """The state as it is at this moment."""
    return _encoder.encode(state)


def positions_of(state: LedgerState) -> dict[str, int]:
    """How far each stream is folded. A decision of our own may be folded before what stands in front of it."""
    return {AUTH: state.auth_pos, LEDGER: state.ledger_pos}


def pack(frozen: bytes) -> bytes:
    """Frozen bytes, compressed."""
    return zlib.compress(frozen, PACK_LEVEL)


def cut(packed: bytes) -> list[bytes]:
    """Pieces of at most CHUNK_BYTES, at least one."""
    return [packed[at : at + CHUNK_BYTES] for at in range(0, len(packed), CHUNK_BYTES)] or [b""]


def digest(packed: bytes) -> str:
    """What the manifest says of the packed bytes."""
    return sha256(packed).hexdigest()


def read_manifest(data: bytes) -> Manifest:
    """A manifest from its bytes; raises Unusable."""
    try:
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise Unusable(f"its manifest cannot be read ({error})") from error


def check(manifest: Manifest, partition: int, streams: Mapping[str, Extent]) -> None:
    """Raise Unusable when a snapshot does not fit the streams as they stand."""
    if manifest.partition != partition:
        raise Unusable(f"it is of partition {manifest.partition}")
    if manifest.shape != SHAPE:
        raise Unusable("another version has written it")
    for name, stream in streams.items():
        position = manifest.positions.get(name)
        if position is None or manifest.created.get(name) != stream.created:
            raise Unusable(f"stream {name} was made anew since")
        if position > stream.last:
            raise Unusable(f"stream {name} ends at {stream.last} and the snapshot was taken at {position}")
        if position + 1 < stream.first:
            raise Unusable(f"stream {name} begins at {stream.first} and the snapshot was taken at {position}")
    if manifest.grant_seq > streams[LEDGER].last:
        raise Unusable(f"stream {LEDGER} ends at {streams[LEDGER].last}, before decision {manifest.grant_seq}")


def restore(manifest: Manifest, chunks: Sequence[bytes]) -> LedgerState:
    """The state that was frozen, without passing fields; raises Unusable."""
    packed = b"".join(chunks)
    if digest(packed) != manifest.digest:
        raise Unusable("its chunks are not those that its manifest describes")
    try:
        state = _decoder.decode(_unpack(packed, manifest.size))
    except (msgspec.MsgspecError, zlib.error) as error:
        raise Unusable(f"its content cannot be read ({error})") from error
    said = (manifest.partition, manifest.positions, manifest.grant_seq)
    if (state.partition, positions_of(state), state.grant_seq) != said:
        raise Unusable("its manifest describes another state")
    forget_passing(state)
    return state


def forget_passing(state: LedgerState) -> None:
    """Drop what only the process that took the snapshot had heard or measured."""
    for instance in state.instances.values():
        instance.heard_ms = None
        for allotment in instance.allotments.values():
            allotment.said_spent = 0
    for account in state.accounts.values():
        for balance in account.windows.values():
            balance.unfolded = 0
            balance.freed = None
            balance.least = 0
    state.awaited.clear()
    state.eased.clear()


def _unpack(packed: bytes, size: int) -> bytes:
    if not 0 < size <= STATE_BYTES_MAX:
        raise Unusable(f"its manifest speaks of {size} bytes")
    unpacking = zlib.decompressobj()
    data = unpacking.decompress(packed, size)
    if len(data) != size or unpacking.unconsumed_tail or not unpacking.eof:
        raise Unusable(f"it does not hold the {size} bytes that its manifest speaks of")
    return data
