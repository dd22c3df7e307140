"""examples/exchange.py: a program whose key renews itself, against a gateway that says what a test wants."""

import threading

import httpx2

from examples.exchange import connect

GATEWAY = "http://gateway.test"
COMPLETION = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
}


class Gateway:
    """Knows three versions of a secret; the newest is `sk-v<newest>`, and a lost answer is told again."""

    def __init__(self) -> None:
        self.newest = 1
        self.lose = 0
        self.asked: list[tuple[str, str, str | None]] = []
        self.given: dict[str, str] = {}

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        secret = request.headers["authorization"].removeprefix("Bearer ")
        once = request.headers.get("idempotency-key")
        self.asked.append((request.url.path, secret, once))
        if request.url.path == "/v1/chat/completions":
            old = secret != f"sk-v{self.newest}"
            return httpx2.Response(200, json=COMPLETION, headers={"x-tundish-key-exchange": "true"} if old else {})
        assert once is not None
        key = self.given.setdefault(once, f"sk-v{self.newest}")
        if self.lose:
            self.lose -= 1
            raise httpx2.ReadError("reset")
        return httpx2.Response(200, json={"key": key, "version": self.newest, "token_id": "key_1"})


def say(gateway: Gateway, calls: int, secret: str = "sk-v1") -> list[str]:
    """The secrets that some calls, one after the other, were made with."""
    client = connect(GATEWAY, secret, transport=httpx2.MockTransport(gateway))
    for _ in range(calls):
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}])
    return [secret for path, secret, _ in gateway.asked if path.endswith("completions")]


def test_the_next_call_has_the_new_secret() -> None:
    gateway = Gateway()
    assert say(gateway, 1) == ["sk-v1"]
    gateway.asked.clear()
    gateway.newest = 2
    assert say(gateway, 3) == ["sk-v1", "sk-v2", "sk-v2"]
    assert [path for path, _, _ in gateway.asked].count("/key/exchange") == 1


def test_a_lost_answer_disturbs_no_call_and_is_asked_for_under_the_same_key() -> None:
    gateway = Gateway()
    gateway.newest, gateway.lose = 2, 1
    assert say(gateway, 3) == ["sk-v1", "sk-v1", "sk-v2"]
    assert len({once for path, _, once in gateway.asked if path == "/key/exchange"}) == 1


def test_every_rotation_is_asked_for_under_a_key_of_its_own() -> None:
    gateway = Gateway()
    gateway.newest = 2
    client = connect(GATEWAY, "sk-v1", transport=httpx2.MockTransport(gateway))
    for newest in (2, 3):
        gateway.newest = newest
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}])
    assert client.api_key == "sk-v3"
    assert len(gateway.given) == 2


def test_threads_collect_once() -> None:
    gateway = Gateway()
    gateway.newest = 2
    client = connect(GATEWAY, "sk-v1", transport=httpx2.MockTransport(gateway))

    def call() -> None:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}])

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.api_key == "sk-v2"
    assert len({once for path, secret, once in gateway.asked if path == "/key/exchange" and secret == "sk-v1"}) == 1
