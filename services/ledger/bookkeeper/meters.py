"""What the bookkeeper counts."""

from shared.telemetry import Metrics


class Meters:
    """Counters of one process."""

    def __init__(self, metrics: Metrics) -> None:
        self.events = metrics.counter("tundish_books_events_total", "Usage events stored.")
        self.repeated = metrics.counter("tundish_books_repeated_total", "Usage events that were stored before.")
        self.dead = metrics.counter("tundish_books_dead_letters_total", "Messages or pieces set aside as unreadable.")
        self.mispriced = metrics.counter(
            "tundish_books_mispriced_total", "Events whose price row gives another cost than was charged."
        )
        self.differences = metrics.counter(
            "tundish_books_differences_total", "Balances on which a rebuild and the books disagreed."
        )
