"""Bounded load from threads: plain and streamed calls with every outcome counted."""

import threading
from collections import Counter

import httpx

from tests.support.stack import Stack

CALLS_MAX = 20_000


class Load:
    """Calls from `workers` threads until `stop` (or CALLS_MAX); `outcomes` counts statuses and failures."""

    def __init__(self, stack: Stack, key: str, workers: int = 8) -> None:
        self._url = stack.url
        self._key = key
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._left = CALLS_MAX
        self.outcomes: Counter[str] = Counter()
        self.workers = workers
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(workers)]

    def start(self) -> "Load":
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """End after the calls in flight."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def good(self) -> int:
        """Calls answered in full so far."""
        with self._lock:
            return self.outcomes["200"]

    def _run(self, number: int) -> None:
        headers = {"authorization": f"Bearer {self._key}"}
        with httpx.Client(base_url=self._url, trust_env=False, timeout=20, headers=headers) as client:
            turn = number
            while not self._stopping.is_set():
                with self._lock:
                    self._left -= 1
                    if self._left < 0:
                        return
                turn += 1
                outcome = self._call(client, turn)
                with self._lock:
                    self.outcomes[outcome] += 1
                if outcome != "200":
                    self._stopping.wait(0.05)

    def _call(self, client: httpx.Client, turn: int) -> str:
        content = f"[[sim completion={5 + turn % 20} prompt={10 + turn % 50} delay_ms=2]] call {turn}"
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": content}], "max_tokens": 40}
        try:
            if turn % 3:
                return str(client.post("/v1/chat/completions", json=body).status_code)
            with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as answer:
                text = answer.read()
                return str(answer.status_code) if text.endswith(b"data: [DONE]\n\n") else "cut"
        except httpx.HTTPError as error:
            return type(error).__name__
