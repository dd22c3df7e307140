"""`tundish rotation …` and the options of rotation that keys have."""

import argparse
from urllib.parse import urlsplit

from services.cli.parsers.base import Json, actions, add_paging, finish

RETIRE = {"after-delivery": "after_delivery", "after-grace": "after_grace"}
WAYS = "exchange, webhook=URL, vault=URL/NAME or kubernetes=NAMESPACE/SECRET/ENTRY"


def add(parser: argparse.ArgumentParser) -> None:
    """All commands of `tundish rotation`."""
    commands = actions(parser)
    listing = commands.add_parser("list", help="the keys whose secrets are renewed, and how far each of them is")
    add_paging(listing)
    finish(listing, "rotation", "show_list")
    schedule = commands.add_parser("schedule", help="which keys the clock renews, the next one first")
    schedule.add_argument("--key", metavar="ID", help="only this key, by its token id")
    add_paging(schedule)
    finish(schedule, "rotation", "schedule")


def add_rotation_options(parser: argparse.ArgumentParser) -> None:
    """How a key is rotated and where its new secrets go."""
    parser.add_argument(
        "--auto-rotate", action=argparse.BooleanOptionalAction, default=None, help="rotate it regularly, or no longer"
    )
    parser.add_argument("--every", metavar="30d|…", help="how often, 1m at least")
    parser.add_argument("--grace", metavar="24h|…", help="how long the old secret still works")
    parser.add_argument("--deliver", type=delivery, action="append", metavar="WAY", help=f"{WAYS}; may be repeated")
    parser.add_argument(
        "--retire",
        choices=tuple(RETIRE),
        help="when the old secret ends: its grace after the delivery (the default), or after the minting",
    )


def delivery(text: str) -> Json:
    """One way by which a new secret reaches its owner, as the API takes it."""
    kind, _, where = text.partition("=")
    if text == "exchange":
        return {"type": "exchange"}
    if kind == "webhook" and where:
        return {"type": "webhook", "url": where}
    if kind == "vault" and (parts := urlsplit(where)).hostname:
        name = parts.path.strip("/")
        if name and "/" not in name:
            return {"type": "key_vault", "vault": f"{parts.scheme}://{parts.netloc}", "secret": name}
    if kind == "kubernetes" and len(words := where.split("/")) == 3 and all(words):
        return {"type": "kubernetes", "namespace": words[0], "secret": words[1], "entry": words[2]}
    raise argparse.ArgumentTypeError(f"{text!r} is none of {WAYS}")
