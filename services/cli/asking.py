"""Asking before something is ended, where somebody sits in front of it."""

import sys
from argparse import Namespace

from shared.errors import SettingsError, TundishError


def confirm(options: Namespace, question: str) -> None:
    """Ask on a terminal, unless `--yes` was given; scripts are not asked.

    Raises TundishError for a no, and SettingsError when the input ends without an answer.
    """
    if options.yes or not sys.stdin.isatty():
        return
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:
        raise SettingsError("no answer was given: nothing was changed")
    if answer.strip().lower() not in ("y", "yes"):
        raise TundishError("nothing was changed")
