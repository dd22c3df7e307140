"""Calls a model, and collects the key's new secret as soon as the gateway says that there is one.

    TUNDISH_API_KEY=sk-… python examples/exchange.py http://127.0.0.1:4000 gpt-4o

`collect` is all that a program needs whose key is delivered by exchange. One that reads its secret from a file at its
next start puts it there, too: `tundish exchange --write .env` does that for `.env` files.
"""

import contextlib
import os
import sys
import threading
import uuid
from typing import Any

import openai


def connect(gateway: str, secret: str, **options: Any) -> openai.OpenAI:
    """A client of OpenAI's whose key renews itself. `gateway` is the front door; `options` are those of its HTTP."""
    lock, once = threading.Lock(), [str(uuid.uuid4())]

    def collect(answer: Any) -> None:
        if answer.headers.get("x-tundish-key-exchange") == "true" and lock.acquire(blocking=False):
            with contextlib.suppress(Exception):  # the next answer says so again, and the same key is asked for again
                headers = {"authorization": f"Bearer {client.api_key}", "idempotency-key": once[0]}
                collected = http.post(f"{gateway}/key/exchange", headers=headers, timeout=10)
                if collected.status_code == 200:  # 404: another thread was faster
                    client.api_key, once[0] = collected.json()["key"], str(uuid.uuid4())
            lock.release()

    http = openai.DefaultHttpxClient(event_hooks={"response": [collect]}, **options)
    client = openai.OpenAI(base_url=f"{gateway}/v1", api_key=secret, http_client=http)
    return client


def main() -> None:
    """One call of a model; the exchange, if there is one, happens beside it."""
    gateway, model = sys.argv[1].rstrip("/"), sys.argv[2]
    client = connect(gateway, os.environ["TUNDISH_API_KEY"])
    before = client.api_key
    reply = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}])
    print(reply.choices[0].message.content)
    if client.api_key != before:
        print("collected a new secret; this process goes on with it", file=sys.stderr)


if __name__ == "__main__":
    main()
