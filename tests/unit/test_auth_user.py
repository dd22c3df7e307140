"""Users: made, changed, deleted."""

from datetime import UTC, datetime

import pytest

from services.auth.domain import user
from services.auth.domain.stamp import Stamp
from services.auth.domain.user import ChangeUser, CreateUser, UserState
from shared.errors import ApiError
from shared.events import AnyAuthEvent, TeamDeleted, UserCreated, UserDeleted, UserUpdated
from shared.ids import EventId, OrgId, TeamId, UserId

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CREATE = CreateUser(user_id=UserId("ann"), email="Ann@example.com", alias="Ann", orgs=(OrgId("o"),))


def stamp(n: int = 0) -> Stamp:
    ids = tuple(EventId(f"00000000-0000-7000-8000-{n:06d}{index:06d}") for index in range(6))
    return Stamp(at=AT.replace(minute=n), source="auth/test", actor=f"actor{n}", ids=ids)


def fold(events: list[AnyAuthEvent], state: UserState | None = None) -> UserState:
    for event in events:
        state = user.evolve(state, event)
    assert state is not None
    return state


def test_made_changed_deleted() -> None:
    events = user.decide_create(None, CREATE, stamp())
    assert [type(event) for event in events] == [UserCreated]
    state = fold(events)
    assert (state.email, state.role, state.orgs, state.created_by) == (
        "Ann@example.com",
        "internal_user",
        ("o",),
        "actor0",
    )

    change = ChangeUser(role="proxy_admin", join=(OrgId("p"), OrgId("o")), leave=(OrgId("o"),))
    events = user.decide_update(state, "ann", change, stamp(1))
    assert [type(event) for event in events] == [UserUpdated]
    changed = fold(events, state)
    assert (changed.role, changed.orgs, changed.email) == ("proxy_admin", ("p",), "Ann@example.com")
    assert (changed.created_by, changed.updated_by) == ("actor0", "actor1")
    assert user.decide_update(changed, "ann", change, stamp(2)) == []
    cleared = fold(user.decide_update(changed, "ann", ChangeUser(email=None, orgs=()), stamp(2)), changed)
    assert (cleared.email, cleared.orgs) == (None, ())

    events = user.decide_delete(cleared, "ann", stamp(3))
    assert [type(event) for event in events] == [UserDeleted]
    gone = fold(events, cleared)
    assert gone.deleted_at == AT.replace(minute=3)
    assert user.decide_delete(gone, "ann", stamp(4)) == []
    said: set[str] = set()
    for dead in (None, gone):
        with pytest.raises(ApiError) as refusal:
            user.decide_update(dead, "ann", ChangeUser(), stamp(4))
        said.add(str(refusal.value.body()))
    assert len(said) == 1, "who was deleted is as who never was"
    with pytest.raises(ApiError):
        user.decide_delete(None, "ann", stamp(4))


def test_an_id_is_given_once() -> None:
    state = fold(user.decide_create(None, CREATE, stamp()))
    with pytest.raises(ApiError, match="exists already"):
        user.decide_create(state, CREATE, stamp(1))
    again = CreateUser(user_id=UserId("ann"), email="Ann@example.com", alias="Ann", orgs=(OrgId("o"),), again=True)
    assert user.decide_create(state, again, stamp(1)) == []
    gone = fold(user.decide_delete(state, "ann", stamp(1)), state)
    for command in (CREATE, again):
        with pytest.raises(ApiError, match="an id is given once"):
            user.decide_create(gone, command, stamp(2))


def test_events_that_do_not_belong() -> None:
    with pytest.raises(ValueError, match="in the life of a user"):
        user.evolve(None, UserDeleted(**stamp().envelope(0), user_id=UserId("ann")))
    state = fold(user.decide_create(None, CREATE, stamp()))
    with pytest.raises(ValueError, match="in the life of a user"):
        user.evolve(state, TeamDeleted(**stamp().envelope(0), team_id=TeamId("t")))


@pytest.mark.parametrize("wrong", ["", "ann", "a b@c.de", "ann@", "@x.de", "a@b@c", "a\n@b.de", "x" * 250 + "@b.de"])
def test_addresses(wrong: str) -> None:
    with pytest.raises(ApiError, match="user_email"):
        user.address("user_email", wrong)
    assert user.address("user_email", "ann@example.com") == "ann@example.com"
    assert user.address("user_email", None) is None
