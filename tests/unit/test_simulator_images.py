"""The simulator's images through the openai clients: by the token, by the piece, streamed, edited."""

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import AsyncAzureOpenAI, BadRequestError, OpenAI

from tests.unit.simulator_driver import KEY
from tests.unit.simulator_server import Server, running

PNG = b"\x89PNG\r\n\x1a\n and some more"
VERSION = "2025-04-01-preview"


@pytest.fixture(scope="module")
def process() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def server(process: Server) -> Server:
    process.reset()
    return process


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/openai/v1", api_key=KEY["api-key"], max_retries=0) as client:
        yield client


def test_gpt_image_is_billed_by_the_token(server: Server, client: OpenAI) -> None:
    made = client.images.generate(model="gpt-image-1", prompt="a ladle, glowing", n=2, quality="low", size="1024x1536")
    assert made.data is not None
    assert len(made.data) == 2
    picture = base64.b64decode(made.data[0].b64_json or "")
    assert picture.startswith(b"\x89PNG")
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens, made.usage.total_tokens) == (4, 816, 820)
    assert (made.usage.input_tokens_details.text_tokens, made.usage.input_tokens_details.image_tokens) == (4, 0)
    call = server.last()
    assert (call["surface"], call["operation"], call["model"]) == ("v1", "images", "gpt-image-1")
    assert call["usage"] == {"prompt": 4, "completion": 816, "image_completion": 816}


def test_a_stream_shows_partial_images_and_ends_with_the_usage(server: Server, client: OpenAI) -> None:
    with client.images.generate(model="gpt-image-1", prompt="a ladle", stream=True, partial_images=2) as stream:
        events = list(stream)
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    last: Any = events[-1]
    assert last.usage.output_tokens == 1056 + 2 * 100
    assert server.last()["usage"]["completion"] == 1256
    assert server.last()["stream"] is True


def test_an_edit_counts_the_images_that_come_with_it(server: Server, client: OpenAI) -> None:
    files = [("one.png", PNG, "image/png"), ("two.png", PNG, "image/png")]
    made = client.images.edit(model="gpt-image-1", image=files, prompt="make it blue", quality="high")
    assert made.usage is not None
    assert (made.usage.input_tokens_details.image_tokens, made.usage.output_tokens) == (646, 4160)
    assert server.last()["usage"] == {
        "prompt": 649, "image_prompt": 646, "completion": 4160, "image_completion": 4160,
    }  # fmt: skip
    with client.images.edit(
        model="gpt-image-1", image=files[0], prompt="again", stream=True, partial_images=1
    ) as stream:
        assert [event.type for event in stream] == ["image_edit.partial_image", "image_edit.completed"]


async def test_the_azure_client_and_models_that_are_billed_by_the_piece(server: Server) -> None:
    async with AsyncAzureOpenAI(
        azure_endpoint=server.url, api_key=KEY["api-key"], api_version=VERSION, max_retries=0
    ) as client:
        made = await client.images.generate(
            model="dall-e-3", prompt="a mould", quality="hd", size="1024x1792", response_format="b64_json"
        )
        assert made.usage is None
        assert made.data is not None
        assert made.data[0].b64_json
        call = server.last()
        assert (call["surface"], call["usage"]) == (
            "classic",
            {"prompt": 0, "images": 1, "image_kind": "hd/1024-x-1792"},
        )
        linked = await client.images.generate(model="dall-e-3", prompt="a mould")
        assert linked.data is not None
        assert (linked.data[0].url or "").startswith("https://")
        with pytest.raises(BadRequestError, match="'n'"):
            await client.images.generate(model="dall-e-3", prompt="a mould", n=2)
        with pytest.raises(BadRequestError, match="safety system"):
            await client.images.generate(model="dall-e-3", prompt="[[sim filter=1]]")
    assert len(server.served()) == 2


@pytest.mark.parametrize("path", ["flux-2-pro", "flux-2-flex", "flux-kontext-pro", "flux-pro-1.1"])
def test_flux_on_its_own_paths(server: Server, path: str) -> None:
    url = f"{server.url}/providers/blackforestlabs/v1/{path}"
    body = {"model": "flux.2-pro", "prompt": "a tundish", "width": 1024, "height": 768, "num_images": 2}
    bearer = {"authorization": f"Bearer {KEY['api-key']}"}
    made = httpx.post(url, params={"api-version": "preview"}, headers=bearer, json=body)
    assert made.status_code == 200
    assert "usage" not in made.json()
    assert len(made.json()["data"]) == 2
    assert (server.last()["surface"], server.last()["usage"]) == ("providers", {"prompt": 0, "images": 2})
    assert httpx.post(url, headers=bearer, json=body).status_code == 404


def test_flux_and_mai_in_the_words_of_openai(server: Server) -> None:
    body = {"model": "MAI-Image-2.5", "prompt": "a strand"}
    preview = {"api-version": "preview"}
    made = httpx.post(f"{server.url}/mai/v1/images/generations", params=preview, headers=KEY, json=body)
    assert (made.status_code, "usage" in made.json()) == (200, False)
    assert (server.last()["surface"], server.last()["usage"]) == ("mai", {"prompt": 0, "images": 1})
    flux = f"{server.url}/openai/deployments/FLUX.1-Kontext-pro/images/edits"
    form = {"prompt": "brighter"}
    edited = httpx.post(flux, params=preview, headers=KEY, data=form, files={"image": ("a.png", PNG)})
    assert edited.status_code == 200
    assert (server.last()["surface"], server.last()["operation"]) == ("classic", "edits")


def test_steering_reaches_every_class(server: Server, client: OpenAI) -> None:
    words = "prompt=900 image_prompt=600 completion=500 image_completion=450"
    made = client.images.generate(model="gpt-image-1.5", prompt=f"x [[sim {words}]]")
    assert made.usage is not None
    assert made.usage.output_tokens_details is not None
    assert made.usage.output_tokens_details.text_tokens == 50
    assert server.last()["usage"] == {
        "prompt": 900, "image_prompt": 600, "completion": 500, "image_completion": 450,
    }  # fmt: skip
    bare = client.images.generate(model="gpt-image-1", prompt="x [[sim no_usage=1]]")
    assert bare.usage is None
    assert server.last()["usage"]["completion"] == 1056


def test_a_stream_that_breaks_is_billed_for_what_was_sent(server: Server, client: OpenAI) -> None:
    server.fault(deployment="gpt-image-1", kind="midstream_error", after_events=1, count=1)
    with pytest.raises(Exception, match="server had an error"):  # noqa: SIM117
        with client.images.generate(model="gpt-image-1", prompt="a", stream=True, partial_images=3) as stream:
            list(stream)
    assert server.last()["usage"]["completion"] == 100


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x", "n": 11}, "n"),
        ({"prompt": "x", "size": "huge"}, "size"),
        ({"prompt": "x", "quality": "hd"}, "quality"),
        ({"prompt": "x", "response_format": "url"}, "response_format"),
        ({"prompt": "x", "stream": True, "partial_images": 4}, "partial_images"),
        ({"prompt": "x", "stream": True, "n": 2}, "n"),
    ],
)
def test_what_is_refused(server: Server, body: dict[str, Any], param: str) -> None:
    refused = httpx.post(
        f"{server.url}/openai/v1/images/generations", headers=KEY, json={"model": "gpt-image-1", **body}
    )
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert server.served() == []


def test_forms_that_are_broken(server: Server) -> None:
    url = f"{server.url}/openai/v1/images/edits"
    for kind, body in (
        ("application/json", b"{}"),
        ("multipart/form-data", b"--x--"),
        ("multipart/form-data; boundary=x", b"--x\r\nnothing"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name=""\r\n\r\na\r\n--x--\r\n'),
        ("multipart/form-data; boundary=x", b'--x\r\ncontent-disposition: form-data; name="n"\r\n\r\n1\r\n--x--\r\n'),
    ):
        refused = httpx.post(url, headers={**KEY, "content-type": kind}, content=body)
        assert refused.status_code == 400
    chat = httpx.post(
        f"{server.url}/openai/v1/images/generations", headers=KEY, json={"model": "gpt-4o", "prompt": "x"}
    )
    assert chat.json()["error"]["code"] == "OperationNotSupported"
