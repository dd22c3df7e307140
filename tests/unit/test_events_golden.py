"""Every event type has a golden file: what was once written is understood for ever, and written alike again.

A changed file means a changed wire format, which needs a new tag. `grant_batch.v1.json` is the message that
carries the records of the grant log.
"""

from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from shared import events
from shared.events import (
    AnyAuthEvent,
    AnyEvent,
    AnySignal,
    AnyUsage,
    AnyWork,
    GrantBatch,
    GrantEntry,
    UsageRecorded,
)

FOLDER = Path(__file__).parent.parent / "golden" / "events"
EARLIER = FOLDER.parent / "earlier"
"""As earlier versions wrote them, kept as they were: understood for ever, but written otherwise now. Of a type that
changed more than once there are several, told apart by what follows `@`."""
BATCH = "grant_batch.v1"

CATALOGUE: dict[str, Any] = {
    kind.__struct_config__.tag: union
    for union in (AnyAuthEvent, AnyUsage, AnySignal, AnyWork, GrantEntry)
    for kind in get_args(union)
} | {BATCH: GrantBatch}


def golden(tag: str) -> bytes:
    return (FOLDER / f"{tag}.json").read_bytes()


def test_every_type_has_a_file_and_every_file_a_type() -> None:
    assert {path.name.removesuffix(".json") for path in FOLDER.iterdir()} == set(CATALOGUE)


def test_every_struct_with_a_tag_belongs_to_a_union() -> None:
    tags = {
        str(kind.__struct_config__.tag)
        for kind in vars(events).values()
        if isinstance(kind, type)
        and issubclass(kind, msgspec.Struct)
        and isinstance(kind.__struct_config__.tag, str)
        and "." in kind.__struct_config__.tag
    }
    assert tags == set(CATALOGUE) - {BATCH}


@pytest.mark.parametrize("tag", sorted(CATALOGUE))
def test_a_golden_file_is_decoded_and_written_again_unchanged(tag: str) -> None:
    event = msgspec.json.decode(golden(tag), type=CATALOGUE[tag])
    assert msgspec.json.format(events.encode(event), indent=2) == golden(tag).rstrip(b"\n")


@pytest.mark.parametrize("tag", sorted(CATALOGUE))
def test_golden_files_fill_every_field(tag: str) -> None:
    """A field that a golden file leaves out could be renamed without a test noticing."""
    kind = type(msgspec.json.decode(golden(tag), type=CATALOGUE[tag]))
    written = msgspec.json.decode(golden(tag), type=dict[str, object])
    assert {field.encode_name for field in msgspec.structs.fields(kind)} == set(written) - {"type"}


@pytest.mark.parametrize("name", sorted(path.name for path in EARLIER.iterdir()))
def test_what_earlier_versions_wrote_loses_nothing(name: str) -> None:
    """Read and written again, only zeros and nulls that are defaults are gone; the order of keys means nothing."""
    tag = name.removesuffix(".json").partition("@")[0]
    said = msgspec.json.decode((EARLIER / name).read_bytes())
    again = msgspec.json.decode(events.encode(msgspec.json.decode(msgspec.json.encode(said), type=CATALOGUE[tag])))
    assert _without_defaults(again) == _without_defaults(said)


def _without_defaults(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_defaults(item) for name, item in value.items() if item not in (None, 0, {}, [])}
    return [_without_defaults(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("tag", sorted(CATALOGUE))
def test_fields_of_a_later_version_are_ignored(tag: str) -> None:
    newer = msgspec.json.decode(golden(tag), type=dict[str, object]) | {"invented_later": {"deep": [1, None]}}
    read = msgspec.json.decode(msgspec.json.encode(newer), type=CATALOGUE[tag])
    assert msgspec.json.format(events.encode(read), indent=2) == golden(tag).rstrip(b"\n")


@pytest.mark.parametrize("tag", sorted(CATALOGUE))
def test_fields_with_a_default_may_be_missing(tag: str) -> None:
    kind = type(msgspec.json.decode(golden(tag), type=CATALOGUE[tag]))
    needed = {field.encode_name for field in msgspec.structs.fields(kind) if field.required} | {"type"}
    written = msgspec.json.decode(golden(tag), type=dict[str, object])
    least = msgspec.json.encode({name: value for name, value in written.items() if name in needed})
    assert isinstance(msgspec.json.decode(least, type=CATALOGUE[tag]), kind)


def test_the_decoders_of_the_module_take_what_is_on_the_wire() -> None:
    readers = ((AnyAuthEvent, events.decode_auth), (AnySignal, events.decode_signal), (AnyWork, events.decode_work))
    for union, decode in readers:
        for kind in get_args(union):
            event = decode(golden(kind.__struct_config__.tag))
            assert isinstance(event, kind)
            assert events.type_of(event) == kind.__struct_config__.tag
    line = golden("usage.recorded.v1")
    first, second = events.decode_usage_batch(events.usage_batch([line, line]))
    assert first == second
    assert isinstance(first, UsageRecorded)
    assert bytes(first.raw) == b'{\n    "prompt_tokens": 1210,\n    "completion_tokens": 500\n  }'
    assert len(events.decode_grants(golden(BATCH)).records) == len(get_args(GrantEntry))


def test_an_unknown_type_is_an_error_and_not_a_guess() -> None:
    with pytest.raises(msgspec.ValidationError):
        events.decode_auth(b'{"type":"key.invented.v9","id":"x","at":"2026-01-01T00:00:00Z","source":"s"}')


def test_tags_carry_their_version() -> None:
    for kind in get_args(AnyEvent):
        assert kind.__struct_config__.tag.split(".")[-1][0] == "v"
