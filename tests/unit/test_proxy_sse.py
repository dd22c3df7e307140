"""Cutting streams into events: wherever the network cuts, the same events come out."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain import sse
from services.proxy.domain.sse import FrameSplitter, FrameTooLong, data_of

ENDS = [b"\n", b"\r\n", b"\r"]


def frames_of(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    splitter = FrameSplitter()
    frames = [frame for piece in pieces for frame in splitter.feed(piece)]
    return frames, splitter.rest()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(
    st.lists(st.sampled_from([b"a", b"data: x", b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b":", b"\xff"]), max_size=30),
    st.lists(st.integers(0, 10_000), max_size=12),
)
def test_any_split_gives_the_same_frames(parts: list[bytes], places: list[int]) -> None:
    data = b"".join(parts)
    frames, rest = frames_of([data])
    assert frames_of(cut(data, places)) == (frames, rest)
    assert b"".join(frames) + rest == data


@given(st.binary(max_size=200))
def test_byte_by_byte_is_the_same_too(data: bytes) -> None:
    assert frames_of([data[at : at + 1] for at in range(len(data))]) == frames_of([data])


@pytest.mark.parametrize("end", ENDS)
def test_all_three_line_ends(end: bytes) -> None:
    first, second = b"data: one" + end + end, b": comment" + end + b"data: two" + end + b"data: lines" + end + end
    frames, rest = frames_of([first + second + b"data: half" + end])
    assert frames == [first, second]
    assert rest == b"data: half" + end
    assert len(frames_of([first])[0]) == (0 if end == b"\r" else 1)  # a lone return may be half a line end
    assert [data_of(frame) for frame in frames] == [b"one", b"two\nlines"]


@pytest.mark.parametrize(
    ("frame", "data"),
    [
        (b'data: {"a":1}\n\n', b'{"a":1}'),
        (b'data:{"a":1}\n\n', b'{"a":1}'),
        (b"data: [DONE]\r\n\r\n", b"[DONE]"),
        (b"event: delta\ndata: x\nid: 7\n\n", b"x"),
        (b"data: x\nevent: delta\n\n", b"x"),
        (b": keep-alive\n\n", b""),
        (b"data:\n\n", b""),
        (b"data: x", b"x"),
        (b"\n\n", b""),
        (b"", b""),
        (b"database: x\n\n", b""),
    ],
)
def test_the_data_of_a_frame(frame: bytes, data: bytes) -> None:
    assert data_of(frame) == data


def test_an_endless_frame_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "FRAME_BYTES_MAX", 100)
    splitter = FrameSplitter()
    assert splitter.feed(b"data: " + b"x" * 94) == []
    with pytest.raises(FrameTooLong, match="100 bytes"):
        splitter.feed(b"x")


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_a_frame_that_is_too_long_is_given_up_wherever_it_is_cut(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(sse, "FRAME_BYTES_MAX", 100)
    good, data = b"data: x\n\n", b"data: x\n\n" * 20 + b"data: " + b"x" * 500 + b"\n\n" + b"data: y\n\n"
    splitter, frames = FrameSplitter(), list[bytes]()
    with pytest.raises(FrameTooLong):
        for at in range(0, len(data), size):
            frames += splitter.feed(data[at : at + size])
        splitter.rest()
    assert frames == [good] * 20
    with pytest.raises(FrameTooLong):
        splitter.feed(good)


@pytest.mark.parametrize("blank", [b"\n\n", b"\r\n\r\n", b"\n\r\n", b"\r\n\n", b"\r\r", b"\n\r", b"\r\r\n"])
def test_any_two_line_ends_end_a_frame(blank: bytes) -> None:
    frames, rest = frames_of([b"data: one" + blank + b"data: two"])
    assert (frames, rest) == ([b"data: one" + blank], b"data: two")


def test_a_byte_order_mark_hides_nothing() -> None:
    data = b"\xef\xbb\xbfdata: one\n\n"
    frames, _ = frames_of([data[at : at + 1] for at in range(len(data))])
    assert frames == [data]
    assert data_of(frames[0]) == b"one"
