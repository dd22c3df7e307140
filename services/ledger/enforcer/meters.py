"""What the enforcer counts."""

from shared.auth_log import AuthLog
from shared.telemetry import Metrics


class Meters:
    """Counters of one process; all partitions share them."""

    def __init__(self, metrics: Metrics) -> None:
        self.answers = metrics.counter("tundish_ledger_answers_total", "Answers to asks, by verdict.", "verdict")
        self.grants = metrics.counter("tundish_ledger_grants_total", "Grants appended to the log.")
        self.batches = metrics.counter("tundish_ledger_batches_total", "Batches appended to the log.")
        self.records = metrics.counter("tundish_ledger_records_total", "Records appended to the log.")
        self.bytes = metrics.counter("tundish_ledger_appended_bytes_total", "Bytes appended to the log.")
        self.dropped = metrics.counter(
            "tundish_ledger_dropped_batches_total", "Batches whose append failed, by reason.", "reason"
        )
        self.sent_away = metrics.counter("tundish_ledger_sent_away_total", "Requests that were told to ask again.")
        self.signals = metrics.counter("tundish_ledger_signals_total", "Signals published, by kind.", "kind")
        self.unreadable = metrics.counter(
            "tundish_ledger_unreadable_total", "Messages or parts of them that could not be read.", "what"
        )
        self.folded = metrics.counter("tundish_ledger_folded_messages_total", "Messages of the logs read.", "stream")
        self.recalls = metrics.counter("tundish_ledger_recalls_total", "Recalls sent to proxy instances.")
        self.closings = metrics.counter("tundish_ledger_closings_total", "Instances closed, by how.", "how")
        self.levels = metrics.counter("tundish_ledger_levels_total", "Levels written, by state.", "state")
        self.snapshots = metrics.counter("tundish_ledger_snapshots_total", "Snapshots written by this process.")
        self.snapshot_ms = 0
        self.snapshot_bytes = 0
        self.auth_log = AuthLog(metrics)

    def snapshot(self, took_ms: int, size: int) -> None:
        """A snapshot of `size` bytes (before packing) was written."""
        self.snapshots.add()
        self.snapshot_ms = took_ms
        self.snapshot_bytes = size
