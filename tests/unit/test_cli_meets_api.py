"""What the command line sends is what auth's API takes: every path, parameter, field and type of it."""

import io
import re
from functools import partial

import httpx
import pytest

from services.auth.api.operations import Operation
from services.auth.schemas.base import read
from services.proxy.domain.paths import Endpoint, route_of
from tests.support import migration
from tests.support.cli import Front, run, stand_in

BUDGET = (
    "--max-budget 5 --soft-budget 4 --budget-duration 30d --budget-timezone UTC --budget-limit 1d=2"
    " --model-budget gpt-4*=1/1d --threshold 50 --budget-mode strict --rpm-limit 5 --tpm-limit 6 --max-parallel 7"
)
BY_MODEL = "--model-rpm gpt-4*=6 --model-tpm gpt-4*=7"
SCOPE = f'--model gpt-4o --alias-model fast=gpt-4o --tag a --metadata {{"n":1}} {BUDGET} {BY_MODEL}'
ROTATION = (
    "--auto-rotate --every 30d --grace 24h --retire after-grace --deliver exchange --deliver webhook=https://a.example/x"
    " --deliver vault=https://kv1.vault.azure.net/name --deliver kubernetes=ns/secret/ENTRY"
)
SETTINGS = f"{SCOPE} --route openai_routes {ROTATION}"
COMMANDS = (
    "key list --team t --org o --user u --alias a --search s --status active",
    "key info k",
    "key info --alias a",
    f"key generate --type llm_api --user u --alias a --team t --org o --duration 90d {SETTINGS}",
    f"key generate --hash {'ab' * 32} --key-name sk-...abcd",
    "key generate --role viewer --budget-id b",
    f"key service-account --team t --alias a --duration 90d {SETTINGS}",
    f"key update k --user u --duration 90d --raise 5 --raise-until 2026-12-01T00:00:00Z {SETTINGS}",
    "key update --alias a --new-alias b --no-auto-rotate",
    "key update k " + " ".join(f"--clear {name}" for name in ("models", "tags", "aliases", "budget_id", "user_id")),
    "key block k",
    "key unblock --alias a",
    "key delete k",
    "key delete --alias a",
    "key regenerate k --grace 1h --own-secret",
    "key regenerate --alias a",
    "key rotate k",
    "key revoke k",
    "key revoke --alias a --leaked",
    "key revoke --leaked - --reason why",
    "key report-leak - --source s --where https://a.example",
    f"team new --id t --org o --alias a --default-key-budget b {SCOPE}",
    "team list --org o",
    "team info t",
    f"team update t --alias a --default-key-budget b {SCOPE}",
    "team update t --clear models --clear model_aliases --clear default_key_budget_id",
    "team block t",
    "team unblock t",
    "team delete t",
    "team member add t --user u --role admin",
    "team member add t --email a@b.example",
    "team member update t --email a@b.example --role user",
    "team member remove t --user u",
    f"org new --id o --alias a {SCOPE}",
    "org list",
    "org info o",
    f"org update o --alias a {SCOPE}",
    "org block o",
    "org unblock o",
    "org delete o",
    "org member add o --user u",
    "org member remove o --email a@b.example",
    "user new --id u --email a@b.example --alias a --role internal_user --team t --org o --key-alias k --duration 9d",
    "user new --no-key",
    "user list --role proxy_admin --team t --email a",
    "user info u",
    'user update u --email a@b.example --alias a --role proxy_admin --org o --metadata {"n":1}',
    "user delete u",
    "budget list",
    f"budget new --id b {BUDGET}",
    f"budget update b {BUDGET} --clear rpm_limit",
    "budget delete b",
    "budget reset key k --to 1 --reason why",
    "budget reset team t",
    "budget reset org o",
    "rotation list",
    "audit list --by master-key --action created --table key --object k --team t --org o --start 2026-01-01",
    "audit list --end 2027-01-01",
    "audit export - --after 5 --by master-key",
    "audit verify --anchor 5:cd",
    "pepper status",
    "exchange",
)
ELSEWHERE = (
    "spend keys", "spend teams", "spend orgs", "spend logs --key k --team t --measured lost",
    "rotation schedule --key k",
    "alerts list --kind budget.exceeded --scope k --before 5", "models list", "status",
)  # fmt: skip


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> Front:
    front = stand_in(monkeypatch)
    monkeypatch.setenv("TUNDISH_API_KEY", "sk-own")
    monkeypatch.setattr("sys.stdin", io.StringIO("sk-" + "a1B2" * 12 + "\n"))
    front.other = answer
    return front


def answer(request: httpx.Request) -> httpx.Response:
    """Something that every command can go on with."""
    if request.url.path == "/audit/export":
        return httpx.Response(200, content=b'{"next":null}\n')
    said = {"ok": True, "token_id": "k", "info": {"token_id": "k"}, "key": "sk-x", "version": 2, "status": "ready"}
    return httpx.Response(200, json=said)


def row_of(request: httpx.Request) -> Operation:
    """The row of the API for a request that was sent."""
    path = request.url.path
    for (method, pattern), row in migration.operations().items():
        if method == request.method and re.fullmatch(re.sub(r"{\w+}", "[^/]+", pattern), path):
            return row
    raise AssertionError(f"auth has no {request.method} {path}")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[:40])
def test_auth_takes_what_is_sent(front: Front, command: str) -> None:
    assert run(*command.split()) == 0
    assert front.asked
    for request in front.asked:
        row = row_of(request)
        query = dict(request.url.params)
        assert {name: value for name, value in query.items() if name not in row.query.known} == {}
        route = route_of(request.url.raw_path.partition(b"?")[0])
        assert route is not None
        assert (route.service, request.method in route.methods) == ("auth", True)
        if request.content:
            assert row.body is not None
            read_with = row.body.reader or partial(read, known=row.body.fields, kind=row.body.kind)
            read_with(request.content)
        else:
            assert row.body is None or row.body.optional


@pytest.mark.parametrize("command", ELSEWHERE)
def test_the_front_door_knows_the_other_paths(front: Front, command: str) -> None:
    assert run(*command.split()) == 0
    for request in front.asked:
        route = route_of(request.url.raw_path.partition(b"?")[0])
        assert route is not None
        assert request.method in route.methods
        assert route.endpoint in (Endpoint.ADMIN, Endpoint.MODEL_INFO, Endpoint.READY)


def test_every_command_that_asks_auth_is_tried() -> None:
    """By the commands of the parser, without those that need no server or read files."""
    import argparse

    from services.__main__ import build_parser

    def leaves(parser: argparse.ArgumentParser) -> list[str]:
        nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        return [leaf for action in nested for child in action.choices.values() for leaf in leaves(child)] or [
            parser.prog.removeprefix("tundish ")
        ]

    tried = (*COMMANDS, *ELSEWHERE)
    alone = {
        "serve", "migrate", "completion", "prices show", "prices list", "ledger rebuild", "pepper rotate",
        "pepper drop", "key import", "key bulk-update",
    }  # fmt: skip
    missing = {leaf for leaf in leaves(build_parser()) if not any(each.startswith(leaf) for each in tried)}
    assert missing == alone
