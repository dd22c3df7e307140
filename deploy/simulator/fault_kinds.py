"""The errors Foundry is known to send, each by a name that a test can ask for."""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from deploy.simulator import errors
from deploy.simulator.wire import Headers

Known: TypeAlias = tuple[int, Headers, dict[str, object]]
"""Status, headers of its own, body."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a fault hits, as Foundry's messages name it. `anthropic`: errors go out in Anthropic's envelope."""

    deployment: str
    model: str
    region: str
    operation: str
    surface: str = ""
    anthropic: bool = False


RATE_HEADERS: Headers = [
    (b"retry-after", b"1"),
    (b"retry-after-ms", b"0"),
    (b"x-ratelimit-limit-requests", b"5"),
    (b"x-ratelimit-limit-tokens", b"5000"),
    (b"x-ratelimit-remaining-requests", b"4"),
    (b"x-ratelimit-remaining-tokens", b"0"),
    (b"x-ratelimit-renewalperiod-requests", b"60"),
    (b"x-ratelimit-renewalperiod-tokens", b"60"),
    (b"x-ratelimit-reset-requests", b"12"),
    (b"x-ratelimit-reset-tokens", b"0"),
    (b"x-ratelimit-type", b"Tokens"),
]
"""What a real token limit said: its hints are far shorter than its window."""
FILTER_HEADERS: Headers = [
    (b"x-ms-rai-invoked", b"true"),
    (b"ms-azureml-model-error-reason", b"model_error"),
    (b"ms-azureml-model-error-statuscode", b"400"),
]
HIGH_DEMAND = (
    "The system is currently experiencing high demand and cannot process your request. Your request exceeds the "
    "maximum usage size allowed during peak load. Please retry after 20 seconds. For improved latency "
    "reliability, consider switching to Provisioned Throughput."
)


def _wait(seconds: int) -> Headers:
    return [(b"retry-after", b"%d" % seconds)]


def _raised(made: errors.FoundryError) -> Known:
    return made.status, made.headers[1:], msgspec.json.decode(made.body, type=dict[str, object])


def _filter_inner() -> Known:
    """The newer spelling: `inner_error` and `content_filter_results`."""
    error = {"message": errors.FILTERED_PROMPT, "type": None, "param": "prompt", "code": "content_filter"}
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_results": errors.FILTERED}
    headers: Headers = [*FILTER_HEADERS, (b"api-supported-versions", b"1")]
    return 400, headers, {"error": {**error, "status": 400, "inner_error": inner}}


def filter_responses() -> Known:
    """The filter's refusal as the Responses API words it."""
    offsets = {"start_offset": 0, "end_offset": 6, "check_offset": 0}
    blocked: dict[str, object] = {
        "blocked": True,
        "source_type": "prompt",
        "content_filter_raw": [],
        "content_filter_results": errors.FILTERED,
        "content_filter_offsets": offsets,
    }
    error: dict[str, object] = {
        "message": errors.FILTERED_PROMPT,
        "type": "invalid_request_error",
        "param": "prompt",
        "code": "content_filter",
        "content_filters": [blocked],
    }
    return 400, FILTER_HEADERS, {"error": error}


def _filter_image() -> Known:
    message = "Your task failed as a result of our safety system."
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_results": errors.FILTERED}
    return 400, FILTER_HEADERS, {"error": {"code": "contentFilter", "message": message, "inner_error": inner}}


def _bad_parameter() -> Known:
    message = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    )
    return 400, [], errors.openai(message, "unsupported_parameter", "max_tokens")


def _current(target: Target, what: str) -> dict[str, object]:
    return errors.rate_limited(target.deployment, target.model, target.region, target.operation, what)


def _backend_auth(request_id: str) -> Known:
    message = f"Failed to authenticate to backend endpoint. RequestId = req_{request_id}"
    code = "invalid_model_endpoint_authentication"
    return 401, [], {"error": {"code": code, "message": message, "details": message}}


def _partner() -> Known:
    body, headers = errors.rate_limited_partner("UserByModelByMinuteOutputTokens", 8_000, 33)
    return 429, headers, body


def _minus() -> Headers:
    return [
        (b"x-ratelimit-limit-tokens", b"-1"),
        (b"x-ratelimit-remaining-tokens", b"-1"),
        (b"x-ratelimit-reset-tokens", b"0"),
    ]


ERRORS: dict[str, Callable[[Target, str], Known]] = {
    "filter": lambda _, __: (400, FILTER_HEADERS, errors.content_filter()),
    "filter_inner": lambda _, __: _filter_inner(),
    "filter_responses": lambda _, __: filter_responses(),
    "filter_image": lambda _, __: _filter_image(),
    "bad_parameter": lambda _, __: _bad_parameter(),
    "context": lambda _, __: _raised(errors.context_too_long(128_000, 128_100, 16)),
    "bad_key": lambda _, __: _raised(errors.wrong_key()),
    "bad_key_named": lambda _, __: (401, [], errors.azure("Unauthorized", errors.WRONG_KEY)),
    "no_key": lambda _, __: _raised(errors.missing_key()),
    "no_key_new": lambda _, __: _raised(errors.missing_key(True)),
    "bad_token": lambda _, __: _raised(errors.wrong_token()),
    "no_role": lambda _, __: _raised(errors.no_role()),
    "no_role_new": lambda _, __: _raised(errors.no_role("00000000-0000-0000-0000-000000000000")),
    "backend_auth": lambda _, request_id: _backend_auth(request_id),
    "keys_off": lambda _, __: _raised(errors.keys_off()),
    "network": lambda _, __: _raised(errors.network_refused()),
    "blocked": lambda _, __: _raised(errors.blocked()),
    "no_deployment": lambda target, _: _raised(errors.no_deployment(target.surface, target.deployment)),
    "no_path": lambda _, __: _raised(errors.not_found()),
    "wrong_api": lambda _, __: _raised(errors.api_not_supported()),
    "unavailable_model": lambda target, _: (
        404,
        [],
        errors.azure("unavailable_model", f"Unavailable model: {target.deployment}"),
    ),
    "timeout": lambda _, __: (408, [], errors.azure("Timeout", "The operation was timeout.")),
    "rate_tokens": lambda target, _: (429, RATE_HEADERS, _current(target, "token")),
    "rate_calls": lambda target, _: (429, [*_wait(60), (b"x-ratelimit-type", b"Requests")], _current(target, "call")),
    "rate_older": lambda target, _: (429, _wait(9), errors.rate_limited_older(target.operation)),
    "rate_too_big": lambda target, _: (
        429,
        _wait(86_400),
        errors.rate_limited_older(target.operation, wait_s=86_400),
    ),
    "rate_short": lambda _, __: (429, [], errors.azure("429", "Rate limit is exceeded. Try again in 2 seconds.")),
    "rate_capacity": lambda _, __: (429, _wait(20), errors.azure("429", HIGH_DEMAND)),
    "rate_partner": lambda _, __: _partner(),
    "rate_ptu": lambda target, _: (
        429,
        [(b"retry-after", b"1"), (b"retry-after-ms", b"380"), (b"azure-openai-deployment-utilization", b"100.0%")],
        ptu_full(target),
    ),
    "rate_bare": lambda target, _: (429, [], _current(target, "token")),
    "rate_minus": lambda target, _: (429, _minus(), _current(target, "token")),
    "server_error": lambda _, request_id: (500, [], errors.server_error(request_id)),
    "server_error_gateway": lambda _, request_id: (
        500,
        [],
        errors.gateway(500, "Internal server error", request_id),
    ),
    "overloaded": lambda _, request_id: (503, [], errors.overloaded(request_id)),
    "overloaded_529": lambda _, request_id: (529, [], errors.anthropic(529, "Overloaded", request_id)),
    "serverless_missing": lambda _, __: (404, [], {"status": "Serverless endpoint not found"}),
}
"""Kind → what is sent: one kind for each body that Foundry is known to send."""


def ptu_full(target: Target) -> dict[str, object]:
    """A provisioned deployment above 100 %: the current envelope with the older code."""
    body = _current(target, "token")
    inner = body["error"]
    return {"error": {**inner, "code": "429"}} if isinstance(inner, dict) else body


def by_status(status: int, target: Target, request_id: str) -> dict[str, object]:
    """The body Foundry sends with a status when the test names no kind and gives no body."""
    match status:
        case 400:
            return errors.content_filter()
        case 401:
            return errors.azure("401", errors.WRONG_KEY)
        case 403:
            return errors.azure("403", "Access denied due to Virtual Network/Firewall rules.")
        case 404:
            return errors.azure("404", "Resource not found")
        case 408:
            return errors.azure("Timeout", "The operation was timeout.")
        case 429:
            return _current(target, "token")
        case 503 | 529:
            return errors.overloaded(request_id)
        case _ if status >= 500:
            return errors.server_error(request_id)
        case _:
            return errors.azure(str(status), f"The simulator was told to answer {status}.")
