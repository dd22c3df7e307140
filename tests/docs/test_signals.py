"""The signals' schema and page say what the events say."""

import re
from pathlib import Path
from typing import Any, get_args

import msgspec

from deploy import signal_schema
from shared.events import AnySignal, decode_signal
from shared.topology import PERMISSIONS, SIGNALS, SUBSCRIBER_DURABLE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "signals.md").read_text()


def test_the_schema_follows_the_events() -> None:
    assert signal_schema.PATH.read_text() == signal_schema.render(), "run `python -m deploy.signal_schema`"


def test_the_page_names_every_signal_and_no_other() -> None:
    tags = {str(kind.__struct_config__.tag) for kind in get_args(AnySignal)}
    assert set(re.findall(r"^\| `((?:budget|key|rotation)\.[a-z_]+\.v1)` \|", PAGE, re.MULTILINE)) == tags


def test_the_example_of_the_page_is_a_signal() -> None:
    block = PAGE.split("```json\n")[1].split("```")[0]
    signal = decode_signal(block.encode())
    written = msgspec.json.decode(msgspec.json.encode(signal))
    assert written == msgspec.json.decode(block)


def test_the_schema_names_what_the_example_has() -> None:
    schema: dict[str, Any] = msgspec.json.decode(signal_schema.PATH.read_bytes())
    example = msgspec.json.decode(PAGE.split("```json\n")[1].split("```")[0])
    properties = schema["$defs"]["BudgetThresholdReached"]["properties"]
    assert set(example) <= set(properties)
    assert set(schema["$defs"]["BudgetThresholdReached"]["required"]) <= set(example)


def test_the_page_names_the_consumer_and_the_user() -> None:
    assert "subscriber" in PERMISSIONS
    assert f"consumer `{SUBSCRIBER_DURABLE}` of the stream `{SIGNALS}`" in PAGE
