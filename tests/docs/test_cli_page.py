"""docs/cli.md says what the parser takes."""

from services.cli.parser import NOUNS
from services.cli.parsers.base import ONCE_CHARS_MAX
from tests.support.cli_page import HEADING, PAGE, rendered


def test_the_commands_are_those_of_the_parser() -> None:
    text = PAGE.read_text(encoding="utf-8")
    _, found, rest = text.partition(HEADING)
    assert found + rest == rendered(), "run `python -m tests.support.cli_page`"


def test_the_words_above_name_every_noun() -> None:
    text = PAGE.read_text(encoding="utf-8").partition(HEADING)[0]
    assert [noun for noun in NOUNS if f"`{noun}`" not in text] == []
    assert f"{ONCE_CHARS_MAX} characters" in text
