"""docs/cli.md, its part below the heading "All commands": made of the parser. `python -m tests.support.cli_page`."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from services.__main__ import build_parser
from services.cli.limits import add_budget_options, add_key_options
from services.cli.parsers.rotation import add_rotation_options

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
HEADING = "## All commands\n"
EVERYWHERE = {"-h", "--help", "--json", "--idempotency-key"}


def rendered() -> str:
    """The part of the page that the parser says."""
    parser = build_parser()
    return HEADING + "".join(_noun(noun, text, child) for noun, text, child in _children(parser)) + _groups()


def page_with(text: str, part: str) -> str:
    """The page with its generated part replaced."""
    return text.partition(HEADING)[0] + part


def _noun(noun: str, text: str, parser: argparse.ArgumentParser) -> str:
    out = f"\n### tundish {noun}\n\n{_sentence(text)}\n"
    leaves = [*_leaves(parser, text)]
    if len(leaves) == 1 and leaves[0][0] is parser:
        return out + "".join(_options(parser))
    for leaf, said in leaves:
        out += f"\n**`{leaf.prog}{_positionals(leaf)}`** {_sentence(said)}\n" + "".join(_options(leaf))
    return out


class Group(NamedTuple):
    """Options that many commands have, said once."""

    title: str
    anchor: str
    add: Callable[[argparse.ArgumentParser], None]

    @property
    def actions(self) -> dict[str, argparse.Action]:
        """By name of the option."""
        parser = argparse.ArgumentParser(add_help=False)
        self.add(parser)
        return {action.option_strings[0]: action for action in parser._actions}


GROUPS = (
    Group("Options of budgets", "options-of-budgets", add_budget_options),
    Group("Budget objects, and limits by model", "budget-objects-and-limits-by-model", add_key_options),
    Group("Options of rotation", "options-of-rotation", add_rotation_options),
)


def _groups() -> str:
    out = ""
    for group in GROUPS:
        out += f"\n### {group.title}\n\n" + "".join(_option(action) for action in group.actions.values())
    return out


def _leaves(parser: argparse.ArgumentParser, text: str) -> Iterator[tuple[argparse.ArgumentParser, str]]:
    children = [*_children(parser)]
    if not children:
        yield parser, text
    for _, said, child in children:
        yield from _leaves(child, said)


def _children(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            said = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, child in action.choices.items():
                yield name, said[name], child


def _positionals(parser: argparse.ArgumentParser) -> str:
    words = [_word(action) for action in parser._actions if not action.option_strings]
    return "".join(f" {word}" for word in words)


def _word(action: argparse.Action) -> str:
    name = "|".join(map(str, action.choices)) if action.choices else action.dest
    return f"[{name}]" if action.nargs == "?" else name


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The options as a list; `--json` and `--idempotency-key` are said once, above, and groups of options below."""
    shown = [action for action in parser._actions if not set(action.option_strings) & EVERYWHERE]
    names = {name for action in shown for name in action.option_strings}
    groups = [group for group in GROUPS if group.actions.keys() <= names]
    grouped = {name for group in groups for name in group.actions}
    if shown:
        yield "\n"
    yield from (_option(action) for action in shown if not set(action.option_strings) & grouped)
    yield from (f"- the [{group.title[0].lower()}{group.title[1:]}](#{group.anchor})\n" for group in groups)


def _option(action: argparse.Action) -> str:
    names = " / ".join(action.option_strings) or _word(action)
    needed = " (needed)" if action.option_strings and action.required else ""
    return f"- `{names}{_value(action)}`{needed}{': ' if action.help else ''}{action.help or ''}\n"


def _value(action: argparse.Action) -> str:
    if not action.option_strings or action.nargs == 0:
        return ""
    name = action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper()
    return f" [{name}]" if action.nargs == "?" else f" {name}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def main() -> None:
    """Write the generated part anew."""
    PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), rendered()), encoding="utf-8")


if __name__ == "__main__":
    main()
