"""Foundry's errors, from each of their shapes to what a caller is told."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.answers import failure_headers
from services.proxy.domain.admission import Refused
from services.proxy.domain.errors.failures import (
    Failure,
    caller_failure,
    error_body,
    error_event,
    failure_of_event,
    failure_of_refusal,
    read_failure,
)
from services.proxy.domain.errors.masking import masked
from services.proxy.domain.paths import Endpoint


def openai(message: str = "It failed.", **more: Any) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


FILTER = {
    "message": "The response was filtered.", "type": None, "param": "prompt", "code": "content_filter", "status": 400,
    "innererror": {
        "code": "ResponsibleAIPolicyViolation",
        "content_filter_result": {"jailbreak": {"filtered": True, "detected": True}},
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (400, openai("Bad.", type="invalid_request_error", param="max_tokens", code="unsupported_parameter"),
         "unsupported_parameter", "Bad."),
        (429, b'{"error":{"code":"429","message":"Rate limit is exceeded."}}', "429", "Rate limit is exceeded."),
        (500, b'{"statusCode":500,"message":"Internal server error","activityId":"a"}', "upstream_error",
         "Internal server error"),
        (404, b'{"status":"Serverless endpoint not found"}', "upstream_error", "Serverless endpoint not found"),
        (429, b'{"type":"error","error":{"type":"rate_limit_error","message":"Slow."},"request_id":"req_1"}',
         None, "Slow."),
        (529, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
         "overloaded_error", "Overloaded"),
        (502, b"<html>Bad gateway</html>", "upstream_error", "Foundry answered with HTTP 502."),
        (503, b"", "upstream_error", "Foundry answered with HTTP 503."),
        (500, b'{"error":"plain words"}', "upstream_error", "plain words"),
        (422, b'{"detail":"not this"}', "upstream_error", "not this"),
        (500, b'{"error":{"code":500,"message":"n"}}', "500", "n"),
        (500, b'[{"error":{"message":"listed"}}]', None, "listed"),
    ],
)  # fmt: skip
def test_every_envelope_is_read(status: int, body: bytes, code: str | None, message: str) -> None:
    failure = read_failure(status, body)
    assert (failure.code, failure.message) == (code, message)
    assert failure.status == (503 if status == 529 else status)


@pytest.mark.parametrize(
    ("status", "retryable", "kind"),
    [(400, False, "invalid_request_error"), (404, False, "invalid_request_error"), (408, True, "invalid_request_error"),
     (409, True, "invalid_request_error"), (413, False, "invalid_request_error"), (422, False, "invalid_request_error"),
     (429, True, "rate_limit_error"), (500, True, "server_error"), (503, True, "server_error"),
     (529, True, "server_error")],
)  # fmt: skip
def test_what_a_retry_may_help(status: int, retryable: bool, kind: str) -> None:
    failure = caller_failure(read_failure(status, openai(code="x")))
    assert (failure.retryable, failure.kind) == (retryable, kind)


def test_details_of_the_content_filter_are_kept() -> None:
    failure = caller_failure(read_failure(400, json.dumps({"error": FILTER}).encode()))
    assert failure.filtered
    assert failure.outcome == "filtered"
    told = json.loads(error_body("openai", failure))["error"]
    assert told["innererror"] == FILTER["innererror"]
    assert (told["code"], told["param"], told["type"]) == ("content_filter", "prompt", "invalid_request_error")
    said = json.loads(error_body("anthropic", failure, "call-1"))
    assert said["request_id"] == "call-1"
    assert said["error"]["innererror"] == FILTER["innererror"]
    assert said["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("field", ["inner_error", "content_filters", "content_filter_results"])
def test_other_forms_of_the_content_filter(field: str) -> None:
    details = [{"blocked": True, "source_type": "prompt"}] if field == "content_filters" else {"a": {"filtered": True}}
    failure = read_failure(400, openai(code="content_filter", **{field: details}))  # type: ignore[arg-type]
    assert json.loads(error_body("openai", caller_failure(failure)))["error"][field] == details


@pytest.mark.parametrize(
    ("message", "header", "header_ms", "expected", "expected_ms"),
    [
        ("Please retry after 60 seconds.", "1", "0", "60", 60_000),
        ("Rate limit is exceeded. Try again in 2 seconds.", None, None, "2", 2_000),
        ("Please wait 33 seconds before retrying.", "5", None, "33", 33_000),
        ("Full.", None, "250", "1", 250),
        ("Full.", "7", "250", "7", 7_000),
        ("Full.", "-1", "-1", None, None),
        ("Full.", "x", "nan", None, None),
        ("Full.", None, None, None, None),
        ("Full.", "0", "0", "0", 0),
        ("Full.", "Wed, 21 Oct 2026 07:28:00 GMT", None, "Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_the_wait_is_the_longest_that_is_said(
    message: str, header: str | None, header_ms: str | None, expected: str | None, expected_ms: int | None
) -> None:
    failure = read_failure(429, openai(message, code="429"), retry_after=header, retry_after_ms=header_ms)
    assert (failure.retry_after, failure.retry_after_ms, failure.retryable) == (expected, expected_ms, True)


def test_a_day_is_no_wait() -> None:
    failure = read_failure(429, openai("… Please retry after 86400 seconds."), retry_after="86400")
    assert (failure.status, failure.code) == (429, "request_exceeds_quota")
    assert (failure.retryable, failure.retry_after) == (False, None)
    assert failure_headers(failure, [(b"retry-after", b"86400"), (b"a", b"b")]) == [
        (b"a", b"b"), (b"x-should-retry", b"false"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (302, b"", "upstream_redirect"),
        (401, b'{"statusCode":401,"message":"Access denied"}', "upstream_auth_failed"),
        (403, openai("Access denied due to Virtual Network/Firewall rules.", code="403"), "upstream_auth_failed"),
        (403, openai("The resource has been temporarily blocked."), "upstream_blocked"),
        (404, openai(code="DeploymentNotFound"), "upstream_deployment_not_found"),
        (404, openai("Resource not found", code="404"), "upstream_deployment_not_found"),
        (404, b"", "upstream_deployment_not_found"),
        (404, b'{"status":"Serverless endpoint not found"}', "upstream_deployment_not_found"),
        (404, b'{"type":"error","error":{"type":"not_found_error","message":"model: x"}}',
         "upstream_deployment_not_found"),
        (400, openai("Unknown model: X", code="unknown_model"), "upstream_deployment_not_found"),
    ],
)  # fmt: skip
def test_what_only_the_platform_team_can_mend_is_a_502(status: int, body: bytes, code: str) -> None:
    failure = caller_failure(read_failure(status, body))
    assert (failure.status, failure.code, failure.retryable) == (502, code, False)


def test_a_backend_that_failed_to_log_in_may_be_asked_again() -> None:
    body = openai("Failed to authenticate", code="invalid_model_endpoint_authentication")
    assert caller_failure(read_failure(401, body)).retryable is True


def test_a_stored_object_that_is_gone_is_the_callers_404() -> None:
    body = openai("Response with id 'resp_abc' not found.", type="invalid_request_error")
    failure = caller_failure(read_failure(404, body), stored=True)
    assert (failure.status, failure.code) == (404, "not_found")
    assert "resp_abc" not in failure.message


def test_another_api_than_the_models_own_stays_a_404() -> None:
    failure = caller_failure(read_failure(404, openai("Not supported", code="api_not_supported")))
    assert (failure.status, failure.code) == (404, "api_not_supported")


@pytest.mark.parametrize(
    ("event", "status", "code"),
    [
        ({"error": {"message": "m", "type": "server_error", "param": None, "code": None}}, 500, None),
        ({"error": {"message": "That model is currently overloaded with …", "type": "server_error"}}, 503, None),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 503, "overloaded_error"),
        ({"type": "error", "error": {"type": "too_many_requests", "code": "rate_limit_exceeded", "message": "m"}},
         429, "rate_limit_exceeded"),
        ({"type": "error", "code": "server_error", "message": "flat", "param": None}, 500, "server_error"),
        ({"type": "response.failed", "response": {"error": None}}, 500, "response_failed"),
        ({"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded", "message": "m"}}},
         429, "rate_limit_exceeded"),
        ({"error": {"message": "m", "code": "429"}}, 429, "429"),
        ({"error": {"message": "m", "code": "content_filter"}}, 400, "content_filter"),
    ],
)  # fmt: skip
def test_errors_inside_streams(event: object, status: int, code: str | None) -> None:
    failure = failure_of_event(json.dumps(event).encode())
    assert failure is not None
    assert (failure.status, failure.code) == (status, code)


@pytest.mark.parametrize(
    "event",
    [
        {"choices": [{"content_filter_results": {"error": {"code": "content_filter_error", "message": "n"}}}]},
        {"type": "response.created", "response": {"id": "r", "error": None}},
        {"type": "response.completed", "response": {"error": None}, "error": None},
        {"choices": [{"delta": {"content": '"error"'}}], "error": None},
    ],
)
def test_other_events_are_no_errors(event: object) -> None:
    assert failure_of_event(json.dumps(event).encode()) is None


@given(st.binary(max_size=200), st.integers(100, 999))
def test_any_body_gives_an_error_that_can_be_told(body: bytes, status: int) -> None:
    failure = caller_failure(read_failure(status, body))
    assert 400 <= failure.status <= 599
    assert json.loads(error_body("openai", failure))["error"]["message"]
    assert json.loads(error_body("anthropic", failure))["error"]["message"]
    failure_of_event(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "code", "type", "param", "status", "innererror", "response", "details"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json_does(content: object) -> None:
    body = json.dumps(content).encode()
    error_body("openai", caller_failure(read_failure(500, body)))
    failure = failure_of_event(body)
    if failure is not None:
        error_event("anthropic", failure, "c")


def test_deep_and_long_errors_are_cut() -> None:
    deep = b'{"error":{"message":"m","innererror":' + b'{"a":' * 400 + b"1" + b"}" * 400 + b"}}"
    assert len(error_body("openai", caller_failure(read_failure(400, deep)))) < 2_000
    assert len(read_failure(400, openai("x" * 300_000)).message) < 100
    assert len(caller_failure(read_failure(400, openai("x y" * 50_000))).message) <= 8_000


@pytest.mark.parametrize(
    "secret",
    [
        "https://acme-prod.openai.azure.com/openai/deployments/x", "acme-prod.services.ai.azure.com",
        "phi.eastus.models.ai.azure.com:443/v1", "10.1.2.3", "http://127.0.0.1:4010/openai/v1", "[fd00::1]:8080",
        "acme.internal", "apim.azure-api.net", "0123456789abcdef0123456789abcdef", "A" * 40 + "b1" * 22,
        "sk-abcdef0123456789", "Bearer abc.def-ghi", "eyJhbGciOiJI.eyJzdWIiOiIx.c2ln", "resp_0123456789abcdefabcd",
        "file-0123456789abcdefabcd", "localhost:9000",
    ],
)  # fmt: skip
def test_hosts_keys_and_foreign_ids_never_leave(secret: str) -> None:
    body = openai(f"It failed ({secret}).", code="x", innererror={"at": secret, "list": [secret]})
    for dialect in ("openai", "anthropic"):
        assert secret not in error_body(dialect, caller_failure(read_failure(400, body))).decode()


def test_what_a_deployment_hides() -> None:
    failure = read_failure(400, openai("My-Host:1 said hush-hush-key", code="my-host"))
    told = caller_failure(failure, hide=("my-host:1", "my-host", "hush-hush-key", "a"))
    assert "hush" not in told.message
    assert "host:1" not in told.message.lower()
    assert told.code == "(hidden)"


@pytest.mark.parametrize(
    "text",
    [
        "To increase your default rate limit, visit: https://aka.ms/oai/quotaincrease.",
        "see https://go.microsoft.com/fwlink/?linkid=2198766 and https://platform.openai.com/docs",
        "Internal server error",
        "Use 'max_completion_tokens' instead. Version 2024-10-21, api 1.2.3",
        "(Please include the request ID 0b0ff3a6-5b1a-4d35-8b0b-6d9b7d6a3a5c in your message.)",
        "Requests to chat-mini for gpt-4.1-mini in East US 2 have exceeded the token rate limit",
    ],
)
def test_what_helps_people_stays(text: str) -> None:
    assert masked(text) == text


def test_the_last_event_of_a_stream() -> None:
    failure = Failure(status=429, kind="rate_limit_error", code="c", message="m")
    assert json.loads(error_event("openai", failure).removeprefix(b"data: "))["error"]["code"] == "c"
    head, _, data = error_event("openai", failure, endpoint=Endpoint.RESPONSES, sequence=7).partition(b"\n")
    assert head == b"event: error"
    event = json.loads(data.removeprefix(b"data: "))
    assert (event["type"], event["sequence_number"], event["code"], event["error"]["message"]) == ("error", 7, "c", "m")
    head, _, data = error_event("anthropic", failure, "call").partition(b"\n")
    assert head == b"event: error"
    assert json.loads(data.removeprefix(b"data: ")) == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "m", "code": "c"},
        "request_id": "call",
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (401, "authentication_error"), (402, "billing_error"), (403, "permission_error"),
     (404, "not_found_error"), (405, "invalid_request_error"), (413, "request_too_large"), (429, "rate_limit_error"),
     (500, "api_error"), (502, "api_error"), (503, "overloaded_error"), (504, "timeout_error")],
)  # fmt: skip
def test_anthropics_types(status: int, kind: str) -> None:
    said = json.loads(error_body("anthropic", Failure(status=status, kind="x", code=None, message="m")))
    assert said == {"type": "error", "error": {"type": kind, "message": "m"}}


def test_our_own_refusals_keep_all_facts_in_both_dialects() -> None:
    refused = Refused(402, "budget_exceeded", "Spent.", kind="budget_exceeded", extra={"budget": {"spend": 1.5}})
    failure = failure_of_refusal(refused)
    assert json.loads(error_body("openai", failure)) == {
        "error": {
            "message": "Spent.", "type": "budget_exceeded", "param": None, "code": "budget_exceeded",
            "budget": {"spend": 1.5},
        }
    }  # fmt: skip
    assert json.loads(error_body("anthropic", failure))["error"] == {
        "type": "billing_error", "message": "Spent.", "code": "budget_exceeded", "budget": {"spend": 1.5},
    }  # fmt: skip
    headers = [(b"x-should-retry", b"false"), (b"retry-after", b"3")]
    assert failure_headers(failure, headers) == headers
