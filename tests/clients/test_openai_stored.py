"""OpenAI's four clients: files and batches, which are paid when they are done."""

import asyncio
import json
from typing import Any

import openai
import pytest

from tests.clients.either import each, settle
from tests.clients.openai_clients import FOUR, openai_client
from tests.clients.tape import Tape

POLLS = 200
OVER = ("completed", "failed", "expired", "cancelled")


@pytest.fixture(params=FOUR)
async def client(request: pytest.FixtureRequest, tape: Tape) -> Any:
    async with openai_client(request.param, tape) as made:
        yield made


def lines(model: str, url: str, bodies: list[dict[str, Any]]) -> bytes:
    rows = [
        {"custom_id": f"line-{number}", "method": "POST", "url": url, "body": {"model": model, **body}}
        for number, body in enumerate(bodies)
    ]
    return "\n".join(json.dumps(row) for row in rows).encode()


async def over(client: Any, batch: Any) -> Any:
    for _ in range(POLLS):
        batch = await settle(client.batches.retrieve(batch.id))
        if batch.status in OVER:
            return batch
        await asyncio.sleep(0.02)
    raise AssertionError(f"the batch never ended: {batch}")


def chats(*steering: str) -> list[dict[str, Any]]:
    return [{"messages": [{"role": "user", "content": f"Hi [[sim {words}]]"}]} for words in steering]


@pytest.mark.row("Files: upload, list, get, content, delete")
async def test_files(client: Any) -> None:
    content = lines("gpt-4o", "/v1/chat/completions", chats("completion=3"))
    made = await settle(client.files.create(file=("batch.jsonl", content), purpose="batch"))
    assert (await settle(client.files.retrieve(made.id))).bytes > 0
    assert [file.id async for file in each(await settle(client.files.list()))] == [made.id]
    read = (await settle(client.files.content(made.id))).content
    assert [json.loads(line)["custom_id"] for line in read.splitlines()] == ["line-0"]
    assert (await settle(client.files.delete(made.id))).deleted is True
    with pytest.raises(openai.NotFoundError):
        await settle(client.files.retrieve(made.id))


@pytest.mark.row("Batches")
@pytest.mark.parametrize(
    ("model", "url", "bodies"),
    [
        (
            "gpt-4o",
            "/v1/chat/completions",
            chats("completion=30 prompt=400 cached=100", "completion=7", "completion=11"),
        ),
        (
            "gpt-5-mini",
            "/v1/responses",
            [{"input": "Hi [[sim completion=20 reasoning=8]]"}, {"input": "Hi [[sim completion=9]]"}],
        ),
        ("embed", "/v1/embeddings", [{"input": "alpha"}, {"input": ["beta", "gamma"]}]),
    ],
    ids=["chat", "responses", "embeddings"],
)
async def test_batch(client: Any, model: str, url: str, bodies: list[dict[str, Any]]) -> None:
    file = await settle(client.files.create(file=("batch.jsonl", lines(model, url, bodies)), purpose="batch"))
    batch = await settle(client.batches.create(input_file_id=file.id, endpoint=url, completion_window="24h"))
    batch = await over(client, batch)
    assert batch.status == "completed"
    assert batch.request_counts.completed == len(bodies)
    text = (await settle(client.files.content(batch.output_file_id))).text
    answers = [json.loads(line) for line in text.splitlines()]
    assert {answer["custom_id"] for answer in answers} == {f"line-{number}" for number in range(len(bodies))}
    assert [one.id async for one in each(await settle(client.batches.list()))] == [batch.id]


@pytest.mark.row("Batches: some lines fail")
async def test_batch_with_errors(client: Any) -> None:
    bodies = chats("completion=5", "this is refused")
    url = "/v1/chat/completions"
    file = await settle(client.files.create(file=("batch.jsonl", lines("gpt-4o", url, bodies)), purpose="batch"))
    batch = await settle(client.batches.create(input_file_id=file.id, endpoint=url, completion_window="24h"))
    batch = await over(client, batch)
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 1)
    assert "line-1" in (await settle(client.files.content(batch.error_file_id))).text


@pytest.mark.row("Batches: cancel")
async def test_cancelled_batch(client: Any, tape: Tape) -> None:
    settings = tape.gateway.simulator.post("/_sim/settings", json={"batch_validate_ms": 300, "batch_run_ms": 600_000})
    assert settings.status_code == 200
    try:
        url = "/v1/chat/completions"
        content = lines("gpt-4o", url, chats("completion=5"))
        file = await settle(client.files.create(file=("batch.jsonl", content), purpose="batch"))
        batch = await settle(client.batches.create(input_file_id=file.id, endpoint=url, completion_window="24h"))
        batch = await settle(client.batches.cancel(batch.id))
        assert batch.status in ("cancelling", "cancelled")
        assert (await over(client, batch)).status == "cancelled"
    finally:
        tape.gateway.simulator.delete("/_sim/settings")


@pytest.mark.row("Errors: 400 batch over a file that is none")
async def test_batch_of_nothing(client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        await settle(
            client.batches.create(input_file_id="file-nobody", endpoint="/v1/chat/completions", completion_window="24h")
        )
    assert unknown.value.code == "object_not_found"
    with pytest.raises(openai.BadRequestError):
        await settle(client.files.create(file=("batch.jsonl", b"no lines"), purpose="batch"))
