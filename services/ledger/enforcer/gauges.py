"""What the metrics page reads from the offices when somebody asks for it."""

from collections.abc import Callable, Sequence

from services.ledger.domain.state import Balance
from services.ledger.enforcer.meters import Meters
from services.ledger.enforcer.office import Office
from shared.telemetry import Metrics


def publish_gauges(metrics: Metrics, offices: Sequence[Office], meters: Meters) -> None:
    """Put the figures of all partitions of this process on its metrics page."""

    def total(name: str, text: str, read: Callable[[Office], int]) -> None:
        metrics.gauge(name, text, lambda: sum(read(office) for office in offices))

    total("tundish_ledger_escrow_nusd", "Money granted and neither spent nor given back.", lambda o: o.state.escrow)
    total(
        "tundish_ledger_presumed_nusd",
        "Money that lost instances held and that counts as spent, summed over accounts.",
        lambda office: _sum(office, lambda balance: balance.presumed),
    )
    total(
        "tundish_ledger_overdraft_nusd",
        "Cost beyond what was held for it, summed over the accounts and windows in memory.",
        lambda office: _sum(office, lambda balance: balance.overdraft),
    )
    total(
        "tundish_ledger_lag_messages",
        "Messages of the logs not folded yet.",
        lambda office: sum(office.reader.lag.values()),
    )
    total(
        "tundish_ledger_active_partitions",
        "Partitions this process holds the office of.",
        lambda office: office.standing == "active",
    )
    total(
        "tundish_ledger_epoch",
        "Sum of the epochs of all partitions: it rises with every change of office.",
        lambda office: office.state.epoch,
    )
    total(
        "tundish_ledger_waiting_requests",
        "Requests of proxies that wait for a decision, for newer policy, or for money to come back.",
        lambda office: office.clerk.waiting,
    )
    total(
        "tundish_ledger_instances",
        "Proxy instances that are not closed.",
        lambda office: sum(not instance.final for instance in office.state.instances.values()),
    )
    metrics.gauge(
        "tundish_ledger_snapshot_age_seconds",
        "How long ago this process knew of a new snapshot (or started), of the partition where that is longest.",
        lambda: max((office.snapshots.age_s for office in offices), default=0),
    )
    metrics.gauge(
        "tundish_ledger_snapshot_seconds",
        "How long the last snapshot took that this process wrote.",
        lambda: meters.snapshot_ms / 1000,
    )
    metrics.gauge(
        "tundish_ledger_snapshot_bytes",
        "Size of the last snapshot that this process wrote, before packing.",
        lambda: meters.snapshot_bytes,
    )


def _sum(office: Office, read: Callable[[Balance], int]) -> int:
    return sum(read(balance) for account in office.state.accounts.values() for balance in account.windows.values())
