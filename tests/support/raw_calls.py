"""One call for each row of the raw routes' table: by which model, and with what body."""

import json
from typing import Any, NamedTuple

import msgspec

BOUNDARY = "tundish-test-boundary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
JSON = "application/json"
DOCUMENT = {"type": "document_url", "document_url": "https://files.example/a.pdf"}
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64
WAV = b"RIFF" + b"\0" * 32_000


class RawCall(NamedTuple):
    """A raw call of a model; `rest` is the path behind `/{provider}/{model}/`."""

    provider: str
    model: str
    rest: str
    body: bytes
    content_type: str = JSON


def form(**fields: str | tuple[str, bytes]) -> bytes:
    """A form's body; files are pairs of name and content."""
    out: list[bytes] = []
    for name, value in fields.items():
        text, data = (value.encode(), b"") if isinstance(value, str) else (b"", value[1])
        filename = "" if isinstance(value, str) else f'; filename="{value[0]}"'
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'
        out.append(head.encode() + text + data + b"\r\n")
    return b"".join(out) + f"--{BOUNDARY}--\r\n".encode()


def odd(**fields: Any) -> bytes:
    """A JSON body with spaces and an order that no program would write: it must pass as it is."""
    return ("{ " + " ,\n  ".join(f'"{name}" :  {json.dumps(value)}' for name, value in fields.items()) + " }").encode()


def body_of(operation: str, model: str) -> tuple[bytes, str]:
    """A body for an operation, by the last words of its path, that names a model."""
    said = [{"role": "user", "content": "Tap \u00e9 [[sim completion=6]]"}]
    match operation:
        case "chat/completions" | "chat":
            return odd(messages=said, model=model, temperature=1), JSON
        case "messages":
            return odd(messages=said, max_tokens=30, model=model), JSON
        case "messages/count_tokens":
            return odd(messages=said, model=model), JSON
        case "completions":
            return odd(prompt="Tap", model=model, max_tokens=9), JSON
        case "images/embeddings":
            return odd(input=[{"image": "data:image/png;base64,AAAA", "text": "a"}], model=model), JSON
        case "embeddings":
            return odd(input=["a", "b c"], model=model), JSON
        case "embed":
            return odd(texts=["a", "b c"], input_type="search_query", model=model), JSON
        case "rerank":
            return odd(query="q", documents=["a", "b"], model=model), JSON
        case "ocr" | "parse":
            return odd(document=DOCUMENT, model=model), JSON
        case "images/generations":
            return odd(prompt="a ladle", model=model, size="1024x1024"), JSON
        case "images/edits":
            return form(prompt="a ladle", model=model, image=("a.png", PNG)), FORM
        case "audio/transcriptions" | "audio/translations":
            return form(model=model, file=("a.wav", WAV)), FORM
        case "audio/speech":
            return odd(input="Tap the furnace", voice="alloy", model=model), JSON
        case _:
            return odd(prompt="a ladle", width=1024, height=1024, model=model), JSON


def operation_of(rest: str) -> str:
    """What a raw path does, by its last words."""
    for words in (
        "messages/count_tokens", "images/embeddings", "images/generations", "images/edits", "chat/completions",
        "audio/transcriptions", "audio/translations", "audio/speech",
    ):  # fmt: skip
        if rest.endswith(words):
            return words
    return rest.rpartition("/")[2]


BY_OPERATION = {
    "completions": "instruct", "embeddings": "embed", "images/generations": "image", "images/edits": "image",
    "audio/transcriptions": "transcribe", "audio/translations": "whisper", "audio/speech": "tts", "rerank": "rerank",
    "ocr": "ocr", "messages": "claude", "messages/count_tokens": "claude", "embed": "cohere-embed", "chat": "command",
    "parse": "parse", "flux-2-pro": "flux", "flux-2-flex": "flux-flex", "flux-kontext-pro": "kontext",
    "flux-pro-1.1": "flux-1", "images/embeddings": "cohere-embed",
}  # fmt: skip
OF_AZURE_AI = {
    "chat/completions": "phi-4", "embeddings": "cohere-embed", "images/generations": "mai", "images/edits": "mai"
}  # fmt: skip


def call_of(provider: str, rest: str, deployment_of: dict[str, str], *, names: str | None = None) -> RawCall:
    """A call for a row; its body names the model `names`, else the row's own by its public name."""
    operation = operation_of(rest)
    model = BY_OPERATION.get(operation, "gpt-4o")
    if provider == "azure_ai":
        model = OF_AZURE_AI.get(operation, model)
    body, content_type = body_of(operation, names or model)
    return RawCall(provider, model, rest.replace("{deployment}", deployment_of[model]), body, content_type)


def apart(body: bytes, content_type: str) -> tuple[object, str]:
    """All of a body but its model, in its own bytes, and the model."""
    if content_type == FORM:
        parts = body.split(f"--{BOUNDARY}".encode())
        (named,) = [part for part in parts if b'name="model"' in part]
        return [part for part in parts if part != named], named.rpartition(b"\r\n\r\n")[2].strip().decode()
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    model = json.loads(bytes(fields.pop("model")))
    return [(name, bytes(raw)) for name, raw in fields.items()], model
