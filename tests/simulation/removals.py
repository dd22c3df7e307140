"""Rules taken away one at a time: a simulation that does not notice would prove nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgspec
import pytest

from services.ledger.domain import fold
from services.ledger.domain.draft import Draft
from services.ledger.domain.state import Allotment, Instance
from services.ledger.domain.tuning import Tuning
from services.proxy.domain.money.bank import Bank
from services.proxy.domain.money.counter import Leases
from services.proxy.domain.money.vault import Vault
from shared.events import AllotmentReturned, GrantBatch
from tests.simulation import test_scenarios_life as life
from tests.simulation import test_scenarios_log as log
from tests.simulation import test_scenarios_windows as windows
from tests.simulation.logs import Logs
from tests.simulation.oracle import claim
from tests.simulation.run import attempt
from tests.simulation.world import World

Remove = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Removal:
    """One rule, how to take it away, and what notices: a scenario, or one of some seeds."""

    rule: str
    remove: Remove
    notices: Callable[[], None]


def _seed(profile: str, *seeds: int) -> None:
    """Run seeds until one of them is broken. Raises Violation."""
    for seed in seeds:
        claim(not (broken := attempt(profile, seed).broken), broken)


def _fence(patch: pytest.MonkeyPatch) -> None:
    """R1: two enforcers append side by side."""
    patch.setattr(Logs, "fenced", False)


def _hasty(patch: pytest.MonkeyPatch) -> None:
    """R3: replies leave before the append."""
    patch.setattr(World, "hasty", True)


def _returns(patch: pytest.MonkeyPatch) -> None:
    """R4: returns are known to the enforcer only; the log does not have them."""
    append = Logs.append

    def without(self: Logs, batch: GrantBatch, expected: int) -> int:
        records = tuple(record for record in batch.records if not isinstance(record, AllotmentReturned))
        return append(self, msgspec.structs.replace(batch, records=records), expected)

    patch.setattr(Logs, "append", without)


def _barrier(patch: pytest.MonkeyPatch) -> None:
    """R5: a new enforcer grants before it has read what earlier decisions rest on."""
    patch.setattr(World, "barrier", False)


def _numbers(patch: pytest.MonkeyPatch) -> None:
    """R8: events that come twice count twice."""
    patch.setattr(Instance, "see", lambda self, n: True)  # pyright: ignore[reportUnknownArgumentType]


def _policy(patch: pytest.MonkeyPatch) -> None:
    """R15: a proxy without loaded policy takes calls."""
    patch.setattr(World, "waits_for_policy", False)


def _lease(patch: pytest.MonkeyPatch) -> None:
    """R16: a proxy goes on for ever with what it has."""

    def renew(self: Leases, partition: int, reply: object) -> bool:
        self.until_ms[partition] = 10**15
        return True

    patch.setattr(Leases, "renew", renew)
    patch.setattr(Draft, "admit_for_ms", lambda self, term: 10**12)  # nor does it see a deadline


def _silence(patch: pytest.MonkeyPatch) -> None:
    """R17: the longest call is not waited for."""
    patch.setattr(Tuning, "silent_after", lambda self, lease_ms: self.lease_ms // 2)


def _exact_close(patch: pytest.MonkeyPatch) -> None:
    """R19: a closing takes effect before all usage is folded."""

    def finish(*args: object) -> None:
        instance = next(arg for arg in args if isinstance(arg, Instance))
        if instance.last_n is not None and not instance.final:
            instance.floor = max(instance.floor, instance.last_n)
            finished(*args)  # pyright: ignore[reportArgumentType]

    finished = fold._finish
    patch.setattr(fold, "_finish", finish)
    patch.setattr(World, "close_early", True)


def _same_name(patch: pytest.MonkeyPatch) -> None:
    """R22: a closed instance goes on under its name."""
    patch.setattr(Bank, "_close", lambda self: None)  # pyright: ignore[reportUnknownLambdaType]


def _believes(patch: pytest.MonkeyPatch) -> None:
    """R24: a proxy does not take in what it did not ask for."""
    patch.setattr(Vault, "believe", lambda self, *args: None)  # pyright: ignore[reportUnknownLambdaType]


def _clamp(patch: pytest.MonkeyPatch) -> None:
    """R29: one allotment's deficit is lent to others."""
    patch.setattr(Allotment, "left", property(lambda self: self.granted - self.settled - self.returned))


REMOVALS = (
    Removal("R1 the fence", _fence, log.test_03_an_old_enforcer_wakes_after_an_election_with_a_full_inbox),
    Removal("R1 the fence", _fence, partial(_seed, "harsh", *range(1, 13))),
    Removal("R3 nothing tentative leaves", _hasty, log.test_01_two_copies_of_one_ask_in_a_batch_whose_append_fails),
    Removal("R4 returns are in the log", _returns, log.test_04_money_returned_and_granted_elsewhere),
    Removal("R4 returns are in the log", _returns, partial(_seed, "base", 1)),
    Removal("R5 the barrier", _barrier, log.test_05_a_lowered_limit_survives_a_fail_over),
    Removal("R8 event numbers", _numbers, log.test_07_a_batch_published_again_long_after_its_instance_was_closed),
    Removal("R15 unknown is not unlimited", _policy, windows.test_21_a_proxy_without_its_policy_admits_nothing),
    Removal("R16 the lease", _lease, life.test_09_a_proxy_cut_off_with_a_full_wallet),
    Removal("R16 the lease", _lease, partial(_seed, "harsh", *range(1, 25))),
    Removal("R17 silence", _silence, life.test_10_elections_restart_the_silence_of_an_instance),
    Removal("R17 silence", _silence, partial(_seed, "harsh", *range(1, 25))),
    Removal("R19 a closing is exact", _exact_close, log.test_08_a_slow_publisher_and_a_clean_close_at_the_wall),
    Removal("R19 a closing is exact", _exact_close, partial(_seed, "harsh", *range(1, 13))),
    Removal("R22 a new name", _same_name, life.test_09_a_proxy_cut_off_with_a_full_wallet),
    Removal("R24 every figure is believed", _believes, life.test_13_an_answer_is_lost_and_the_caller_gives_up),
    Removal("R24 every figure is believed", _believes, partial(_seed, "lossy", 1, 2, 3)),
    Removal("R29 the clamp", _clamp, windows.test_22_default_mode_one_allotments_deficit_is_no_others_money),
    Removal("R29 the clamp", _clamp, partial(_seed, "default-mode", 1, 2)),
)
