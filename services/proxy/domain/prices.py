"""Which price row a deployment is charged by, and how that was found."""

import re
from collections.abc import Iterable

from shared.pricing import PriceRow, dearest

PREFIX_CHARS_MIN = 2
VERSION = re.compile(r"-\d{4}(?!\d)")
ZONES = ("us", "eu", "apac", "us-gov", "global", "global-standard")
"""How a catalogue's name begins for the price of one zone, as in `eu/gpt-4o`; answers never name it."""


class PriceBook:
    """Price rows by model name, whatever its letter case."""

    def __init__(self, rows: Iterable[PriceRow]) -> None:
        self._rows = {row.model.lower(): row for row in rows}

    def exact(self, name: str | None) -> PriceRow | None:
        """The row of exactly this model, with or without the `azure/` or `azure_ai/` prefix."""
        if not name:
            return None
        key = name.lower()
        return self._rows.get(key) or self._rows.get(_bare(key))

    def by_prefix(self, name: str | None) -> PriceRow | None:
        """The row of the longest model name that `name` begins with, up to a word boundary."""
        key = _bare(name.lower()) if name else ""
        for end in range(len(key) - 1, PREFIX_CHARS_MIN - 1, -1):
            if key[end].isalnum() or (key[end] == "." and key[end + 1 : end + 2].isdigit()):
                continue  # inside a word, or inside a version: gpt-5.9 is no gpt-5
            row = self._rows.get(key[:end])
            if row is not None:
                return row
        return None

    def served(self, name: str, like: PriceRow) -> PriceRow:
        """The row of the model that an answer names, in the zone of the deployment's own row."""
        zone, slash, _ = like.model.lower().partition("/")
        if slash and zone in ZONES:
            inside = f"{zone}/{_bare(name.lower())}"
            return self.exact(inside) or self.by_prefix(inside) or like
        return self.exact(name) or self.by_prefix(name) or like

    def versions(self, row: PriceRow) -> PriceRow:
        """A row by which no dated version of a model is cheaper: `gpt-4o` may turn out to be `gpt-4o-2024-05-13`."""
        name = row.model.lower()
        for key, other in self._rows.items():
            if key.startswith(name) and VERSION.match(key, len(name)):
                row = dearest(row, other)
        return row

    def resolve(self, base_model: str | None, deployment: str, public: str) -> tuple[PriceRow | None, str]:
        """The row of a deployment before it has answered, and by what it was found (for the start-up log)."""
        tries = (
            (self.exact(base_model), f"base_model {base_model}"),
            (self.exact(deployment), f"deployment name {deployment}"),
            (self.exact(public), f"model name {public}"),
            (self.by_prefix(deployment), f"the beginning of deployment name {deployment}"),
            (self.by_prefix(public), f"the beginning of model name {public}"),
        )
        for row, how in tries:
            if row is not None:
                return row, how
        return None, "nothing"


def _bare(key: str) -> str:
    return key.removeprefix("azure/").removeprefix("azure_ai/")
