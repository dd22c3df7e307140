"""Secrets: shape, checksum, stored forms."""

import hashlib
import re

from services.auth.secret import Vault, checksum, hint, mint, mistyped
from shared.access import SecretHasher
from shared.topology import secret_kv

PEPPERS = {"p2": b"\x01" * 32, "p1": b"\x02" * 32}


def test_a_minted_secret_has_its_shape_and_its_checksum() -> None:
    minted = {mint() for _ in range(50)}
    assert len(minted) == 50
    for secret in minted:
        assert re.fullmatch(r"sk-[0-9A-Za-z]{49}", secret)
        assert checksum(secret[:-6]) == secret[-6:]
        assert not mistyped(secret)


def test_the_checksum_finds_every_single_typing_error() -> None:
    secret = mint()
    for place in range(3, len(secret)):
        other = "A" if secret[place] != "A" else "B"
        assert mistyped(secret[:place] + other + secret[place + 1 :]), place


def test_the_checksum_is_fixed_for_ever() -> None:
    assert checksum("sk-" + "0" * 43) == "3P9rQy"
    assert checksum("") == "000000"


def test_a_secret_of_another_shape_is_never_called_mistyped() -> None:
    for secret in ("sk-custom-key-of-mine", "sk-" + "-" * 49, "", "sk-", "x" * 52):
        assert not mistyped(secret)


def test_the_hint_shows_four_characters() -> None:
    assert hint("sk-abcdefghijklmnop") == "sk-...mnop"


def test_the_vault_knows_a_secret_under_every_pepper() -> None:
    vault, hasher = Vault(PEPPERS), SecretHasher(PEPPERS)
    secret = mint()
    stored = vault.hashed(secret)
    assert (stored.label, stored.digest) == ("p2", hasher.digest(secret, "p2"))
    assert vault.names(secret) == list(hasher.entries(secret))
    assert vault.digests(secret) == [hasher.digest(secret, "p2"), hasher.digest(secret, "p1")]
    sha = hashlib.sha256(secret.encode()).hexdigest()
    assert vault.meant(sha)[0] == hasher.entries(secret)
    assert vault.meant(stored.digest)[1:] == [(secret_kv("p2", stored.digest),), (secret_kv("p1", stored.digest),)]
    assert vault.names(sha)[2:] == [secret_kv("p2", sha), secret_kv("p1", sha)]
    assert vault.digests("key_0193") == vault.names("nothing") == []
    assert secret not in repr(stored)
