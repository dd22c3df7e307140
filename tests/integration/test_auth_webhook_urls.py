"""The URL of a webhook, which may carry credentials, is shown to who may change the key, and in short to others."""

from ipaddress import ip_network

import msgspec

from services.auth.rotation.configured import RotationSettings
from tests.support.auth import Auth, auth_running, migrated, settings_for
from tests.support.eventually import eventually
from tests.support.servers import NatsServer

URL = "http://127.0.0.1:9/hook?token=hush"
HIDDEN = ("hush", "/hook")


async def test_a_url_is_whole_for_those_who_may_change_the_key(nats: NatsServer, database: str) -> None:
    rotation = RotationSettings(webhook_allow=(ip_network("127.0.0.0/8"),))
    settings = msgspec.structs.replace(settings_for(nats, await migrated(database)), rotation=rotation)
    async with auth_running(settings) as auth:
        await auth.ready()
        await auth.post("/team/new", {"team_id": "t1"})
        ways = [{"type": "webhook", "url": URL}]
        made = await auth.post("/key/generate", {"team_id": "t1", "rotation_delivery": ways})
        assert made["rotation_delivery"][0]["url"] == URL
        assert "signing_secret" in made["rotation_delivery"][0]
        admin = await auth.post("/key/generate", {"team_id": "t1", "key_type": "team_admin"})
        viewer = await auth.post("/key/generate", {"key_type": "viewer"})

        async def known() -> bool:
            return all(auth.service.parts.mirrored(one["key"]) is not None for one in (made, admin, viewer))

        await eventually(known)
        key_id = made["token_id"]
        pages = [
            f"/key/info?key={key_id}",
            "/key/list?return_full_object=true",
            "/team/info?team_id=t1",
            f"/audit?object_id={key_id}",
            f"/audit/export?object_id={key_id}",
        ]
        for page in pages:
            assert URL in await auth.get_text(page, key=admin["key"]), page
            in_short = await auth.get_text(page, key=viewer["key"])
            assert not any(text in in_short for text in HIDDEN), page
            assert "http://127.0.0.1:9#" in in_short, "which host it is, and whether it is another one, can be seen"
        own = await auth.get_text("/key/info", key=made["key"])
        assert not any(text in own for text in HIDDEN), "nor does the application's own key show it"
        assert await changed(auth, key_id) == [URL]


async def changed(auth: Auth, key_id: str) -> list[str]:
    """The URLs in the answer to a change of something else."""
    answer = await auth.post("/key/update", {"key": key_id, "metadata": {"a": 1}})
    return [one["url"] for one in answer["rotation_delivery"]]
