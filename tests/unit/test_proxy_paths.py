"""The front door's table: every row, and every odd spelling refused before anything else happens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.domain.paths import (
    ADMIN_TABLE,
    INFERENCE_TABLE,
    PATH_BYTES_MAX,
    BadPath,
    Endpoint,
    route_of,
    split_path,
)

CHAT = b"/v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "endpoint", "methods"),
    [
        *[(prefix + b"/chat/completions", Endpoint.CHAT, ("POST",)) for prefix in (b"/v1", b"", b"/openai/v1")],
        *[(prefix + b"/embeddings", Endpoint.EMBEDDINGS, ("POST",)) for prefix in (b"/v1", b"", b"/openai/v1")],
        *[(prefix + b"/models", Endpoint.MODELS, ("GET",)) for prefix in (b"/v1", b"", b"/openai/v1", b"/openai")],
        (b"/health/liveliness", Endpoint.ALIVE, ("GET", "HEAD")),
        (b"/health/liveness", Endpoint.ALIVE, ("GET", "HEAD")),
        (b"/health/readiness", Endpoint.READY, ("GET", "HEAD")),
    ],
)
def test_every_inference_and_health_row(path: bytes, endpoint: Endpoint, methods: tuple[str, ...]) -> None:
    route = route_of(path)
    assert route is not None
    assert (route.endpoint, route.methods, route.model) == (endpoint, methods, None)
    assert path in INFERENCE_TABLE


def test_the_rows_above_are_all_rows() -> None:
    assert len(INFERENCE_TABLE) == 13


@pytest.mark.parametrize(
    ("method", "path", "service"),
    [
        *[("POST", f"/key/{verb}", "auth") for verb in ("generate", "update", "block", "unblock", "delete")],
        *[("POST", f"/{kind}/{verb}", "auth") for kind in ("team", "organization") for verb in ("new", "update")],
        ("PATCH", "/organization/update", "auth"),
        *[("POST", f"/budget/{verb}", "auth") for verb in ("new", "update", "info", "delete")],
        *[("GET", f"/budget/{verb}", "auth") for verb in ("list", "settings")],
        *[("GET", f"/{kind}/{verb}", "auth") for kind in ("key", "team", "organization") for verb in ("info", "list")],
        *[("GET", f"/spend/{what}", "ledger") for what in ("keys", "teams", "logs", "corrections")],
        ("GET", "/ledger/status", "ledger"),
        ("POST", "/ledger/rebuild", "ledger"),
        ("GET", "/scheduler/status", "scheduler"),
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
    other = route_of(path.replace(b"/chat/completions", b"/embeddings"))
    assert other is not None
    assert (other.endpoint, other.model) == (Endpoint.EMBEDDINGS, model)


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
        b"/openai/deployments/gpt-4o/completions",
        b"/openai/deployments/gpt-4o/chat/completions/more",
        b"/v2/models/gpt-4o",
        b"/v1/models/gpt-4o/more",
        b"/openaiX/models",
        b"/metrics",
        b"/key/regenerate",
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
        b"/key/%s/reset_spend",
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
