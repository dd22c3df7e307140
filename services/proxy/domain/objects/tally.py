"""What a batch has used: its output file added up, so that the sum costs to the nano-dollar what the lines cost.

Lines of one model and one context tier are billed at the same rates, so their tokens may be added before they are
priced. The sum itself may be larger than the tier's bound; it is therefore priced by a row without tiers.
"""

from collections.abc import Callable

import msgspec

from services.proxy.domain.asked import Asked
from services.proxy.domain.errors.failures import failure_of_event, read_failure
from services.proxy.domain.meters import content_tokens, read_reply, trusted
from services.proxy.domain.paths import Endpoint
from shared.events import Measured
from shared.pricing import BATCH, PriceRow, Usage, price, price_id

GROUPS_MAX = 64
"""Models and tiers of one batch that are told apart; a router serves a dozen."""
COUNTS = tuple(name for name in Usage.__struct_fields__ if name not in ("tier", "kind"))


class Group(msgspec.Struct, kw_only=True):
    """Lines that are billed alike, by a row without tiers."""

    row: PriceRow
    served_model: str | None
    measured: Measured
    usage: Usage = Usage(tier=BATCH)
    lines: int = 0

    @property
    def cost_nusd(self) -> int:
        """What these lines cost."""
        return price(self.usage, self.row)


class _Answer(msgspec.Struct):
    status_code: int = 0
    body: msgspec.Raw = msgspec.Raw()


class _Line(msgspec.Struct):
    response: _Answer | None = None


_line = msgspec.json.Decoder(_Line)


class Tally:
    """Adds up the lines of a batch. `row_of` gives the price row of a served model (None: the deployment's own)."""

    def __init__(
        self,
        *,
        wire: Endpoint,
        model: str,
        deployment: str,
        prompt_tokens: int,
        row_of: Callable[[str | None], PriceRow],
    ) -> None:
        self._wire = wire
        self._asked = Asked(model=model, endpoint=wire)
        self._deployment = deployment
        self._guess = prompt_tokens
        self._row_of = row_of
        self._groups: dict[tuple[str | None, bool, Measured], Group] = {}
        self.lines = 0

    def add(self, line: bytes) -> None:
        """Count one line of an output or error file. What was not served counts nothing, but for a prompt that the
        content filter has read: its size is the mean of the batch's lines."""
        try:
            answer = _line.decode(line).response
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return
        if answer is None or answer.status_code != 200:
            if _filtered(line, answer):
                self._count(None, Usage(input=self._guess, tier=BATCH), "estimated")
            return
        body = bytes(answer.body)
        reading = trusted(read_reply(self._wire, body, "application/json", self._asked), self._wire, self._deployment)
        usage, measured = reading.usage, "reported"
        if usage is None:
            usage, measured = Usage(input=self._guess, output=content_tokens(self._wire, body)), "estimated"
        self._count(reading.served_model, msgspec.structs.replace(usage, tier=BATCH), measured)

    def groups(self) -> list[Group]:
        """What was counted, in a fixed order."""
        return [self._groups[name] for name in sorted(self._groups, key=str)]

    def _count(self, served: str | None, usage: Usage, measured: Measured) -> None:
        row = self._row_of(served)
        high = row.tier_above is not None and usage.prompt > row.tier_above
        name = (served, high, measured)
        group = self._groups.get(name)
        if group is None:
            if len(self._groups) >= GROUPS_MAX:
                raise ValueError(f"a batch was served by more than {GROUPS_MAX} models")
            group = self._groups[name] = Group(row=flat(row, high=high), served_model=served, measured=measured)
        group.usage = added(group.usage, usage)
        group.lines += 1
        self.lines += 1


def _filtered(line: bytes, answer: _Answer | None) -> bool:
    """Whether the content filter refused a line: by the answer to it, or by the line's own `error`."""
    if answer is not None and answer.status_code:
        return read_failure(answer.status_code, bytes(answer.body)).filtered
    failure = failure_of_event(line)
    return failure is not None and failure.filtered


def added(one: Usage, other: Usage) -> Usage:
    """Two usages of one service tier together."""
    counts = {name: getattr(one, name) + getattr(other, name) for name in COUNTS}
    return msgspec.structs.replace(one, **counts)


_flat: dict[tuple[str, bool], PriceRow] = {}
FLAT_MAX = 4_096


def flat(row: PriceRow, *, high: bool) -> PriceRow:
    """The row by which the batch calls of one context tier are billed, whatever their sum is."""
    if row.tier_above is None:
        return row
    name = (price_id(row), high)
    known = _flat.get(name)
    if known is None:
        rates = row.rates_for(row.tier_above + 1 if high else 0, BATCH)
        known = msgspec.structs.replace(row, rates=rates, tier_above=None, tier=None, services={})
        if len(_flat) >= FLAT_MAX:
            _flat.clear()
        _flat[name] = known
    return known
