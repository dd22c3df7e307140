"""Money is an integer number of nano-dollars (`nusd`); decimals exist only at the edges."""

from decimal import Decimal, InvalidOperation

NUSD_PER_USD = 1_000_000_000
NUSD_MAX = 10**15 * NUSD_PER_USD
"""Larger amounts are refused at the edges: a budget of a quadrillion dollars is a typing error."""


class MoneyError(ValueError):
    """An amount that is not a finite, non-negative number of dollars within bounds."""


def nusd_from_usd(value: float | str | Decimal) -> int:
    """Nano-dollars from dollars as a person writes them; rounds half up to the nano-dollar.

    A float is taken by its shortest text form, so that 0.05 means five cents and not 0.05000000000000000277.
    Raises MoneyError for NaN, infinities, negative or absurd amounts.
    """
    try:
        amount = value if isinstance(value, Decimal) else Decimal(str(value))
    except (InvalidOperation, ValueError) as error:
        raise MoneyError(f"{value!r} is not an amount in dollars") from error
    if not amount.is_finite():
        raise MoneyError(f"{value!r} is not a finite amount in dollars")
    if amount < 0:
        raise MoneyError(f"{value!r} is negative; an amount in dollars is zero or more")
    if amount > NUSD_MAX // NUSD_PER_USD:
        raise MoneyError(f"{value!r} is more than {NUSD_MAX // NUSD_PER_USD} dollars")
    return int((amount * NUSD_PER_USD * 2 + 1) // 2)


def usd_from_nusd(nusd: int) -> float:
    """Dollars as JSON shows them; exact to the nano-dollar up to four million dollars."""
    return nusd / NUSD_PER_USD


def usd_text(nusd: int) -> str:
    """Dollars for people: no exponent, no trailing zeros, at least two decimals (`$0.05`, `$0.000123`)."""
    sign = "-" if nusd < 0 else ""
    whole, nano = divmod(abs(nusd), NUSD_PER_USD)
    decimals = f"{nano:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole}.{decimals}"
