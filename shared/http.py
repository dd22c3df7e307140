"""What the internal HTTP ports have in common: health, metrics, credentials, errors in one shape."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from litestar import Litestar, Request, Response, get
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ControllerRouterHandler

from shared.access import Gatekeeper, Principal, Right
from shared.errors import ApiError, BusUnavailable, StoreUnavailable, VersionConflict
from shared.telemetry import Metrics

log = logging.getLogger(__name__)

ADMIN_BODY_BYTES_MAX = 1_000_000
BUSY_RETRY_AFTER_S = 1

HttpRequest = Request[Any, Any, Any]


class Health:
    """Named checks; a check gives None when all is well, else what is wrong."""

    def __init__(self) -> None:
        self._checks: dict[str, Callable[[], str | None]] = {}
        self._words: dict[str, Callable[[], str | None]] = {}

    def check(self, name: str, probe: Callable[[], str | None]) -> None:
        """Add a check that readiness depends on."""
        self._checks[name] = probe

    def tell(self, name: str, word: Callable[[], str | None]) -> None:
        """What a check says in place of "ok" while all is well, such as "standby"; None: "ok"."""
        self._words[name] = word

    def report(self) -> tuple[bool, dict[str, str]]:
        """(ready, what each check says)."""
        problems = {name: probe() for name, probe in self._checks.items()}
        said = {name: problem or self._well(name) for name, problem in problems.items()}
        return not any(problems.values()), said

    def _well(self, name: str) -> str:
        word = self._words.get(name)
        return (None if word is None else word()) or "ok"


def headers_of(request: HttpRequest) -> dict[bytes, bytes]:
    """Raw headers by lower-case name."""
    return dict(request.scope["headers"])


def admitted(request: HttpRequest, right: Right, *, everywhere: bool = False) -> Principal:
    """Somebody who has a right, where asked for with the reach `all`. Raises ApiError 401, 403, 503."""
    gate: Gatekeeper = request.app.state.gate
    return gate.admit(headers_of(request), right, everywhere=everywhere)


def internal_app(
    *,
    health: Health,
    metrics: Metrics,
    gate: Gatekeeper,
    routes: Sequence[ControllerRouterHandler] = (),
    state: dict[str, Any] | None = None,
) -> Litestar:
    """The Litestar application of an internal port: the given routes plus health and metrics.

    Health answers without a credential and says no more than the names of its checks; all else needs one.
    """

    @get("/health/liveliness", include_in_schema=False)
    async def liveliness() -> dict[str, str]:
        return {"status": "alive"}

    @get("/health/readiness", include_in_schema=False)
    async def readiness() -> Response[dict[str, object]]:
        ready, checks = health.report()
        return Response(
            {"status": "ready" if ready else "not ready", "checks": checks}, status_code=200 if ready else 503
        )

    @get("/metrics", include_in_schema=False)
    async def metrics_page(request: HttpRequest) -> Response[bytes]:
        admitted(request, Right.OPERATE, everywhere=True)
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    app = Litestar(
        route_handlers=[liveliness, readiness, metrics_page, *routes],
        exception_handlers={
            ApiError: on_api_error,
            HTTPException: on_http_exception,
            StoreUnavailable: on_unavailable,
            VersionConflict: on_busy,
            BusUnavailable: on_unavailable,
            Exception: on_unexpected,
        },
        openapi_config=None,  # auth writes its own document, from the rows of its API
        request_max_body_size=ADMIN_BODY_BYTES_MAX,
        logging_config=None,
    )
    app.state.gate = gate
    for name, value in (state or {}).items():
        setattr(app.state, name, value)
    return app


def on_api_error(request: HttpRequest, error: ApiError) -> Response[dict[str, dict[str, str | None]]]:
    """An error that was meant for the caller."""
    headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
    return Response(error.body(), status_code=error.status, headers=headers)


def on_http_exception(request: HttpRequest, error: HTTPException) -> Response[dict[str, dict[str, str | None]]]:
    """An error that Litestar found: no such path, wrong method, body not as described."""
    detail = error.detail
    if isinstance(error, ValidationException) and error.extra:
        detail = f"{detail}: {error.extra}"
    codes = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}
    code = codes.get(error.status_code, "bad_request" if error.status_code < 500 else "internal_error")
    return on_api_error(request, ApiError(error.status_code, code, detail))


def on_unavailable(request: HttpRequest, error: Exception) -> Response[dict[str, dict[str, str | None]]]:
    """Postgres or NATS is away; the caller may try again."""
    log.warning("%s %s: %s", request.method, request.url.path, error)
    what = "the database" if isinstance(error, StoreUnavailable) else "the message bus"
    return on_api_error(
        request,
        ApiError(503, "unavailable", f"Tundish cannot reach {what} at the moment; try again shortly."),
    )


def on_busy(request: HttpRequest, error: Exception) -> Response[dict[str, dict[str, str | None]]]:
    """Others changed the same thing at the same time, again and again; nothing was done."""
    log.info("%s %s: %s", request.method, request.url.path, error)
    return on_api_error(
        request,
        ApiError(
            503,
            "busy",
            "Others are changing the same thing at this moment, and this change was not made: repeat it in a second.",
            retry_after_s=BUSY_RETRY_AFTER_S,
        ),
    )


def on_unexpected(request: HttpRequest, error: Exception) -> Response[dict[str, dict[str, str | None]]]:
    """A defect of ours: logged whole, told without detail."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return on_api_error(request, ApiError(500, "internal_error", "Tundish failed on this request; see its log."))
