"""What is billed by more than tokens of text, against Foundry's own log: forms, pictures, speech, raw paths."""

import json
from typing import Any

import httpx
import pytest

from tests.support.raw_calls import BOUNDARY, FORM, PNG, WAV
from tests.support.stack import Stack, wait_until
from tests.support.surfaces import Ledger

pytestmark = pytest.mark.stack

WHISPER = b"whisper-deployment"
Part = tuple[str, bytes]


def post(stack: Stack, key: str, path: str, body: bytes, content_type: str = "application/json") -> httpx.Response:
    headers = {"authorization": f"Bearer {key}", "content-type": content_type}
    return httpx.post(stack.url + path, headers=headers, content=body, timeout=30, trust_env=False)


def form(*parts: Part) -> bytes:
    """A form; each part is what follows `form-data; ` in its head, and its content."""
    out = b"".join(
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n"
        for head, data in parts
    )
    return out + f"--{BOUNDARY}--\r\n".encode()


def asked(model: str, **fields: Any) -> bytes:
    return json.dumps({"model": model, **fields}).encode()


def marked(ledger: Ledger) -> dict[str, Any]:
    """The one line of the books, which is not what Foundry said."""
    wait_until("the call is booked", lambda: len(ledger.rows()) == 1)
    (row,) = ledger.rows()
    assert row["measured"] == "estimated"
    return row


SOUND = ('name="file"; filename="a.wav"', WAV)
OTHERS: list[list[Part]] = [
    [('name="model[]"', WHISPER), ('name="model"', b"x")],
    [('name="model"', b"x"), ('name="model[]"', WHISPER)],
    [('name="model[]"', WHISPER)],
    [('name="model"', b"gpt-4o-transcribe-deployment"), ('name="model"', WHISPER)],
    [('name="Model"', WHISPER)],
    [('name="model"; filename="x"', WHISPER)],
    [('name="zz"; name="model"', WHISPER)],
    [("name=\"zz\"; name*=utf-8''model", WHISPER)],
    [('name="zz"\r\nContent-Disposition: form-data; name="model"', WHISPER)],
    [('name="zz"; filename="\\"; name=\\"model"', WHISPER)],
]


@pytest.mark.parametrize("parts", OTHERS)
@pytest.mark.parametrize(
    "path",
    ["/azure/transcribe/openai/v1/audio/transcriptions", "/openai/deployments/transcribe/audio/transcriptions"],
)
def test_no_form_names_another_model_than_the_one_that_may_be_used(
    surfaces: Stack, ledger: Ledger, path: str, parts: list[Part]
) -> None:
    answer = post(surfaces, ledger.mint(models=["transcribe"]), path, form(*parts, SOUND), FORM)
    assert answer.status_code == 400, answer.text
    assert ledger.served() == []


@pytest.mark.parametrize(
    "extra", [b'"model":"gpt-4o",', b'"mod\\u0065l":"gpt-4o",', b'"Model":"gpt-4o-deployment",', b'"model":"none",']
)
def test_no_body_names_another_model_than_the_one_that_is_charged(
    surfaces: Stack, ledger: Ledger, extra: bytes
) -> None:
    key = ledger.mint(models=["gpt-5-mini"])
    rest = b'"messages":[{"role":"user","content":"Tap"}]'
    for body in (
        b"{" + extra + rest + b',"model":"gpt-5-mini"}', b'{"model":"gpt-5-mini",' + extra + rest + b"}"
    ):  # fmt: skip
        answer = post(surfaces, key, "/v1/chat/completions", body)
        assert answer.status_code in (200, 400, 403), answer.text
    assert {call["deployment"] for call in ledger.served()} <= {"gpt-5-mini-deployment"}
    ledger.equal()


def test_an_edit_without_usage_is_estimated_with_all_pictures_sent(surfaces: Stack, ledger: Ledger) -> None:
    texts = [
        ('name="model"', b"image"),
        ('name="prompt"', b"a ladle [[sim no_usage=1]]"),
        ('name="quality"', b"low"),
        ('name="input_fidelity"', b"low"),
    ]
    pictures = [('name="image[]"; filename="a.png"', PNG)] * 4
    answer = post(surfaces, ledger.mint(), "/v1/images/edits", form(*texts, *pictures), FORM)
    assert answer.status_code == 200, answer.text
    row, true = marked(ledger), ledger.true()
    assert row["images"] == 0
    assert true.nusd <= row["cost_nusd"] <= 2 * true.nusd


@pytest.mark.parametrize(("model", "count"), [("flux", "num_images"), ("flux-flex", "num_images"), ("image", "n")])
@pytest.mark.parametrize("n", [1, 3])
def test_pictures_are_charged_as_they_are_billed(
    surfaces: Stack, ledger: Ledger, model: str, count: str, n: int
) -> None:
    body = asked(model, prompt="a ladle", **{count: n})
    assert post(surfaces, ledger.mint(), "/v1/images/generations", body).status_code == 200
    assert ledger.equal().usage.get("images", 0) == (0 if model == "image" else n)


def test_speech_of_a_model_that_is_billed_by_tokens_is_estimated(surfaces: Stack, ledger: Ledger) -> None:
    body = asked("mtts", input="The taphole is open, and the iron runs.", voice="alloy")
    assert post(surfaces, ledger.mint(), "/v1/audio/speech", body).status_code == 200
    row = marked(ledger)
    assert row["characters"] == 0
    assert ledger.true().nusd / 3 <= row["cost_nusd"] <= 3 * ledger.true().nusd


@pytest.mark.parametrize("model", ["tts", "mtts"])
def test_streamed_speech_and_characters_are_charged_as_they_are_billed(
    surfaces: Stack, ledger: Ledger, model: str
) -> None:
    more = {"stream_format": "sse"} if model == "mtts" else {}
    body = asked(model, input="Slag \u6f22 on top", voice="alloy", **more)
    assert post(surfaces, ledger.mint(), "/v1/audio/speech", body).status_code == 200
    assert ledger.equal().nusd > 0


@pytest.mark.parametrize("stream", [False, True])
def test_coheres_own_chat_is_charged_by_what_it_bills(surfaces: Stack, ledger: Ledger, stream: bool) -> None:
    said = [{"role": "user", "content": "Tap [[sim prompt=100000 completion=100]]"}]
    body = asked("x", messages=said, stream=stream)
    answer = post(surfaces, ledger.mint(), "/azure_ai/command/providers/cohere/v2/chat", body)
    assert answer.status_code == 200, answer.text
    assert ledger.equal().usage == {"input": 100_000, "output": 100}


@pytest.mark.parametrize(
    "path",
    ["/azure/instruct/completions", "/azure/image/openai/v1/images/generations",
     "/azure_ai/flux/providers/blackforestlabs/v1/flux-2-pro"],
)  # fmt: skip
def test_raw_paths_take_a_prompt_that_is_a_text(surfaces: Stack, ledger: Ledger, path: str) -> None:
    answer = post(surfaces, ledger.mint(), path, asked("x", prompt="Tap"))
    assert answer.status_code == 200, answer.text
    assert ledger.equal().nusd > 0
