"""`python -m services.ledger enforcer|bookkeeper`: one of the two ledger processes on its own."""

import sys
from importlib import import_module

from shared.program import run_program
from shared.settings import Env
from shared.telemetry import configure_logging

PROGRAMS = {"enforcer": "services.ledger.enforcer.app", "bookkeeper": "services.ledger.bookkeeper.app"}


def main() -> None:
    """Run the program named by the first argument."""
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name not in PROGRAMS:
        sys.exit(f"usage: python -m services.ledger {'|'.join(PROGRAMS)}")
    env = Env()
    configure_logging(
        env.choice("TUNDISH_LOG", "text", ("text", "json")),
        env.choice("TUNDISH_LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
    )
    run_program(f"ledger-{name}", import_module(PROGRAMS[name]).main)


if __name__ == "__main__":
    main()
