"""Logs (one line each, text or JSON) and metrics (Prometheus text), without a framework.

Counters are plain integers that the owner raises; the page is built when somebody asks for it.
"""

import logging
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import msgspec

LABELSETS_MAX = 2_000
"""A metric with more label sets than this drops new ones: labels must not grow with traffic."""

_json = msgspec.json.Encoder()


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        line = f"{at} {record.levelname.lower():7} {record.getMessage()}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return _json.encode(entry).decode()


def configure_logging(style: str, level: str) -> None:
    """Log to stderr as `text` or `json` from `level` up. Call once, at start."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if style == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "azure", "apscheduler", "nats", "_granian"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("asyncpg").setLevel(logging.ERROR)  # it logs a traceback for each failed reconnection


class Counter:
    """A number that only rises, by label values in the order of `labels`."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: tuple[str, ...] = ()) -> None:
        self.name = name
        self.text = text
        self.labels = labels
        self.values: dict[tuple[str, ...], int | float] = {}

    def add(self, amount: int | float = 1, *values: str) -> None:
        """Raise the counter."""
        if values in self.values:
            self.values[values] += amount
        elif len(self.values) < LABELSETS_MAX:
            self.values[values] = amount

    def samples(self) -> Iterable[tuple[str, tuple[str, ...], int | float]]:
        """(suffix, label values, number) of each line."""
        return (("", values, number) for values, number in self.values.items())


class Gauge:
    """A number read when the page is built."""

    kind = "gauge"
    labels: tuple[str, ...] = ()

    def __init__(self, name: str, text: str, read: Callable[[], int | float]) -> None:
        self.name = name
        self.text = text
        self._read = read

    def samples(self) -> Iterable[tuple[str, tuple[str, ...], int | float]]:
        """The one line."""
        return (("", (), self._read()),)


class Histogram:
    """How often a measured number was at most each of `bounds`, in all, and their sum."""

    kind = "histogram"
    labels: tuple[str, ...] = ()

    def __init__(self, name: str, text: str, bounds: tuple[float, ...]) -> None:
        self.name = name
        self.text = text
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, number: float) -> None:
        """Count one measurement."""
        self._counts[bisect_left(self._bounds, number)] += 1
        self._sum += number

    def samples(self) -> Iterable[tuple[str, tuple[str, ...], int | float]]:
        """A line for each bound, with the sum and the number of all."""
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f'_bucket{{le="{bound}"}}', (), total
        yield "_sum", (), self._sum
        yield "_count", (), total


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """A new counter; names end in `_total`."""
        counter = Counter(name, text, labels)
        self._metrics[name] = counter
        return counter

    def gauge(self, name: str, text: str, read: Callable[[], int | float]) -> None:
        """A new gauge."""
        self._metrics[name] = Gauge(name, text, read)

    def histogram(self, name: str, text: str, bounds: tuple[float, ...]) -> Histogram:
        """A new histogram; `bounds` rise."""
        histogram = Histogram(name, text, bounds)
        self._metrics[name] = histogram
        return histogram

    def page(self) -> bytes:
        """The Prometheus text page."""
        lines: list[str] = []
        for metric in self._metrics.values():
            lines.append(f"# HELP {metric.name} {metric.text}")
            lines.append(f"# TYPE {metric.name} {metric.kind}")
            for suffix, values, number in metric.samples():
                pairs = ",".join(
                    f'{label}="{_escape(value)}"' for label, value in zip(metric.labels, values, strict=True)
                )
                lines.append(f"{metric.name}{suffix}{'{' + pairs + '}' if pairs else ''} {number}")
        return ("\n".join(lines) + "\n").encode()


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
