"""One terminal for many processes: prefixed, bounded lines that never hold a process up."""

import os
import queue
import sys
import threading
from typing import TextIO

QUEUE_MAX = 10_000
NAME_WIDTH = 17
FLUSH_LIMIT_S = 2.0
COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
RUNNER = "tundish"
RUNNER_COLOUR = 1
UNPRINTABLE = {code: "�" for code in (*range(32), *range(127, 160)) if code != 9}
"""Control characters in somebody's log line could rewrite the terminal."""


class Printer:
    """Writes lines from a thread of its own: a stopped terminal must not stop the services behind it.

    When the terminal does not keep up, lines are dropped and counted.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._colour = out.isatty() and "NO_COLOR" not in os.environ
        self._names: dict[str, int] = {RUNNER: RUNNER_COLOUR}
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_MAX)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="printer", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """A line of the runner itself."""
        self.line(RUNNER, text)

    def line(self, name: str, text: str) -> None:
        """A line of a process; control characters are replaced."""
        shown = text.translate(UNPRINTABLE)
        prefix = f"{name:<{NAME_WIDTH}} |"
        if self._colour:
            prefix = f"\x1b[{self._colour_of(name)}m{prefix}\x1b[0m"
        self._put(f"{prefix} {shown}\n")

    def plain(self, text: str) -> None:
        """Text as it is, over any number of lines."""
        self._put(text if text.endswith("\n") else text + "\n")

    def close(self) -> None:
        """Write what is waiting, for a short time at most."""
        try:
            if self._dropped:
                self._lines.put(self._loss(), timeout=FLUSH_LIMIT_S)
            self._lines.put(None, timeout=FLUSH_LIMIT_S)
        except queue.Full:
            return
        self._thread.join(FLUSH_LIMIT_S)

    def _colour_of(self, name: str) -> int:
        return self._names.setdefault(name, COLOURS[(len(self._names) - 1) % len(COLOURS)])

    def _put(self, text: str) -> None:
        if self._dropped:
            text = self._loss() + text
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            self._dropped += 1
        else:
            self._dropped = 0

    def _loss(self) -> str:
        return f"[{self._dropped} log lines were dropped: the terminal was too slow]\n"

    def _write(self) -> None:
        """Until told to end. A terminal that is gone for good swallows the rest."""
        gone = False
        while (text := self._lines.get()) is not None:
            if gone:
                continue
            try:
                self._out.write(text)
                if self._lines.empty():
                    self._out.flush()
            except (OSError, ValueError):
                gone = True
        if not gone:
            try:
                self._out.flush()
            except (OSError, ValueError):
                return


def standard_printer() -> Printer:
    """A printer to standard output."""
    return Printer(sys.stdout)
