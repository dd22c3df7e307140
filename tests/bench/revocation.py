"""`make bench-revocation`: how long a key still works after the admin call that kills it has been answered.

Each round mints a key, calls with it without pause from a second connection, deletes or blocks it, and takes the
time from the admin answer to the first refusal. Zero: the key was refused before the admin answer arrived.
"""

import argparse
import statistics
import threading
import time

import httpx

from tests.support.stack import Stack, stack_folder

REFUSED = (401, 403)
WAIT_S = 10.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    with stack_folder() as folder:
        stack = Stack(folder / "home").start()
        try:
            times = [once(stack, number) for number in range(options.rounds)]
        finally:
            stack.stop()
    print(f"{options.rounds} keys, half deleted and half blocked: from the admin answer to the first refusal")
    print(f"median {statistics.median(times) * 1000:.2f} ms, max {max(times) * 1000:.2f} ms")


def once(stack: Stack, number: int) -> float:
    """Seconds from the admin answer to the first refusal of one key."""
    key = stack.mint(key_alias=f"revoked-{number}")
    refused = threading.Event()
    at: list[float] = []

    def hammer() -> None:
        deadline = time.monotonic() + WAIT_S
        with httpx.Client(base_url=stack.url, headers={"api-key": key}, trust_env=False) as client:
            while time.monotonic() < deadline:
                if client.get("/v1/models").status_code in REFUSED:
                    at.append(time.monotonic())
                    refused.set()
                    return

    thread = threading.Thread(target=hammer)
    with stack.admin() as admin:
        admin.get("/key/info", params={"key": key}).raise_for_status()
        thread.start()
        time.sleep(0.02)
        if number % 2:
            answer = admin.post("/key/delete", json={"keys": [key]})
        else:
            answer = admin.post("/key/block", json={"key": key})
        answered = time.monotonic()
    answer.raise_for_status()
    thread.join()
    if not refused.is_set():
        raise SystemExit(f"the key still worked {WAIT_S:.0f} s after it was revoked")
    return max(0.0, at[0] - answered)


if __name__ == "__main__":
    main()
