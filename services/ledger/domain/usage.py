"""Reading usage messages, in the same way for the enforcer and the books.

One message carries many events. One that cannot be read must not take its neighbours with it: it is set aside with
the reason, and both readers set aside the same ones.
"""

import msgspec

from shared.events import AnyUsage, UsageCorrected, UsageRecorded, decode_usage_batch

REASON_CHARS_MAX = 500
COUNT_MAX = 10**15
"""No single call costs a million dollars or uses a quadrillion tokens; sums of such numbers fit the books."""
BALANCE_MAX = 10**18
"""No balance reaches a billion dollars; corrections move whole balances."""
SMALL_MAX = 2**31 - 1

_list_decoder: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
_event_decoder: msgspec.json.Decoder[AnyUsage] = msgspec.json.Decoder(AnyUsage)


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a message that is no usage event: its place in the message (-1: all of it), and why."""

    index: int
    data: bytes
    reason: str


def read_usage(data: bytes) -> tuple[list[AnyUsage], list[Unreadable]]:
    """The events of a message, and what in it could not be read."""
    try:
        events = list(decode_usage_batch(data))
    except (msgspec.MsgspecError, RecursionError):
        return _piece_by_piece(data)
    if all(_sane(event) for event in events):
        return events, []
    return _piece_by_piece(data)


def _piece_by_piece(data: bytes) -> tuple[list[AnyUsage], list[Unreadable]]:
    try:
        pieces = _list_decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        return [], [Unreadable(index=-1, data=data, reason=str(error)[:REASON_CHARS_MAX])]
    events: list[AnyUsage] = []
    bad: list[Unreadable] = []
    for index, piece in enumerate(pieces):
        try:
            event = _event_decoder.decode(piece)
        except (msgspec.MsgspecError, RecursionError) as error:
            bad.append(Unreadable(index=index, data=bytes(piece), reason=str(error)[:REASON_CHARS_MAX]))
            continue
        if _sane(event):
            events.append(event)
        else:
            reason = "a number is negative or too large, or a time has no zone"
            bad.append(Unreadable(index=index, data=bytes(piece), reason=reason))
    return events, bad


def _sane(event: AnyUsage) -> bool:
    """Whether all numbers fit the books and all times know their zone."""
    return _sane_correction(event) if isinstance(event, UsageCorrected) else _sane_call(event)


def _sane_correction(event: UsageCorrected) -> bool:
    small = (event.partition, *(change.window.index for change in event.changes))
    amounts = [amount for change in event.changes for amount in (change.delta_nusd, change.before_nusd)]
    return (
        0 < event.n <= COUNT_MAX
        and min(small) >= 0
        and max(small) <= SMALL_MAX
        and all(abs(amount) <= BALANCE_MAX for amount in amounts)
        and event.at.tzinfo is not None
    )


def _sane_call(event: UsageRecorded) -> bool:
    usage = event.usage
    counts = (
        event.n - 1,
        event.cost_nusd,
        event.held_nusd,
        usage.input,
        usage.cached,
        usage.cache_write,
        usage.output,
        usage.reasoning,
        usage.cache_write_1h,
        usage.audio_input,
        usage.audio_cached,
        usage.audio_output,
        usage.image_input,
        usage.image_cached,
        usage.image_output,
        usage.images,
        usage.milliseconds,
        usage.characters,
        usage.queries,
        usage.pages,
        usage.sessions,
        event.duration_ms,
        event.first_byte_ms or 0,
        event.overhead_us or 0,
        event.serial or 0,
    )
    numbers = (event.partition, event.attempt, event.status, event.retries, event.secret_version)
    small = (*numbers, *(aw.index for aw in event.windows))
    return (
        min(counts) >= 0
        and max(counts) <= COUNT_MAX
        and min(small) >= 0
        and max(small) <= SMALL_MAX
        and event.at.tzinfo is not None
        and event.started_at.tzinfo is not None
    )
