"""`tundish exchange` and `tundish completion`: commands that need no administrator."""

import argparse

from services.cli.parsers.base import finish_alone

SHELLS = ("bash", "zsh", "fish")


def add_exchange(parser: argparse.ArgumentParser) -> None:
    """`tundish exchange`, for whoever holds a key."""
    parser.description = (
        "Asks with the key's own secret whether it has a new one, and collects it. The old secret is read from the "
        "file, or else from TUNDISH_API_KEY. Leaves with 0 when a secret was collected and when there was none to "
        "collect, with 1 when it failed."
    )
    parser.add_argument(
        "--write",
        nargs="?",
        const=".env",
        metavar="FILE",
        help="the file of NAME=value lines to write the new secret into, .env if not said; else it is printed",
    )
    parser.add_argument("--name", default="OPENAI_API_KEY", metavar="NAME", help="in the file; default OPENAI_API_KEY")
    parser.add_argument("--url", metavar="URL", help="the front door, in place of TUNDISH_URL")
    parser.add_argument("--once", action="store_true", help="try once: do not ask again when the connection is lost")
    finish_alone(parser, "exchange", "exchange")


def add_completion(parser: argparse.ArgumentParser) -> None:
    """`tundish completion`."""
    parser.description = "Prints a script; see docs/cli.md for where it goes."
    parser.add_argument("shell", choices=SHELLS)

    def run(options: argparse.Namespace) -> int:
        from services.cli.completion import show

        return show(options)

    parser.set_defaults(run=run)
