"""docs/api.md names every field that the admin API takes."""

import re
from pathlib import Path

import pytest

from services.auth.domain import fields

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
REQUESTS = {name: value for name, value in vars(fields).items() if isinstance(value, fields.Fields)}


@pytest.mark.parametrize("request_name", sorted(REQUESTS))
def test_every_field_is_documented(request_name: str) -> None:
    known = REQUESTS[request_name].known
    assert [field for field in known if not re.search(rf"[`\"]{field}[`\"]", PAGE)] == []
