"""Spend set back by auth through the real ledger: auth names accounts and windows, the ledger's log is changed."""

import httpx
import msgspec

from shared.bus import Bucket
from shared.ids import KeyId, OrgId
from shared.policy import KeyRecord
from shared.topology import KEYS_BUCKET, key_kv
from tests.support.auth import Auth, auth_running, migrated, settings_for
from tests.support.books import Town, eventually, town_of
from tests.support.ledger import used, window
from tests.support.servers import NatsServer

DOLLAR = 10**9


async def accounts_of(town: Town, key_id: str) -> list[str]:
    """The accounts of a key as a proxy sees them."""
    entry = await Bucket(town.proxy, KEYS_BUCKET).get(key_kv(key_id))
    assert entry is not None
    return [budget.account for budget in msgspec.json.decode(entry.value, type=KeyRecord).budgets]


def joined(auth: Auth, town: Town) -> None:
    """Let auth ask the bookkeeper of the town."""
    assert town.service is not None
    auth.service.parts.ledger._client = httpx.AsyncClient(  # pyright: ignore[reportPrivateUsage]
        transport=httpx.ASGITransport(app=town.service.app),  # pyright: ignore[reportArgumentType]
        base_url="http://ledger",
    )


async def test_a_reset_from_the_admin_api_to_the_books(nats: NatsServer, database: str) -> None:
    settings = settings_for(nats, await migrated(database))
    common = msgspec.structs.replace(settings.common, token="peer-token")
    async with (
        town_of(nats, database) as town,
        town.books(),
        auth_running(msgspec.structs.replace(settings, common=common)) as auth,
    ):
        await auth.ready()
        joined(auth, town)
        made = await auth.post(
            "/key/generate",
            {"max_budget": 10, "budget_limits": [{"max_budget": 5, "budget_duration": "30d"}],
             "model_max_budget": {"gpt-*": {"budget_limit": 3}}},
        )  # fmt: skip
        accounts = await accounts_of(town, made["token_id"])
        key, org = KeyId(made["token_id"]), OrgId("default")
        await town.use(used(1, 4 * DOLLAR, *map(window, accounts[:2]), key=key, org=org))
        await town.use(used(2, DOLLAR, *map(window, accounts), key=key, org=org))
        await town.hold(2)
        await eventually(town.takes_orders)

        async def known() -> bool:
            answer = await auth.client.get(
                "/key/info", params={"key": key}, headers={"authorization": f"Bearer {made['key']}"}
            )
            return answer.json()["info"]["model_max_budget"]["gpt-*"]["spend"] == 1

        await eventually(known)
        path = f"/key/{key}/reset_spend"
        answer = await auth.post(path, {"reset_to": 2, "reason": "ada's loop"})
        assert (answer["previous_spend"], answer["spend"], answer["warnings"]) == (5.0, 2.0, [])
        assert [(row["before"], row["after"]) for row in answer["corrections"]] == [(5.0, 2.0), (5.0, 2.0)]
        info = (await auth.get("/key/info", {"key": key}))["info"]
        assert info["budget_limits"][0]["spend"] == 2
        assert info["model_max_budget"]["gpt-*"]["spend"] == 1, "what was below it is left alone"
        assert info["total_spend"] == 5, "history stays"
        answer = await auth.post(path, {})
        assert [row["after"] for row in answer["corrections"]] == [0, 0, 0]
        assert [await town.spent(account) for account in accounts] == [0, 0, 0]
        first, second = (await town.get("/spend/corrections"))["data"]
        assert [(row["actor"], row["reason"]) for row in (second, first)] == [
            ("master-key", "ada's loop"),
            ("master-key", ""),
        ]
