"""Load for the budget benchmarks: a standard mix of calls from a seed, fired by many clients as an SDK would.

A client sends one call after another over its own connection. Like the OpenAI SDK it tries a call again, at most twice,
after 429, 5xx and broken connections, and waits as long as `retry-after` says.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from time import perf_counter
from urllib.parse import urlsplit

import msgspec

MODEL = "gpt-4o"
TRIES = 3
RETRY_AFTER_MAX_S = 5.0
ANSWER_WAIT_S = 60.0
HEAD_BYTES_MAX = 65_536


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the mix: what is sent, and what Foundry will count (`prompt` and `completion` tokens)."""

    body: bytes
    prompt: int
    completion: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one call ended after all its tries: a status (0: no answer) and the error's code."""

    status: int
    code: str
    tries: int


def mix(seed: int, count: int) -> list[Call]:
    """The standard mix: half streamed, half with max_tokens, prompts of 50 to 3,000 characters."""
    dice = random.Random(seed)
    return [_call(dice, number) for number in range(count)]


def _call(dice: random.Random, number: int) -> Call:
    chars = int(50 * 60 ** dice.random())
    completion = int(10 * 50 ** dice.random())
    prompt = chars // 4
    marker = f"[[sim completion={completion} prompt={prompt} delay_ms={dice.randrange(10, 80)}]]"
    text = f"{marker} call {number} " + "melt " * max(0, (chars - len(marker)) // 5)
    body: dict[str, object] = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
    if dice.random() < 0.5:
        body["stream"] = True
    if dice.random() < 0.5:
        body["max_tokens"] = completion + dice.randrange(0, 300)
    return Call(body=msgspec.json.encode(body), prompt=prompt, completion=completion)


class Tally:
    """What came of the calls so far; `served` is set when `wanted` of them were answered in full."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self.served = asyncio.Event()
        self.outcomes: Counter[str] = Counter()
        self.tries = 0
        self.started = perf_counter()
        self.first_refusal_s: float | None = None

    @property
    def done(self) -> int:
        """Calls that have ended."""
        return sum(self.outcomes.values())

    @property
    def good(self) -> int:
        """Calls answered in full."""
        return self.outcomes["ok"]

    def note(self, outcome: Outcome) -> None:
        """Count one call."""
        name = "ok" if outcome.status == 200 else outcome.code or str(outcome.status)
        self.outcomes[name] += 1
        self.tries += outcome.tries
        if self.good >= self._wanted:
            self.served.set()


async def fire(
    urls: list[str], key: str, calls: Iterator[Call], tally: Tally, *, clients: int, progress: Callable[[], None]
) -> None:
    """Fire all calls from `clients` clients spread over the proxies; returns when the last has ended."""
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(_client(urls[number % len(urls)], key, calls, tally, progress))


async def _client(url: str, key: str, calls: Iterator[Call], tally: Tally, progress: Callable[[], None]) -> None:
    line = Line(url, key)
    try:
        for call in calls:
            tally.note(await _with_retries(line, call, tally))
            progress()
    finally:
        line.close()


async def _with_retries(line: "Line", call: Call, tally: Tally) -> Outcome:
    status, code = 0, "broken"
    for attempt in range(1, TRIES + 1):
        try:
            async with asyncio.timeout(ANSWER_WAIT_S):
                status, headers, answer = await line.post(call.body)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
            line.close()
            status, code = 0, "broken"
            await asyncio.sleep(0.5)
            continue
        code = "" if status == 200 else _code(answer)
        if status != 200 and tally.first_refusal_s is None:
            tally.first_refusal_s = perf_counter() - tally.started
        if status == 200 or status not in (408, 409, 429, 500, 502, 503, 504) or attempt == TRIES:
            return Outcome(status=status, code=code, tries=attempt)
        await asyncio.sleep(min(RETRY_AFTER_MAX_S, float(headers.get("retry-after", "0.5"))))
    return Outcome(status=status, code=code, tries=TRIES)


def _code(answer: bytes) -> str:
    with contextlib.suppress(msgspec.MsgspecError, KeyError, TypeError):
        return str(msgspec.json.decode(answer)["error"]["code"])
    return "unreadable"


class Line:
    """One kept-alive connection to a proxy."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {key}\r\n"
            "content-type: application/json\r\ncontent-length: "
        ).encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def close(self) -> None:
        """Drop the connection; the next call opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def post(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """One request; status, headers and the whole body. Raises OSError, IncompleteReadError, ValueError."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=HEAD_BYTES_MAX)
        reader, writer = self._streams
        writer.write(self._head + str(len(body)).encode() + b"\r\n\r\n" + body)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for line in head[1:] if line for name, _, value in (line.partition(":"),)
        }
        if headers.get("transfer-encoding") == "chunked":
            answer = await _chunks(reader)
        else:
            answer = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.close()
        return int(head[0].split(" ")[1]), headers, answer


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(parts)
