"""The nouns of the operator's command line; what each takes is in `services.cli.parsers`, loaded when it is called."""

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module

from services.cli.parsers.base import Commands

NOUNS: dict[str, tuple[str, str, str]] = {
    "status": ("watch", "add_status", "whether the front door is ready, and what it waits for"),
    "key": ("key", "add", "make, show, change, rotate, revoke and delete virtual keys"),
    "team": ("scopes", "add_team", "teams and their members"),
    "org": ("scopes", "add_org", "organizations"),
    "user": ("people", "add", "people: their roles, teams and keys"),
    "budget": ("books", "add_budget", "budgets with a name of their own; setting spend back"),
    "spend": ("books", "add_spend", "what was spent, by key, by team, by organization, by call"),
    "rotation": ("rotation", "add", "rotations: what is due, under way and done"),
    "alerts": ("watch", "add_alerts", "what was signalled of late"),
    "audit": ("watch", "add_audit", "every change: who, what, why; and the proof that none is missing"),
    "pepper": ("watch", "add_pepper", "the pepper that secrets are hashed with"),
    "models": ("books", "add_models", "the models that are served"),
    "prices": ("books", "add_prices", "what models cost, by the built-in catalogue"),
    "ledger": ("books", "add_ledger", "look after the books"),
    "exchange": ("holder", "add_exchange", "for the holder of a key: collect its new secret"),
    "completion": ("holder", "add_completion", "completion for a shell"),
}
"""Noun → (module of `services.cli.parsers`, its function, help)."""


def add_commands(commands: Commands, words: Sequence[str] | None = None) -> None:
    """Add the nouns; each command sets `run`, from options to exit code.

    `words` is the command line, if it is known already: then only the noun that it begins with gets its options, and
    nothing of the others is loaded.
    """
    first = next((word for word in words or () if not word.startswith("-")), None)
    for noun, (module, function, text) in NOUNS.items():
        parser = commands.add_parser(noun, help=text)
        if words is None or noun == first:
            add: Callable[[argparse.ArgumentParser], None] = getattr(
                import_module(f"services.cli.parsers.{module}"), function
            )
            add(parser)
