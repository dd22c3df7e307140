"""Which subjects a question about signals looks at."""

import pytest

from services.scheduler.alerts import subject_of
from shared.errors import ApiError


@pytest.mark.parametrize(
    ("kind", "scope", "subject"),
    [
        (None, None, "signal.*.*.v1.*.*"),
        ("budget", None, "signal.budget.*.v1.*.*"),
        ("budget.exceeded", None, "signal.budget.exceeded.v1.*.*"),
        (None, "team:t1", "signal.*.*.v1.team.t1"),
        ("key.leaked", "key:key_0193", "signal.key.leaked.v1.key.key_0193"),
    ],
)
def test_kind_and_scope_become_a_subject(kind: str | None, scope: str | None, subject: str) -> None:
    assert subject_of(kind, scope) == subject


@pytest.mark.parametrize("kind", ["*", ">", "Budget", "budget.", "a.b.c", "budget exceeded"])
def test_a_kind_that_is_none_is_refused(kind: str) -> None:
    with pytest.raises(ApiError) as found:
        subject_of(kind, None)
    assert (found.value.status, found.value.param) == (400, "kind")


@pytest.mark.parametrize("scope", ["team", "team:", "user:u", "team:*", "team:a.b", "key:>", "key:a b"])
def test_a_scope_that_is_none_is_refused(scope: str) -> None:
    with pytest.raises(ApiError) as found:
        subject_of(None, scope)
    assert (found.value.status, found.value.param) == (400, "scope")
