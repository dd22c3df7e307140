"""`docs/schemas/signals.schema.json`: the JSON schema of every signal, written from the events themselves.

python -m deploy.signal_schema            # write it
python -m deploy.signal_schema --check    # 1 if it is not up to date
"""

import sys
from pathlib import Path

import msgspec

from shared.events import AnySignal

PATH = Path(__file__).parents[1] / "docs" / "schemas" / "signals.schema.json"
TITLE = "Signals of Tundish"
ABOUT = "A message on a subject under `signal.>`. Readers ignore fields they do not know; new ones may come."


def render() -> str:
    """The text of the file."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": TITLE,
        "description": ABOUT,
        **msgspec.json.schema(AnySignal),
    }
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def main(arguments: list[str]) -> int:
    """Write or check the file; the exit code."""
    text = render()
    if "--check" in arguments:
        if PATH.exists() and PATH.read_text(encoding="utf-8") == text:
            return 0
        print(f"{PATH} is not up to date: run `python -m deploy.signal_schema`", file=sys.stderr)
        return 1
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(text, encoding="utf-8")
    print(f"wrote {PATH}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
