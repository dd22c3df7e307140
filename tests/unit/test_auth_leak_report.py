"""Reports of leaks: what is read of a body that anybody may send, and what never is."""

from hashlib import sha256

import msgspec
import pytest

from services.auth.schemas.leaks import TEXT_MAX, TOKENS_MAX, WITHHELD, read_report
from services.auth.secret import Vault, mint
from shared.errors import ApiError
from shared.topology import secret_kv

SECRET = "sk-a-secret-that-was-found"


def test_one_of_our_own() -> None:
    report = read_report(b'{"key": "sk-a-secret-that-was-found", "source": "scanner", "url": "https://x.example/a"}')
    (token,) = report.tokens
    assert (token.secret, token.source, token.url) == (SECRET, "scanner", "https://x.example/a")


def test_the_list_of_a_scanning_partner() -> None:
    report = read_report(
        b' [{"token": "sk-1", "type": "tundish", "url": "https://g.example/1", "source": "content"},'
        b' {"token": "sk-2", "type": "tundish", "url": null}]'
    )
    assert [token.secret for token in report.tokens] == ["sk-1", "sk-2"]
    assert report.tokens[1].url == ""


def test_texts_of_strangers_are_short_plain_and_without_any_of_the_secrets() -> None:
    body = (
        '[{"token": "sk-1", "url": "https://g.example/?k=sk-2", "source": "a\\nb\\u001b[31m"},'
        ' {"token": "sk-2", "source": "' + "x" * 1_000 + '"}]'
    )
    first, second = read_report(body.encode()).tokens
    assert first.url == WITHHELD
    assert first.source == "ab[31m"
    assert second.source == "x" * TEXT_MAX


def test_nothing_turns_the_texts_of_strangers_around_or_breaks_their_lines() -> None:
    odd = "".join(map(chr, (0x202E, 0x2066, 0x2028, 0x2029, 0x200B, 0xAD, 0x85, 0xFEFF, 0x1F, 0x7F)))
    body = msgspec.json.encode([{"token": "sk-1234", "source": f"Zoë{odd} 東", "url": f"https://x/{odd}<b>"}])
    (token,) = read_report(body).tokens
    assert (token.source, token.url) == ("Zoë 東", "https://x/<b>")
    hidden = msgspec.json.encode([{"token": "sk-1234", "source": "is sk-\u200b1234"}])
    assert read_report(hidden).tokens[0].source == WITHHELD, "also in a guise that is not seen"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"[1]",
        b'[{"type": "x"}]',
        b'{"key": ""}',
        b'{"key": 3}',
        b'{"key": "sk-a-secret-that-was-found", "more": true}',
        b'["sk-a-secret-that-was-found"',
        b'{"key": "' + b"x" * 600 + b'"}',
        b"[" + b",".join([b'{"token": "sk-a-secret-that-was-found"}'] * (TOKENS_MAX + 1)) + b"]",
    ],
)
def test_a_bad_body_is_refused_without_being_repeated(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        read_report(body)
    assert caught.value.status == 400
    assert SECRET not in caught.value.message


def test_a_secret_is_meant_by_itself_by_its_sha256_and_by_its_stored_hash() -> None:
    vault = Vault({"p2": b"2" * 32, "p1": b"1" * 32})
    text = mint()
    names = vault.names_of_secret(text)
    assert vault.meant(text) == [names]
    by_sha256 = vault.meant(sha256(text.encode()).hexdigest())
    assert by_sha256[0] == names
    stored = names[1].rpartition(".")[2]
    assert (secret_kv("p1", stored),) in vault.meant(stored)
    assert vault.meant("an-alias") == []
