"""What the log says when Foundry refuses a deployment: what is to be mended, once a minute, and no secret."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from services.proxy.domain.errors.failures import caller_failure, read_failure
from services.proxy.domain.paths import Endpoint
from services.proxy.relay.complaints import SILENCE_MS, Complaints
from tests.support.clock import FakeClock
from tests.support.relays import HOST, KEY, Bench, ScriptedReply, call_of

LOGGER = "services.proxy.relay.complaints"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    async with asyncio.timeout(20):
        yield made
    await made.close()


def refusal(code: str = "401", status: int = 401, message: str = "no") -> ScriptedReply:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    return ScriptedReply(body, status=status, content_type="application/json")


async def test_a_refused_credential_is_logged_once_a_minute(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        answer = await bench.whole(call_of(Endpoint.CHAT), refusal("PermissionDenied"))
        assert (answer.status, answer.error["code"]) == (502, "upstream_auth_failed")
    (record,) = (record for record in caplog.records if record.name == LOGGER)
    assert record.levelname == "WARNING"
    for part in ("chat-mini", HOST, "HTTP 401", "'PermissionDenied'", "upstream_auth_failed", "api_key"):
        assert part in record.getMessage()
    bench.clock.advance(SILENCE_MS / 1_000)
    await bench.whole(call_of(Endpoint.CHAT), refusal())
    assert len([record for record in caplog.records if record.name == LOGGER]) == 2


async def test_complaints_of_another_kind_are_logged_as_well(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await bench.whole(call_of(Endpoint.CHAT), refusal())
    await bench.whole(call_of(Endpoint.CHAT), refusal("DeploymentNotFound", 404))
    said = [record.getMessage() for record in caplog.records if record.name == LOGGER]
    assert len(said) == 2
    assert "upstream_deployment_not_found" in said[1]
    assert "litellm_params.model" in said[1]


async def test_a_stream_that_is_refused_is_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    event = b'data: {"error":{"code":"DeploymentNotFound","type":"not_found_error","message":"no"}}\n\n'
    await bench.stream(call_of(Endpoint.CHAT), ScriptedReply(event))
    assert "upstream_deployment_not_found" in caplog.text


@pytest.mark.parametrize(
    ("status", "code"), [(400, "bad"), (429, "429"), (500, "x"), (401, "invalid_model_endpoint_authentication")]
)
async def test_what_callers_or_time_mend_is_not_logged(
    bench: Bench, caplog: pytest.LogCaptureFixture, status: int, code: str
) -> None:
    await bench.whole(call_of(Endpoint.CHAT), refusal(code, status))
    assert LOGGER not in {record.name for record in caplog.records}


def test_no_secret_is_in_the_line(caplog: pytest.LogCaptureFixture) -> None:
    deployment = call_of(Endpoint.CHAT).deployment
    said = read_failure(401, json.dumps({"error": {"code": f"key {KEY}\nis wrong" + "x" * 500}}).encode())
    Complaints(FakeClock()).note(deployment, said, caller_failure(said))
    (record,) = caplog.records
    assert KEY not in record.getMessage()
    assert "\n" not in record.getMessage()
    assert len(record.getMessage()) < 500
