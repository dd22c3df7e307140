"""`tundish completion`: a script by which a shell completes the words of the command line."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable

import shtab


def show(options: Namespace) -> int:
    """Print the script for a shell."""
    whole: Callable[[], ArgumentParser] = options.whole
    print(shtab.complete(whole(), options.shell))
    return 0
