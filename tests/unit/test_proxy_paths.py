"""The front door's table: every row, and every odd spelling refused before anything else happens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain.paths import (
    ADMIN_TABLE,
    INFERENCE_TABLE,
    METERED,
    PATH_BYTES_MAX,
    STORED,
    BadPath,
    Endpoint,
    not_offered,
    route_of,
    split_path,
)

CHAT = b"/v1/chat/completions"
OPENAI = ("/v1", "", "/openai/v1")
CREATING = {
    "chat/completions": Endpoint.CHAT,
    "completions": Endpoint.COMPLETIONS,
    "embeddings": Endpoint.EMBEDDINGS,
    "responses": Endpoint.RESPONSES,
    "images/generations": Endpoint.IMAGES,
    "images/edits": Endpoint.IMAGE_EDITS,
    "audio/transcriptions": Endpoint.TRANSCRIPTIONS,
    "audio/translations": Endpoint.TRANSLATIONS,
    "audio/speech": Endpoint.SPEECH,
}
ROWS: list[tuple[str, Endpoint, tuple[str, ...], str]] = [
    *[(f"{prefix}/{path}", endpoint, ("POST",), "openai") for prefix in OPENAI for path, endpoint in CREATING.items()],
    ("/openai/responses", Endpoint.RESPONSES, ("POST",), "openai"),
    *[(f"{prefix}/files", Endpoint.FILES, ("POST", "GET"), "openai") for prefix in (*OPENAI, "/openai")],
    *[(f"{prefix}/batches", Endpoint.BATCHES, ("POST", "GET"), "openai") for prefix in (*OPENAI, "/openai")],
    *[(f"{prefix}/models", Endpoint.MODELS, ("GET",), "openai") for prefix in (*OPENAI, "/openai")],
    *[(f"{prefix}/realtime", Endpoint.REALTIME, ("GET",), "openai") for prefix in (*OPENAI, "/openai")],
    *[(f"{prefix}/messages", Endpoint.MESSAGES, ("POST",), "anthropic") for prefix in ("/v1", "/anthropic/v1")],
    *[
        (f"{prefix}/messages/count_tokens", Endpoint.COUNT_TOKENS, ("POST",), "anthropic")
        for prefix in ("/v1", "/anthropic/v1")
    ],
    ("/anthropic/v1/models", Endpoint.MODELS, ("GET",), "anthropic"),
    *[(f"{prefix}/rerank", Endpoint.RERANK, ("POST",), "openai") for prefix in ("", "/v1", "/v2")],
    *[(f"{prefix}/ocr", Endpoint.OCR, ("POST",), "openai") for prefix in ("", "/v1")],
    *[(f"{prefix}/model/info", Endpoint.MODEL_INFO, ("GET",), "openai") for prefix in ("", "/v1", "/v2")],
    ("/model_group/info", Endpoint.MODEL_INFO, ("GET",), "openai"),
    ("/health/liveliness", Endpoint.ALIVE, ("GET", "HEAD"), "openai"),
    ("/health/liveness", Endpoint.ALIVE, ("GET", "HEAD"), "openai"),
    ("/health/readiness", Endpoint.READY, ("GET", "HEAD"), "openai"),
]


@pytest.mark.parametrize(("path", "endpoint", "methods", "dialect"), ROWS)
def test_every_inference_and_health_row(path: str, endpoint: Endpoint, methods: tuple[str, ...], dialect: str) -> None:
    route = route_of(path.encode())
    assert route is not None
    assert (route.endpoint, route.methods, route.dialect) == (endpoint, methods, dialect)
    assert (route.model, route.object_id, route.rest) == (None, None, "")
    assert path.encode() in INFERENCE_TABLE


def test_the_rows_above_are_all_rows() -> None:
    assert {path.encode() for path, *_ in ROWS} == set(INFERENCE_TABLE)


def test_every_endpoint_is_reached_and_of_one_kind() -> None:
    of_table = {route.endpoint for route in INFERENCE_TABLE.values()}
    assert of_table | STORED | {Endpoint.RAW, Endpoint.MODEL, Endpoint.ADMIN} == set(Endpoint)
    assert not METERED & STORED


OBJECTS = [
    ("responses/{}", Endpoint.RESPONSE, ("GET", "DELETE")),
    ("responses/{}/cancel", Endpoint.RESPONSE_CANCEL, ("POST",)),
    ("responses/{}/input_items", Endpoint.RESPONSE_ITEMS, ("GET",)),
    ("files/{}", Endpoint.FILE, ("GET", "DELETE")),
    ("files/{}/content", Endpoint.FILE_CONTENT, ("GET",)),
    ("batches/{}", Endpoint.BATCH, ("GET",)),
    ("batches/{}/cancel", Endpoint.BATCH_CANCEL, ("POST",)),
]


@pytest.mark.parametrize("prefix", ["/v1/", "/", "/openai/v1/", "/openai/"])
@pytest.mark.parametrize(("path", "endpoint", "methods"), OBJECTS)
def test_stored_objects_by_id(prefix: str, path: str, endpoint: Endpoint, methods: tuple[str, ...]) -> None:
    for name in ("resp_1", "file-Ab.c~=", "x" * 1_000):
        route = route_of((prefix + path.format(name)).encode())
        assert route is not None
        assert (route.endpoint, route.methods, route.object_id) == (endpoint, methods, name)
        assert route.endpoint in STORED


@pytest.mark.parametrize("odd", ["a%3Fb", "a%23b", "a b", "%C3%A9", "x" * 1_001, "compact", "input_tokens"])
@pytest.mark.parametrize("path", ["/v1/responses/{}", "/v1/files/{}/content", "/openai/batches/{}/cancel"])
def test_ids_are_plain(path: str, odd: str) -> None:
    assert route_of(path.format(odd).encode()) is None


@pytest.mark.parametrize("provider", ["azure", "azure_ai"])
def test_raw_paths_carry_provider_model_and_the_rest(provider: str) -> None:
    route = route_of(f"/{provider}/gpt-4o/openai/v1/chat/completions".encode())
    assert route is not None
    assert (route.endpoint, route.provider, route.model) == (Endpoint.RAW, provider, "gpt-4o")
    assert route.rest == "openai/v1/chat/completions"
    encoded = route_of(f"/{provider}/gpt%2D4o/models/chat%20x".encode())
    assert encoded is not None
    assert (encoded.model, encoded.rest) == ("gpt-4o", "models/chat x")
    assert route_of(f"/{provider}/gpt-4o".encode()) is None
    assert route_of(f"/{provider}".encode()) is None


@pytest.mark.parametrize("prefix", ["/engines/m", "/v1/engines/m", "/openai/v1/engines/m"])
def test_engines(prefix: str) -> None:
    for path in ("chat/completions", "completions", "embeddings"):
        route = route_of(f"{prefix}/{path}".encode())
        assert route is not None
        assert (route.endpoint, route.model) == (CREATING[path], "m")
    assert route_of(f"{prefix}/responses".encode()) is None


@pytest.mark.parametrize(
    "path",
    [
        "/v1/assistants", "/openai/assistants", "/v1/threads/t/runs", "/v1/vector_stores", "/v1/conversations/c",
        "/v1/fine_tuning/jobs", "/v1/evals", "/v1/containers", "/v1/uploads", "/v1/moderations", "/openai/v1/videos",
        "/moderations", "/v1/messages/batches", "/anthropic/v1/complete", "/v1/responses/compact", "/v1/audio/voices",
        "/v1/chat/completions/c1", "/v1/realtime/client_secrets", "/v1/images/variations", "/v1/agents",
        "/openai/deployments/m/responses",
    ],
)  # fmt: skip
def test_what_is_not_offered_says_so(path: str) -> None:
    assert route_of(path.encode()) is None
    said = not_offered(path.encode())
    assert said is not None
    assert "offered" in said


def test_other_paths_are_just_not_there() -> None:
    assert not_offered(b"/nothing") is None
    assert not_offered(b"/") is None
    assert not_offered(b"/v1") is None


@pytest.mark.parametrize(
    ("method", "path", "service"),
    [
        *[("POST", f"/key/{verb}", "auth") for verb in ("generate", "update", "block", "unblock", "delete")],
        *[("POST", f"/key/{verb}", "auth") for verb in ("bulk_update", "revoke", "report-leak", "regenerate")],
        *[("POST", f"/key/{verb}", "auth") for verb in ("exchange", "health", "service-account/generate")],
        ("POST", "/v2/key/info", "auth"),
        *[("POST", f"/{kind}/{verb}", "auth") for kind in ("team", "organization") for verb in ("new", "update")],
        *[
            ("POST", f"/{kind}/{verb}", "auth")
            for kind in ("team", "organization")
            for verb in ("block", "unblock", "delete", "member_add", "member_delete")
        ],
        ("POST", "/team/member_update", "auth"),
        ("POST", "/team/bulk_member_add", "auth"),
        ("PATCH", "/organization/update", "auth"),
        ("DELETE", "/organization/delete", "auth"),
        *[("POST", f"/user/{verb}", "auth") for verb in ("new", "update", "delete")],
        *[("GET", f"/user/{verb}", "auth") for verb in ("info", "list")],
        *[("GET", path, "auth") for path in ("/key/aliases", "/v2/team/list", "/rotation/list", "/pepper/status")],
        *[("GET", path, "auth") for path in ("/audit", "/audit/export", "/audit/verify", "/docs", "/openapi.json")],
        *[("POST", f"/budget/{verb}", "auth") for verb in ("new", "update", "info", "delete")],
        *[("GET", f"/budget/{verb}", "auth") for verb in ("list", "settings")],
        *[("GET", f"/{kind}/{verb}", "auth") for kind in ("key", "team", "organization") for verb in ("info", "list")],
        *[("GET", f"/spend/{what}", "ledger") for what in ("keys", "teams", "orgs", "logs", "corrections")],
        ("GET", "/ledger/status", "ledger"),
        ("POST", "/ledger/rebuild", "ledger"),
        *[("GET", path, "scheduler") for path in ("/scheduler/status", "/rotation/schedule", "/alerts")],
    ],
)
def test_every_admin_row(method: str, path: str, service: str) -> None:
    route = route_of(path.encode())
    assert route is not None
    assert (route.endpoint, route.service, route.path) == (Endpoint.ADMIN, service, path)
    assert method in route.methods


@pytest.mark.parametrize("kind", ["key", "team", "organization"])
def test_reset_of_spend(kind: str) -> None:
    for name in ("key_0193abc", "sk-Abc123", "t-search", "default"):
        route = route_of(f"/{kind}/{name}/reset_spend".encode())
        assert route is not None
        assert (route.endpoint, route.service, route.methods) == (Endpoint.ADMIN, "auth", ("POST",))
        assert route.path == f"/{kind}/{name}/reset_spend"


@pytest.mark.parametrize("verb", ["regenerate", "rotate"])
def test_a_new_secret_of_one_key(verb: str) -> None:
    for name in ("key_0193abc", "sk-Abc123", "service-account", "a" * 64):
        route = route_of(f"/key/{name}/{verb}".encode())
        assert route is not None
        assert (route.endpoint, route.service, route.methods) == (Endpoint.ADMIN, "auth", ("POST",))
        assert route.path == f"/key/{name}/{verb}"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/project/new", "make a team"), ("/customer/new", "give each a key"), ("/tag/new", "set 'tags'"),
        ("/model/new", "GET /model/info"), ("/sso/key/generate", "keys that have a role"), ("/alerts/x", "GET /alerts"),
        ("/invitation/new", "POST /user/new"), ("/config/update", "is a file"),
    ],
)  # fmt: skip
def test_what_litellm_has_and_nobody_here_says_what_to_do(path: str, words: str) -> None:
    assert route_of(path.encode()) is None
    said = not_offered(path.encode())
    assert said is not None
    assert words in said


def test_every_admin_row_goes_to_its_own_path() -> None:
    assert all(route.path.encode() == path for path, route in ADMIN_TABLE.items())


@pytest.mark.parametrize(
    ("path", "model"),
    [
        (b"/openai/deployments/gpt-4o/chat/completions", "gpt-4o"),
        (b"/openai/deployments/gpt%2D4o/chat/completions", "gpt-4o"),
        (b"/openai/deployments/my%20model%3F/chat/completions", "my model?"),
        (b"/openai/deployments/%C3%A9t%C3%A9/chat/completions", "été"),
        (b"/openai/deployments/a%2541/chat/completions", "a%41"),
        (b"/openai/deployments/chat/chat/completions", "chat"),
    ],
)
def test_azures_style_carries_the_model_in_the_path(path: bytes, model: str) -> None:
    route = route_of(path)
    assert route is not None
    assert (route.endpoint, route.model) == (Endpoint.CHAT, model)
    for operation, endpoint in CREATING.items():
        other = route_of(path.removesuffix(b"chat/completions") + operation.encode())
        if operation == "responses":
            assert other is None
        else:
            assert other is not None
            assert (other.endpoint, other.model) == (endpoint, model)


@pytest.mark.parametrize("prefix", [b"/v1/models", b"/models", b"/openai/v1/models", b"/openai/models"])
def test_one_model(prefix: bytes) -> None:
    route = route_of(prefix + b"/gpt-4o")
    assert route is not None
    assert (route.endpoint, route.methods, route.model) == (Endpoint.MODEL, ("GET",), "gpt-4o")


def test_the_state_of_one_rebuild() -> None:
    route = route_of(b"/ledger/rebuild/0193-abc_1")
    assert route is not None
    assert (route.endpoint, route.service, route.path) == (Endpoint.ADMIN, "ledger", "/ledger/rebuild/0193-abc_1")


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"/v1",
        b"/v1/chat",
        b"/V1/chat/completions",
        b"/v1/chat/completions/more",
        b"/openai/deployments/gpt-4o",
        b"/openai/deployments/gpt-4o/responses",
        b"/openai/deployments/gpt-4o/files",
        b"/anthropic/messages",
        b"/anthropic/v1/responses/r1",
        b"/v2/messages",
        b"/utils/token_counter",
        b"/v1/responses/r1/other",
        b"/v1/files/f1/content/more",
        b"/openai/deployments/gpt-4o/chat/completions/more",
        b"/v2/models/gpt-4o",
        b"/v1/models/gpt-4o/more",
        b"/openaiX/models",
        b"/metrics",
        b"/key/regenerate/k1",
        b"/key/k1/exchange",
        b"/key/a.b/rotate",
        b"/team/t1/regenerate",
        b"/docs/x",
        b"/user/u1/reset_spend",
        b"/key/reset_spend",
        b"/key/a.b/reset_spend",
        b"/key/a%3Fb/reset_spend",
        b"/key/a/b/reset_spend",
        b"/team/" + b"t" * 101 + b"/reset_spend",
        b"/ledger/rebuild/a.b",
        b"/ledger/rebuild/a%3Fb",
        b"/ledger/rebuild/" + b"a" * 101,
        b"/ledger/rebuild/\xc3\xa9",
    ],
)
def test_what_is_in_no_row_leads_nowhere(path: bytes) -> None:
    assert route_of(path) is None


DOTS = [b".", b"..", b"%2e", b"%2E", b"%2e%2E", b"%2E%2e", b".%2e", b"%2e."]
SEPARATORS = [b"\\", b"%5c", b"%5C", b"%2f", b"%2F", b"a%2fb", b"..%2f..", b"..%5c", b"%2e%2e%2f"]
CONTROLS = [b"%%%02x" % code for code in (*range(0x20), 0x7F)] + [bytes([code]) for code in (*range(0x20), 0x7F)]
C1_CONTROLS = [b"%C2%80", b"%C2%85", b"\xc2\x9f"]
PERCENTS = [b"%", b"%2", b"%zz", b"%2g", b"a%", b"%%", b"%+1", b"% 1", b"%-1", b"%\xff\xff", b"%1_"]
NOT_UTF8 = [b"\xff", b"%ff", b"%C3", b"%ed%a0%80", b"%c0%af"]


@pytest.mark.parametrize("odd", [*DOTS, *SEPARATORS, *CONTROLS, *C1_CONTROLS, *PERCENTS, *NOT_UTF8, b""])
@pytest.mark.parametrize(
    "place",
    [
        b"/%s/v1/chat/completions",
        b"/v1/%s/chat/completions",
        b"/v1/chat/completions/%s",
        b"/openai/deployments/%s/chat/completions",
        b"/v1/models/%s",
        b"/key/%s/generate",
        b"/ledger/rebuild/%s",
        b"/azure/%s/chat/completions",
        b"/azure_ai/m/models/%s/x",
        b"/v1/responses/%s/cancel",
        b"/v1/files/%s",
        b"/v1/engines/%s/completions",
        b"/anthropic/v1/messages/%s",
        b"/key/%s/reset_spend",
        b"/key/%s/rotate",
        b"/key/%s/regenerate",
    ],
)
def test_no_odd_spelling_passes(place: bytes, odd: bytes) -> None:
    with pytest.raises(BadPath):
        route_of(place % odd)


@pytest.mark.parametrize("path", [b"", b"v1/chat/completions", b"*", b"http://host/v1/models", b"\\v1\\models", b"//"])
def test_a_path_begins_with_one_slash(path: bytes) -> None:
    with pytest.raises(BadPath):
        route_of(path)


def test_length_is_bounded() -> None:
    longest = b"/v1/models/" + b"a" * (PATH_BYTES_MAX - len(b"/v1/models/"))
    assert route_of(longest) is not None
    with pytest.raises(BadPath, match="longer than"):
        route_of(longest + b"a")


@given(st.binary(max_size=80))
def test_any_bytes_are_routed_or_refused(raw: bytes) -> None:
    for path in (raw, b"/" + raw, b"/v1/responses/" + raw, b"/openai/deployments/" + raw, b"/azure/m/" + raw):
        try:
            route_of(path)
        except BadPath:
            continue
        not_offered(path)


@given(st.binary(max_size=60))
def test_any_bytes_are_judged_or_refused(raw: bytes) -> None:
    try:
        segments = split_path(b"/" + raw)
    except BadPath:
        return
    for segment in segments:
        assert segment not in ("", ".", "..")
        assert not set(segment) & {"/", "\\"}
        assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in segment)


@given(st.lists(st.sampled_from(["v1", "chat", "completions", "openai", ".", "..", "%2e", "", "models"]), max_size=6))
def test_no_path_with_dots_or_empty_segments_is_routed(parts: list[str]) -> None:
    raw = ("/" + "/".join(parts)).encode()
    if raw != b"/" and any(part in (".", "..", "%2e", "") for part in parts):
        with pytest.raises(BadPath):
            route_of(raw)
    else:
        route_of(raw)
