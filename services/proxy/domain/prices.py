"""Which price row a deployment is charged by, and how that was found."""

import re
from collections.abc import Iterable
from typing import Protocol

import msgspec

from services.proxy.domain.price_keys import price_keys
from shared.pricing import PriceRow, dearest

PREFIX_CHARS_MIN = 2
VERSION = re.compile(r"-\d{4}(?!\d)")
ZONES = ("us", "eu", "apac", "us-gov", "global", "global-standard")
"""How a catalogue's name begins for the price of one zone, as in `eu/gpt-4o`; answers never name it."""
SERVICES = ("speech", "doc-intelligence")
"""How a catalogue's name begins for a model of another service of Foundry's; without it the name means the same."""
FAMILIES = ("azure", "azure_ai")
PREFERRED = "azure"
"""Whose row a name means that is in both families and names none."""
ROUTER_PREFIX = "model_router/"
"""How LiteLLM names deployments of a router: `azure_ai/model_router/<deployment>`."""
ROUTED = (
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-4.1-mini",
    "gpt-4.1-nano",
    "o4-mini",
    "gpt-5",
    "gpt-5-mini",
    "gpt-5-nano",
    "gpt-5-chat",
    "gpt-5.2",
    "gpt-5.2-chat",
    "gpt-5.3-chat",
    "gpt-5.4",
    "gpt-5.4-mini",
    "gpt-5.4-nano",
    "gpt-5.5",
    "gpt-oss-120b",
    "deepseek-v3.1",
    "deepseek-v3.2",
    "llama-4-maverick-17b-128e-instruct-fp8",
    "grok-4",
    "grok-4-fast-reasoning",
    "claude-haiku-4-5",
    "claude-sonnet-4-5",
    "claude-opus-4-6",
    "claude-opus-4-7",
)
"""Models that Foundry's router chooses among, as published. Until an answer names one, the dearest of them counts."""


class Priced(Protocol):
    """A deployment, as far as its prices go."""

    row: PriceRow | None
    hold_row: PriceRow | None
    versions_row: PriceRow | None
    served: dict[str, PriceRow]
    fixed_price: bool


class PriceBook:
    """Price rows by model name, whatever its letter case."""

    def __init__(self, rows: Iterable[PriceRow]) -> None:
        self._rows: dict[str, PriceRow] = {}
        self._all: list[PriceRow] = []
        self.replace(rows)

    def replace(self, rows: Iterable[PriceRow]) -> None:
        """Other rows from now on, as on a day on which prices change: see `reprice`."""
        self._rows = {}
        rows = list(rows)
        for row in rows:
            self._put(row)
        routers = [row for row in rows if row.fee]
        for router in routers:
            self._put(self._routing(router))
        self._all = list({id(row): row for row in self._rows.values()}.values())

    def exact(self, name: str | None) -> PriceRow | None:
        """The row of exactly this model, with or without the `azure/` or `azure_ai/` prefix."""
        if not name:
            return None
        key = name.lower()
        bare = _bare(key)
        if bare.startswith(ROUTER_PREFIX):
            key = bare = ROUTER_PREFIX.rstrip("/")
        return self._rows.get(key) or self._rows.get(bare)

    def by_prefix(self, name: str | None) -> PriceRow | None:
        """The row of the longest model name that `name` begins with, up to a word boundary."""
        whole = name.lower() if name else ""
        key = _bare(whole)
        family = whole.removesuffix(key)
        for end in range(len(key) - 1, PREFIX_CHARS_MIN - 1, -1):
            if key[end].isalnum() or (key[end] == "." and key[end + 1 : end + 2].isdigit()):
                continue  # inside a word, or inside a version: gpt-5.9 is no gpt-5
            row = self._rows.get(family + key[:end]) or self._rows.get(key[:end])
            if row is not None:
                return row
        return None

    def served(self, name: str, like: PriceRow) -> PriceRow:
        """The row of the model that an answer names, in the zone and family of the deployment's own row.

        A router's fee goes on top. A name that leads nowhere is charged by the deployment's own row.
        """
        family = f"{like.family}/" if like.family else ""
        zone, slash, _ = like.model.lower().partition("/")
        inside = f"{family}{zone}/" if slash and zone in ZONES else family
        key = inside + _bare(name.lower())
        found = self.exact(key) or self.by_prefix(key) or like
        if like.fee and found.fee != like.fee:
            return msgspec.structs.replace(found, fee=like.fee)
        return found

    def versions(self, row: PriceRow) -> PriceRow:
        """A row by which no dated version of a model is cheaper: `gpt-4o` may turn out to be `gpt-4o-2024-05-13`."""
        name, family = row.model.lower(), row.family
        for other in self._all:
            key = other.model.lower()
            if other.family == family and key.startswith(name) and VERSION.match(key, len(name)):
                row = dearest(row, other)
        return row

    def resolve(
        self, base_model: str | None, deployment: str, public: str, provider: str = ""
    ) -> tuple[PriceRow | None, str]:
        """The row of a deployment before it has answered, and by what it was found (for the start-up log).

        `provider` (`azure` or `azure_ai`) decides where both have a model of a name.
        """
        family = f"{provider}/" if provider in FAMILIES else ""
        tries = (
            (self._named(family, base_model), f"base_model {base_model}"),
            (self._named(family, deployment), f"deployment name {deployment}"),
            (self._named(family, public), f"model name {public}"),
            (self.by_prefix(family + deployment), f"the beginning of deployment name {deployment}"),
            (self.by_prefix(family + public), f"the beginning of model name {public}"),
        )
        for row, how in tries:
            if row is not None:
                return row, how
        return None, "nothing"

    def current(self, row: PriceRow) -> PriceRow:
        """The row that this book has of the same model; the row itself when it has none."""
        return self.exact(f"{row.family}/{row.model}" if row.family else row.model) or row

    def _named(self, family: str, name: str | None) -> PriceRow | None:
        if not name:
            return None
        return self.exact(name if name.lower().startswith(_PREFIXES) else family + name)

    def _put(self, row: PriceRow) -> None:
        key = row.model.lower()
        if row.family:
            self._rows[f"{row.family}/{key}"] = row
        service, _, inside = key.partition("/")
        for name in (key, inside) if service in SERVICES else (key,):
            known = self._rows.get(name)
            if known is None or known.family != PREFERRED or row.family == PREFERRED:
                self._rows[name] = row

    def _routing(self, router: PriceRow) -> PriceRow:
        """A router's row before the model it chose is known: the dearest of all those, and its fee."""
        found: PriceRow | None = None
        for name in ROUTED:
            row = self.exact(name)
            if row is not None:
                found = row if found is None else dearest(found, row)
        if found is None:
            return router
        return msgspec.structs.replace(
            found, model=router.model, family=router.family, fee=router.fee, source=router.source
        )


def reprice(deployment: Priced, book: PriceBook) -> bool:
    """Take over the prices of a book whose rows were replaced; whether anything changed.

    Prices that the configuration sets stand. Calls under way are charged by the price of the moment they end.
    """
    row = deployment.row
    if row is None or deployment.fixed_price:
        return False
    new = book.current(row)
    served = {name: book.served(name, new) for name in deployment.served}
    if new == row and served == deployment.served:
        return False
    deployment.row = hold = new
    for other in served.values():
        hold = dearest(hold, other)
    deployment.hold_row = hold
    deployment.served = served
    if deployment.versions_row is not None:
        deployment.versions_row = book.versions(new)
    return True


_PREFIXES = tuple(f"{family}/" for family in FAMILIES)


def _bare(key: str) -> str:
    return key.removeprefix("azure/").removeprefix("azure_ai/")


__all__ = ["ROUTED", "PriceBook", "Priced", "price_keys", "reprice"]
