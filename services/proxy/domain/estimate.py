"""How much money a call may need before it is known: prompt by its bytes, output by its cap."""

from services.proxy.domain.dialect import Asked
from shared.pricing import PriceRow, estimate

DEFAULT_OUTPUT_TOKENS = 1_000


def hold_for(asked: Asked, body_bytes: int, row: PriceRow, default_output: int) -> int:
    """Nano-dollars to hold for a call.

    No token is shorter than a byte, so the body's length bounds the prompt. Without a cap of the caller's the
    output is taken as `default_output` tokens; what a call costs beyond its hold is recorded as overdraft.
    """
    cap = default_output if asked.output_cap is None else asked.output_cap
    return estimate(body_bytes, cap * asked.choices, row)
