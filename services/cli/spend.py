"""`tundish spend …`: what was spent, from the books of the ledger."""

from argparse import Namespace

from services.cli.client import Client, Query
from services.cli.output import Column, dollars, limit, plain, print_json, print_page, print_table, rows_of

TOTALS: tuple[Column, ...] = (
    ("CALLS", "calls", plain),
    ("TOKENS", "total_tokens", plain),
    ("SPEND", "spend", dollars),
    ("LIMIT", "max_budget", limit),
)
KEY_COLUMNS: tuple[Column, ...] = (
    ("KEY", "key_id", plain),
    ("NAME", "key_alias|key_name", plain),
    ("TEAM", "team_id", plain),
    *TOTALS,
)
TEAM_COLUMNS: tuple[Column, ...] = (
    ("TEAM", "team_id", plain),
    ("NAME", "team_alias", plain),
    *TOTALS,
)
ORG_COLUMNS: tuple[Column, ...] = (
    ("ORG", "organization_id|org_id", plain),
    ("NAME", "organization_alias|org_alias", plain),
    *TOTALS,
)
LOG_COLUMNS: tuple[Column, ...] = (
    ("STARTED", "startTime", plain),
    ("MODEL", "model", plain),
    ("KEY", "api_key", plain),
    ("IN", "prompt_tokens", plain),
    ("OUT", "completion_tokens", plain),
    ("SPEND", "spend", dollars),
    ("OUTCOME", "outcome", plain),
    ("MEASURED", "measured", plain),
    ("CALL", "request_id", plain),
)


NOTHING = "Nothing has been spent yet."
NO_TEAM = "No key of a team has spent anything yet; `tundish spend keys` shows the keys without one, too."


def keys(client: Client, options: Namespace) -> int:
    """Spend by key, the dearest first."""
    return _show(client, options, "/spend/keys", {"page": options.page, "size": options.size}, KEY_COLUMNS)


def teams(client: Client, options: Namespace) -> int:
    """Spend by team, the dearest first."""
    return _show(client, options, "/spend/teams", {"page": options.page, "size": options.size}, TEAM_COLUMNS, NO_TEAM)


def orgs(client: Client, options: Namespace) -> int:
    """Spend by organization, the dearest first."""
    return _show(client, options, "/spend/orgs", {"page": options.page, "size": options.size}, ORG_COLUMNS)


def logs(client: Client, options: Namespace) -> int:
    """Single calls, newest first."""
    query: Query = {
        "key_id": options.key,
        "team_id": options.team,
        "measured": options.measured,
        "limit": options.limit,
    }
    filtered = options.key or options.team or options.measured
    empty = "No call matches; keys and teams are named by their ids here." if filtered else NOTHING
    return _show(client, options, "/spend/logs", query, LOG_COLUMNS, empty)


def _show(
    client: Client, options: Namespace, path: str, query: Query, columns: tuple[Column, ...], empty: str = NOTHING
) -> int:
    answer = client.get(path, query)
    if options.json:
        print_json(answer)
    else:
        print_table(rows_of(answer, "data"), columns, empty)
        print_page(answer)
    return 0
