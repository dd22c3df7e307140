"""Batches: every line of an uploaded file is really run as a call of its own, billed at the batch tier.

A batch moves when somebody looks: each request to files, batches and controls first brings all batches to
where the clock says they are. The settings `batch_*` say how long they take and how they end.
"""

import re
from typing import Annotated, Any

import msgspec

from deploy.simulator import errors
from deploy.simulator.answers import Answer, decode
from deploy.simulator.asks import Ask, Line, LineResult, Site
from deploy.simulator.files import Files, no_such, page, reply

MAX_BATCHES = 1_000
MAX_LINES = 100_000
MAX_ERRORS = 100
MAX_LISTED = 100
LINES_AT_ONCE = 2_000
"""Lines that one look runs at most, so that a large batch does not hold up everybody else."""
WINDOW_S = 86_400
WINDOW = "24h"
PATHS = ("chat/completions", "completions", "responses", "embeddings", "images/generations")
PREFIX_PATTERN = re.compile(r"\A(/openai)?(/v1)?/")
RUNNING = ("validating", "in_progress", "finalizing", "cancelling")
LEFT_OVER = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed: the batch was cancelled."),
    "failed": ("batch_failed", "This request was not executed: the batch failed."),
}


class BatchLine(msgspec.Struct):
    """One line of an input file."""

    custom_id: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    method: str
    url: str
    body: dict[str, Any]


class NewBatch(msgspec.Struct):
    """The body of a request for a batch."""

    input_file_id: str
    endpoint: str
    completion_window: str = ""
    metadata: dict[str, str] | None = None


class Counts(msgspec.Struct, kw_only=True):
    """How many lines came to what."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class Batch(msgspec.Struct, kw_only=True):
    """One batch as answers show it. Times in Unix seconds."""

    id: str
    object: str = "batch"
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    status: str = "validating"
    errors: dict[str, Any] | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: Counts
    metadata: dict[str, str] | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None


class Work(msgspec.Struct, kw_only=True):
    """A batch with its lines, what came of them, and when it began (ms)."""

    batch: Batch
    source: bytes
    begun_ms: int
    lines: list[BatchLine] = []
    done: int = 0
    output: list[bytes] = []
    failures: list[bytes] = []


class Batches:
    """The batches of one resource."""

    def __init__(self) -> None:
        self._works: dict[str, Work] = {}

    def add(self, work: Work) -> None:
        """Take a batch on; raises a 400 when there are too many."""
        if len(self._works) >= MAX_BATCHES:
            raise errors.invalid(f"There are {MAX_BATCHES} batches already.", "batch_limit")
        self._works[work.batch.id] = work

    def find(self, batch_id: str) -> Batch | None:
        """The batch of an id."""
        found = self._works.get(batch_id)
        return None if found is None else found.batch

    def all(self) -> list[Batch]:
        """All batches, oldest first."""
        return [work.batch for work in self._works.values()]

    def advance(self, site: Site) -> None:
        """Bring every batch to where the clock says it is."""
        for work in self._works.values():
            if work.batch.status in RUNNING:
                _Run(site, work).advance()


class _Run:
    """One batch on its way."""

    def __init__(self, site: Site, work: Work) -> None:
        self._site = site
        self._work = work
        self._batch = work.batch
        self._now_ms = int(site.clock.now().timestamp() * 1000)
        self._now = self._now_ms // 1000

    def advance(self) -> None:
        settings, batch = self._site.settings, self._batch
        age_ms = self._now_ms - self._work.begun_ms
        if batch.status == "cancelling":
            batch.cancelled_at = self._now
            self._end("cancelled")
            return
        if batch.status == "validating":
            if age_ms < settings.batch_validate_ms or not self._validate():
                return
            batch.status, batch.in_progress_at = "in_progress", self._now
        if batch.status == "in_progress":
            self._run(age_ms - settings.batch_validate_ms)

    def _validate(self) -> bool:
        """Read the lines; False when the batch failed over them."""
        found: list[dict[str, Any]] = []
        lines: list[BatchLine] = []
        raw = [line for line in self._work.source.split(b"\n") if line.strip()]
        if not raw:
            found.append(_error(None, "empty_file", "The input file is empty."))
        if len(raw) > MAX_LINES:
            found.append(_error(None, "too_many_tasks", f"The input file has more than {MAX_LINES} lines."))
        seen: set[str] = set()
        for number, one in enumerate(raw[:MAX_LINES], start=1):
            try:
                line = msgspec.json.decode(one, type=BatchLine)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                found.append(_error(number, "invalid_json_line", f"This line is not a request: {error}"))
                continue
            problem = self._problem(line, lines, seen)
            if problem is not None:
                found.append(_error(number, *problem))
            seen.add(line.custom_id)
            lines.append(line)
        if found:
            self._batch.errors = {"object": "list", "data": found[:MAX_ERRORS]}
            self._batch.status, self._batch.failed_at = "failed", self._now
            return False
        self._work.lines = lines
        self._batch.request_counts.total = len(lines)
        self._batch.model = str(lines[0].body.get("model"))
        return True

    def _problem(self, line: BatchLine, before: list[BatchLine], seen: set[str]) -> tuple[str, str] | None:
        if line.custom_id in seen:
            return "duplicate_custom_id", f"The custom_id '{line.custom_id}' stands in another line too."
        if line.method != "POST":
            return "invalid_method", "The method of a line must be POST."
        if _rest(line.url) != _rest(self._batch.endpoint):
            return "invalid_url", f"The url '{line.url}' is not the endpoint of the batch, {self._batch.endpoint}."
        if not isinstance(line.body.get("model"), str):
            return "missing_required_parameter", "The body of a line must name a model."
        if before and line.body["model"] != before[0].body["model"]:
            return "model_mismatch", "All lines of a batch must name the same model."
        return None

    def _run(self, running_ms: int) -> None:
        """Run as many lines as the time that has passed allows, and end after the last of them."""
        settings, work = self._site.settings, self._work
        total = len(work.lines)
        stop = total if settings.batch_stop_after is None else min(settings.batch_stop_after, total)
        due = total if running_ms >= settings.batch_run_ms else total * running_ms // settings.batch_run_ms
        until = min(due, stop, work.done + LINES_AT_ONCE)
        for line in work.lines[work.done : until]:
            self._run_line(line)
        work.done = max(work.done, until)
        if work.done < stop or running_ms < settings.batch_run_ms:
            return
        self._batch.finalizing_at = self._now
        ending = "completed" if stop == total else settings.batch_ending
        setattr(self._batch, f"{ending}_at", self._now)
        self._end(ending)

    def _run_line(self, line: BatchLine) -> None:
        body = {name: value for name, value in line.body.items() if name not in ("stream", "stream_options")}
        result = self._site.run(
            Line(
                surface="v1",
                path=_rest(line.url),
                body=msgspec.json.encode(body),
                tier="batch",
                billed_as="batch",
                client_request_id=f"{self._batch.id}/{line.custom_id}",
            )
        )
        answered = {"status_code": result.status, "request_id": result.request_id, "body": msgspec.Raw(result.body)}
        counts = self._batch.request_counts
        if result.status == 200:
            counts.completed += 1
            self._count(result)
            self._work.output.append(_line(self._batch, line, answered, None))
            return
        counts.failed += 1
        self._work.failures.append(_line(self._batch, line, answered, None))

    def _count(self, result: LineResult) -> None:
        """Add a line's usage to the batch's."""
        told = msgspec.json.decode(result.body, type=_Told).usage
        total = self._batch.usage
        if total is None:
            total = self._batch.usage = {
                "input_tokens": 0,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 0,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 0,
            }
        prompt = told.prompt_tokens + told.input_tokens
        completion = told.completion_tokens + told.output_tokens
        total["input_tokens"] += prompt
        total["output_tokens"] += completion
        total["total_tokens"] += prompt + completion
        cached = {**told.prompt_tokens_details, **told.input_tokens_details}.get("cached_tokens", 0)
        reasoning = {**told.completion_tokens_details, **told.output_tokens_details}.get("reasoning_tokens", 0)
        total["input_tokens_details"]["cached_tokens"] += cached
        total["output_tokens_details"]["reasoning_tokens"] += reasoning

    def _end(self, status: str) -> None:
        """Write the files and close."""
        work = self._work
        if status in LEFT_OVER:
            code, message = LEFT_OVER[status]
            for line in work.lines[work.done :]:
                work.failures.append(_line(self._batch, line, None, {"code": code, "message": message}))
        self._batch.output_file_id = self._write("output", work.output)
        self._batch.error_file_id = self._write("error", work.failures)
        work.lines, work.output, work.failures, work.source = [], [], [], b""
        self._batch.status = status

    def _write(self, kind: str, lines: list[bytes]) -> str | None:
        if not lines:
            return None
        name = f"{self._batch.id}_{kind}.jsonl"
        files = self._site.one(Files)
        serial = f"{self._batch.id[-12:]}-{kind}-"
        return files.add(serial, name, "batch_output", b"\n".join(lines) + b"\n", self._now, None).id


class _ToldUsage(msgspec.Struct):
    """The usage of a line's answer, in the words of chat or of Responses."""

    prompt_tokens: int = 0
    input_tokens: int = 0
    completion_tokens: int = 0
    output_tokens: int = 0
    prompt_tokens_details: dict[str, int] = {}
    input_tokens_details: dict[str, int] = {}
    completion_tokens_details: dict[str, int] = {}
    output_tokens_details: dict[str, int] = {}


class _Told(msgspec.Struct):
    usage: _ToldUsage = msgspec.field(default_factory=_ToldUsage)


def _rest(url: str) -> str:
    """What follows the prefix in an endpoint: `chat/completions`."""
    return PREFIX_PATTERN.sub("", url)


def _error(line: int | None, code: str, message: str) -> dict[str, Any]:
    return {"code": code, "line": line, "message": message, "param": None}


def _line(batch: Batch, line: BatchLine, answered: dict[str, Any] | None, error: dict[str, str] | None) -> bytes:
    number = batch.request_counts.completed + batch.request_counts.failed
    row = {"id": f"batch_req_{batch.id[6:]}_{number}", "custom_id": line.custom_id, "response": answered}
    return msgspec.json.encode({**row, "error": error})


async def create(ask: Ask, match: re.Match[str]) -> Answer:
    """Begin a batch over an uploaded file."""
    asked = decode(ask.body, NewBatch)
    if asked.completion_window != WINDOW:
        message = f"Invalid value: '{asked.completion_window}'. Value must be '{WINDOW}'."
        raise errors.invalid(message, "invalid_value", "completion_window")
    if _rest(asked.endpoint) not in PATHS:
        raise errors.invalid(
            f"Invalid value: '{asked.endpoint}' is no endpoint of batches.", "invalid_value", "endpoint"
        )
    now = ask.site.clock.now().timestamp()
    found = ask.site.one(Files).find(asked.input_file_id, int(now))
    if found is None:
        raise errors.invalid(f"File '{asked.input_file_id}' not found.", "invalid_input_file", "input_file_id")
    if found[0].purpose != "batch":
        raise errors.invalid("The purpose of the input file must be 'batch'.", "invalid_input_file", "input_file_id")
    batch = Batch(
        id=f"batch_{ask.serial}",
        endpoint=asked.endpoint,
        input_file_id=asked.input_file_id,
        completion_window=WINDOW,
        created_at=int(now),
        expires_at=int(now) + WINDOW_S,
        request_counts=Counts(),
        metadata=asked.metadata,
    )
    ask.site.one(Batches).add(Work(batch=batch, source=found[1], begun_ms=int(now * 1000)))
    return reply(ask, batch)


async def list_all(ask: Ask, match: re.Match[str]) -> Answer:
    """All batches, the newest first."""
    batches = ask.site.one(Batches)
    batches.advance(ask.site)
    return reply(ask, page(ask, [(batch.id, batch) for batch in batches.all()], MAX_LISTED))


async def get(ask: Ask, match: re.Match[str]) -> Answer:
    """One batch, brought up to date."""
    return reply(ask, _found(ask, match[1]))


async def cancel(ask: Ask, match: re.Match[str]) -> Answer:
    """Cancel a batch that is not over."""
    batch = _found(ask, match[1])
    if batch.status not in RUNNING:
        raise errors.invalid(f"Cannot cancel a batch with status '{batch.status}'.", "invalid_request")
    if batch.status != "cancelling":
        batch.status, batch.cancelling_at = "cancelling", int(ask.site.clock.now().timestamp())
    return reply(ask, batch)


def _found(ask: Ask, batch_id: str) -> Batch:
    batches = ask.site.one(Batches)
    batches.advance(ask.site)
    found = batches.find(batch_id)
    if found is None:
        raise no_such("Batch", batch_id)
    return found
