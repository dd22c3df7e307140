"""What proxy instances tell each other about rate limits.

All figures are absolute (what a bucket holds, what was ever given to whom), so a message that is repeated or lost does
no harm: the next one says it again. Times are the sender's own milliseconds; `at_ms` lets a receiver place them on its
clock, later by the message's way, never earlier.
"""

import msgspec

ROWS_PER_MESSAGE_MAX = 100
MESSAGE_BYTES_MAX = 512 * 1024


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One limit as the sender sees it.

    `id` ends in the kind: r requests, t tokens, p calls in flight. `rights` is the sender's part of the limit, `demand`
    what it was lately offered, `wants` how much more it could use, `gave` what it ever handed to other instances while
    the limit was `limit`. `amounts` are its buckets: all of them when `whole`, else those that changed. `in_flight` is
    what of them are estimates of calls that have not ended.
    """

    id: str
    limit: int
    rights: int
    demand: int
    wants: int
    gave: dict[str, int]
    amounts: tuple[tuple[int, int], ...]
    whole: bool
    in_flight: int = 0


class News(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message. `seq` rises; `hello` asks for everything that the others know; `leaving` is the last message."""

    instance: str
    seq: int
    at_ms: int
    rows: tuple[Row, ...] = ()
    hello: bool = False
    leaving: bool = False


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(News)


def encode(news: News) -> bytes:
    """The wire form."""
    return _encoder.encode(news)


def decode(data: bytes) -> News:
    """What was said. Raises ValueError when it cannot be read or is larger than anybody sends."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise ValueError(f"gossip of {len(data)} bytes; at most {MESSAGE_BYTES_MAX} are read")
    news = _decoder.decode(data)
    if len(news.rows) > ROWS_PER_MESSAGE_MAX:
        raise ValueError(f"gossip with {len(news.rows)} rows; at most {ROWS_PER_MESSAGE_MAX} are read")
    return news
