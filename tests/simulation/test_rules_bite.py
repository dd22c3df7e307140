"""With one rule taken away each, the simulation must notice."""

import pytest

from tests.simulation.removals import REMOVALS, Removal


@pytest.mark.parametrize("removal", REMOVALS, ids=[f"{number}-{found.rule}" for number, found in enumerate(REMOVALS)])
def test_a_rule_that_is_taken_away_is_missed(removal: Removal, monkeypatch: pytest.MonkeyPatch) -> None:
    removal.remove(monkeypatch)
    with pytest.raises(AssertionError):
        removal.notices()
