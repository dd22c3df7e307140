"""NATS, behind one door: the only package that imports it."""

from shared.bus.connection import Bus, PubAck, Request
from shared.bus.kv import Bucket, Entry
from shared.bus.mirror import Mirror
from shared.bus.tail import Message, Tail, TailBatch
from shared.bus.work import WorkQueue

__all__ = [
    "Bucket",
    "Bus",
    "Entry",
    "Message",
    "Mirror",
    "PubAck",
    "Request",
    "Tail",
    "TailBatch",
    "WorkQueue",
]
