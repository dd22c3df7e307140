"""Prints signals as they happen: a warning before the wall, the wall, room again; and what becomes of keys.

    python examples/budget_signals.py nats://subscriber:PASSWORD@HOST:4222
    python examples/budget_signals.py --live nats://…

`make up` prints the URL's place. Without `--live` signals come through the durable consumer `subscriber` of stream
SIGNALS: each one is delivered until it is acknowledged, also those from before this program started. Several copies
share the work. With `--live` every copy hears everything from now on, and nothing is kept for it.
"""

import argparse
import asyncio
import json
import sys
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client

STREAM, DURABLE = "SIGNALS", "subscriber"
INBOX = b"_INBOX_subscriber"
BATCH_MAX = 50
WAIT_S = 20
RETRY_S = 2
NANO_DOLLARS = 1_000_000_000


def line_of(signal: dict[str, Any]) -> str:
    """One signal in words."""
    if "scope_kind" not in signal:
        return line_of_key(signal)
    who = f"{signal['scope_kind']} {signal.get('alias') or signal['scope_id']}"
    if signal.get("model"):
        who += f", model {signal['model']}"
    if signal.get("duration"):
        who += f", per {signal['duration']}"
    limit = signal.get("limit_nusd")
    of = f" of ${limit / NANO_DOLLARS:g}" if limit is not None else ""
    spent = f"${signal['spent_nusd'] / NANO_DOLLARS:.6g}{of} spent"
    match signal["type"]:
        case "budget.threshold_reached.v1":
            what = f"warning at {signal['threshold']}"
        case "budget.exceeded.v1":
            what = "EXCEEDED: calls are refused"
        case "budget.restored.v1":
            what = "restored: calls are served again"
        case other:
            what = str(other)
    return f"{signal['at']}  {who}: {what}; {spent}"


def line_of_key(signal: dict[str, Any]) -> str:
    """One signal about a key's secret in words."""
    who = f"key {signal.get('alias') or signal['key_id']}, version {signal.get('version', 0)}"
    match signal["type"]:
        case "rotation.delivered.v1":
            what = f"delivered to {signal['target']}"
        case "rotation.failed.v1":
            what = f"NOT delivered to {signal['target']}: {signal['reason']}"
        case "key.leaked.v1":
            what = f"LEAKED, reported by {signal['reporter']}: {signal['action']}"
        case "key.collected_again.v1":
            what = "asked for a second time" + (": the key is blocked" if signal.get("blocked") else "")
        case other:
            what = str(other)
    return f"{signal['at']}  {who}: {what}"


def show(data: bytes) -> None:
    """Print one signal."""
    print(line_of(json.loads(data)), flush=True)


async def trouble(error: Exception) -> None:
    """Say in one line what is wrong with the connection; the client goes on trying."""
    print(f"NATS: {error or type(error).__name__}", file=sys.stderr, flush=True)


async def connect(url: str) -> Client:
    """A connection that comes back by itself."""
    return await nats.connect(url, inbox_prefix=INBOX, max_reconnect_attempts=-1, error_cb=trouble)


async def follow(url: str) -> None:
    """Work off the durable consumer; a signal is acknowledged after it was handled."""
    client = await connect(url)
    subscription = await client.jetstream().pull_subscribe_bind(DURABLE, STREAM)
    while True:
        try:
            for message in await subscription.fetch(BATCH_MAX, timeout=WAIT_S):
                show(message.data)
                await message.ack()
        except TimeoutError:  # no signals for a while
            continue
        except nats.errors.Error as error:
            await trouble(error)
            await asyncio.sleep(RETRY_S)


async def listen(url: str) -> None:
    """Hear what is signalled from now on."""
    client = await connect(url)
    subscription = await client.subscribe("signal.>")
    async for message in subscription.messages:
        show(message.data)


def main() -> None:
    """Read the command line and run until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="nats://subscriber:PASSWORD@HOST:PORT")
    parser.add_argument("--live", action="store_true", help="hear everything from now on; keep nothing")
    options = parser.parse_args()
    try:
        asyncio.run(listen(options.url) if options.live else follow(options.url))
    except KeyboardInterrupt:
        sys.exit(0)
    except (nats.errors.Error, OSError) as error:
        sys.exit(f"no connection to NATS: {error or type(error).__name__}. Is the URL (user, password, port) right?")


if __name__ == "__main__":
    main()
