"""The newest signals, read from the end of their stream in windows that grow: never the whole of it.

The server leaves out what the filter does not ask for, so that a window over many sequences costs little. What a caller
may not see is left out here.
"""

import asyncio
import contextlib
import re
from collections.abc import Mapping, Sequence

import msgspec

from services.scheduler.schemas import Alert, AlertPage
from services.scheduler.store_rotation import RotationStore, Standing
from shared.access import Principal
from shared.bus import Bus, Message, Tail
from shared.errors import ApiError
from shared.events import AnySignal, decode_signal
from shared.events.signals import BudgetSignal, KeySignal
from shared.ids import KeyId
from shared.topology import SIGNALS, signal_subject

SCAN_MAX = 50_000
"""Most sequences that one request looks through; the next page goes on behind them."""
GROWTH = 5
WAIT_S = 10.0

_KIND = re.compile(r"[a-z_]{1,40}(\.[a-z_]{1,40})?")
_SCOPE = re.compile(r"(key|team|org):([A-Za-z0-9_-]{1,200})")

Found = tuple[int, bytes, AnySignal]


def subject_of(kind: str | None, scope: str | None) -> str:
    """The subjects to look at: of a kind such as `budget.exceeded` or `budget`, and a scope such as `team:<id>`.

    Raises ApiError 400.
    """
    if kind is not None and _KIND.fullmatch(kind) is None:
        raise ApiError(400, "bad_request", "'kind' must be like budget.exceeded, or like rotation.", param="kind")
    found = None if scope is None else _SCOPE.fullmatch(scope)
    if scope is not None and found is None:
        raise ApiError(400, "bad_request", "'scope' must be like key:<id>, team:<id> or org:<id>.", param="scope")
    words = kind or "*"
    words = words if "." in words else f"{words}.*"
    return signal_subject(words, *(("*", "*") if found is None else (found[1], found[2])))


class Alerts:
    """What the route reads from."""

    def __init__(self, store: RotationStore) -> None:
        self._store = store

    async def page(self, bus: Bus, caller: Principal, subject: str, *, limit: int, before: int | None) -> AlertPage:
        """Up to `limit` signals that the caller may see, the newest first. Raises BusUnavailable, StoreError."""
        state = (await bus.stream_info(SIGNALS)).state
        first = max(1, state.first_seq)  # an empty stream says 0
        end = min(state.last_seq + 1, before or state.last_seq + 1)
        found: list[Alert] = []
        scanned, size = 0, limit
        while end > first and len(found) < limit and scanned < SCAN_MAX:
            size = min(size, SCAN_MAX - scanned)
            begin = max(first, end - size)
            found += await self._visible(caller, await _read(bus, subject, begin, end))
            scanned, end, size = scanned + end - begin, begin, size * GROWTH
        shown = found[:limit]
        if len(found) > limit:
            return AlertPage(data=shown, next=shown[-1].position)
        return AlertPage(data=shown, next=end if end > first else None)

    async def _visible(self, caller: Principal, found: Sequence[Found]) -> list[Alert]:
        """What a caller may see of signals, the newest first: those of a key that the timetable does not know are for
        the reach `all`, for nobody can say how far its role reaches."""
        signals = [signal for _, _, signal in found]
        keys: dict[str, Standing] = {}
        teams: dict[str, str] = {}
        if not caller.everywhere and found:
            keys = await self._store.keys([key_id for signal in signals if (key_id := _key_of(signal)) is not None])
            budgets = [signal for signal in signals if isinstance(signal, BudgetSignal)]
            teams = await self._store.teams([one.scope_id for one in budgets if one.scope_kind == "team"])
        alerts = [_alert(seq, data, signal, keys, teams) for seq, data, signal in reversed(found)]
        return [one for one in alerts if caller.everywhere or _may_see(caller, one, keys)]


def _key_of(signal: AnySignal) -> KeyId | None:
    """The key that a signal is about, if it is about one."""
    if isinstance(signal, KeySignal):
        return signal.key_id
    return KeyId(signal.scope_id) if signal.scope_kind == "key" else None


def _may_see(caller: Principal, alert: Alert, keys: Mapping[str, Standing]) -> bool:
    """Whether what an alert is about is within reach."""
    if alert.scope_kind != "key":
        return caller.covers(alert.organization_id, alert.team_id)
    key = keys.get(alert.scope_id)
    return key is not None and caller.covers_key(key.org_id, key.team_id, key.reach)


async def _read(bus: Bus, subject: str, begin: int, end: int) -> list[Found]:
    """The signals on a subject with sequences from `begin` up to `end`, that one excluded."""
    found: list[Found] = []
    tail = Tail(bus, SIGNALS, subject, after=begin - 1)
    try:
        async with asyncio.timeout(WAIT_S), contextlib.aclosing(tail.batches()) as batches:
            async for batch in batches:
                found += [one for message in batch.messages if message.seq < end and (one := _signal(message))]
                if batch.caught_up or batch.messages[-1].seq >= end - 1:
                    break
    except TimeoutError as error:
        raise ApiError(503, "unavailable", f"The signals could not be read within {WAIT_S:.0f} s.") from error
    return found


def _signal(message: Message) -> Found | None:
    try:
        return message.seq, message.data, decode_signal(message.data)
    except msgspec.MsgspecError:
        return None  # of a newer version


def _alert(seq: int, data: bytes, signal: AnySignal, keys: Mapping[str, Standing], teams: Mapping[str, str]) -> Alert:
    org_id: str | None
    team_id: str | None
    if isinstance(signal, KeySignal):
        scope_kind, scope_id, org_id, team_id = "key", signal.key_id, signal.org_id, signal.team_id
    else:
        scope_kind, scope_id = signal.scope_kind, signal.scope_id
        if scope_kind == "key":
            key = keys.get(scope_id)
            org_id, team_id = (None, None) if key is None else (key.org_id, key.team_id)
        elif scope_kind == "team":
            org_id, team_id = teams.get(scope_id), scope_id
        else:
            org_id, team_id = scope_id, None
    tag = str(signal.__struct_config__.tag)
    return Alert(
        position=seq,
        id=signal.id,
        at=signal.at,
        kind=tag.rpartition(".")[0],
        scope_kind=scope_kind,
        scope_id=scope_id,
        alias=signal.alias,
        organization_id=org_id,
        team_id=team_id,
        signal=msgspec.Raw(data),
    )
