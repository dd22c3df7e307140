"""Making keys and what they belong to, in tests of auth."""

from typing import Any

import msgspec

from shared.bus import Bucket
from shared.policy import KeyRecord
from shared.topology import key_kv
from tests.support.auth import MASTER_KEY, Auth


async def record(keys: Bucket, made: dict[str, Any]) -> KeyRecord:
    entry = await keys.get(key_kv(made["token_id"]))
    assert entry is not None
    return msgspec.json.decode(entry.value, type=KeyRecord)


async def minted(auth: Auth, *, by: str = MASTER_KEY, status: int = 200, **body: Any) -> dict[str, Any]:
    answer = await auth.post("/key/generate", body, status=status, key=by)
    return answer if status == 200 else answer["error"]


async def two_orgs(auth: Auth) -> None:
    for org, teams in (("acme", ("search", "ads")), ("other", ("games",))):
        await auth.post("/organization/new", {"organization_alias": org, "organization_id": org})
        for team in teams:
            await auth.post("/team/new", {"team_id": team, "organization_id": org})
