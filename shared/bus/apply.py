"""Making the topology real (`tundish migrate`, admin user) and checking it (every service at start)."""

from collections.abc import Callable

import msgspec

from shared.bus.connection import ApiProblem, Bus, raise_problem
from shared.bus.tail import NS
from shared.errors import StreamChanged
from shared.topology import BUCKETS, CONSUMERS, STREAMS, Bucket, Consumer, Stream

MAX_DELIVER_FOR_EVER = -1


class _Answer(msgspec.Struct, frozen=True):
    error: ApiProblem | None = None


def stream_config(stream: Stream, replicas: int) -> dict[str, object]:
    """The server's settings of one of our streams."""
    return {
        "name": stream.name,
        "subjects": list(stream.subjects),
        "retention": "limits",
        "storage": "file",
        "discard": "new" if stream.discard_new else "old",
        "max_bytes": stream.max_bytes,
        "max_msgs": -1,
        "max_consumers": -1,
        "max_age": stream.max_age_s * NS,
        "max_msg_size": stream.max_msg_size,
        "duplicate_window": stream.duplicate_window_s * NS,
        "num_replicas": replicas,
        "deny_delete": stream.deny_delete,
        "deny_purge": stream.deny_purge,
        "allow_direct": False,
    }


def bucket_config(bucket: Bucket, replicas: int) -> dict[str, object]:
    """The server's settings of the stream behind a bucket."""
    return {
        "name": f"KV_{bucket.name}",
        "subjects": [f"$KV.{bucket.name}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_bytes": bucket.max_bytes,
        "max_msgs": -1,
        "max_consumers": -1,
        "max_msgs_per_subject": bucket.history,
        "max_age": bucket.ttl_s * NS,
        "max_msg_size": bucket.max_value_size,
        "duplicate_window": min(120, bucket.ttl_s or 120) * NS,
        "num_replicas": replicas,
        "deny_delete": True,
        "deny_purge": False,
        "allow_rollup_hdrs": False,  # one message with such a header would empty the bucket
        "allow_direct": False,
    }


def consumer_config(consumer: Consumer) -> dict[str, object]:
    """The server's settings of one of our durable pull consumers."""
    return {
        "durable_name": consumer.durable,
        "name": consumer.durable,
        "filter_subject": consumer.filter_subject,
        "ack_policy": "explicit",
        "ack_wait": consumer.ack_wait_s * NS,
        "max_ack_pending": consumer.max_ack_pending,
        "max_deliver": MAX_DELIVER_FOR_EVER,
        "deliver_policy": "all",
        "replay_policy": "instant",
    }


async def apply(bus: Bus, *, replicas: int, progress: Callable[[str], None]) -> None:
    """Create what is missing and update what differs; running it twice changes nothing.

    Raises Rejected when the server refuses a change (its words are in the error).
    """
    for stream in STREAMS:
        await _apply_stream(bus, stream.name, stream_config(stream, replicas), progress)
    for bucket in BUCKETS:
        await _apply_stream(bus, f"KV_{bucket.name}", bucket_config(bucket, replicas), progress)
    for consumer in CONSUMERS:
        request = msgspec.json.encode({"stream_name": consumer.stream, "config": consumer_config(consumer)})
        path = f"CONSUMER.CREATE.{consumer.stream}.{consumer.durable}.{consumer.filter_subject}"
        _raise_error(await bus.api(path, request))
        progress(f"consumer {consumer.stream}/{consumer.durable} ready")


async def verify(bus: Bus, *names: str) -> None:
    """Check that streams exist with the subjects we expect; raises StreamChanged with what to do."""
    wanted = {stream.name: list(stream.subjects) for stream in STREAMS}
    wanted |= {f"KV_{bucket.name}": [f"$KV.{bucket.name}.>"] for bucket in BUCKETS}
    for name in names:
        try:
            info = await bus.stream_info(name)
        except StreamChanged as error:
            raise StreamChanged(f"stream {name} does not exist: run `tundish migrate`") from error
        if info.config.get("subjects") != wanted[name]:
            raise StreamChanged(f"stream {name} has other subjects than this version expects: run `tundish migrate`")


async def _apply_stream(bus: Bus, name: str, config: dict[str, object], progress: Callable[[str], None]) -> None:
    try:
        info = await bus.stream_info(name)
    except StreamChanged:
        _raise_error(await bus.api(f"STREAM.CREATE.{name}", msgspec.json.encode(config)))
        progress(f"stream {name} made")
        return
    if any(info.config.get(key, False) != value for key, value in config.items()):
        _raise_error(await bus.api(f"STREAM.UPDATE.{name}", msgspec.json.encode(config)))
        progress(f"stream {name} updated")
    else:
        progress(f"stream {name} as it should be")


def _raise_error(raw: bytes) -> None:
    answer = msgspec.json.decode(raw, type=_Answer)
    if answer.error is not None:
        raise_problem(answer.error)
