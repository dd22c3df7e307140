"""The OpenAPI document and its page follow from the rows, and hold to the standard."""

import re
from html.parser import HTMLParser
from typing import Any

import httpx
import msgspec
import pytest
from openapi_spec_validator import validate

from services.auth.api.document import page_of
from services.auth.api.openapi import document_of
from services.auth.api.operations import Ask, Body, Operation, Query
from services.auth.api.pages import CSP, pages
from services.auth.domain.fields.base import Fields
from shared.access import Gatekeeper, Right
from shared.http import Health, internal_app
from shared.telemetry import Metrics
from tests.support.operations import all_operations

OPERATIONS = all_operations()
DOCUMENT = document_of(OPERATIONS)
PAGE = page_of(DOCUMENT).decode()
ROWS = {(row.method.lower(), re.sub(r":str\}", "}", row.path)): row for row in OPERATIONS}


def operation(method: str, path: str) -> dict[str, Any]:
    return DOCUMENT["paths"][path][method]


def test_the_document_holds_to_the_standard() -> None:
    validate(DOCUMENT)
    assert msgspec.json.decode(msgspec.json.encode(DOCUMENT)) == DOCUMENT


def test_every_row_is_there_once() -> None:
    written = {(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert written == set(ROWS)
    assert len(ROWS) == len(OPERATIONS)
    names = [found["operationId"] for methods in DOCUMENT["paths"].values() for found in methods.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("method", "path"), sorted(ROWS))
def test_a_row_is_described_as_it_is(method: str, path: str) -> None:
    row, written = ROWS[method, path], operation(method, path)
    assert written["summary"] == row.summary
    assert bool(written["security"]) is (row.who != "anybody")
    if row.right is not None:
        assert f"`{row.right}`" in written["description"]
    names = {(parameter["in"], parameter["name"]) for parameter in written["parameters"]}
    assert {name for where, name in names if where == "query"} == set(row.query.known)
    assert {name for where, name in names if where == "path"} == set(re.findall(r"\{([a-z_]+)\}", path))
    assert (("header", "Idempotency-Key") in names) is row.once
    assert {"200", "400", "401", "403", "404", "503"} <= set(written["responses"])
    assert ({"409", "422"} <= set(written["responses"])) is row.once


@pytest.mark.parametrize(("method", "path"), sorted(key for key, row in ROWS.items() if row.body is not None))
def test_a_body_has_the_fields_in_force_and_no_others(method: str, path: str) -> None:
    row = ROWS[method, path]
    assert row.body is not None
    schema = operation(method, path)["requestBody"]["content"]["application/json"]["schema"]
    if row.body.schema is not None:
        assert schema == row.body.schema
        return
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(row.body.fields.known)
    assert not set(schema["properties"]) & set(row.body.fields.refused)


@pytest.mark.parametrize(("method", "path"), sorted(key for key, row in ROWS.items() if row.body is not None))
def test_the_example_of_a_body_is_one(method: str, path: str) -> None:
    row = ROWS[method, path]
    assert row.body is not None
    if row.example is None:
        return
    if row.body.reader is not None:
        row.body.reader(msgspec.json.encode(row.example))
        return
    assert set(row.example) <= set(row.body.fields.known)
    msgspec.convert(dict(row.example), row.body.kind)


def test_every_body_that_takes_something_has_an_example() -> None:
    taking = [row for row in OPERATIONS if row.body is not None and row.body.fields.known]
    assert [row.path for row in taking if row.example is None] == []


def test_fields_that_may_be_left_out_are_not_needed() -> None:
    schema = operation("post", "/key/generate")["requestBody"]["content"]["application/json"]["schema"]
    assert "required" not in schema
    assert schema["properties"]["max_budget"]["anyOf"] == [{"type": "number"}, {"type": "null"}]
    assert "budget_duration" in str(schema["properties"]["budget_limits"])


def test_every_reference_leads_somewhere_and_nothing_is_left_over() -> None:
    text = msgspec.json.encode(DOCUMENT).decode()
    named = set(re.findall(r"#/components/schemas/([A-Za-z0-9_.]+)", text))
    assert named == set(DOCUMENT["components"]["schemas"])
    assert not [name for name in named if "." in name], "two answers have the same name"


# ---- the page ----------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """What a page has: tags, attributes, anchors."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


def test_the_page_has_no_script_and_nothing_from_elsewhere() -> None:
    found = read(PAGE)
    assert not found.tags & {"script", "img", "link", "iframe", "object", "embed", "form", "input", "base"}
    assert not {name for name in found.attributes if name.startswith("on")}
    assert all(link == "openapi.json" or link.startswith("#") for link in found.links)
    assert "url(" not in PAGE
    assert "@import" not in PAGE
    assert "script" not in CSP
    assert "default-src 'none'" in CSP


def test_every_row_has_its_place_and_every_link_leads_to_one() -> None:
    found = read(PAGE)
    assert len(set(found.ids)) == len(found.ids)
    assert {link[1:] for link in found.links if link.startswith("#")} == set(found.ids)
    text = " ".join(" ".join(found.text).split())
    for method, path in ROWS:
        assert f"{method.upper()} {path}" in text


async def test_both_are_served_to_anybody_and_may_do_nothing_in_a_browser() -> None:
    gate = Gatekeeper(master_key="sk-m", peer_tokens={})
    app = internal_app(health=Health(), metrics=Metrics(), gate=gate, routes=pages(OPERATIONS))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://x") as client:  # pyright: ignore
        page, document = await client.get("/docs"), await client.get("/openapi.json")
        assert (await client.post("/docs")).status_code == 405
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert document.headers["content-type"] == "application/json"
    assert document.json() == DOCUMENT
    for answer in (page, document):
        assert answer.headers["content-security-policy"] == CSP
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_text_is_escaped() -> None:
    nasty = "<script>alert(1)</script>\"'&"

    async def run(ask: Ask) -> None:
        raise NotImplementedError

    class Odd(msgspec.Struct):
        name: str

    row = Operation(
        method="POST",
        path="/odd",
        summary=nasty,
        run=run,
        answer=dict[str, str],
        right=Right.OPERATE,
        body=Body(fields=Fields(known=("name",), refused={}), kind=Odd),
        query=Query(known={"q": nasty}),
        example={"name": nasty},
    )
    page = page_of(document_of([row])).decode()
    assert "<script" not in page
    assert "script" not in read(page).tags
    assert page.count("&lt;script&gt;alert(1)") == 3
    curl = next(text for text in read(page).text if text.startswith("curl"))
    assert """<script>alert(1)</script>\\"'\\''&""" in curl


def test_every_field_of_a_request_says_what_it_means() -> None:
    missing = {
        (path, name)
        for path, methods in DOCUMENT["paths"].items()
        for operation in methods.values()
        for name, field in operation.get("requestBody", {})
        .get("content", {})
        .get("application/json", {})
        .get("schema", {})
        .get("properties", {})
        .items()
        if not field.get("description")
    }
    assert not missing
