"""Pictures and speech whose replies say no usage: by the piece where that is the price, else an estimate, marked."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.pricing import PriceRow, Rates, Usage, price
from tests.support.data_plane import FREE_SECRET, DataPlane
from tests.unit.asgi_driver import Exchange, http_scope, pieces

GPT_IMAGE = PriceRow(
    model="gpt-image-1",
    rates=Rates(input=5_000_000_000, output=40_000_000_000, image_input=10_000_000_000, image_output=40_000_000_000),
    kinds={"low/1024-x-1024": 11_000_000_000_000},
)
MAI = PriceRow(model="mai", rates=Rates(input=5_000_000_000, output=47_000_000_000, images=48_000_000_000_000))
TOKEN_SPEECH = PriceRow(
    model="mtts", rates=Rates(input=600_000_000, output=10_000_000_000, audio_output=12_000_000_000)
)
SPEECH = PriceRow(model="tts", rates=Rates(characters=15_000_000_000))
PICTURES = {"created": 1, "data": [{"b64_json": "AA"}, {"b64_json": "AA"}]}


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[DataPlane]:
    made = DataPlane(tmp_path / "journal")
    async with asyncio.timeout(20):
        yield made
    await made.close()


async def call(plane: DataPlane, path: str, row: PriceRow, body: bytes, content_type: str) -> Exchange:
    plane.models["gpt-4o"][0].row = row
    headers = {"authorization": f"Bearer {FREE_SECRET}", "content-type": content_type}
    exchange = Exchange(pieces(body), plane.log)
    await plane.door(http_scope("POST", path, headers), exchange.receive, exchange.send)
    return exchange


def form(*parts: tuple[str, str | None, bytes]) -> tuple[bytes, str]:
    out = b""
    for name, filename, data in parts:
        file = "" if filename is None else f'; filename="{filename}"'
        out += f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"
    return out + b"--b--\r\n", "multipart/form-data; boundary=b"


def asked(**fields: Any) -> tuple[bytes, str]:
    return json.dumps({"model": "gpt-4o", **fields}).encode(), "application/json"


def charged(plane: DataPlane) -> tuple[str, Usage, int]:
    (event,) = plane.events()
    return event.measured, event.usage, event.cost_nusd


async def test_edits_of_a_model_that_is_billed_by_tokens_are_estimated_with_the_pictures_sent(plane: DataPlane) -> None:
    plane.upstream.json(PICTURES)
    texts = (("model", None, b"gpt-4o"), ("prompt", None, b"abc" * 10), ("quality", None, b"low"), ("n", None, b"2"))
    body, kind = form(*texts, *[("image[]", "a.png", b"x")] * 4)
    answer = await call(plane, "/v1/images/edits", GPT_IMAGE, body, kind)
    assert answer.status == 200
    measured, usage, cost = charged(plane)
    assert (measured, usage.images, usage.input, usage.image_output) == ("estimated", 0, 10, 2 * 272)
    assert usage.image_input >= 4 * 323
    assert cost == price(usage, GPT_IMAGE) > 2 * 11_000_000


async def test_pictures_that_are_sold_by_the_piece_are_charged_by_those_that_came(plane: DataPlane) -> None:
    plane.upstream.json(PICTURES)
    await call(plane, "/v1/images/generations", MAI, *asked(prompt="a", n=3, size="1024x1024"))
    measured, usage, cost = charged(plane)
    assert (measured, usage.images, cost) == ("reported", 2, 2 * 48_000_000)


async def test_usage_that_was_said_counts_whatever_else_came(plane: DataPlane) -> None:
    said = {"input_tokens": 7, "output_tokens": 100, "total_tokens": 107}
    plane.upstream.json({**PICTURES, "usage": said})
    await call(plane, "/v1/images/generations", GPT_IMAGE, *asked(prompt="a", quality="low"))
    assert charged(plane) == ("reported", Usage(input=7, image_output=100), 7 * 5_000 + 100 * 40_000)


async def test_speech_of_a_model_that_is_billed_by_tokens_is_estimated(
    plane: DataPlane, caplog: pytest.LogCaptureFixture
) -> None:
    plane.upstream.whole(b"\xff\xf3", kind="audio/mpeg")
    answer = await call(plane, "/v1/audio/speech", TOKEN_SPEECH, *asked(input="Tap the furnace", voice="alloy"))
    assert answer.status == 200
    measured, usage, cost = charged(plane)
    assert (measured, usage) == ("estimated", Usage(input=5, audio_output=30))
    assert cost == price(usage, TOKEN_SPEECH)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_speech_that_is_sold_by_characters_is_charged_by_them(plane: DataPlane) -> None:
    plane.upstream.whole(b"\xff\xf3", kind="audio/mpeg")
    await call(plane, "/v1/audio/speech", SPEECH, *asked(input="Tap the furnace", voice="alloy"))
    assert charged(plane) == ("reported", Usage(characters=15), 15 * 15_000)
