"""Two teams, a key without one, and every way from one to the other's objects: none leads there (docs/isolation.md)."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest

from services.proxy.domain.objects import Seal
from tests.integration.isolation import (
    CLOSED,
    DELETED,
    EVENTS,
    HANDSHAKES,
    NOT_OFFERED,
    PLACES,
    STRANGE_ITEMS,
    WHO,
    Place,
    Refusal,
    spellings_of,
)
from tests.integration.isolation_table import PAGE, render
from tests.support.raw_calls import FORM, form
from tests.support.sockets import refused, talk
from tests.support.stack import Stack, wait_until

pytestmark = pytest.mark.stack

SEALED_AS: dict[str, Any] = {"output": "file", "conversation": "item", "prompt": "item", "store": "item"}
PREFIX = {
    "response": "resp_", "item": "msg_", "file": "file-", "output": "file-", "batch": "batch_", "audio": "audio_",
    "container": "cntr_", "conversation": "conv_", "prompt": "pmpt_", "store": "vs_",
}  # fmt: skip
LINE = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Tap [[sim completion=3]]"}]}
REALTIME = "/v1/realtime?model=realtime"


def jsonl(url: str, body: dict[str, Any]) -> bytes:
    return json.dumps({"custom_id": "1", "method": "POST", "url": url, "body": body}).encode() + b"\n"


class Party:
    """A key, and what was made with it: sealed ids by kind, the same in Foundry, and those that were deleted."""

    def __init__(self, stack: Stack, seal: Seal, team: str | None, **fields: Any) -> None:
        made = stack.call("POST", "/key/generate", json={"team_id": team, "max_budget": 50, **fields})
        self.key = str(made["key"])
        self.key_id = str(made["token"])
        self.owner = f"key:{made['token']}" if team is None else f"team:{team}"
        self.stack = stack
        self._seal = seal
        self.http = httpx.Client(
            base_url=stack.url, headers={"authorization": f"Bearer {self.key}"}, timeout=30, trust_env=False
        )
        self.ids: dict[str, str] = {}
        self.deleted: dict[str, str] = {}

    def ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return self.http.request(method, path, **arguments)

    def good(self, method: str, path: str, **arguments: Any) -> Any:
        answer = self.ask(method, path, **arguments)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def upload(self, data: bytes, purpose: str = "batch") -> httpx.Response:
        body = form(purpose=purpose, file=("lines.jsonl", data))
        return self.ask("POST", "/v1/files", content=body, headers={"content-type": FORM})

    def raw(self, kind: str, sealed: str) -> str:
        """An own id as Foundry knows it."""
        opened = self._seal.open(SEALED_AS.get(kind, kind), self.owner, sealed)
        assert opened is not None
        return opened.upstream

    def make(self) -> "Party":
        """One object of every kind, and one of each that can be deleted, deleted."""
        self.ids = self._made()
        gone = self._made()
        for kind, root in (("response", "responses"), ("file", "files"), ("output", "files")):
            self.good("DELETE", f"/v1/{root}/{gone[kind]}")
        self.deleted = {kind: gone[kind] for kind in DELETED}
        return self

    def _made(self) -> dict[str, str]:
        response = self.good("POST", "/v1/responses", json={"model": "gpt-5-mini", "input": "The secret of the team"})
        file = self.upload(jsonl("/v1/chat/completions", LINE))
        assert file.status_code == 200, file.text
        new = {"input_file_id": file.json()["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = self.good("POST", "/v1/batches", json=new)

        def done() -> Any:
            told = self.good("GET", f"/v1/batches/{batch['id']}")
            return told if told["status"] == "completed" else None

        output = wait_until("the batch is done", done)["output_file_id"]
        spoken = self.good(
            "POST",
            "/v1/chat/completions",
            json={
                "model": "gpt-audio",
                "modalities": ["text", "audio"],
                "audio": {"voice": "alloy", "format": "wav"},
                "messages": [{"role": "user", "content": "Say it"}],
            },
        )
        return {
            "response": response["id"],
            "item": response["output"][0]["id"],
            "file": file.json()["id"],
            "batch": batch["id"],
            "output": output,
            "audio": spoken["choices"][0]["message"]["audio"]["id"],
            **{kind: self._unmade(kind) for kind in ("container", "conversation", "prompt", "store")},
        }

    def _unmade(self, kind: str) -> str:
        """An id of a kind that Foundry makes and that none is made of here, sealed as ours would be."""
        upstream = f"{PREFIX[kind]}0123456789abcdef"
        return self._seal.seal(SEALED_AS.get(kind, kind), self.owner, "deployment", upstream)


class Town:
    """The parties. `victim` and `mate` share a team."""

    def __init__(self, stack: Stack) -> None:
        label, _, pepper = (stack.home / "pepper").read_text().strip().partition(":")
        seal = Seal({label: bytes.fromhex(pepper)})
        one = stack.call("POST", "/team/new", json={"team_alias": "victims"})["team_id"]
        other = stack.call("POST", "/team/new", json={"team_alias": "strangers"})["team_id"]
        self.stack = stack
        self.seal = seal
        self.victim = Party(stack, seal, one).make()
        self.mate = Party(stack, seal, one)
        self.narrow = Party(stack, seal, one, models=["claude"])
        self.strangers = {"another team": Party(stack, seal, other).make(), "no team": Party(stack, seal, None).make()}
        assert set(self.strangers) == set(WHO)

    def spelt(self, how: str, kind: str, stranger: Party) -> str:
        """The victim's id of a kind, as a stranger may write it."""
        mine = self.victim.ids[kind]
        prefix = re.match(r"[a-z]+[_-]", mine)
        assert prefix is not None
        if how == "deleted":
            return self.victim.deleted[kind]
        raw = self.victim.raw(kind, mine)
        return {
            "sealed": mine,
            "raw": raw,
            "damaged": mine[:-9] + ("A" if mine[-9] != "A" else "B") + mine[-8:],
            "short": mine[:-7],
            "case": mine.swapcase(),
            "other kind": ("batch_" if kind != "batch" else "resp_") + mine[prefix.end() :],
            "raw of own prefix": stranger.ids[kind][: prefix.end() + 8] + raw,
            "percent": f"%{ord(mine[0]):02x}{mine[1:12]}%{ord(mine[12]):02X}{mine[13:]}",
            "spaced": mine + "%20",
        }[how]

    def served(self) -> int:
        with self.stack.simulator() as simulator:
            return int(simulator.get("/_sim/served", params={"limit": 1}).json()["total"])


@pytest.fixture(scope="module")
def town(surfaces: Stack) -> Iterator[Town]:
    made = Town(surfaces)
    yield made
    for party in (made.victim, made.mate, made.narrow, *made.strangers.values()):
        party.http.close()


def never(kind: str) -> str:
    """An id of a kind that nobody ever had."""
    return PREFIX[kind] + base64.urlsafe_b64encode(bytes(range(80))).rstrip(b"=").decode()


def send(party: Party, place: Place, text: str, own: str) -> httpx.Response:
    """One attempt."""
    path = place.path.replace("@own", own)
    if "?" in path:
        head, _, query = path.partition("?")
        path = f"{head}?{query.replace('@', quote(text, safe=''))}"
    else:
        path = path.replace("@", text)
    if place.body is None:
        return party.ask(place.method, path)
    body = json.loads(json.dumps(place.body).replace("@", text))
    if place.lines:
        return party.upload(jsonl(body.pop("url"), body))
    return party.ask(place.method, path, json=body)


def told(answer: httpx.Response, text: str) -> tuple[int, str]:
    """What an answer says, whatever the id was that it repeats, and whatever the request's own id is."""
    return answer.status_code, said(answer).replace(text, "@").replace(quote(text, safe=""), "@")


def said(answer: httpx.Response) -> str:
    """The words of an answer; the request's own id, which is new each time, is none of them."""
    own = answer.headers.get("x-tundish-call-id")
    return answer.text if own is None else answer.text.replace(own, "(this request)")


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("place", PLACES, ids=[place.name for place in PLACES])
def test_a_stranger_is_told_what_is_told_of_an_id_that_never_was(town: Town, place: Place, who: str) -> None:
    stranger = town.strangers[who]
    own = stranger.ids["response"]
    before = town.served()
    nobody = send(stranger, place, never(place.kind), own)
    assert nobody.status_code == 404, nobody.text
    for spelling in spellings_of(place.kind):
        text = town.spelt(spelling.name, place.kind, stranger)
        answer = send(stranger, place, text, own)
        if spelling.name == "spaced" and place.body is None:  # no id of anybody's: another path, with words of its own
            nobodys = never(place.kind) + "%20"
            assert told(answer, text) == told(send(stranger, place, nobodys, own), nobodys)
        else:
            assert (answer.status_code, said(answer)) == (404, said(nobody)), spelling.name
    assert town.served() == before, "Foundry was asked"


def test_strangers_lists_show_nothing_of_others(town: Town) -> None:
    for party in town.strangers.values():
        foreign = {*town.victim.ids.values(), *town.victim.deleted.values()}
        for path in ("/v1/files", "/v1/batches", "/v1/files?limit=10000&order=asc", "/openai/batches?limit=100"):
            listed = {one["id"] for one in party.good("GET", path)["data"]}
            assert listed
            assert not listed & foreign
            assert town.victim.raw("file", town.victim.ids["file"]) not in party.ask("GET", path).text


def test_two_keys_of_one_team_share(town: Town) -> None:
    ids, mate = town.victim.ids, town.mate
    for path in (f"responses/{ids['response']}", f"files/{ids['file']}", f"batches/{ids['batch']}"):
        assert mate.good("GET", f"/v1/{path}") == town.victim.good("GET", f"/v1/{path}")
    assert mate.ask("GET", f"/v1/files/{ids['output']}/content").status_code == 200
    assert ids["file"] in {one["id"] for one in mate.good("GET", "/v1/files")["data"]}
    goes_on = {"model": "gpt-5-mini", "input": "And now?", "previous_response_id": ids["response"]}
    assert mate.good("POST", "/v1/responses", json=goes_on)["previous_response_id"] == ids["response"]


@pytest.mark.parametrize(
    "place",
    [place for place in PLACES if place.body is not None and place.kind in ("response", "item", "file", "audio")],
    ids=lambda place: place.name,
)
def test_the_owner_gets_past_where_strangers_are_stopped(town: Town, place: Place) -> None:
    """The attempts prove something only because the same id is taken from its owner's team."""
    answer = send(town.mate, place, town.victim.ids[place.kind], town.victim.ids["response"])
    assert answer.status_code != 404 or "object_not_found" not in answer.text, answer.text


@pytest.mark.parametrize("path", ["responses/{response}", "files/{file}", "files/{output}/content", "batches/{batch}"])
def test_a_mate_who_may_not_use_the_model_gets_403(town: Town, path: str) -> None:
    answer = town.narrow.ask("GET", f"/v1/{path.format(**town.victim.ids)}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_not_allowed")


def test_a_key_takes_nothing_along_to_another_team(town: Town) -> None:
    stranger = town.strangers["another team"]
    with town.stack.admin() as admin:
        moved = {"key": stranger.key, "team_id": town.victim.owner.removeprefix("team:")}
        assert admin.post("/key/update", json=moved).status_code == 400
    assert stranger.ask("GET", f"/v1/responses/{town.victim.ids['response']}").status_code == 404
    assert stranger.ask("GET", f"/v1/responses/{stranger.ids['response']}").status_code == 200


@pytest.mark.parametrize("who", [*WHO, "owner"])
@pytest.mark.parametrize("place", CLOSED, ids=[place.name for place in CLOSED])
def test_where_nobody_is_served_every_id_is_the_same(town: Town, place: Place, who: str) -> None:
    party = town.strangers.get(who, town.victim)
    before = town.served()
    nobody = told(send(party, place, never(place.kind), ""), never(place.kind))
    assert nobody[0] == 404
    for name in ("sealed", "raw"):
        text = town.spelt(name, place.kind, party)
        assert told(send(party, place, text, ""), text) == nobody
    assert town.served() == before


@pytest.mark.parametrize("who", [*WHO, "owner"])
@pytest.mark.parametrize("what", NOT_OFFERED, ids=[f"{one.what} {one.path}" for one in NOT_OFFERED])
def test_what_nobody_is_offered_is_refused_in_the_same_words(town: Town, what: Refusal, who: str) -> None:
    party = town.strangers.get(who, town.victim)
    before = town.served()
    content = what.raw if what.raw is not None else json.dumps(what.body)
    answers: set[tuple[int, str]] = set()
    for text in (never(what.kind), *(town.spelt(name, what.kind, party) for name in ("sealed", "raw"))):
        sent = content.replace("@", text).encode()
        answer = party.ask("POST", what.path, content=sent, headers={"content-type": "application/json"})
        answers.add(told(answer, text))
        if answer.status_code == 400:
            error = answer.json()["error"]
            assert error.get("code", what.code) == what.code, answer.text
    assert len(answers) == 1, answers
    assert {status for status, _ in answers} == {400}, answers
    assert town.served() == before, "Foundry was asked"


@pytest.mark.parametrize("who", [*WHO, "owner"])
async def test_nothing_stored_is_named_in_a_realtime_session(town: Town, who: str) -> None:
    party = town.strangers.get(who, town.victim)
    async with talk(town.stack.url, REALTIME, headers={"api-key": party.key}) as session:
        for what, kind, event in EVENTS:
            answers: set[str] = set()
            for text in (never(kind), *(town.spelt(name, kind, party) for name in ("sealed", "raw"))):
                await session.connection.send(json.dumps(event).replace("@", text))
                error = await session.until("error")
                assert error["error"]["code"] == "not_supported", what
                answers.add(json.dumps(error))
            assert len(answers) == 1, what


async def test_items_of_one_session_are_unknown_in_another(town: Town) -> None:
    async with (
        talk(town.stack.url, REALTIME, headers={"api-key": town.victim.key}) as theirs,
        talk(town.stack.url, REALTIME, headers={"api-key": town.strangers["another team"].key}) as session,
    ):
        await theirs.write("The secret of the team")
        item = (await theirs.until("conversation.item.added"))["item"]["id"]
        for kind, fields in STRANGE_ITEMS:
            codes: list[str] = []
            for text in (item, "item_nobody_has"):
                await session.connection.send(json.dumps({"type": kind, **fields}).replace("@", text))
                codes.append((await session.until("error"))["error"]["code"])
            assert codes == ["item_not_found"] * 2, kind


@pytest.mark.parametrize("query", HANDSHAKES)
async def test_no_session_is_joined(town: Town, query: str) -> None:
    seen: list[tuple[int, Any]] = []
    for party in (town.victim, *town.strangers.values()):
        for text in ("sess_0123456789abcdef", "rtc_0123456789abcdef"):
            path = f"{REALTIME}&{query.replace('@', text)}"
            seen.append(await refused(town.stack.url, path, headers={"api-key": party.key}))
    assert {status for status, _ in seen} == {400}
    assert len({msgspec.json.encode(body) for _, body in seen}) == 1


def test_after_all_of_it_the_owner_has_everything(town: Town) -> None:
    ids = town.victim.ids
    for path in (f"responses/{ids['response']}", f"files/{ids['file']}", f"batches/{ids['batch']}"):
        assert town.victim.ask("GET", f"/v1/{path}").status_code == 200
    assert town.victim.ask("GET", f"/v1/files/{ids['output']}/content").status_code == 200


def test_the_page_lists_these_attempts() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run python -m tests.integration.isolation_table"
