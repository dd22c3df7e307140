"""What one test did: its keys, the faults it set, the events it read; and whether the books say what Foundry served."""

from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import yaml

from shared.pricing import Usage
from tests.clients.either import PLAIN, each
from tests.clients.rows import Marked
from tests.support.audit import booked_usage, served_cost, true_usage
from tests.support.stack import Stack, wait_until

CONFIG = Path(__file__).with_name("models.yaml")
WAIT_S = 6.0
SUMMED = {"batch": "batches", "realtime": "realtime"}
"""Surfaces of the simulator's log whose calls are booked together, and how the books call them."""
COUNTS = tuple(name for name in Usage.__struct_fields__ if name not in ("tier", "kind"))


def families() -> dict[str, str]:
    """Whose price list a deployment is on: the provider before its name in the configuration."""
    found: dict[str, str] = {}
    for model in yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["model_list"]:
        provider, _, name = model["litellm_params"]["model"].partition("/")
        found[name.rpartition("/")[2]] = provider
    return found


class Gateway:
    """The running stack, with clients that stay open for its control interfaces."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.url = stack.url
        self.admin = stack.admin()
        self.simulator = stack.simulator()
        self.families = families()
        self.seen = 0
        self.nusd: int | None = 0
        """What all tests so far came to; None once one of them could not be settled."""

    def close(self) -> None:
        """Close the clients."""
        self.admin.close()
        self.simulator.close()

    def served(self) -> list[dict[str, Any]]:
        """What was served since the test before."""
        calls: list[dict[str, Any]] = self.simulator.get("/_sim/served", params={"since": self.seen}).json()["calls"]
        return calls

    def spent(self) -> int:
        """What the books say that all keys have spent."""
        total, page, pages = 0, 1, 1
        while page <= pages:
            answer = self.admin.get("/spend/keys", params={"page": page, "size": 100}).json()
            total += sum(int(row["spend_nusd"]) for row in answer["data"])
            page, pages = page + 1, answer["total_pages"]
        return total

    def booked(self, key_id: str) -> list[dict[str, Any]]:
        """The books' lines of a key."""
        answer = self.admin.get("/spend/logs", params={"api_key": key_id, "limit": 500})
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["data"]
        return rows


class Sum(msgspec.Struct):
    """Usage and cost of some calls, class by class."""

    usage: dict[str, int] = {}
    nusd: int = 0
    kinds: set[str] = set()
    """Of images; empty where Foundry makes no difference."""

    def add(self, usage: Usage, nusd: int) -> None:
        """Count one call."""
        suffix = f" {usage.tier}" if usage.tier else ""
        for name in COUNTS:
            count = getattr(usage, name)
            if count:
                self.usage[name + suffix] = self.usage.get(name + suffix, 0) + count
        self.nusd += nusd
        if usage.kind:
            self.kinds.add(usage.kind)

    def equals(self, true: "Sum") -> bool:
        """Whether these are booked as they were served."""
        return (self.usage, self.nusd) == (true.usage, true.nusd) and (not true.kinds or self.kinds == true.kinds)


class Tape:
    """One test's doings. `key` is its own fresh key; `mint` makes more of them."""

    def __init__(self, gateway: Gateway, excuse: str | None) -> None:
        self.gateway = gateway
        self.url = gateway.url
        self.events = 0
        self.marked: list[Marked] = []
        self.calls = 0
        self.nusd = 0
        self._excuse = excuse
        self._faults = 0
        self._key_ids: list[str] = []
        self.key = self.mint()
        self.headers = {"authorization": f"Bearer {self.key}"}

    def mint(self, **fields: Any) -> str:
        """A further key whose calls belong to this test."""
        answer = self.gateway.admin.post("/key/generate", json={"max_budget": 100, **fields})
        assert answer.status_code == 200, answer.text
        self._key_ids.append(answer.json()["token"])
        return str(answer.json()["key"])

    def fault(self, deployment: str, kind: str, count: int = 1, **fields: Any) -> None:
        """Let the simulator do wrong."""
        self._faults += 1
        body = {"deployment": deployment, "kind": kind, "count": count, **fields}
        answer = self.gateway.simulator.post("/_sim/faults", json=body)
        assert answer.status_code == 200, answer.text

    async def each(self, stream: Any) -> AsyncIterator[Any]:
        """The events of a stream, counted."""
        async for event in each(stream):
            self.events += 1
            yield event

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        """A plain HTTP call with the test's key."""
        with httpx.Client(base_url=self.url, headers=self.headers, verify=PLAIN, trust_env=False, timeout=30) as client:
            return client.post(path, **arguments)

    def settle(self) -> None:
        """Wait until the books have everything, then compare class by class. Raises AssertionError."""
        if self._faults:
            self.gateway.simulator.delete("/_sim/faults")
        served = self._settled_log()
        true = self._true(served)
        booked: dict[str, Sum] = {}
        marked: dict[str, list[dict[str, Any]]] = {}

        def complete() -> bool:
            booked.clear()
            marked.clear()
            self._read(booked, marked)
            if self._excuse is not None and not marked:
                return False
            return all(name in marked or (name in booked and booked[name].nusd >= true[name].nusd) for name in true)

        try:
            wait_until("the books have the test's calls", complete, WAIT_S)
        except AssertionError:
            missing = {name: true[name] for name in true if name not in booked and name not in marked}
            assert not missing, f"never booked: {missing}"
        for name, rows in marked.items():
            self._list(rows, true.pop(name, Sum()))
            booked.pop(name, None)
        both = {name: (booked.get(name, Sum()), true.get(name, Sum())) for name in {**booked, **true}}
        wrong = {name: pair for name, pair in both.items() if not pair[0].equals(pair[1])}
        assert not wrong, f"call: (booked, served): {wrong}"
        for sum_ in booked.values():
            self.nusd += sum_.nusd
        self.calls = len(served)
        if self.gateway.nusd is not None:
            self.gateway.nusd += self.nusd + sum(mark.charged_nusd for mark in self.marked)
        if served:
            self.gateway.seen = served[-1]["seq"]
        assert self._excuse is None or self.marked, f"nothing was marked, although: {self._excuse}"

    def _settled_log(self) -> list[dict[str, Any]]:
        """The log when nothing of this test is under way any more."""
        return wait_until("calls under way end", self._ended, WAIT_S)[0]

    def _ended(self) -> tuple[list[dict[str, Any]]] | None:
        calls = self.gateway.served()
        under_way = [call for call in calls if call["completed"] is None and call["surface"] != "batch"]
        return None if under_way else (calls,)

    def _true(self, served: list[dict[str, Any]]) -> dict[str, Sum]:
        found: dict[str, Sum] = defaultdict(Sum)
        for call in served:
            name = SUMMED.get(call["surface"]) or str(call["client_request_id"])
            family = self.gateway.families.get(call["deployment"], "")
            found[name].add(true_usage(call), served_cost(call, family))
        return dict(found)

    def _read(self, booked: dict[str, Sum], marked: dict[str, list[dict[str, Any]]]) -> None:
        for row in (row for key_id in self._key_ids for row in self.gateway.booked(key_id)):
            name = str(row["call_type"] if row["call_type"] in SUMMED.values() else row["request_id"])
            if row["measured"] == "reported":
                booked.setdefault(name, Sum()).add(booked_usage(row), int(row["cost_nusd"]))
            else:
                marked.setdefault(name, []).append(row)

    def _list(self, rows: list[dict[str, Any]], true: Sum) -> None:
        charged = sum(int(row["cost_nusd"]) for row in rows)
        what = f"{rows[0]['call_type']} {rows[0]['measured']}: charged {charged}, true {true}"
        assert self._excuse is not None, f"Foundry reported this call, but it is marked: {what}"
        self.marked.append(
            Marked(
                call_type=rows[0]["call_type"],
                measured=rows[0]["measured"],
                charged_nusd=charged,
                true_nusd=true.nusd,
                why=self._excuse,
            )
        )
