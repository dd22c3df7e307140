"""Who may administer what: the master key, services with tokens of their own, and keys with a role in their reach."""

from collections.abc import Mapping
from typing import Any, get_args

import pytest

from shared.access import (
    ACTOR_HEADER,
    MASTER,
    RANKS,
    REACHES,
    RIGHTS,
    SECRET_CHARS_MAX,
    Gatekeeper,
    Principal,
    Right,
    SecretHasher,
    bearer,
    principal_of,
    sign_actor,
)
from shared.errors import ApiError
from shared.ids import KeyId, OrgId, TeamId
from shared.policy import KeyRecord, Role

MASTER_KEY = "sk-the-master-key-of-this-test-1234"
PEPPERS = {"p2": b"2" * 32, "p1": b"1" * 32}
BASE = KeyRecord(seq=1, key_id=KeyId("key_1"), org_id=OrgId("research"), team_id=TeamId("search"))


def key(**fields: Any) -> KeyRecord:
    return KeyRecord(**({name: getattr(BASE, name) for name in ("seq", "key_id", "org_id", "team_id")} | fields))


class Ring:
    """Keys by their secrets, as the mirrors show them."""

    def __init__(self, records: Mapping[str, KeyRecord]) -> None:
        self._records = records

    def holder(self, secret: str) -> KeyRecord | None:
        if secret == "sk-blocked":
            raise ApiError(401, "invalid_api_key", "The API key is blocked.", kind="authentication_error")
        return self._records.get(secret)


RING = Ring(
    {
        "sk-plain": key(),
        "sk-admin": key(role="admin", reach="all", team_id=None),
        "sk-org": key(role="org_admin", reach="org", team_id=None),
        "sk-team": key(role="team_admin", reach="team"),
        "sk-viewer": key(role="viewer", reach="all", team_id=None),
    }
)
GATE = Gatekeeper(master_key=MASTER_KEY, peer_tokens={"auth": "token-of-auth", "proxy": "token-of-proxy"}, keyring=RING)


def with_bearer(secret: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + secret.encode("latin-1")}


def refusal(headers: dict[bytes, bytes], right: Right = Right.KEY_WRITE, *, everywhere: bool = False) -> ApiError:
    with pytest.raises(ApiError) as caught:
        GATE.admit(headers, right, everywhere=everywhere)
    return caught.value


@pytest.mark.parametrize("name", [b"api-key", b"x-api-key"])
def test_the_master_key_is_an_administrator_by_every_header(name: bytes) -> None:
    for headers in (
        with_bearer(MASTER_KEY),
        {name: MASTER_KEY.encode()},
        {b"authorization": b"bEaReR  " + MASTER_KEY.encode()},
    ):
        principal = GATE.authenticate(headers)
        assert (principal.is_admin, principal.actor) == (True, MASTER)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({b"authorization": b""}, "missing_api_key"),
        ({b"authorization": b"Basic eDp5"}, "missing_api_key"),
        ({b"authorization": b"Bearer "}, "missing_api_key"),
        (with_bearer("x" * (SECRET_CHARS_MAX + 1)), "missing_api_key"),
        (with_bearer(MASTER_KEY[:-1]), "invalid_api_key"),
        (with_bearer(MASTER_KEY + "x"), "invalid_api_key"),
        (with_bearer("sk-\xff\xfe"), "invalid_api_key"),
        (with_bearer("token-of-nobody"), "invalid_api_key"),
    ],
)
def test_everything_else_is_401(headers: dict[bytes, bytes], code: str) -> None:
    with pytest.raises(ApiError) as caught:
        GATE.authenticate(headers)
    assert (caught.value.status, caught.value.code) == (401, code)
    assert MASTER_KEY not in str(caught.value)


def test_a_service_acts_for_a_person_only_with_its_own_signature() -> None:
    headers = with_bearer("token-of-auth")
    assert GATE.authenticate(headers).actor == "service:auth"
    headers[ACTOR_HEADER] = sign_actor("token-of-auth", "alice").encode()
    assert GATE.authenticate(headers).actor == "alice"
    headers[ACTOR_HEADER] = sign_actor("token-of-proxy", "alice").encode()
    assert GATE.authenticate(headers).actor == "service:auth"
    for forged in (b"alice", b"alice;", b";", b"\xff;\xff", b"alice;00"):
        headers[ACTOR_HEADER] = forged
        assert GATE.authenticate(headers).actor == "service:auth"


def test_an_actor_may_hold_the_separator() -> None:
    headers = with_bearer("token-of-auth") | {ACTOR_HEADER: sign_actor("token-of-auth", "a;b").encode()}
    assert GATE.authenticate(headers).actor == "a;b"


def test_the_master_key_ignores_a_claim_to_be_somebody() -> None:
    headers = with_bearer(MASTER_KEY) | {ACTOR_HEADER: sign_actor(MASTER_KEY, "alice").encode()}
    assert GATE.authenticate(headers).actor == MASTER


# ---- keys --------------------------------------------------------------------------------------------


def test_a_key_without_a_role_is_known_and_administers_nothing() -> None:
    assert GATE.authenticate(with_bearer("sk-plain")) == Principal(
        role=None,
        actor="key_1",
        reach="team",
        key_id=KeyId("key_1"),
        org_id=OrgId("research"),
        team_id=TeamId("search"),
    )
    for right in Right:
        caught = refusal(with_bearer("sk-plain"), right)
        assert (caught.status, caught.code, caught.kind) == (403, "not_allowed", "permission_error")


def test_the_ring_says_why_a_known_key_is_refused() -> None:
    caught = refusal(with_bearer("sk-blocked"))
    assert (caught.status, caught.message) == (401, "The API key is blocked.")


def test_without_a_ring_only_the_master_key_and_services_are_known() -> None:
    gate = Gatekeeper(master_key=MASTER_KEY, peer_tokens={})
    with pytest.raises(ApiError) as caught:
        gate.authenticate(with_bearer("sk-admin"))
    assert caught.value.status == 401
    assert gate.authenticate(with_bearer(MASTER_KEY)).is_admin


@pytest.mark.parametrize(
    ("secret", "right", "allowed"),
    [
        ("sk-admin", Right.OPERATE, True),
        ("sk-admin", Right.ORG_WRITE, True),
        ("sk-org", Right.ORG_WRITE, False),
        ("sk-org", Right.TEAM_WRITE, True),
        ("sk-org", Right.USER_WRITE, False),
        ("sk-team", Right.TEAM_WRITE, False),
        ("sk-team", Right.TEAM_MEMBERS, True),
        ("sk-team", Right.KEY_WRITE, True),
        ("sk-team", Right.ORG_READ, False),
        ("sk-viewer", Right.AUDIT_READ, True),
        ("sk-viewer", Right.KEY_WRITE, False),
        ("sk-viewer", Right.OPERATE, False),
    ],
)
def test_a_role_has_the_rights_of_its_table_and_no_more(secret: str, right: Right, allowed: bool) -> None:
    if allowed:
        assert GATE.admit(with_bearer(secret), right).actor == "key_1"
    else:
        caught = refusal(with_bearer(secret), right)
        assert (caught.status, caught.code) == (403, "not_allowed")
        assert right in caught.message


def test_what_concerns_everybody_takes_a_role_that_holds_everywhere() -> None:
    for secret in ("sk-org", "sk-team"):
        assert refusal(with_bearer(secret), Right.SPEND_READ, everywhere=True).status == 403
    for secret in ("sk-admin", "sk-viewer", MASTER_KEY, "token-of-proxy"):
        assert GATE.admit(with_bearer(secret), Right.SPEND_READ, everywhere=True).everywhere


# ---- reach -------------------------------------------------------------------------------------------

EVERYWHERE = Principal(role="admin", actor="a")
OF_ORG = principal_of(key(role="org_admin", reach="org", team_id=None))
OF_TEAM = principal_of(key(role="team_admin", reach="team"))
NOBODY = principal_of(key())


@pytest.mark.parametrize(
    ("principal", "own_org", "own_team", "other_team", "other_org"),
    [
        (EVERYWHERE, True, True, True, True),
        (OF_ORG, True, True, True, False),
        (OF_TEAM, False, True, False, False),
        (NOBODY, False, False, False, False),
    ],
)
def test_how_far_a_role_reaches(
    principal: Principal, own_org: bool, own_team: bool, other_team: bool, other_org: bool
) -> None:
    assert principal.covers("research") is own_org
    assert principal.covers("research", "search") is own_team
    assert principal.covers("research", "ads") is other_team
    assert principal.covers("sales") is other_org
    assert principal.covers("sales", "search") is other_org
    assert principal.covers(None) is (principal is EVERYWHERE)
    assert principal.covers(None, None) is (principal is EVERYWHERE)


def test_a_team_role_without_a_team_reaches_nothing() -> None:
    lost = principal_of(key(role="team_admin", reach="team", team_id=None))
    assert not lost.covers("research")
    assert not lost.covers("research", None)


def test_a_role_without_a_reach_is_taken_for_the_narrowest() -> None:
    assert principal_of(key(role="viewer")).reach == "team"
    assert not principal_of(key(role="admin")).everywhere


def test_lists_are_narrowed_to_the_reach() -> None:
    assert EVERYWHERE.bounds() == (None, None)
    assert OF_ORG.bounds() == ("research", None)
    assert OF_TEAM.bounds() == ("research", "search")
    assert NOBODY.bounds() == ("research", "search")


@pytest.mark.parametrize("role", RANKS)
def test_nobody_gives_a_role_above_their_own(role: Role) -> None:
    giver = Principal(role=role, actor="a")
    assert [given for given in RANKS if giver.may_give(given)] == list(RANKS[: RANKS.index(role) + 1])
    assert not any(NOBODY.may_give(given) for given in RANKS)


def test_the_table_of_roles_is_whole() -> None:
    roles = set(get_args(Role))
    assert set(RIGHTS) == set(REACHES) == set(RANKS) == roles
    assert RIGHTS["admin"] == frozenset(Right)
    assert not any(
        right.endswith((":write", ":members", ":correct")) or right == "operate" for right in RIGHTS["viewer"]
    )


def test_demand_names_the_right_and_who_has_it() -> None:
    with pytest.raises(ApiError) as caught:
        OF_TEAM.demand(Right.ORG_WRITE)
    assert "org:write" in caught.value.message
    assert "role admin" in caught.value.message
    EVERYWHERE.demand(Right.ORG_WRITE)


# ---- secrets -----------------------------------------------------------------------------------------


def test_hashes_depend_on_secret_and_pepper_and_are_made_with_the_first() -> None:
    hasher = SecretHasher(PEPPERS)
    assert hasher.current == "p2"
    assert hasher.digest("s") == hasher.digest("s", "p2") != hasher.digest("s", "p1")
    assert hasher.digest("s") != hasher.digest("t")
    assert hasher.entries("s") == (f"s.p2.{hasher.digest('s', 'p2')}", f"s.p1.{hasher.digest('s', 'p1')}")


def test_the_hash_is_that_of_imported_keys() -> None:
    """HMAC-SHA-256(pepper, SHA-256(secret)): a key known only by its SHA-256 can be stored, too."""
    import hashlib
    import hmac

    inner = hashlib.sha256(b"sk-imported").digest()
    assert SecretHasher({"p": b"k" * 32}).digest("sk-imported") == hmac.new(b"k" * 32, inner, "sha256").hexdigest()


def test_the_authorization_header_comes_first() -> None:
    assert bearer(with_bearer("a") | {b"api-key": b"b"}) == "a"
    assert bearer({b"authorization": b"Basic x", b"api-key": b"b"}) == "b"
    assert bearer({b"api-key": b"b", b"x-api-key": b"c"}) == "b"
