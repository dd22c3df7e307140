"""A stack with a deployment of every kind, and the check that its books say what Foundry served, class by class."""

from pathlib import Path
from typing import Any

import msgspec
import yaml

from shared.pricing import Usage
from tests.support.audit import booked_usage, served_cost, true_usage
from tests.support.stack import Stack, wait_until

CONFIG = Path(__file__).with_name("surfaces.yaml")
COUNTS = tuple(name for name in Usage.__struct_fields__ if name not in ("tier", "kind"))
ROWS_MAX = 1_000


def provider_of(deployment: str) -> str:
    """On whose price list a deployment is: the word before its name in the configuration."""
    return PROVIDERS.get(deployment, "azure")


PROVIDERS = {
    name: provider
    for model in yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["model_list"]
    for provider, _, name in [model["litellm_params"]["model"].partition("/")]
}


class Sum(msgspec.Struct):
    """What some calls used and cost in all."""

    usage: dict[str, int] = {}
    nusd: int = 0

    def add(self, usage: Usage, nusd: int) -> None:
        """Count one call."""
        for name in COUNTS:
            count = getattr(usage, name)
            if count:
                self.usage[name] = self.usage.get(name, 0) + count
        self.nusd += nusd


class Ledger:
    """What one test has had served and booked: of its keys, since it began."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._key_ids: list[str] = []
        self._since = self._total()

    def mint(self, **fields: Any) -> str:
        """A key whose calls belong to this test."""
        made = self.stack.call("POST", "/key/generate", json={"max_budget": 100, **fields})
        self._key_ids.append(made["token"])
        return str(made["key"])

    def _total(self) -> int:
        with self.stack.simulator() as simulator:
            return int(simulator.get("/_sim/served", params={"limit": 1}).json()["total"])

    def served(self) -> list[dict[str, Any]]:
        """What Foundry served."""
        with self.stack.simulator() as simulator:
            calls: list[dict[str, Any]] = simulator.get("/_sim/served", params={"since": self._since}).json()["calls"]
        return calls

    def rows(self) -> list[dict[str, Any]]:
        """The books' lines of this test's keys."""
        return [
            row
            for key_id in self._key_ids
            for row in self.stack.call("GET", "/spend/logs", params={"api_key": key_id, "limit": ROWS_MAX})["data"]
        ]

    def true(self) -> Sum:
        """What Foundry served, in sum."""
        found = Sum()
        for call in self.served():
            found.add(true_usage(call), served_cost(call, provider_of(call["deployment"])))
        return found

    def booked(self) -> Sum:
        """What stands in the books as Foundry reported it, in sum."""
        found = Sum()
        for row in self.rows():
            if row["measured"] == "reported":
                found.add(booked_usage(row), int(row["cost_nusd"]))
        return found

    def marked(self) -> list[dict[str, Any]]:
        """The lines that are marked lost or estimated."""
        return [row for row in self.rows() if row["measured"] != "reported"]

    def equal(self) -> Sum:
        """Wait until the books say what was served, to the nano-dollar and class by class; that."""

        def ended() -> bool:
            return all(call["completed"] is not None for call in self.served())

        wait_until("all calls end", ended)
        true = self.true()
        try:
            wait_until("the books say what was served", lambda: self.booked() == true and not self.marked())
        except AssertionError:
            raise AssertionError(f"booked {self.booked()}, marked {self.marked()}, served {true}") from None
        assert self.true() == true
        return true
