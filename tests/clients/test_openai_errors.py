"""OpenAI's four clients: every error arrives as the exception that its client has for it."""

from typing import Any

import openai
import pytest

from tests.clients.either import settle
from tests.clients.openai_clients import FOUR, openai_client
from tests.clients.tape import Tape

HI = [{"role": "user", "content": "Hi [[sim completion=12]]"}]
DEPLOYMENTS = {"gpt-4o": "gpt-4o-deployment", "phi-4": "phi-4-deployment", "claude": "claude-sonnet-4-5-deployment"}
MODELS = list(DEPLOYMENTS)
FILTERED = "Foundry bills the prompt that its filter refused, and tells no usage of it"


@pytest.fixture(params=FOUR)
async def client(request: pytest.FixtureRequest, tape: Tape) -> Any:
    async with openai_client(request.param, tape) as made:
        yield made


async def fails(kind: type[openai.APIError], call: Any) -> Any:
    with pytest.raises(kind) as caught:
        await settle(call())
    return caught.value


@pytest.mark.row("Errors: 400 bad parameter")
@pytest.mark.parametrize("how", ["own", "foundry"])
async def test_bad_parameter(client: Any, tape: Tape, how: str) -> None:
    if how == "foundry":
        tape.fault("gpt-4o-deployment", "bad_parameter")
        error = await fails(openai.BadRequestError, lambda: client.chat.completions.create(model="gpt-4o", messages=HI))
    else:
        error = await fails(
            openai.BadRequestError,
            lambda: client.chat.completions.create(model="gpt-5-mini", messages=HI, temperature=0.5),
        )
    assert error.code == "unsupported_parameter"
    assert error.param in ("temperature", "max_tokens")
    assert error.type == "invalid_request_error"


@pytest.mark.row("Errors: 400 content filter")
@pytest.mark.estimated(FILTERED)
@pytest.mark.parametrize("mode", ["plain", "stream"])
async def test_content_filter(client: Any, mode: str) -> None:
    messages = [{"role": "user", "content": "Hi [[sim filter=1]]"}]
    error = await fails(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model="gpt-4o", messages=messages, stream=mode == "stream"),
    )
    assert error.code == "content_filter"
    results = error.body["innererror"]["content_filter_result"]
    assert any(result.get("filtered") for result in results.values())


@pytest.mark.row("Errors: 400 content filter of responses")
@pytest.mark.estimated(FILTERED)
@pytest.mark.parametrize("mode", ["plain", "stream"])
async def test_content_filter_of_responses(client: Any, mode: str) -> None:
    error = await fails(
        openai.BadRequestError,
        lambda: client.responses.create(model="gpt-5-mini", input="Hi [[sim filter=1]]", stream=mode == "stream"),
    )
    assert error.code == "content_filter"
    assert error.body["content_filters"][0]["blocked"] is True


@pytest.mark.row("Errors: 401 unknown key")
async def test_unknown_key(client: Any) -> None:
    client.api_key = "sk-nobody-knows-this-key"
    error = await fails(openai.AuthenticationError, lambda: client.chat.completions.create(model="gpt-4o", messages=HI))
    assert (error.code, error.type) == ("invalid_api_key", "authentication_error")


@pytest.mark.row("Errors: 402 budget exceeded")
async def test_budget_exceeded(client: Any, tape: Tape) -> None:
    client.api_key = tape.mint(max_budget=0.000001)
    error = await fails(openai.APIStatusError, lambda: client.chat.completions.create(model="gpt-4o", messages=HI))
    assert (error.status_code, error.code) == (402, "budget_exceeded")
    assert error.body["budget"]["max_budget"] == 0.000001
    assert error.response.headers["x-should-retry"] == "false"


@pytest.mark.row("Errors: 403 model not allowed")
async def test_model_not_allowed(client: Any, tape: Tape) -> None:
    client.api_key = tape.mint(models=["phi-4"])
    error = await fails(
        openai.PermissionDeniedError, lambda: client.chat.completions.create(model="gpt-4o", messages=HI)
    )
    assert error.code == "model_not_allowed"


@pytest.mark.row("Errors: 404 unknown model")
async def test_unknown_model(client: Any) -> None:
    error = await fails(openai.NotFoundError, lambda: client.chat.completions.create(model="gpt-9", messages=HI))
    assert error.code == "model_not_found"


@pytest.mark.row("Errors: 404 unknown response, file and batch")
async def test_unknown_objects(client: Any) -> None:
    for call in (client.responses.retrieve, client.files.retrieve, client.batches.retrieve):
        error = await fails(openai.NotFoundError, lambda call=call: call("resp_nobody"))
        assert error.code == "object_not_found"


@pytest.mark.row("Errors: 404 API that is not offered")
async def test_not_offered(client: Any) -> None:
    error = await fails(openai.NotFoundError, lambda: client.vector_stores.list())
    assert error.code == "not_supported"


@pytest.mark.row("Errors: 429 with retry-after")
@pytest.mark.parametrize("mode", ["plain", "stream"])
@pytest.mark.parametrize("model", MODELS)
async def test_rate_limit(client: Any, tape: Tape, mode: str, model: str) -> None:
    tape.fault(DEPLOYMENTS[model], "rate_tokens")
    error = await fails(
        openai.RateLimitError,
        lambda: client.chat.completions.create(model=model, messages=HI, stream=mode == "stream"),
    )
    assert int(error.response.headers["retry-after"]) >= 1
    assert error.response.headers["x-should-retry"] == "true"


@pytest.mark.row("Errors: 429 of the gateway's own limit")
async def test_own_rate_limit(client: Any, tape: Tape) -> None:
    client.api_key = tape.mint(rpm_limit=1)
    await settle(client.chat.completions.create(model="gpt-4o", messages=HI))
    error = await fails(openai.RateLimitError, lambda: client.chat.completions.create(model="gpt-4o", messages=HI))
    assert error.code == "rate_limit_exceeded"
    assert int(error.response.headers["retry-after"]) >= 1


@pytest.mark.row("Errors: 500")
@pytest.mark.parametrize("mode", ["plain", "stream"])
@pytest.mark.parametrize("model", MODELS)
async def test_server_error(client: Any, tape: Tape, mode: str, model: str) -> None:
    tape.fault(DEPLOYMENTS[model], "server_error")
    error = await fails(
        openai.InternalServerError,
        lambda: client.chat.completions.create(model=model, messages=HI, stream=mode == "stream"),
    )
    assert error.status_code == 500
    assert error.response.headers["x-should-retry"] == "true"


@pytest.mark.row("Errors: 502 credential of the gateway refused")
async def test_upstream_auth(client: Any, tape: Tape) -> None:
    tape.fault("gpt-4o-deployment", "bad_key")
    error = await fails(openai.InternalServerError, lambda: client.chat.completions.create(model="gpt-4o", messages=HI))
    assert (error.status_code, error.code) == (502, "upstream_auth_failed")


@pytest.mark.row("Errors: 502 connection broken", mode="plain")
@pytest.mark.estimated("the connection broke before Foundry's reply was whole")
async def test_reset(client: Any, tape: Tape) -> None:
    tape.fault("gpt-4o-deployment", "reset", after_events=1)
    error = await fails(openai.InternalServerError, lambda: client.chat.completions.create(model="gpt-4o", messages=HI))
    assert (error.status_code, error.code) == (502, "upstream_reset")


@pytest.mark.row("Errors: 400 model of another kind")
async def test_another_kind(client: Any) -> None:
    sound = ("e.mp3", b"ID3" + bytes(100))
    calls: list[tuple[str, Any]] = [
        ("audio/transcriptions", lambda: client.chat.completions.create(model="whisper", messages=HI)),
        ("audio/speech", lambda: client.chat.completions.create(model="tts", messages=HI)),
        ("audio/speech", lambda: client.audio.transcriptions.create(model="tts", file=sound)),
    ]
    for does, call in calls:
        error = await fails(openai.BadRequestError, call)
        assert (error.code, error.param) == ("endpoint_not_supported", "model")
        assert f"It serves: {does}" in error.message


@pytest.mark.row("Errors: 503 no price is known")
async def test_no_price(client: Any) -> None:
    error = await fails(
        openai.InternalServerError, lambda: client.chat.completions.create(model="unpriced", messages=HI)
    )
    assert (error.status_code, error.code) == (503, "price_unknown")


@pytest.mark.row("Errors: in the middle of a stream", mode="stream")
@pytest.mark.estimated("Foundry's stream ended with an error before its usage")
@pytest.mark.parametrize("model", MODELS)
async def test_error_in_the_middle(client: Any, tape: Tape, model: str) -> None:
    tape.fault(DEPLOYMENTS[model], "midstream_error", after_events=6)
    stream = await settle(client.chat.completions.create(model=model, messages=HI, stream=True))
    text = ""
    with pytest.raises(openai.APIError) as caught:
        async for chunk in tape.each(stream):
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert text
    body: Any = caught.value.body
    assert body["message"]


@pytest.mark.row("Errors: stream broken off", mode="stream")
@pytest.mark.estimated("Foundry's stream broke off before its usage")
async def test_broken_stream(client: Any, tape: Tape) -> None:
    tape.fault("gpt-4o-deployment", "reset", after_events=6)
    stream = await settle(client.chat.completions.create(model="gpt-4o", messages=HI, stream=True))
    with pytest.raises(openai.APIError) as caught:
        async for _ in tape.each(stream):
            pass
    assert caught.value.code == "upstream_stream_broken"


@pytest.mark.row("Errors: a stream that fails before its content", mode="stream")
@pytest.mark.parametrize("model", MODELS)
async def test_early_failure(client: Any, tape: Tape, model: str) -> None:
    tape.fault(DEPLOYMENTS[model], "midstream_error", after_events=1)
    error = await fails(
        openai.InternalServerError,
        lambda: client.chat.completions.create(model=model, messages=HI, stream=True),
    )
    assert error.status_code == (503 if model == "claude" else 500)


@pytest.mark.row("Errors: responses that fail before their content", mode="stream")
@pytest.mark.parametrize("kind", ["responses_failed", "responses_error_first"])
async def test_early_failure_of_responses(client: Any, tape: Tape, kind: str) -> None:
    tape.fault("gpt-5-mini-deployment", kind, after_events=2)
    error = await fails(
        openai.APIStatusError,
        lambda: client.responses.create(model="gpt-5-mini", input="Hi", stream=True),
    )
    assert error.status_code >= 429


@pytest.mark.row("Errors: responses that fail in the middle", mode="stream")
@pytest.mark.estimated("Foundry's stream ended with an error before its usage")
@pytest.mark.parametrize("kind", ["responses_failed", "responses_error_first"])
async def test_responses_fail_in_the_middle(client: Any, tape: Tape, kind: str) -> None:
    tape.fault("gpt-5-mini-deployment", kind, after_events=7)
    stream = await settle(client.responses.create(model="gpt-5-mini", input="Hi", stream=True))
    kinds: list[str] = []
    with pytest.raises(openai.APIError):
        kinds.extend([event.type async for event in tape.each(stream)])
    assert tape.events > 3
