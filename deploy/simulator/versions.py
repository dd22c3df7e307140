"""What a URL says beside its path: the api-version, and the deployment in a serverless host."""

import re
from functools import lru_cache
from urllib.parse import parse_qs

from deploy.simulator.wire import Caller

DATED_VERSION = re.compile(r"(\d{4}-\d{2}-\d{2})(-preview)?\Z")
GA_VERSIONS = frozenset({"2022-12-01", "2023-05-15", "2024-02-01", "2024-06-01", "2024-10-21"})
FIRST_PREVIEW, LAST_PREVIEW = "2023-03-15", "2025-04-01"
SERVERLESS_HOST = b".models.ai.azure.com"


@lru_cache(maxsize=256)
def version_fits(wanted: str, query: bytes) -> bool:
    """Whether the query has the api-version that a surface wants: `dated`, `preview` (dated previews only) or
    `undated` (the word preview)."""
    versions = parse_qs(query.decode("latin-1")).get("api-version", [])
    if len(versions) != 1:
        return False
    if wanted == "undated":
        return versions[0] == "preview"
    found = DATED_VERSION.match(versions[0])
    if found is None:
        return False
    if found[2] is not None:
        return FIRST_PREVIEW <= found[1] <= LAST_PREVIEW
    return wanted == "dated" and found[1] in GA_VERSIONS


def serverless_name(caller: Caller) -> str | None:
    """The deployment of a serverless host: its first label; None for any other host."""
    host = caller.headers.get(b"host", b"").partition(b":")[0].lower()
    return host.partition(b".")[0].decode("latin-1") if host.endswith(SERVERLESS_HOST) else None
