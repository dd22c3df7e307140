"""Files of `NAME=value` lines, such as `.env`: one value read, or changed with all else left as it is. Pure."""

import re

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def is_name(name: str) -> bool:
    """Whether a variable may be called so."""
    return _NAME.match(name) is not None


def value_in(text: str, name: str) -> str | None:
    """The value that counts (the last one), without its quotes; None where there is none."""
    found = _line(name).findall(text)
    if not found:
        return None
    _, quote, quoted, bare, _ = found[-1]
    return (quoted if quote else bare) or None


def with_value(text: str, name: str, value: str) -> str:
    """The text with another value in every line of that name, or with a line more; comments and the rest stay.

    `value` has no quotes, blanks or line breaks.
    """

    def line_with_value(line: re.Match[str]) -> str:
        quote = line[2] or ""
        return f"{line[1]}{quote}{value}{quote}{line[5]}"

    changed, count = _line(name).subn(line_with_value, text)
    if count:
        return changed
    ending = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text or text.endswith("\n") else ending
    return f"{text}{gap}{name}={value}{ending}"


def _line(name: str) -> re.Pattern[str]:
    """Groups: all before the value, the quote, the value within quotes, the value without, what comes after it."""
    return re.compile(
        rf"""^([ \t]*(?:export[ \t]+)?{re.escape(name)}[ \t]*=[ \t]*)"""
        r"""(?:(["'])([^"'\r\n]*)\2|([^\s"'#]*))([ \t]*(?:\#[^\r\n]*)?\r?)$""",
        re.MULTILINE,
    )
