"""How large a batch will be in the log, about: so that none is decided that the log does not take."""

from collections.abc import Iterable

from shared.events import AllotmentClosed, AllotmentGranted, GrantEntry, WindowOpened

BYTES_MAX = 2 * 1024 * 1024
"""Batches of about this size are halved; the log takes messages of 4 MiB."""
RECORD_BYTES = 220
PLACE_BYTES = 80
"""An id with a number, such as an account-window or an allotment."""


def weight(records: Iterable[GrantEntry]) -> int:
    """An upper estimate of the bytes of records, in JSON."""
    total = 0
    for record in records:
        places = 0
        if isinstance(record, AllotmentGranted):
            places = len(record.term)
        elif isinstance(record, WindowOpened):
            places = len(record.allotments)
        elif isinstance(record, AllotmentClosed):
            places = len(record.settled) + len(record.charged)
        total += RECORD_BYTES + places * PLACE_BYTES
    return total
