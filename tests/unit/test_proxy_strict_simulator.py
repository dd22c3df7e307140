"""Strict calls at the simulator of Foundry: our cap is taken by every family, and what is billed was held."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.simulator import Options, Simulator
from services.proxy.domain.deployments import Deployment, Way
from services.proxy.domain.facts import FactBook, Sizes
from services.proxy.domain.holds.prepare import Prepared, prepare
from services.proxy.domain.meters.chat import read_body
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.prices import PriceBook
from services.proxy.domain.requests import read_request
from shared.catalogue import load
from shared.pricing import price
from tests.unit.simulator_driver import FixedClock, ask

BOOK = PriceBook(row for entry in load() if (row := entry.price_row()) is not None)
FACTS = FactBook(
    Sizes(model=entry.model, context_window=entry.context_window, max_output=entry.max_output) for entry in load()
)
MODELS = ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-5", "gpt-5-mini", "gpt-5-chat", "o1", "o3", "o4-mini", "phi-4"]


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(Options(), FixedClock())


def ready(model: str, raw: bytes) -> Prepared:
    row = BOOK.exact(model)
    assert row is not None
    deployment = Deployment(
        model=model,
        name=model,
        provider="azure",
        host="h",
        headers=(),
        row=row,
        fixed_price=False,
        priced_by="test",
        facts=FACTS.facts(model),
        versions_row=BOOK.versions(row),
    )
    asked = read_request(raw, Endpoint.CHAT, model)
    return prepare(
        asked, raw, deployment, Way(url="https://h/chat", wire=Endpoint.CHAT), row, strict=True, default_output=1_000
    )


async def billed(simulator: Simulator, model: str, prepared: Prepared) -> tuple[int, int]:
    """What the simulator's answer costs, and its completion tokens."""
    reply = await ask(simulator, f"/openai/deployments/{model}/chat/completions", prepared.body)
    assert reply.status == 200, reply.body
    reading = read_body(reply.body)
    assert reading.usage is not None
    assert reading.served_model is not None
    assert prepared.row is not None
    return price(reading.usage, BOOK.served(reading.served_model, prepared.row)), reading.usage.output


@pytest.mark.parametrize("model", MODELS)
async def test_our_cap_is_taken_and_kept(simulator: Simulator, model: str) -> None:
    raw = json.dumps({"messages": [{"role": "user", "content": "[[sim completion=9000000 reasoning=50]]"}]}).encode()
    for share in (0, 1, 2):
        prepared = ready(model, raw)
        held = prepared.need.amount + (prepared.need.most - prepared.need.amount) * share // 2
        cap = prepared.seal(held)
        cost, output = await billed(simulator, model, prepared)
        assert output == cap
        assert cost <= held


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
image: dict[str, Any] = {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}
contents = texts | st.lists(st.builds(lambda text: {"type": "text", "text": text}, texts) | st.just(image), max_size=3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    model=st.sampled_from(MODELS),
    said=st.lists(contents, min_size=1, max_size=4),
    steer=st.tuples(st.integers(0, 20_000), st.integers(0, 5_000), st.integers(0, 5_000), st.integers(0, 5_000)),
    cap=st.none() | st.integers(1, 5_000),
    choices=st.integers(1, 3),
    share=st.integers(0, 100),
)
async def test_what_is_billed_was_held(
    simulator: Simulator,
    model: str,
    said: list[Any],
    steer: tuple[int, int, int, int],
    cap: int | None,
    choices: int,
    share: int,
) -> None:
    completion, reasoning, cached, write = steer
    marker = f"[[sim completion={completion} reasoning={reasoning} cached={cached} cache_write={write}]]"
    messages = [{"role": "user", "content": content} for content in [*said, marker]]
    fields: dict[str, Any] = {"messages": messages, "n": choices}
    if cap is not None:
        fields[FACTS.facts(model).cap_fields[0]] = cap
    prepared = ready(model, json.dumps(fields).encode())
    held = prepared.need.amount + (prepared.need.most - prepared.need.amount) * share // 100
    prepared.seal(held)
    cost, _ = await billed(simulator, model, prepared)
    assert cost <= held
