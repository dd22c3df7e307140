"""Who may administer: the master key, services with tokens of their own, and nobody else."""

import pytest

from shared.access import ACTOR_HEADER, SECRET_CHARS_MAX, Gatekeeper, SecretHasher, bearer, sign_actor
from shared.errors import ApiError
from shared.ids import KeyId
from shared.policy import SecretRecord
from shared.topology import secret_kv

MASTER = "sk-the-master-key-of-this-test-1234"
PEPPERS = {"p2": b"2" * 32, "p1": b"1" * 32}
GATE = Gatekeeper(master_key=MASTER, peer_tokens={"auth": "token-of-auth", "proxy": "token-of-proxy"})


def with_bearer(secret: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + secret.encode("latin-1")}


@pytest.mark.parametrize("name", [b"api-key", b"x-api-key"])
def test_the_master_key_is_an_administrator_by_every_header(name: bytes) -> None:
    for headers in (with_bearer(MASTER), {name: MASTER.encode()}, {b"authorization": b"bEaReR  " + MASTER.encode()}):
        principal = GATE.admin(headers)
        assert (principal.is_admin, principal.actor) == (True, "master-key")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({b"authorization": b""}, "missing_api_key"),
        ({b"authorization": b"Basic eDp5"}, "missing_api_key"),
        ({b"authorization": b"Bearer "}, "missing_api_key"),
        (with_bearer("x" * (SECRET_CHARS_MAX + 1)), "missing_api_key"),
        (with_bearer(MASTER[:-1]), "invalid_api_key"),
        (with_bearer(MASTER + "x"), "invalid_api_key"),
        (with_bearer("sk-\xff\xfe"), "invalid_api_key"),
        (with_bearer("token-of-nobody"), "invalid_api_key"),
    ],
)
def test_everything_else_is_401(headers: dict[bytes, bytes], code: str) -> None:
    with pytest.raises(ApiError) as caught:
        GATE.admin(headers)
    assert (caught.value.status, caught.value.code) == (401, code)
    assert MASTER not in str(caught.value)


def test_a_service_acts_for_a_person_only_with_its_own_signature() -> None:
    headers = with_bearer("token-of-auth")
    assert GATE.admin(headers).actor == "service:auth"
    headers[ACTOR_HEADER] = sign_actor("token-of-auth", "alice").encode()
    assert GATE.admin(headers).actor == "alice"
    headers[ACTOR_HEADER] = sign_actor("token-of-proxy", "alice").encode()
    assert GATE.admin(headers).actor == "service:auth"
    for forged in (b"alice", b"alice;", b";", b"\xff;\xff", b"alice;00"):
        headers[ACTOR_HEADER] = forged
        assert GATE.admin(headers).actor == "service:auth"


def test_an_actor_may_hold_the_separator() -> None:
    headers = with_bearer("token-of-auth") | {ACTOR_HEADER: sign_actor("token-of-auth", "a;b").encode()}
    assert GATE.admin(headers).actor == "a;b"


def test_the_master_key_ignores_a_claim_to_be_somebody() -> None:
    headers = with_bearer(MASTER) | {ACTOR_HEADER: sign_actor(MASTER, "alice").encode()}
    assert GATE.admin(headers).actor == "master-key"


def test_a_virtual_key_is_known_but_no_administrator() -> None:
    hasher = SecretHasher(PEPPERS)
    gate = Gatekeeper(master_key=MASTER, peer_tokens={}, hasher=hasher)
    record = SecretRecord(key_id=KeyId("key_1"), version=1, seq=7)
    for label in PEPPERS:
        secrets = {secret_kv(label, hasher.digest("sk-virtual", label)): record}
        principal = gate.authenticate(with_bearer("sk-virtual"), secrets)
        assert (principal.role, principal.key_id, principal.is_admin) == ("key", "key_1", False)
        with pytest.raises(ApiError):
            gate.authenticate(with_bearer("sk-other"), secrets)
    with pytest.raises(ApiError) as caught:
        gate.admin(with_bearer("sk-virtual"))
    assert caught.value.status == 401


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
