"""The simulator's files and batches: every line really runs, and is billed at the batch tier."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from openai import AsyncAzureOpenAI, BadRequestError, NotFoundError, OpenAI

from deploy.simulator import Options, Simulator
from tests.unit.simulator_driver import KEY, VERSION, Reply, ask, served
from tests.unit.simulator_server import Server, running

FILES = "/openai/v1/files"
BATCHES = "/openai/v1/batches"


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic_ms(self) -> int:
        return 0

    def pass_ms(self, milliseconds: int) -> None:
        self.at += timedelta(milliseconds=milliseconds)


def line(
    number: int, text: str = "hi", model: str = "gpt-4.1-mini", url: str = "/v1/chat/completions"
) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": f"{text} [[sim prompt={number} completion=5]]"}]}
    return {"custom_id": f"line-{number}", "method": "POST", "url": url, "body": body}


def lines(*given: object) -> bytes:
    return b"\n".join(json.dumps(one).encode() for one in given)


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def simulator(clock: Hands) -> Simulator:
    return Simulator(Options(), clock)


async def upload(simulator: Simulator, data: bytes, purpose: str = "batch") -> Reply:
    form = httpx.Request("POST", "http://x", data={"purpose": purpose}, files={"file": ("in.jsonl", data)})
    headers = {**KEY, "content-type": form.headers["content-type"]}
    return await ask(simulator, FILES, form.read(), query="", headers=headers)


async def begin(simulator: Simulator, data: bytes, endpoint: str = "/v1/chat/completions") -> str:
    file_id = (await upload(simulator, data)).json["id"]
    body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h"}
    reply = await ask(simulator, BATCHES, body, query="")
    assert (reply.status, reply.json["status"]) == (200, "validating")
    return reply.json["id"]


async def look(simulator: Simulator, path: str) -> Any:
    return (await ask(simulator, path, query="", method="GET")).json


async def content(simulator: Simulator, file_id: str) -> list[Any]:
    reply = await ask(simulator, f"{FILES}/{file_id}/content", query="", method="GET")
    return [json.loads(one) for one in reply.body.splitlines()]


async def steer(simulator: Simulator, **changes: object) -> None:
    assert (await ask(simulator, "/_sim/settings", changes, query="", headers={})).status == 200


async def test_a_batch_runs_its_lines_and_bills_each_of_them(simulator: Simulator, clock: Hands) -> None:
    batch_id = await begin(simulator, lines(line(10), line(20), line(30, model="gpt-4.1-mini")) + b"\n\n")
    assert (await look(simulator, f"{BATCHES}/{batch_id}"))["status"] == "validating"
    clock.pass_ms(20)
    assert (await look(simulator, f"{BATCHES}/{batch_id}"))["status"] == "in_progress"
    clock.pass_ms(50)
    batch = await look(simulator, f"{BATCHES}/{batch_id}")
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert (batch["usage"]["input_tokens"], batch["usage"]["output_tokens"]) == (60, 15)
    assert batch["error_file_id"] is None
    rows = await content(simulator, batch["output_file_id"])
    assert [row["custom_id"] for row in rows] == ["line-10", "line-20", "line-30"]
    assert rows[1]["response"]["status_code"] == 200
    assert rows[1]["response"]["body"]["usage"]["prompt_tokens"] == 20
    calls = (await served(simulator))["calls"]
    assert [(call["surface"], call["operation"]) for call in calls] == [("batch", "chat")] * 3
    assert [call["usage"] for call in calls] == [
        {"prompt": prompt, "completion": 5, "service_tier": "batch"} for prompt in (10, 20, 30)
    ]
    assert calls[0]["client_request_id"] == f"{batch_id}/line-10"


async def test_lines_run_as_time_passes(simulator: Simulator, clock: Hands) -> None:
    await steer(simulator, batch_run_ms=1_000, batch_validate_ms=0)
    batch_id = await begin(simulator, lines(*(line(number) for number in range(1, 11))))
    clock.pass_ms(400)
    batch = await look(simulator, f"{BATCHES}/{batch_id}")
    assert (batch["status"], batch["request_counts"]["completed"]) == ("in_progress", 4)
    cancelled = await ask(simulator, f"{BATCHES}/{batch_id}/cancel", query="")
    assert cancelled.json["status"] == "cancelling"
    clock.pass_ms(400)
    batch = await look(simulator, f"{BATCHES}/{batch_id}")
    assert (batch["status"], batch["cancelled_at"]) == ("cancelled", int(clock.now().timestamp()))
    assert len(await content(simulator, batch["output_file_id"])) == 4
    failures = await content(simulator, batch["error_file_id"])
    assert [row["error"]["code"] for row in failures] == ["batch_cancelled"] * 6
    assert (await served(simulator))["total"] == 4
    again = await ask(simulator, f"{BATCHES}/{batch_id}/cancel", query="")
    assert again.status == 400


@pytest.mark.parametrize("ending", ["expired", "failed"])
async def test_a_batch_may_end_early(simulator: Simulator, clock: Hands, ending: str) -> None:
    await steer(simulator, batch_stop_after=1, batch_ending=ending)
    batch_id = await begin(simulator, lines(line(1), line(2)))
    clock.pass_ms(100)
    batch = await look(simulator, f"{BATCHES}/{batch_id}")
    assert (batch["status"], batch["request_counts"]["completed"]) == (ending, 1)
    assert (await content(simulator, batch["error_file_id"]))[0]["error"]["code"] == f"batch_{ending}"
    assert (await served(simulator))["total"] == 1


async def test_lines_that_are_refused_are_written_down_and_not_billed(simulator: Simulator, clock: Hands) -> None:
    bad = line(2)
    bad["body"]["max_tokens"] = 0
    batch_id = await begin(simulator, lines(line(1), bad))
    clock.pass_ms(100)
    batch = await look(simulator, f"{BATCHES}/{batch_id}")
    assert batch["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    (failure,) = await content(simulator, batch["error_file_id"])
    assert (failure["custom_id"], failure["response"]["status_code"]) == ("line-2", 400)
    assert failure["response"]["body"]["error"]["param"] == "max_tokens"
    assert (await served(simulator))["total"] == 1


async def test_embeddings_in_a_batch(simulator: Simulator, clock: Hands) -> None:
    body = {"model": "text-embedding-3-small", "input": "alpha beta"}
    row = {"custom_id": "a", "method": "POST", "url": "/embeddings", "body": body}
    batch_id = await begin(simulator, lines(row), "/v1/embeddings")
    clock.pass_ms(100)
    batch = await look(simulator, f"{BATCHES}/{batch_id}")
    assert batch["usage"]["input_tokens"] == 3
    assert (await served(simulator))["calls"][0]["usage"] == {"prompt": 3, "service_tier": "batch"}


async def test_responses_in_a_batch(simulator: Simulator, clock: Hands) -> None:
    body = {"model": "gpt-5-mini", "input": "[[sim prompt=40 cached=8 completion=9 reasoning=4]]"}
    row = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}
    batch_id = await begin(simulator, lines(row), "/v1/responses")
    clock.pass_ms(100)
    batch = await look(simulator, f"{BATCHES}/{batch_id}")
    assert batch["usage"] == {
        "input_tokens": 40, "input_tokens_details": {"cached_tokens": 8}, "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 49,
    }  # fmt: skip
    assert (await served(simulator))["calls"][0]["usage"] == {
        "prompt": 40, "cached": 8, "completion": 9, "reasoning": 4, "service_tier": "batch",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\n\n", "empty_file"),
        (b"{not json", "invalid_json_line"),
        (lines({"custom_id": "a"}), "invalid_json_line"),
        (lines(line(1), line(1)), "duplicate_custom_id"),
        (lines({**line(1), "method": "GET"}), "invalid_method"),
        (lines(line(1, url="/v1/embeddings")), "invalid_url"),
        (lines(line(1), line(2, model="gpt-4o")), "model_mismatch"),
        (lines({**line(1), "body": {}}), "missing_required_parameter"),
    ],
)
async def test_files_that_are_no_batch(simulator: Simulator, clock: Hands, data: bytes, code: str) -> None:
    batch_id = await begin(simulator, data)
    clock.pass_ms(100)
    batch = await look(simulator, f"{BATCHES}/{batch_id}")
    assert (batch["status"], batch["errors"]["data"][0]["code"]) == ("failed", code)
    assert (await served(simulator))["total"] == 0


async def test_the_bill_does_not_wait_for_somebody_to_ask(simulator: Simulator, clock: Hands) -> None:
    await begin(simulator, lines(line(1)))
    clock.pass_ms(100)
    assert (await served(simulator))["total"] == 1


async def test_what_is_refused(simulator: Simulator) -> None:
    assert (await upload(simulator, b"x", "nonsense")).status == 400
    assert (await upload(simulator, b"")).status == 400
    other = (await upload(simulator, b"x", "assistants")).json["id"]
    whole = {"input_file_id": other, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    for body in (whole, {**whole, "input_file_id": "file-no"}, {**whole, "endpoint": "/v1/x"},
                 {**whole, "completion_window": "1h"}):  # fmt: skip
        assert (await ask(simulator, BATCHES, body, query="")).status == 400
    for path in (f"{FILES}/file-no", f"{FILES}/file-no/content", f"{BATCHES}/batch_no"):
        assert (await ask(simulator, path, query="", method="GET")).status == 404
    assert (await ask(simulator, FILES, query="", method="GET", headers={})).status == 401
    assert (await ask(simulator, "/openai/files", query="", method="GET")).status == 404
    assert (await ask(simulator, "/openai/files", query=VERSION, method="GET")).status == 200
    assert (await ask(simulator, FILES, query="limit=0", method="GET")).status == 400


async def test_files_expire(simulator: Simulator, clock: Hands) -> None:
    fields = {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    form = httpx.Request("POST", "http://x", data=fields, files={"file": ("in.jsonl", b"x")})
    headers = {**KEY, "content-type": form.headers["content-type"]}
    made = (await ask(simulator, FILES, form.read(), query="", headers=headers)).json
    assert made["expires_at"] == made["created_at"] + 3600
    clock.pass_ms(3_600_000)
    assert (await ask(simulator, f"{FILES}/{made['id']}", query="", method="GET")).status == 404


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


def test_files_and_batches_through_the_client(server: Server) -> None:
    server.reset()
    server.settings(batch_validate_ms=0, batch_run_ms=0)
    with OpenAI(base_url=f"{server.url}/openai/v1", api_key=KEY["api-key"], max_retries=0) as client:
        made = [client.files.create(file=(f"{n}.jsonl", lines(line(n))), purpose="batch") for n in (1, 2, 3)]
        listed = client.files.list(limit=2)
        assert [one.id for one in listed] == [one.id for one in reversed(made)]
        assert client.files.retrieve(made[0].id).filename == "1.jsonl"
        assert client.files.content(made[0].id).read() == lines(line(1))
        batch = client.batches.create(
            input_file_id=made[0].id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"team": "a"}
        )
        done = client.batches.retrieve(batch.id)
        assert (done.status, done.metadata) == ("completed", {"team": "a"})
        assert done.output_file_id is not None
        assert '"custom_id":"line-1"' in client.files.content(done.output_file_id).text
        assert [one.id for one in client.batches.list()] == [batch.id]
        assert client.files.delete(made[0].id).deleted
        with pytest.raises(NotFoundError):
            client.files.retrieve(made[0].id)
        with pytest.raises(BadRequestError):
            client.batches.cancel(batch.id)
    assert server.last()["usage"]["service_tier"] == "batch"


async def test_the_azure_client_too(server: Server) -> None:
    server.reset()
    server.settings(batch_validate_ms=0, batch_run_ms=0)
    async with AsyncAzureOpenAI(
        azure_endpoint=server.url, api_key=KEY["api-key"], api_version="2024-10-21", max_retries=0
    ) as client:
        file = await client.files.create(file=("a.jsonl", lines(line(1, url="/chat/completions"))), purpose="batch")
        endpoint: Any = "/chat/completions"
        batch = await client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")
        assert (await client.batches.retrieve(batch.id)).status == "completed"
