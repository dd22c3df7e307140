"""The command line against an HTTP server that says what a test wants it to say."""

from collections.abc import Callable

import httpx
import msgspec
import pytest

from services.__main__ import main

URL = "http://gateway.test"
KEY = "sk-a-master-key-for-tests-0123456789"


class Front:
    """Answers by method and path, and remembers what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[httpx.Response | Exception]] = {}
        self.asked: list[httpx.Request] = []
        self.other: Callable[[httpx.Request], httpx.Response] | None = None

    def say(self, what: str, *answers: object, status: int = 200) -> None:
        """The answers to `METHOD /path`, in order; the last one stays."""
        self.answers[what] = [
            answer if isinstance(answer, httpx.Response | Exception) else httpx.Response(status, json=answer)
            for answer in answers
        ]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if self.other is not None:
            return self.other(request)
        queue = self.answers[f"{request.method} {request.url.path}"]
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    @property
    def once(self) -> list[str | None]:
        """The `Idempotency-Key` of each request."""
        return [request.headers.get("idempotency-key") for request in self.asked]

    @property
    def bodies(self) -> list[object]:
        """What was sent with each request; None where nothing was."""
        return [msgspec.json.decode(request.content) if request.content else None for request in self.asked]

    @property
    def lines(self) -> list[str]:
        """`METHOD /path` of each request."""
        return [f"{request.method} {request.url.raw_path.decode()}" for request in self.asked]


def stand_in(monkeypatch: pytest.MonkeyPatch) -> Front:
    """A front door in place of HTTP, with a master key in the environment, and without pauses."""
    front = Front()
    real = httpx.Client

    def client(**options: object) -> httpx.Client:
        return real(**{**options, "transport": httpx.MockTransport(front)})  # type: ignore[arg-type]

    monkeypatch.setattr("services.cli.client.httpx.Client", client)
    monkeypatch.setattr("services.cli.client.RETRY_PAUSES_S", (0, 0))
    monkeypatch.setattr("services.cli.ledger.POLL_S", 0)
    monkeypatch.setenv("TUNDISH_URL", URL + "/")
    monkeypatch.setenv("TUNDISH_MASTER_KEY", KEY)
    for name in ("TUNDISH_ADMIN_KEY", "TUNDISH_API_KEY", "TUNDISH_PEPPERS", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return front


def run(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    assert isinstance(left.value.code, int)
    return left.value.code


def error(message: str, code: str) -> dict[str, object]:
    """An error as the API words it."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
