"""Which routes a key may call: by what they do, however they are spelled."""

import pytest

from services.proxy.domain.paths import Endpoint, route_of
from services.proxy.domain.routes import GROUPS, allowed, shown

CHAT = [
    "/chat/completions", "/v1/chat/completions", "/openai/v1/chat/completions", "/engines/m/chat/completions",
    "/openai/deployments/gpt-4o/chat/completions", "/v1/engines/m/chat/completions",
]  # fmt: skip


def admits(said: tuple[str, ...], path: str) -> bool:
    route = route_of(path.encode())
    assert route is not None, path
    routes = allowed(said)
    assert routes is not None
    return routes.admits(route)


def test_an_empty_list_allows_all() -> None:
    assert allowed(()) is None


@pytest.mark.parametrize("path", CHAT)
@pytest.mark.parametrize("entry", [*CHAT, "/openai/deployments/{model}/chat/completions", "/v1/*", "/v1/chat*", "*"])
def test_an_entry_holds_for_every_spelling(entry: str, path: str) -> None:
    assert admits((entry,), path)
    assert admits(("/v1/files", entry), path)


@pytest.mark.parametrize("path", CHAT)
@pytest.mark.parametrize(
    "entry", ["/v1/completions", "/v1/chat", "/v1/embeddings*", "info_routes", "management_routes", "anthropic_routes",
              "/azure/*", "chat/completions", "/", "/V1/CHAT/COMPLETIONS"]
)  # fmt: skip
def test_other_entries_do_not(entry: str, path: str) -> None:
    assert not admits((entry,), path)


@pytest.mark.parametrize(
    ("entry", "path", "may"),
    [
        ("/v1/responses", "/v1/responses", True),
        ("/v1/responses", "/v1/responses/resp_1", False),
        ("/v1/responses/*", "/openai/responses/resp_1/cancel", True),
        ("/v1/responses/*", "/v1/responses", False),
        ("/v1/responses*", "/v1/responses", True),
        ("/v1/responses/{id}", "/responses/resp_1", True),
        ("/v1/responses/{id}", "/responses/resp_1/cancel", False),
        ("/v1/files/file-1", "/files/file-1", True),
        ("/v1/files/file-1", "/files/file-2", False),
        ("/v1/files", "/openai/files", True),
        ("/anthropic/v1/messages", "/v1/messages", True),
        ("/v1/messages", "/v1/messages/count_tokens", False),
        ("/v1/messages*", "/anthropic/v1/messages/count_tokens", True),
        ("/v1/realtime", "/openai/realtime", True),
        ("/v1/models", "/models", True),
        ("/v1/models", "/v1/models/gpt-4o", False),
        ("/v1/models/*", "/openai/models/gpt-4o", True),
        ("/models/{model}", "/v1/models/gpt-4o", True),
        ("/v1/model/info", "/v2/model/info", True),
        ("/model/info", "/model_group/info", False),
        ("/rerank", "/v2/rerank", True),
        ("/azure/gpt-4o/*", "/azure/gpt-4o/openai/v1/chat/completions", True),
        ("/azure/gpt-4o/*", "/azure/gpt-4o-mini/openai/v1/chat/completions", False),
        ("/azure/*", "/azure_ai/phi-4/models/chat/completions", False),
        ("/v1/*", "/azure/gpt-4o/openai/v1/chat/completions", False),
        ("/openai/deployments/gpt-4o/*", "/openai/deployments/gpt-4o/embeddings", True),
        ("/openai/deployments/gpt-4o/*", "/openai/deployments/phi-4/embeddings", False),
        ("/openai/deployments/gpt-4o/*", "/v1/embeddings", False),
        ("openai_routes", "/v1/batches/b1/cancel", True),
        ("openai_routes", "/v1/messages", False),
        ("anthropic_routes", "/v1/messages/count_tokens", True),
        ("anthropic_routes", "/v1/models", False),
        ("info_routes", "/model_group/info", True),
        ("info_routes", "/v1/models/gpt-4o", True),
        ("llm_api_routes", "/azure/gpt-4o/openai/v1/chat/completions", True),
        ("llm_api_routes", "/v1/realtime", True),
        ("llm_api_routes", "/v1/model/info", False),
    ],
)
def test_objects_groups_and_raw_paths(entry: str, path: str, may: bool) -> None:
    assert admits((entry,), path) == may


def test_groups_are_of_the_data_plane() -> None:
    others = {Endpoint.ADMIN, Endpoint.ALIVE, Endpoint.READY}
    assert set().union(*GROUPS.values()) == set(Endpoint) - others


def test_a_long_list_is_cut_for_people() -> None:
    assert shown(("/a", "/b")) == "/a, /b"
    assert shown(tuple(f"/r{number}" for number in range(12))).endswith("/r9 and 2 more")
