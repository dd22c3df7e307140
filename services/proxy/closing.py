"""The last word about an instance: said by itself at a clean end, by its successor after a crash."""

import asyncio

import msgspec

from shared.allotment import Ack, Close, decode_reply, encode
from shared.bus import Bus
from shared.clock import Clock
from shared.errors import BusUnavailable
from shared.ids import InstanceId
from shared.topology import allot_subject

REPEAT_S = 0.02


async def close_instance(
    bus: Bus, clock: Clock, instance: InstanceId, partition: int, last_n: int, timeout_s: float
) -> bool:
    """Tell the ledger that no call of an instance runs or will run; whether it has acknowledged."""
    request = encode(Close(instance=instance, last_n=last_n, sent_ms=clock.monotonic_ms()))
    deadline = clock.monotonic_ms() + int(timeout_s * 1000)
    while clock.monotonic_ms() < deadline:
        try:
            reply = decode_reply(await bus.request(allot_subject(partition), request, timeout_s=1.0))
        except (BusUnavailable, msgspec.MsgspecError):
            await asyncio.sleep(REPEAT_S)
            continue
        if isinstance(reply, Ack):
            return True
        await asyncio.sleep(REPEAT_S)
    return False
