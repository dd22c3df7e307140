"""Requests made up from the OpenAPI document, right ones and wrong ones, against the real service.

No answer is a defect, every answer is what the document says, and none tells a secret.
"""

from collections.abc import Iterator
from typing import Any, cast

import msgspec
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, CheckFunction, GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.openapi import from_dict

from services.auth.api.openapi import document_of
from tests.support.auth import MASTER_KEY, PEER_TOKEN, TOKEN
from tests.support.auth_process import PEPPERS, AuthProcess, auth_process
from tests.support.matrix import Matrix
from tests.support.operations import all_operations
from tests.support.servers import PostgresServer

EXAMPLES = 15
"""Requests per row and kind (right and wrong ones)."""
DOCUMENT = document_of(all_operations())
API = from_dict(msgspec.json.decode(msgspec.json.encode(DOCUMENT)))
NAMES = sorted((path, method) for path, methods in DOCUMENT["paths"].items() for method in methods)
AWAY = "reset_spend"
"""What asks the ledger, which is away here, is 503."""
KEPT: list[CheckFunction] = [
    cast("CheckFunction", CHECKS.get_one(name))
    for name in (
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "response_headers_conformance",
    )
]
SLOW = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large, HealthCheck.large_base_example)
CALLERS = ("master", "master", "admin", "admin", "org_admin", "team_admin", "viewer", "plain", "nobody")


class World(Matrix):
    """The world of the roles, with new things for each row: what was deleted by one is there for the next."""

    def __init__(self, auth: AuthProcess) -> None:
        super().__init__(auth)
        self.session = requests.Session()
        self.session.trust_env = False
        self.credentials = {MASTER_KEY, TOKEN, PEER_TOKEN, *PEPPERS.values()}
        self.credentials |= {secret for secret in self.secrets.values() if secret is not None}

    def things(self) -> dict[str, list[Any]]:
        """Values for fields, by their names, that mean something here."""
        key, team, org, user = (self.fresh(thing, "team") for thing in ("key", "team", "org", "user"))
        minted = self.auth.made("/key/generate", {"team_id": "a1", "key_alias": self.new("k")})
        self.credentials.add(minted["key"])
        return {
            "key": [key, minted["token_id"], minted["key"]],
            "keys": [[key], [minted["token_id"], key]],
            "key_alias": [minted["key_alias"], self.new("k")],
            "key_aliases": [[minted["key_alias"]]],
            "team_id": [team, "a1"],
            "team_ids": [[team]],
            "organization_id": [org, "north"],
            "organization_ids": [[org]],
            "user_id": [user],
            "user_ids": [[user]],
            "budget_id": ["fixed", self.new("b")],
        }


@pytest.fixture(scope="module")
def world(postgres_server: PostgresServer) -> Iterator[World]:
    with auth_process(postgres_server) as auth:
        world = World(auth)
        yield world
        world.session.close()
        assert "Traceback" not in auth.output, auth.output
        told = [secret for secret in world.credentials if secret in auth.output]
        assert not told, "the log tells secrets"


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
@pytest.mark.parametrize(("path", "method"), NAMES)
def test_every_answer_is_as_described_and_tells_no_secret(
    world: World, path: str, method: str, mode: GenerationMode
) -> None:
    operation = API[path][method]
    things = world.things()
    example = _example(path, method)

    def things_in(body: dict[str, Any]) -> dict[str, Any]:
        return {name: things[name][0] if name in things else value for name, value in body.items()}

    @settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=SLOW)
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def run(case: Case[Any], data: st.DataObject) -> None:
        if mode is GenerationMode.POSITIVE and example and isinstance(case.body, dict) and data.draw(st.booleans()):
            more = data.draw(st.sampled_from([*case.body, None])) if case.body else None
            case.body = {**things_in(example), **({} if more is None else {more: case.body[more]})}
        for fields in (case.body, case.query, case.path_parameters):
            if isinstance(fields, dict):
                _known(fields, things, data)
        who = data.draw(st.sampled_from(CALLERS))
        _tried(world, case, mode, world.secrets[who])

    if not _impossible(path, method, mode):
        run()


def _example(path: str, method: str) -> dict[str, Any]:
    """The example of a body: made-up values seldom fit together, one of them beside these does."""
    content = DOCUMENT["paths"][path][method].get("requestBody", {}).get("content", {})
    return dict(content.get("application/json", {}).get("example", {}))


def _impossible(path: str, method: str, mode: GenerationMode) -> bool:
    """Whether nothing can be wrong with a request: it has no parameter and no body."""
    row = DOCUMENT["paths"][path][method]
    return mode is GenerationMode.NEGATIVE and not row["parameters"] and "requestBody" not in row


def _known(fields: dict[str, Any], things: dict[str, list[Any]], data: st.DataObject) -> None:
    """Put names of what is there in the place of some made-up ones."""
    for name in sorted(set(fields) & set(things)):
        if data.draw(st.booleans()):
            fields[name] = data.draw(st.sampled_from(things[name]))


def _tried(world: World, case: Case[Any], mode: GenerationMode, secret: str | None) -> None:
    headers = {name: value for name, value in (case.headers or {}).items() if name.lower() == "idempotency-key"}
    if mode is GenerationMode.POSITIVE and headers:
        headers = dict.fromkeys(headers, world.new("once"))  # made-up ones are the same too often
    case.headers.clear()
    case.headers.update(headers | ({} if secret is None else {"authorization": f"Bearer {secret}"}))
    answer = case.call(base_url=world.auth.url, session=world.session, timeout=30)
    text = answer.text
    assert answer.status_code < 500 or (answer.status_code == 503 and case.path.endswith(AWAY)), text
    case.validate_response(answer, checks=KEPT)
    sent = _all_that_was_sent(case)
    told = [one for one in world.credentials if one in text and one not in sent]
    assert not told, f"{case.method} {case.path} tells a secret"
    for word in ("Traceback", "asyncpg", 'File "/', "services/auth"):
        assert word not in text or word in sent


def _all_that_was_sent(case: Case[Any]) -> str:
    """What an answer may repeat: the credential is not among it."""
    return repr((case.body, case.query, case.path_parameters))
