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


def test_long_frames_that_end_are_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "FRAME_BYTES_MAX", 100)
    frame = b"data: " + b"x" * 500 + b"\n\n"
    assert FrameSplitter().feed(frame) == [frame]
