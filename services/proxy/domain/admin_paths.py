"""The administrative paths of the front door: which service each goes to, and what is said of those that nobody has."""

from collections.abc import Iterator
from typing import NamedTuple

_PATHS: dict[str, dict[str, str]] = {
    "auth": {
        "POST": (
            "/key/generate /key/service-account/generate /key/update /key/bulk_update /key/block /key/unblock"
            " /key/delete /key/revoke /key/report-leak /key/regenerate /key/exchange /key/health /v2/key/info"
            " /team/new /team/update /team/block /team/unblock /team/delete /team/member_add /team/member_update"
            " /team/member_delete /team/bulk_member_add"
            " /organization/new /organization/update /organization/block /organization/unblock /organization/delete"
            " /organization/member_add /organization/member_delete"
            " /user/new /user/update /user/delete /budget/new /budget/update /budget/info /budget/delete"
        ),
        "PATCH": "/organization/update",
        "DELETE": "/organization/delete",
        "GET": (
            "/key/info /key/list /key/aliases /team/info /team/list /v2/team/list /organization/info /organization/list"
            " /user/info /user/list /budget/list /budget/settings /rotation/list /audit /audit/export /audit/verify"
            " /pepper/status /docs /openapi.json"
        ),
    },
    "ledger": {
        "GET": "/spend/keys /spend/teams /spend/orgs /spend/logs /spend/corrections /ledger/status",
        "POST": "/ledger/rebuild",
    },
    "scheduler": {"GET": "/scheduler/status /rotation/schedule /alerts"},
}
DOCS = "/docs"
"""The one page for browsers."""
OF_OWNERS = frozenset({"/key/exchange", "/key/report-leak"})
"""What belongs to whoever holds a key, and so is served where administration is switched off too: fetching the newer
secret with the older one, and saying that a secret has leaked."""


class AdminRow(NamedTuple):
    """A row whose path names something, in the segment with the index `named`."""

    service: str
    method: str
    named: int


_NAMED: dict[tuple[str, str], AdminRow] = {
    **{(scope, "reset_spend"): AdminRow("auth", "POST", 1) for scope in ("key", "team", "organization")},
    **{("key", verb): AdminRow("auth", "POST", 1) for verb in ("regenerate", "rotate")},
}
_REBUILD = AdminRow("ledger", "GET", 2)

ADMIN_WORDS = (
    "key", "team", "organization", "user", "customer", "end_user", "budget", "model", "model_group", "spend", "global",
    "audit", "credentials", "config", "project", "tag", "invitation", "sso", "ledger", "scheduler", "rotation",
    "alerts", "pepper", "docs",
)  # fmt: skip
"""First words of the admin paths that people know from LiteLLM, and of our own."""
_ELSEWHERE = {
    "project": "Projects are not offered: make a team within an organization.",
    "customer": "Customers and end users are not offered: give each a key, with its own budget and limits.",
    "end_user": "Customers and end users are not offered: give each a key, with its own budget and limits.",
    "tag": "Tags are not managed by themselves: set 'tags' on keys, teams or organizations; usage carries them.",
    "credentials": "Credentials of Foundry stand in the gateway's configuration alone.",
    "config": "The configuration is a file: edit it and start the proxies anew.",
    "model": "Models stand in the gateway's configuration; GET /model/info shows them.",
    "invitation": "Invitations are not offered: mint a key with POST /user/new, and hand it over.",
    "sso": "Single sign-on is not offered: people administer with keys that have a role.",
    "global": "Spend is shown by GET /spend/keys, /spend/teams, /spend/orgs and /spend/logs.",
    "alerts": "GET /alerts is offered.",
    "docs": "GET /docs and GET /openapi.json are offered.",
}
"""What is said of paths behind these words, beside that they are not served."""


def admin_rows() -> Iterator[tuple[str, str, str]]:
    """Service, method and path of every row that names nothing."""
    for service, methods in _PATHS.items():
        for method, paths in methods.items():
            for path in paths.split():
                yield service, method, path


def admin_row(segments: tuple[str, ...]) -> AdminRow | None:
    """The row of a path that names something, such as `/key/{key}/rotate`; the name itself is for others to judge."""
    if len(segments) != 3:
        return None
    if segments[:2] == ("ledger", "rebuild"):
        return _REBUILD
    return _NAMED.get((segments[0], segments[2]))


def admin_not_offered(segments: tuple[str, ...]) -> str | None:
    """Why an administrative path of LiteLLM's is not served; None where nothing is to be said."""
    return _ELSEWHERE.get(segments[0]) if segments else None
