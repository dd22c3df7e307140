"""The chain of the audit log, and the names of its actions."""

from typing import get_args

import msgspec
import pytest

from services.auth.domain.actions import ACTIONS, NAMES, TABLES, action_of, types_of
from services.auth.domain.chain import GENESIS, Head, Link, follow, linked
from shared.events import AnyAuthEvent


def links(count: int) -> list[Link]:
    found: list[Link] = []
    before = GENESIS
    for position in range(1, count + 1):
        texts = (str(position), f"event {position}", None)
        before = linked(before, texts)
        found.append(Link(position=position, texts=texts, hash=before))
    return found


def test_a_whole_chain_is_followed_in_pieces() -> None:
    chain = links(5)
    head, wrong = follow(Head(), chain[:2])
    assert wrong is None
    head, wrong = follow(head, chain[2:])
    assert (head.position, wrong) == (5, None)
    assert head.anchor == f"5:{chain[-1].hash.hex() if chain[-1].hash else ''}"


@pytest.mark.parametrize(
    ("change", "at"),
    [
        (lambda chain: chain.pop(2), 3),
        (lambda chain: chain.__setitem__(1, msgspec.structs.replace(chain[1], texts=("2", "another", None))), 2),
        (lambda chain: chain.__setitem__(1, msgspec.structs.replace(chain[1], texts=("2", "event 2", ""))), 2),
        (lambda chain: chain.__setitem__(3, msgspec.structs.replace(chain[3], hash=None)), 4),
        (lambda chain: chain.__setitem__(3, msgspec.structs.replace(chain[3], hash=GENESIS)), 4),
        (lambda chain: chain.__setitem__(0, msgspec.structs.replace(chain[0], texts=(None, None, None))), 1),
    ],
)
def test_every_change_is_found_where_it_is(change: object, at: int) -> None:
    chain = links(5)
    change(chain)  # type: ignore[operator]
    head, wrong = follow(Head(), chain)
    assert wrong is not None
    assert (wrong.position, head.position) == (at, at - 1)


def test_texts_cannot_flow_into_one_another() -> None:
    assert linked(GENESIS, ("ab", "c")) != linked(GENESIS, ("a", "bc"))
    assert linked(GENESIS, ("", None)) != linked(GENESIS, (None, ""))
    assert linked(GENESIS, ("é",)) != linked(GENESIS, ("e",))


def tags() -> set[str]:
    return {str(kind.__struct_config__.tag) for kind in get_args(AnyAuthEvent)}


def test_every_event_has_an_action() -> None:
    assert set(ACTIONS) == tags()
    assert {kind.partition(".")[0] for kind in ACTIONS} == set(TABLES)


def test_actions_and_types_are_each_others_reverse() -> None:
    for name in NAMES:
        usual, first = types_of(name)
        assert all(action_of(kind, 2) == name for kind in usual)
        assert all(action_of(kind, 1) == name for kind in first)
    assert action_of("key.secret_minted.v1", 1) == "created"
    assert action_of("key.secret_minted.v1", 2) == "rotated"
