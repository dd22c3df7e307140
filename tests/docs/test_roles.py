"""docs/roles.md is what the table of roles and the routes say."""

from services.proxy.domain.admin_paths import admin_rows
from tests.support import roles

UNWRITTEN = {"/docs", "/openapi.json"}
"""Pages without data, which answer to anybody."""


def test_the_page_is_current() -> None:
    assert roles.PATH.read_text(encoding="utf-8") == roles.render(), "run `python -m tests.support.roles`"


def test_the_front_door_passes_on_exactly_what_the_services_offer() -> None:
    """Paths that name something are checked by the tests of the front door."""
    offered = {(route.method, route.path) for route in (*roles.auth_routes(), *roles.peer_routes())}
    passed = {(method, path) for _, method, path in admin_rows() if path not in UNWRITTEN}
    assert passed == {(method, path) for method, path in offered if "{" not in path}
