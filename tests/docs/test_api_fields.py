"""docs/api.md names every field that the admin API takes."""

import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from services.auth.domain import fields
from services.auth.domain.fields.base import Fields

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
REQUESTS = {
    f"{module.name}.{name}": value
    for module in iter_modules(fields.__path__)
    for name, value in vars(import_module(f"{fields.__name__}.{module.name}")).items()
    if isinstance(value, Fields)
}


@pytest.mark.parametrize("request_name", sorted(REQUESTS))
def test_every_field_is_documented(request_name: str) -> None:
    known = REQUESTS[request_name].known
    assert [field for field in known if not re.search(rf"[`\"]{field}[`\"]", PAGE)] == []
