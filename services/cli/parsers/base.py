"""What the parsers of all nouns share: how a command ends in a function, and the options that many commands have."""

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol

import msgspec

from services.cli.limits import positive

PAGE_SIZE = 50
ONCE_CHARS_MAX = 150
"""An `Idempotency-Key` has at most 200 characters; the commands that send several requests add to it."""
METADATA_CHARS_MAX = 16_384
Json = dict[str, object]


class Commands(Protocol):
    """What argparse's `add_subparsers` gives."""

    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser:  # noqa: A002
        """A new command."""
        ...


def actions(parser: argparse.ArgumentParser, metavar: str = "<action>") -> Commands:
    """The commands below a noun; one of them has to be named."""
    return parser.add_subparsers(metavar=metavar, required=True)


def finish(parser: argparse.ArgumentParser, module: str, function: str) -> None:
    """The command asks the front door: `function` of `services.cli.<module>` gets a client and the options."""
    _json(parser)

    def run(options: argparse.Namespace) -> int:
        from services.cli.client import open_client

        action: Callable[..., int] = getattr(import_module(f"services.cli.{module}"), function)
        with open_client(once=getattr(options, "idempotency_key", None)) as client:
            return action(client, options)

    parser.set_defaults(run=run)


def finish_change(parser: argparse.ArgumentParser, module: str, function: str, *, asks: bool = False) -> None:
    """The same for a command that changes something. `asks`: it asks before it does, on a terminal."""
    if asks:
        parser.add_argument("--yes", action="store_true", help="do not ask, also on a terminal")
    parser.add_argument(
        "--idempotency-key",
        type=once_key,
        metavar="TEXT",
        help="of an earlier try whose answer was lost: the change is not made twice; made up if not given",
    )
    finish(parser, module, function)


def finish_alone(parser: argparse.ArgumentParser, module: str, function: str) -> None:
    """A command that opens no client with the administrator's key: its function takes the options only."""
    _json(parser)

    def run(options: argparse.Namespace) -> int:
        action: Callable[..., int] = getattr(import_module(f"services.cli.{module}"), function)
        return action(options)

    parser.set_defaults(run=run)


def add_paging(parser: argparse.ArgumentParser, size: int = PAGE_SIZE) -> None:
    """`--page` and `--size`."""
    parser.add_argument("--page", type=positive, default=1, metavar="N", help="from 1")
    parser.add_argument("--size", type=positive, default=size, metavar="N", help=f"rows per page, default {size}")


def add_repeated(parser: argparse.ArgumentParser, option: str, metavar: str, text: str) -> None:
    """An option that may be given several times; absent it is None."""
    parser.add_argument(option, action="append", metavar=metavar, help=f"{text}; may be repeated")


def add_clear(parser: argparse.ArgumentParser, fields: Sequence[str]) -> None:
    """`--clear FIELD`: a field of the API that is to have no value any longer."""
    parser.add_argument(
        "--clear",
        action="append",
        default=[],
        choices=fields,
        metavar="FIELD",
        help=f"no longer; may be repeated: {', '.join(fields)}",
    )


def add_metadata(parser: argparse.ArgumentParser) -> None:
    """`--metadata JSON`."""
    parser.add_argument("--metadata", type=json_object, metavar="JSON", help='notes, such as \'{"ticket": "A-7"}\'')


def json_object(text: str) -> Json:
    """A JSON object."""
    if len(text) > METADATA_CHARS_MAX:
        raise argparse.ArgumentTypeError(f"it is longer than {METADATA_CHARS_MAX} characters")
    try:
        return msgspec.json.decode(text, type=Json)
    except msgspec.MsgspecError as error:
        raise argparse.ArgumentTypeError(f"it is not a JSON object: {error}") from error


def pair(text: str) -> tuple[str, str]:
    """`a=b` as a pair, cut at the first `=`."""
    name, sign, value = text.partition("=")
    if not name or not sign or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form name=value")
    return name, value


def once_key(text: str) -> str:
    """What may be an `Idempotency-Key`."""
    if not text or len(text) > ONCE_CHARS_MAX or not text.isascii() or not text.isprintable() or " " in text:
        raise argparse.ArgumentTypeError(f"use 1 to {ONCE_CHARS_MAX} printable ASCII characters without blanks")
    return text


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
