"""The main job end to end: a budget that stops a loop, a key that dies, books that equal what Foundry served."""

import httpx
import openai
import pytest

from shared.money import nusd_from_usd
from tests.support.audit import served_cost
from tests.support.stack import Stack, wait_until

pytestmark = pytest.mark.stack

LOOP_MAX = 2_000
PATH = "/v1/chat/completions"


def body(model: str = "gpt-4o", max_tokens: int = 200, **more: object) -> dict[str, object]:
    content = "Again and again. [[sim completion=150]]"
    return {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": max_tokens, **more}


def test_a_runaway_loop_stops_at_its_budget_and_its_sibling_goes_on(stack: Stack) -> None:
    team = stack.call("POST", "/team/new", json={"team_alias": "loopers", "max_budget": 5})["team_id"]
    loop = stack.mint(key_alias="loop", team_id=team, max_budget=0.05, budget_duration="30d")
    sibling = stack.mint(key_alias="sibling", team_id=team)
    served = 0
    with httpx.Client(base_url=stack.url, trust_env=False) as client:
        answer = client.post(PATH, json=body(), headers={"authorization": f"Bearer {loop}"})
        while answer.status_code == 200 and served < LOOP_MAX:
            served += 1
            answer = client.post(PATH, json=body(), headers={"authorization": f"Bearer {loop}"})
        assert answer.status_code == 402
        error = answer.json()["error"]
        assert error["type"] == error["code"] == "budget_exceeded"
        assert answer.headers["x-should-retry"] == "false"
        budget = error["budget"]
        assert budget["scope"] == "key"
        assert budget["max_budget"] == 0.05
        assert 0 < budget["spend"] <= 0.05
        assert budget["budget_reset_at"]
        goes_on = client.post(PATH, json=body(), headers={"authorization": f"Bearer {sibling}"})
    assert goes_on.status_code == 200

    def spent() -> float:
        info = stack.call("GET", "/key/info", params={"key": loop})["info"]
        return float(info["spend"] or 0)

    cost = round(served * _cost(stack), 9)
    wait_until("the books have it", lambda: round(spent(), 9) == cost)
    assert spent() <= 0.05


def _cost(stack: Stack) -> float:
    """What one call of the loop costs, from the simulator's log."""
    with stack.simulator() as simulator:
        calls = simulator.get("/_sim/served").json()["calls"]
    mine = [call for call in calls if call["usage"].get("completion") == 150]
    return served_cost(mine[0]) / 1e9


def test_a_team_budget_binds_every_key_of_the_team(stack: Stack) -> None:
    team = stack.call("POST", "/team/new", json={"team_alias": "capped", "max_budget": 0.004})["team_id"]
    keys = [stack.mint(team_id=team) for _ in range(2)]
    codes = dict.fromkeys(keys, 0)
    with httpx.Client(base_url=stack.url, trust_env=False) as client:
        for _ in range(10):
            for key in keys:
                answer = client.post(PATH, json=body(), headers={"authorization": f"Bearer {key}"})
                codes[key] = answer.status_code
                if answer.status_code == 402:
                    assert answer.json()["error"]["budget"]["scope"] == "team"
    assert set(codes.values()) == {402}


def test_delete_and_block_take_effect_and_unblock_undoes(stack: Stack) -> None:
    key = stack.mint(key_alias="mortal")
    with httpx.Client(base_url=stack.url, trust_env=False, headers={"api-key": key}) as client:
        assert client.get("/v1/models").status_code == 200
        stack.call("POST", "/key/block", json={"key": key})
        wait_until("blocked", lambda: client.get("/v1/models").status_code == 403)
        stack.call("POST", "/key/unblock", json={"key": key})
        wait_until("unblocked", lambda: client.get("/v1/models").status_code == 200)
        stack.call("POST", "/key/delete", json={"keys": [key]})
        wait_until("deleted", lambda: client.get("/v1/models").status_code == 401)


def test_the_books_equal_what_was_served_and_a_rebuild_equals_the_books(stack: Stack) -> None:
    key = stack.mint(key_alias="exact", max_budget=50)
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0) as client:
        for number in range(30):
            content = f"Call {number} [[sim prompt={100 + number} completion={7 * number + 1} cached={number}]]"
            messages = [{"role": "user", "content": content}]
            if number % 2:
                client.chat.completions.create(model="gpt-4o", messages=messages, max_tokens=500)  # type: ignore[arg-type]
            else:
                with client.chat.completions.create(
                    model="gpt-4o",
                    messages=messages,  # type: ignore[arg-type]
                    max_tokens=500,
                    stream=True,
                ) as stream:
                    for _ in stream:
                        pass
        client.embeddings.create(model="text-embedding-3-large", input=["a", "b", "c"])
    with stack.simulator() as simulator:
        served = simulator.get("/_sim/served").json()["calls"]
    total = sum(served_cost(call) for call in served)

    def books() -> int:
        return sum(int(row["spend_nusd"]) for row in stack.call("GET", "/spend/keys", params={"size": 100})["data"])

    wait_until("the books have all", lambda: books() == total)
    job = stack.call("POST", "/ledger/rebuild", json={"check": True})["job"]
    result = wait_until(
        "the rebuild", lambda: (state := stack.call("GET", f"/ledger/rebuild/{job}"))["state"] != "running" and state
    )
    assert result["state"] == "done"
    assert result["equal"] is True
    assert result["differences"] == []
    assert total > nusd_from_usd(0.001)
