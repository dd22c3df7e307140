"""Keys with roles, put into the `keys` bucket as auth's relay does, for tests of the other services' doors."""

import msgspec

from shared.access import SecretHasher
from shared.bus import Bucket, Bus
from shared.ids import KeyId, OrgId, TeamId
from shared.policy import KeyRecord, Reach, Role, SecretRecord
from shared.topology import KEYS_BUCKET, key_kv, secret_kv

PEPPERS = "p1:" + "ab" * 32
HASHER = SecretHasher({"p1": bytes.fromhex("ab" * 32)})


async def give(
    bus: Bus, name: str, role: Role | None, reach: Reach = "all", org_id: str = "default", team_id: str | None = None
) -> str:
    """A key of that name; its secret. Keys without a role call models."""
    secret = f"sk-{name}"
    record = KeyRecord(
        key_id=KeyId(name),
        seq=1,
        org_id=OrgId(org_id),
        team_id=None if team_id is None else TeamId(team_id),
        role=role,
        reach=None if role is None else reach,
    )
    bucket = Bucket(bus, KEYS_BUCKET)
    await bucket.put(key_kv(name), msgspec.json.encode(record))
    stored = msgspec.json.encode(SecretRecord(key_id=KeyId(name), version=1, seq=1))
    await bucket.put(secret_kv("p1", HASHER.digest(secret)), stored)
    return secret


async def give_all(bus: Bus, org_id: str, team_id: str) -> dict[str, str]:
    """One key of every role and reach, by name to secret; those with a reach belong to the organization and team."""
    return {
        "admin": await give(bus, "admin", "admin"),
        "viewer": await give(bus, "viewer", "viewer"),
        "org_admin": await give(bus, "org_admin", "org_admin", "org", org_id),
        "org_viewer": await give(bus, "org_viewer", "viewer", "org", org_id),
        "team_admin": await give(bus, "team_admin", "team_admin", "team", org_id, team_id),
        "team_viewer": await give(bus, "team_viewer", "viewer", "team", org_id, team_id),
        "caller": await give(bus, "caller", None, org_id=org_id, team_id=team_id),
    }
