"""The Foundry simulator speaks as Foundry does: paths, keys, bodies, streams, headers, usage."""

import base64
import json
import math
import struct
from typing import Any

import pytest

from deploy.simulator import Options, Simulator
from deploy.simulator.deployments import served_model
from deploy.simulator.wire import MAX_BODY_BYTES
from tests.unit.simulator_driver import CHAT, KEY, NOW, VERSION, FixedClock, ask, chat, served

V1 = "/openai/v1/chat/completions"
MODELS = "/models/chat/completions"
EMBED = "/openai/deployments/text-embedding-3-large-deployment/embeddings"


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(Options(), FixedClock())


async def test_plain_chat_has_azures_body_and_key_order(simulator: Simulator) -> None:
    body = (await ask(simulator, body=chat(max_tokens=3))).json
    assert list(body) == [
        "choices", "created", "id", "model", "object", "prompt_filter_results", "service_tier",
        "system_fingerprint", "usage",
    ]  # fmt: skip
    (choice,) = body["choices"]
    assert list(choice) == ["content_filter_results", "finish_reason", "index", "logprobs", "message"]
    assert choice["message"] == {
        "annotations": [], "content": "The ladle tips", "refusal": None, "role": "assistant",
    }  # fmt: skip
    assert choice["finish_reason"] == "length"
    assert choice["content_filter_results"]["protected_material_code"] == {
        "filtered": False,
        "detected": False,
    }
    assert body["prompt_filter_results"][0]["content_filter_results"]["jailbreak"]["detected"] is False
    assert (body["model"], body["created"]) == ("gpt-4o-2024-08-06", int(NOW.timestamp()))
    assert body["usage"] == {
        "completion_tokens": 3,
        "completion_tokens_details": {
            "accepted_prediction_tokens": 0, "audio_tokens": 0, "reasoning_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
        "prompt_tokens": 5,
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
        "total_tokens": 8,
    }  # fmt: skip


async def test_stream_with_usage(simulator: Simulator) -> None:
    request = chat(stream=True, stream_options={"include_usage": True}, max_tokens=4)
    reply = await ask(simulator, body=request)
    assert reply.finished
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "content-length" not in reply.headers
    first, role, *content, finish, usage, done = reply.events
    assert list(first) == ["choices", "created", "id", "model", "object", "prompt_filter_results"]
    assert (first["choices"], first["id"]) == ([], "")
    assert role["choices"][0]["delta"] == {"content": "", "refusal": None, "role": "assistant"}
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in content) == "The ladle tips and"
    assert finish["choices"][0]["finish_reason"] == "length"
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 4)
    assert all(chunk["usage"] is None for chunk in [role, *content, finish])
    assert all("obfuscation" in chunk for chunk in [role, *content, finish, usage])
    assert len({chunk["id"] for chunk in [role, *content, finish, usage]}) == 1
    assert done == "[DONE]"


async def test_stream_without_usage_or_obfuscation(simulator: Simulator) -> None:
    reply = await ask(simulator, body=chat(stream=True))
    assert all("usage" not in chunk for chunk in reply.events[:-1])
    assert reply.events[-2]["choices"][0]["finish_reason"] == "stop"
    bare = await ask(simulator, body=chat(stream=True, stream_options={"include_obfuscation": False}))
    assert b"obfuscation" not in bare.body
    assert b'"usage"' not in bare.body


async def test_several_choices_are_all_answered_and_billed(simulator: Simulator) -> None:
    plain = (await ask(simulator, body=chat(n=3, max_tokens=5))).json
    assert [choice["index"] for choice in plain["choices"]] == [0, 1, 2]
    assert plain["usage"]["completion_tokens"] == 15
    streamed = (await ask(simulator, body=chat(n=2, max_tokens=5, stream=True))).events
    finished = [c["index"] for e in streamed[:-1] for c in e["choices"] if c["finish_reason"]]
    assert finished == [0, 1]


async def test_marker_steers_usage_and_the_callers_cap_wins(simulator: Simulator) -> None:
    marker = "go [[sim prompt=1000 completion=300 cached=10 cache_write=20 reasoning=100 chunks=40]]"
    usage = (await ask(simulator, body=chat(marker))).json["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (1000, 300, 1300)
    assert usage["prompt_tokens_details"] == {
        "audio_tokens": 0,
        "cache_write_tokens": 20,
        "cached_tokens": 10,
    }
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 100
    capped = (await ask(simulator, body=chat(marker, max_completion_tokens=50))).json
    assert capped["usage"]["completion_tokens"] == 50
    assert capped["choices"][0]["finish_reason"] == "length"
    streamed = (await ask(simulator, body=chat(marker, stream=True))).events
    content = [c["delta"] for e in streamed[:-1] for c in e["choices"] if c["delta"].get("content")]
    assert len(content) == 40
    assert len("".join(delta["content"] for delta in content).split()) == 200
    records = (await served(simulator))["calls"]
    assert records[0]["usage"] == {
        "prompt": 1000, "cached": 10, "cache_write": 20, "completion": 300, "reasoning": 100,
    }  # fmt: skip
    assert [record["usage"]["completion"] for record in records] == [300, 50, 300]


async def test_header_steers_and_only_the_last_user_message_counts(simulator: Simulator) -> None:
    headers = {**KEY, "x-sim-usage": "prompt=7,completion=2,cached=90"}
    usage = (await ask(simulator, body=chat(), headers=headers)).json["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (7, 2)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 7
    messages = [
        {"role": "user", "content": "[[sim completion=1]]"},
        {"role": "user", "content": [{"type": "text", "text": "[[sim completion=9]]"}]},
        {"role": "assistant", "content": "[[sim completion=5]]"},
    ]
    assert (await ask(simulator, body={"messages": messages})).json["usage"]["completion_tokens"] == 9
    wrong = await ask(simulator, body=chat("[[sim completions=1]]"))
    assert (wrong.status, wrong.json["error"]["code"]) == (400, "sim_marker")


async def test_chunks_beyond_the_words_cut_within_them(simulator: Simulator) -> None:
    reply = await ask(simulator, body=chat("[[sim completion=3 chunks=10]]", stream=True))
    content = [c["delta"]["content"] for e in reply.events[:-1] for c in e["choices"] if c["delta"]]
    assert len(content[1:]) == 10
    assert "".join(content) == "The ladle tips"
    empty = await ask(simulator, body=chat("[[sim completion=0]]", stream=True))
    assert empty.events[-1] == "[DONE]"


@pytest.mark.parametrize(
    ("path", "query", "body"),
    [
        (CHAT, VERSION, chat()),
        (MODELS, "api-version=2024-05-01-preview", chat(model="phi-4-deployment")),
        (V1, "", chat(model="gpt-4.1-mini")),
        (V1, "api-version=preview", chat(model="gpt-4.1-mini")),
    ],
)
async def test_each_surface_serves_and_says_what_it_served(
    simulator: Simulator, path: str, query: str, body: dict[str, object]
) -> None:
    reply = await ask(simulator, path, body, query=query)
    assert reply.status == 200
    (record,) = (await served(simulator))["calls"]
    assert record["model"] == reply.json["model"]
    assert record["id"] == reply.json["id"]
    assert record["deployment"] == reply.headers["x-ms-deployment-name"]
    assert record["surface"] == {CHAT: "classic", MODELS: "models", V1: "v1"}[path]


@pytest.mark.parametrize(
    ("path", "query", "method"),
    [
        (CHAT, "", "POST"),
        (CHAT, "api-version=latest", "POST"),
        (MODELS, "", "POST"),
        (CHAT, VERSION, "GET"),
        ("/", VERSION, "POST"),
        ("/openai/deployments//chat/completions", VERSION, "POST"),
        ("/openai/deployments/a/b/chat/completions", VERSION, "POST"),
        ("/openai/deployments/../v1/chat/completions", VERSION, "POST"),
        ("/openai/v1/chat/completions/", "", "POST"),
        ("/openai/responses", VERSION, "POST"),
    ],
)
async def test_odd_paths_versions_and_methods_are_not_found(
    simulator: Simulator, path: str, query: str, method: str
) -> None:
    reply = await ask(simulator, path, chat(model="gpt-4o"), query=query, method=method)
    assert reply.status == 404
    assert reply.json == {"error": {"code": "404", "message": "Resource not found"}}


@pytest.mark.parametrize(
    ("path", "headers", "envelope"),
    [
        (CHAT, {}, "missing"),
        (V1, {}, "missing"),
        (CHAT, {"api-key": "nope"}, "wrong"),
        (V1, {"authorization": "Bearer nope"}, "wrong"),
        (V1, {"authorization": "Bearer a.b.c"}, "token"),
        (CHAT, {"authorization": "Bearer sim-foundry-key"}, "token"),
        (MODELS, {"authorization": "Bearer sim-foundry-key"}, "token"),
        (CHAT, {"authorization": "Basic x"}, "token"),
    ],
)
async def test_a_missing_a_wrong_key_and_a_bad_token_have_bodies_of_their_own(
    simulator: Simulator, path: str, headers: dict[str, str], envelope: str
) -> None:
    reply = await ask(simulator, path, chat(model="gpt-4o"), headers=headers)
    assert reply.status == 401
    if envelope == "wrong":
        assert reply.json["error"]["code"] == "401"
        assert reply.json["error"]["message"].startswith("Access denied due to invalid subscription key")
    else:
        says = {"missing": "Access denied due to missing", "token": "Unauthorized. Access token is missing"}
        assert reply.json["statusCode"] == 401
        assert reply.json["message"].startswith(says[envelope])
    assert (await served(simulator))["total"] == 0


async def test_the_key_is_accepted_where_foundry_accepts_it() -> None:
    simulator = Simulator(Options(key="another"), FixedClock())
    for headers in ({"api-key": "another"}, {"authorization": "bearer another"}):
        assert (await ask(simulator, V1, chat(model="gpt-4o"), headers=headers)).status == 200


async def test_unknown_deployments_are_told_apart_by_surface() -> None:
    options = Options(deployments=frozenset({"chat-a", "gone"}), missing=frozenset({"gone"}))
    simulator = Simulator(options, FixedClock())
    path = "/openai/deployments/{}/chat/completions"
    assert (await ask(simulator, path.format("chat-a"), chat())).status == 200
    for name in ("chat-b", "gone", "missing-x", "x" * 80, "a b"):
        reply = await ask(simulator, path.format(name), chat())
        assert (reply.status, reply.json["error"]["code"]) == (404, "DeploymentNotFound")
    on_v1 = await ask(simulator, V1, chat(model="gone"))
    assert (on_v1.status, on_v1.json["error"]["code"]) == (404, "DeploymentNotFound")
    assert on_v1.json["error"]["type"] == "invalid_request_error"
    on_models = await ask(simulator, MODELS, chat(model="gone"))
    assert on_models.json["error"] == {"code": "unknown_model", "message": "Unknown model: gone"}
    assert (await ask(simulator, MODELS, chat())).json["error"]["code"] == "no_model_name"
    assert (await ask(simulator, V1, chat())).status == 400


@pytest.mark.parametrize(
    ("deployment", "model"),
    [
        ("gpt-4o-deployment", "gpt-4o-2024-08-06"),
        ("gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
        ("gpt-4.1-mini", "gpt-4.1-mini-2025-04-14"),
        ("GPT-4o", "gpt-4o-2024-08-06"),
        ("phi-4-deployment", "Phi-4"),
        ("text-embedding-3-large-deployment", "text-embedding-3-large"),
        ("gpt-4o-2024-11-20", "gpt-4o-2024-11-20"),
        ("gpt-4oak", "gpt-4oak"),
        ("team-search", "team-search"),
        ("claude-sonnet-4-5-deployment", "claude-sonnet-4-5"),
        ("o4-mini-deployment", "o4-mini-2025-04-16"),
        ("gpt-4o-2024-11-20-deployment", "gpt-4o-2024-11-20"),
        ("cohere-rerank-v4.0-pro", "cohere-rerank-v4.0-pro"),
        ("mistral-document-ai-2505", "mistral-document-ai-2505"),
        ("gpt-image-1-deployment", "gpt-image-1"),
        ("llama-3.3-70b-instruct-eu", "Llama-3.3-70B-Instruct"),
    ],
)
def test_served_models(deployment: str, model: str) -> None:
    assert served_model(deployment) == model


async def test_a_configured_served_model_wins() -> None:
    simulator = Simulator(Options(served={"gpt-4o": "gpt-5-2025-08-07"}), FixedClock())
    reply = await ask(simulator, V1, chat(model="gpt-4o", max_tokens=5))
    assert reply.json["error"]["code"] == "unsupported_parameter"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"max_tokens": 10}, "unsupported_parameter", "max_tokens"),
        ({"temperature": 0.2}, "unsupported_value", "temperature"),
        ({"logprobs": True}, "unsupported_parameter", "logprobs"),
    ],
)
async def test_reasoning_deployments_refuse_what_they_do_not_support(
    simulator: Simulator, fields: dict[str, Any], code: str, param: str
) -> None:
    for name in ("o3-mini", "o4-mini", "o1", "gpt-5-mini"):
        reply = await ask(simulator, V1, chat(model=name, **fields))
        assert reply.status == 400
        assert (reply.json["error"]["code"], reply.json["error"]["param"]) == (code, param)
        allowed = chat(model=name, max_completion_tokens=5, temperature=1)
        assert (await ask(simulator, V1, allowed)).status == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{not json", None),
        (b'"text"', None),
        (b"\xff\xfe", None),
        ({"model": "gpt-4o"}, None),
        ({"messages": []}, "messages"),
        (chat(max_tokens=0), "max_tokens"),
        (chat(max_tokens="ten"), "max_tokens"),
        (chat(max_tokens=1, max_completion_tokens=1), "max_tokens"),
        (chat(n=0), "n"),
        (chat(stream_options={"include_usage": True}), "stream_options"),
    ],
)
async def test_bad_requests(simulator: Simulator, body: object, param: str | None) -> None:
    reply = await ask(simulator, body=body)
    assert reply.status == 400
    assert reply.json["error"]["type"] == "invalid_request_error"
    assert reply.json["error"]["param"] == param
    assert (await served(simulator))["total"] == 0


async def test_operations_a_model_cannot_do(simulator: Simulator) -> None:
    chat_on_embed = await ask(simulator, V1, chat(model="text-embedding-3-small"))
    embed_on_chat = await ask(simulator, "/openai/v1/embeddings", {"model": "gpt-4o", "input": "a"})
    for reply in (chat_on_embed, embed_on_chat):
        assert (reply.status, reply.json["error"]["code"]) == (400, "OperationNotSupported")
    claude = await ask(simulator, V1, chat(model="claude-sonnet-4-5"))
    assert (claude.status, claude.json["error"]["code"]) == (404, "api_not_supported")


async def test_embeddings_are_unit_vectors_of_the_text_alone(simulator: Simulator) -> None:
    request = {"input": ["alpha", "beta", "alpha"], "encoding_format": "float"}
    reply = (await ask(simulator, EMBED, request)).json
    assert list(reply) == ["object", "data", "model", "usage"]
    vectors = [item["embedding"] for item in reply["data"]]
    assert [len(vector) for vector in vectors] == [3072] * 3
    assert vectors[0] == vectors[2] != vectors[1]
    assert math.isclose(sum(value * value for value in vectors[0]), 1, rel_tol=1e-5)
    assert reply["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    (record,) = (await served(simulator))["calls"]
    assert (record["operation"], record["usage"]["prompt"], record["usage"].get("completion", 0)) == (
        "embeddings",
        5,
        0,
    )


async def test_base64_holds_the_same_floats_and_dimensions_are_honoured(
    simulator: Simulator,
) -> None:
    request: dict[str, Any] = {"model": "text-embedding-3-small", "input": "alpha", "dimensions": 64}
    path = "/openai/v1/embeddings"
    floats = (await ask(simulator, path, request)).json["data"][0]["embedding"]
    coded = (await ask(simulator, path, {**request, "encoding_format": "base64"})).json["data"][0]["embedding"]
    unpacked = struct.unpack("<64f", base64.b64decode(coded))
    assert struct.pack("<64f", *floats) == struct.pack("<64f", *unpacked)
    too_many = await ask(simulator, path, {**request, "dimensions": 4000})
    fixed = await ask(simulator, path, {**request, "model": "text-embedding-ada-002"})
    assert (too_many.status, fixed.status) == (400, 400)


@pytest.mark.parametrize("given", ["", [], [""], [[]], ["a", 1], ["a"] * 2049, "x" * 40_000])
async def test_embedding_inputs_out_of_bounds(simulator: Simulator, given: object) -> None:
    assert (await ask(simulator, EMBED, {"input": given})).status == 400


async def test_embedding_tokens_are_counted_as_given(simulator: Simulator) -> None:
    usage = (await ask(simulator, EMBED, {"input": [1, 2, 3]})).json["usage"]
    assert usage["prompt_tokens"] == 3
    usage = (await ask(simulator, EMBED, {"input": [[1, 2], [3]], "dimensions": 4})).json["usage"]
    assert usage["prompt_tokens"] == 3
    full = await ask(simulator, EMBED, {"input": ["a"] * 2048, "dimensions": 2})
    assert len(full.json["data"]) == 2048


async def test_headers_of_an_answer(simulator: Simulator) -> None:
    headers = {**KEY, "x-ms-client-request-id": "mine"}
    first = (await ask(simulator, body=chat(max_tokens=6), headers=headers)).headers
    second = (await ask(simulator, body=chat(max_tokens=6))).headers
    assert first["x-ms-client-request-id"] == "mine"
    assert second["x-ms-client-request-id"] == "Not-Set"
    assert first["apim-request-id"] == first["x-request-id"] != second["apim-request-id"]
    assert first["x-ms-region"] == "East US 2"
    assert first["x-content-type-options"] == "nosniff"
    assert first["azureml-model-session"]
    left = [int(headers["x-ratelimit-remaining-requests"]) for headers in (first, second)]
    tokens = [int(headers["x-ratelimit-remaining-tokens"]) for headers in (first, second)]
    assert left[0] - left[1] == 1
    assert tokens[0] - tokens[1] == 11
    refused = (await ask(simulator, body=b"no", headers=headers)).headers
    assert refused["x-ms-client-request-id"] == "mine"
    assert refused["apim-request-id"]
    (one, _) = (await served(simulator))["calls"]
    assert (one["client_request_id"], one["request_id"]) == ("mine", first["apim-request-id"])


async def test_a_body_may_come_in_pieces_but_not_without_end(simulator: Simulator) -> None:
    raw = json.dumps(chat()).encode()
    pieces = [raw[:1], b"", raw[1:20], raw[20:]]
    assert (await ask(simulator, pieces=pieces)).status == 200
    announced = await ask(simulator, body=chat(), headers={**KEY, "content-length": str(MAX_BODY_BYTES + 1)})
    assert announced.status == 413
    quarter = b" " * (MAX_BODY_BYTES // 4)
    assert (await ask(simulator, pieces=[quarter] * 4 + [b" "])).status == 413
    assert (await ask(simulator, pieces=[], leave_after=0)).status == 0
