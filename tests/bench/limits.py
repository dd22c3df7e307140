"""`make bench-limits`: rate limits over several proxies under ten times the allowed load, and whether waits are true.

One key has an rpm_limit, another a tpm_limit. Each is offered ten times what it allows, in turn to all proxies, for two
minutes. Meanwhile a few clients with small limits of their own do exactly what they are told: when refused they try
shortly before the time (and must be refused again) and at the time (and must be served), at whatever proxy.

    python -m tests.bench.limits [--seconds 120] [--proxies 3]
"""

import argparse
import asyncio
import sys
from bisect import bisect_left, bisect_right
from collections import Counter
from time import perf_counter

import httpx
import msgspec

from tests.support.eventually import eventually
from tests.support.stack import Stack, stack_folder

RPM, TPM, TIMES = 600, 60_000, 10
PROMPT, COMPLETION = 60, 140
SMALL_RPM, PATIENT_CLIENTS = 3, 6
EARLY_S = 0.25
"""So long before the time a client tries in vain; the wait itself contains 0.05 s for messages on their way."""
MINUTE_S = 60.0
TEXT = f"[[sim completion={COMPLETION} prompt={PROMPT} delay_ms=5]] melt " + "ore " * 20
BODY = msgspec.json.encode(
    {"model": "gpt-4o", "max_tokens": COMPLETION, "messages": [{"role": "user", "content": TEXT}]}
)
PATH = "/v1/chat/completions"


class Count:
    """What came of the calls with one key: when those that were served were sent and answered, and what they used."""

    def __init__(self) -> None:
        self.served: list[tuple[float, float, int]] = []
        self.statuses: Counter[int] = Counter()
        self.largest = 0

    def worst(self) -> tuple[int, int]:
        """The most calls and tokens that were admitted in any sixty seconds for certain.

        A call was admitted between its sending and its answer; it is counted when both lie within the minute.
        """
        sent = sorted(self.served)
        most = most_tokens = 0
        for begin, _, _ in sent:
            inside = [call for call in sent[bisect_left(sent, (begin,)) :] if call[1] <= begin + MINUTE_S]
            most = max(most, len(inside))
            most_tokens = max(most_tokens, sum(tokens for _, _, tokens in inside))
        return most, most_tokens

    def last_minute(self, at: float) -> tuple[int, int]:
        """Calls and tokens answered in the sixty seconds before a moment."""
        times = sorted((answered, tokens) for _, answered, tokens in self.served)
        part = times[bisect_right(times, (at - MINUTE_S,)) : bisect_right(times, (at,))]
        return len(part), sum(tokens for _, tokens in part)


class Patience:
    """What clients met who waited as they were told."""

    def __init__(self) -> None:
        self.true = self.too_short = self.too_long = 0


def main() -> None:
    """Run and print; exit code 1 when a bound was passed or a wait was not true."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--proxies", type=int, default=3)
    options = parser.parse_args()
    with stack_folder() as folder:
        stack = Stack(folder / "home", proxies=options.proxies).start()
        try:
            sys.exit(asyncio.run(bench(stack, options.seconds)))
        finally:
            stack.stop()


async def bench(stack: Stack, seconds: int) -> int:
    """Offer, watch, obey; then judge."""
    by_requests = stack.mint(key_alias="rpm", rpm_limit=RPM, models=["gpt-4o"])
    by_tokens = stack.mint(key_alias="tpm", tpm_limit=TPM, models=["gpt-4o"])
    small = [stack.mint(key_alias=f"small-{number}", rpm_limit=SMALL_RPM) for number in range(PATIENT_CLIENTS)]
    requests, tokens, patience = Count(), Count(), Patience()
    bounds = httpx.Limits(max_connections=256, max_keepalive_connections=256)
    async with httpx.AsyncClient(trust_env=False, timeout=30, limits=bounds) as client:
        await known_everywhere(client, stack, [by_requests, by_tokens, *small])
        begin = perf_counter()
        until = begin + seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(offer(client, stack, by_requests, TIMES * RPM / MINUTE_S, requests, until))
            group.create_task(offer(client, stack, by_tokens, TIMES * TPM / (PROMPT + COMPLETION) / 60, tokens, until))
            for number, key in enumerate(small):
                group.create_task(obey(client, stack, key, number, patience, until))
            group.create_task(watch(requests, tokens, begin, until))
    return judge(requests, tokens, patience, seconds, len(stack.urls))


async def known_everywhere(client: httpx.AsyncClient, stack: Stack, keys: list[str]) -> None:
    """Wait until every proxy knows every key; asking for models counts nowhere."""
    for url in stack.urls:
        for key in keys:

            async def known(url: str = url, key: str = key) -> bool:
                return (await client.get(f"{url}/v1/models", headers={"api-key": key})).status_code == 200

            await eventually(known)


async def offer(
    client: httpx.AsyncClient, stack: Stack, key: str, per_second: float, count: Count, until: float
) -> None:
    """Send at a steady rate whatever comes back, in turn to all proxies."""
    begin = perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(1_000_000):
            at = begin + number / per_second
            if at >= until:
                return
            await asyncio.sleep(max(0.0, at - perf_counter()))
            group.create_task(one(client, stack.urls[number % len(stack.urls)], key, count))


async def one(client: httpx.AsyncClient, url: str, key: str, count: Count) -> httpx.Response:
    """One call."""
    sent = perf_counter()
    answer = await client.post(url + PATH, content=BODY, headers={"api-key": key, "content-type": "application/json"})
    count.statuses[answer.status_code] += 1
    if answer.status_code == 200:
        used = int(answer.json()["usage"]["total_tokens"])
        count.largest = max(count.largest, used, len(BODY) + COMPLETION)
        count.served.append((sent, perf_counter(), used))
    return answer


async def obey(
    client: httpx.AsyncClient, stack: Stack, key: str, number: int, patience: Patience, until: float
) -> None:
    """A client that calls until it is refused, then tries just before the time it was told, and at that time."""
    turn, ignored = number, Count()
    while perf_counter() < until:
        turn += 1
        await asyncio.sleep(0.4 + 0.3 * number)
        answer = await one(client, stack.urls[turn % len(stack.urls)], key, ignored)
        if answer.status_code != 429:
            continue
        told = perf_counter()
        wait = int(answer.headers["retry-after-ms"]) / 1_000
        assert 0 <= int(answer.headers["retry-after"]) - wait < 1
        if told + wait > until + MINUTE_S / 2:
            return
        if wait > 2 * EARLY_S:
            await asyncio.sleep(wait - EARLY_S)
            early = await one(client, stack.urls[(turn + 1) % len(stack.urls)], key, ignored)
            if early.status_code == 200:
                patience.too_long += 1
                continue
        await asyncio.sleep(max(0.0, told + wait - perf_counter()))
        answer = await one(client, stack.urls[(turn + 2) % len(stack.urls)], key, ignored)
        patience.true += answer.status_code == 200
        patience.too_short += answer.status_code == 429


async def watch(requests: Count, tokens: Count, begin: float, until: float) -> None:
    """Every ten seconds: what was admitted in the minute before."""
    print(f"{'second':>8}{'calls in 60 s':>16}{'of limit':>10}{'tokens in 60 s':>16}{'of limit':>10}", flush=True)
    while perf_counter() < until - 1:
        await asyncio.sleep(10)
        now = perf_counter()
        calls, used = requests.last_minute(now)[0], tokens.last_minute(now)[1]
        print(f"{now - begin:>8.0f}{calls:>16,}{calls / RPM:>10.1%}{used:>16,}{used / TPM:>10.1%}", flush=True)


def judge(requests: Count, tokens: Count, patience: Patience, seconds: int, proxies: int) -> int:
    """Print the result beside the bound; 1 when something was not as promised."""
    extra = proxies - 1
    request_bound, token_bound = RPM + extra, TPM + extra * tokens.largest
    calls, used = requests.worst()[0], tokens.worst()[1]
    sent = sum(requests.statuses.values()) + sum(tokens.statuses.values())
    other = sent - sum(count.statuses[status] for count in (requests, tokens) for status in (200, 429))
    print(f"{proxies} proxies, {seconds} s, {sent:,} calls sent, {other} answered otherwise than 200 or 429")
    print(f"requests: limit {RPM:,} a minute, bound {request_bound:,}, most in any sixty seconds {calls:,}")
    print(f"tokens:   limit {TPM:,} a minute, bound {token_bound:,}, most in any sixty seconds {used:,}")
    print(
        f"retry-after obeyed: {patience.true} times served at the time, {patience.too_short} times refused again, "
        f"{patience.too_long} times served {EARLY_S} s before it"
    )
    good = (
        calls <= request_bound
        and used <= token_bound
        and other == 0
        and calls >= RPM * 0.95
        and used >= TPM * 0.9
        and patience.true > 0
        and patience.too_short == patience.too_long == 0
    )
    print("as promised" if good else "NOT as promised")
    return 0 if good else 1


if __name__ == "__main__":
    main()
