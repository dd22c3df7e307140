"""How many tokens a text is likely to have, by its bytes."""

ASCII_BYTES_PER_TOKEN = 3
OTHER_BYTES_PER_TOKEN = 2
"""English has about four bytes in a token, code and JSON about three; other scripts two to five."""

_ASCII = bytes(range(128))


def text_tokens(text: bytes) -> int:
    """Tokens of JSON or plain text: a third of its ASCII bytes, half of the others."""
    if text.isascii():
        return -(-len(text) // ASCII_BYTES_PER_TOKEN)
    other = len(text.translate(None, _ASCII))
    return -(-(len(text) - other) // ASCII_BYTES_PER_TOKEN) + -(-other // OTHER_BYTES_PER_TOKEN)


def words_tokens(text: str | None) -> int:
    """Tokens of a text that was decoded already."""
    return text_tokens(text.encode("utf-8", "replace")) if text else 0
