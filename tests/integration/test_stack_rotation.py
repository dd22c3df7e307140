"""Keys through the front door, as their owners' clients see them: renewed under load, leaked, blocked, and narrowed."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from examples.exchange import connect
from tests.clients.either import PLAIN
from tests.support.stack import ROOT, Stack, wait_until

pytestmark = pytest.mark.stack

HI: Any = [{"role": "user", "content": "Hi"}]
EXCHANGE = [{"type": "exchange"}]
CLAUDE = "claude-sonnet-5-5"
API_VERSION = "2024-10-21"


class Clients:
    """Real clients for one stack, which never repeat a call by themselves; closed at the end."""

    def __init__(self, stack: Stack, closing: ExitStack) -> None:
        self._stack = stack
        self._closing = closing

    def of_openai(self, key: str) -> openai.OpenAI:
        http = openai.DefaultHttpxClient(verify=PLAIN, trust_env=False, timeout=30)
        made = openai.OpenAI(base_url=f"{self._stack.url}/v1", api_key=key, max_retries=0, http_client=http)
        return self._closing.enter_context(made)

    def of_azure(self, key: str) -> openai.AzureOpenAI:
        http = openai.DefaultHttpxClient(verify=PLAIN, trust_env=False, timeout=30)
        made = openai.AzureOpenAI(
            azure_endpoint=self._stack.url, api_version=API_VERSION, api_key=key, max_retries=0, http_client=http
        )
        return self._closing.enter_context(made)

    def of_anthropic(self, key: str) -> anthropic.Anthropic:
        http = anthropic.DefaultHttpxClient(verify=PLAIN, trust_env=False, timeout=30)
        made = anthropic.Anthropic(base_url=self._stack.url, api_key=key, max_retries=0, http_client=http)
        return self._closing.enter_context(made)

    def plain(self, key: str) -> httpx.Client:
        headers = {"authorization": f"Bearer {key}"}
        made = httpx.Client(base_url=self._stack.url, headers=headers, verify=PLAIN, trust_env=False, timeout=30)
        return self._closing.enter_context(made)


@pytest.fixture
def clients(stack: Stack) -> Iterator[Clients]:
    with ExitStack() as closing:
        yield Clients(stack, closing)


def generate(stack: Stack, **fields: Any) -> dict[str, Any]:
    """A new key, as the answer shows it."""
    return stack.call("POST", "/key/generate", json=fields)


def rotate(stack: Stack, key_id: str) -> None:
    """Make a secret that waits to be collected."""
    stack.call("POST", f"/key/{key_id}/rotate", json={})


def status_of(client: httpx.Client) -> tuple[int, str | None]:
    """How a key fares at a proxy: the status, and the error's code."""
    answer = client.get("/v1/models")
    return answer.status_code, None if answer.status_code == 200 else answer.json()["error"]["code"]


def ask(client: openai.OpenAI, model: str = "gpt-4o", **more: Any) -> Any:
    return client.chat.completions.create(model=model, messages=HI, max_tokens=8, **more)


def write_to(client: anthropic.Anthropic, model: str) -> anthropic.types.Message:
    return client.messages.create(model=model, messages=HI, max_tokens=8)


def tundish(stack: Stack, *arguments: str, said: str = "", folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The CLI as a process of its own; `said` is its standard input."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TUNDISH_")}
    env |= {"TUNDISH_URL": stack.url, "TUNDISH_HOME": str(stack.home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "services", *arguments]
    return subprocess.run(command, cwd=folder, env=env, input=said, capture_output=True, text=True, timeout=60)


# ---- renewal -----------------------------------------------------------------------------------------


def test_a_running_client_collects_its_secrets_and_no_call_fails(stack: Stack, clients: Clients) -> None:
    made = generate(stack, rotation_delivery=EXCHANGE, rotation_retire="after_grace", grace_period="3s")
    client = connect(stack.url, made["key"], verify=PLAIN, trust_env=False)
    client.max_retries = 0
    failed: list[Exception] = []
    enough = threading.Event()

    def work() -> None:
        while not enough.is_set():
            try:
                ask(client)
            except Exception as error:
                failed.append(error)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        secrets = [made["key"]]
        for _ in range(2):
            rotate(stack, made["token_id"])
            secrets.append(wait_until("another secret", lambda: client.api_key != secrets[-1] and client.api_key))
            old = clients.plain(secrets[-2])
            wait_until("the old one ends", lambda old=old: status_of(old) == (401, "key_retired"))
    finally:
        enough.set()
        for worker in workers:
            worker.join()
        client.close()
    assert failed == []
    assert len(set(secrets)) == 3
    with pytest.raises(openai.AuthenticationError) as refused:
        ask(clients.of_openai(secrets[0]))
    assert refused.value.code in ("key_retired", "invalid_api_key"), "its record goes some time after it has ended"
    info = stack.call("GET", "/key/info", params={"key": made["token_id"]})["info"]
    newest = info["versions"][0]
    assert (newest["version"], newest["status"]) == (3, "current")


def test_the_command_writes_the_new_secret_into_the_file(stack: Stack, clients: Clients, tmp_path: Path) -> None:
    made = generate(stack, rotation_delivery=EXCHANGE)
    file = tmp_path / ".env"
    before = f"# ours\nLOG_LEVEL=info\nexport OPENAI_API_KEY='{made['key']}'\nEMPTY=\n"
    file.write_text(before)
    rotate(stack, made["token_id"])
    done = tundish(stack, "exchange", "--write", ".env", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "version 2" in done.stderr
    new = file.read_text().partition("OPENAI_API_KEY=")[2].partition("\n")[0].strip("'")
    assert new.startswith("sk-")
    assert new not in (made["key"], *done.stderr.split(), *done.stdout.split())
    assert file.read_text().replace(new, made["key"]).replace("'", "") == before.replace("'", "")
    assert [path.name for path in tmp_path.iterdir()] == [".env"]
    assert ask(clients.of_openai(new)).choices
    written = file.read_bytes()
    again = tundish(stack, "exchange", "--write", ".env", folder=tmp_path)
    assert (again.returncode, file.read_bytes()) == (0, written)
    assert "nothing to collect" in again.stderr


def test_the_same_exchange_asked_for_twice_is_one(stack: Stack, clients: Clients) -> None:
    made = generate(stack, rotation_delivery=EXCHANGE)
    rotate(stack, made["token_id"])
    old = clients.plain(made["key"])
    once = {"idempotency-key": f"of {made['token_id']}"}
    first, second = (old.post("/key/exchange", headers=once) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200), (first.text, second.text)
    assert first.json() == second.json()
    assert (first.headers.get("idempotency-replayed"), second.headers["idempotency-replayed"]) == (None, "true")
    third = old.post("/key/exchange")
    assert (third.status_code, third.json()["error"]["code"]) == (409, "already_collected")
    assert first.json()["key"] not in third.text
    assert ask(clients.of_openai(first.json()["key"])).choices


def test_every_answer_to_an_old_secret_tells_of_the_new_one(stack: Stack, clients: Clients) -> None:
    made = generate(stack, rotation_delivery=EXCHANGE, models=["gpt-4o"])
    raw: Any = clients.of_openai(made["key"]).chat.completions.with_raw_response
    more: dict[str, Any] = {"messages": HI, "max_tokens": 8}
    names = ("version", "newest", "exchange", "ends")

    def told(answer: Any) -> list[str | None]:
        return [answer.headers.get(f"x-tundish-key-{name}") for name in names]

    def everywhere() -> list[list[str | None]]:
        plain = raw.create(model="gpt-4o", **more)
        stream = raw.create(model="gpt-4o", stream=True, **more)
        assert "".join(part.choices[0].delta.content or "" for part in stream.parse() if part.choices)
        answers: list[Any] = [plain, stream]
        with pytest.raises(openai.PermissionDeniedError) as refused:
            raw.create(model="phi-4", **more)
        with pytest.raises(openai.BadRequestError) as wrong:
            raw.create(model="gpt-4o", **{**more, "messages": "none"})
        answers += [refused.value.response, wrong.value.response]
        return [told(answer) for answer in answers]

    assert everywhere() == [[None] * 4] * 4
    rotate(stack, made["token_id"])
    old = clients.plain(made["key"])
    wait_until("the proxy has heard of it", lambda: "x-tundish-key-newest" in old.get("/v1/models").headers)
    assert everywhere() == [["1", "2", "true", None]] * 4
    new = old.post("/key/exchange").json()["key"]
    wait_until("its end is known", lambda: "x-tundish-key-ends" in old.get("/v1/models").headers)
    ends = old.get("/v1/models").headers["x-tundish-key-ends"]
    assert everywhere() == [["1", "2", None, ends]] * 4
    assert "x-tundish-key-version" not in clients.plain(new).get("/v1/models").headers


# ---- a leak ------------------------------------------------------------------------------------------


def test_a_leaked_secret_dies_by_itself_and_the_key_goes_on(stack: Stack, clients: Clients) -> None:
    made = generate(stack, key_alias="leaky", max_budget=5, models=["gpt-4o"])
    costs = 0.0

    def spend(key: str) -> None:
        nonlocal costs
        answer = clients.of_openai(key).chat.completions.with_raw_response.create(model="gpt-4o", messages=HI)
        costs += float(answer.headers["x-tundish-cost"])

    def is_booked() -> bool:
        info = stack.call("GET", "/key/info", params={"key": made["token_id"]})["info"]
        return round(info["spend"] or 0, 9) == round(costs, 9)

    spend(made["key"])
    assert costs > 0
    wait_until("the books have it", is_booked)
    done = tundish(stack, "key", "revoke", "--leaked", "-", said=made["key"] + "\n")
    assert done.returncode == 0, done.stderr
    assert made["token_id"] in done.stdout
    assert made["key"] not in done.stdout + done.stderr
    wait_until("the proxy refuses it", lambda: status_of(clients.plain(made["key"]))[0] == 401)
    with pytest.raises(openai.AuthenticationError) as refused:
        ask(clients.of_openai(made["key"]))
    assert refused.value.code in ("key_revoked", "invalid_api_key")

    fresh = stack.call("POST", f"/key/{made['token_id']}/regenerate", json={})
    assert (fresh["token_id"], fresh["models"], fresh["max_budget"]) == (made["token_id"], ["gpt-4o"], 5)
    wait_until("the proxy knows it", lambda: status_of(clients.plain(fresh["key"])) == (200, None))
    spend(fresh["key"])
    wait_until("spend goes on from where it was", is_booked)
    with pytest.raises(openai.AuthenticationError):
        ask(clients.of_openai(made["key"]))


# ---- narrowed keys -----------------------------------------------------------------------------------


def test_aliases_wildcards_and_tags_in_every_sdk(stack: Stack, clients: Clients) -> None:
    team = stack.call("POST", "/team/new", json={"team_alias": "search", "tags": ["of-the-team"]})["team_id"]
    made = generate(
        stack,
        team_id=team,
        models=["gpt-4*", "claude-*"],
        aliases={"fast": "gpt-4o", "clever": CLAUDE, "secret": "phi-4"},
        tags=["search", "night"],
    )
    sdks = (clients.of_openai(made["key"]), clients.of_azure(made["key"]))
    for client in sdks:
        assert ask(client, "fast").choices
        assert ask(client, CLAUDE).choices
        for other in ("phi-4", "secret"):
            with pytest.raises(openai.PermissionDeniedError) as refused:
                ask(client, other)
            assert refused.value.code == "model_not_allowed"
    claude = clients.of_anthropic(made["key"])
    assert write_to(claude, "clever").content
    with pytest.raises(anthropic.PermissionDeniedError):
        write_to(claude, "phi-4")

    def booked() -> list[dict[str, Any]]:
        rows = stack.call("GET", "/spend/logs", params={"api_key": made["token_id"], "limit": 50})["data"]
        return rows if len(rows) >= 5 else []

    rows = wait_until("the books have the calls", booked)
    assert sorted(row["model"] for row in rows) == sorted([CLAUDE] * 3 + ["gpt-4o"] * 2)
    assert {frozenset(row["request_tags"]) for row in rows} == {frozenset({"search", "night", "of-the-team"})}


def test_routes_that_a_key_is_not_for(stack: Stack, clients: Clients) -> None:
    chats = generate(stack, allowed_routes=["/chat/completions"])["key"]
    claudes = generate(stack, allowed_routes=["anthropic_routes"])["key"]
    assert ask(clients.of_openai(chats)).choices
    assert ask(clients.of_azure(chats)).choices
    assert write_to(clients.of_anthropic(claudes), CLAUDE).content
    for client in (clients.of_openai(chats), clients.of_azure(chats)):
        with pytest.raises(openai.PermissionDeniedError) as refused:
            client.embeddings.create(model="text-embedding-3-large", input="alpha")
        assert refused.value.code == "route_not_allowed"
    for client in (clients.of_openai(claudes), clients.of_azure(claudes)):
        with pytest.raises(openai.PermissionDeniedError) as refused:
            ask(client)
        assert refused.value.code == "route_not_allowed"
    with pytest.raises(anthropic.PermissionDeniedError) as told:
        write_to(clients.of_anthropic(chats), CLAUDE)
    assert "may not call" in str(told.value)


def test_a_team_that_is_blocked_and_deleted(stack: Stack, clients: Clients) -> None:
    team = stack.call("POST", "/team/new", json={"team_alias": "mortals"})["team_id"]
    key = generate(stack, team_id=team)["key"]
    client, watch = clients.of_openai(key), clients.plain(key)
    assert ask(client).choices
    stack.call("POST", "/team/block", json={"team_id": team})
    wait_until("blocked", lambda: status_of(watch)[0] != 200)
    with pytest.raises(openai.PermissionDeniedError) as blocked:
        ask(client)
    assert blocked.value.code == "key_blocked"
    assert "team" in blocked.value.message
    stack.call("POST", "/team/unblock", json={"team_id": team})
    wait_until("unblocked", lambda: status_of(watch) == (200, None))
    assert ask(client).choices
    stack.call("POST", "/team/delete", json={"team_ids": [team]})
    wait_until("deleted", lambda: status_of(watch)[0] != 200)
    with pytest.raises(openai.AuthenticationError) as deleted:
        ask(client)
    assert deleted.value.code in ("key_revoked", "invalid_api_key")
