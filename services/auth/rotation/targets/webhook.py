"""A POST to a URL of the owner's, signed as Standard Webhooks has it."""

from datetime import datetime

import httpx
import msgspec

from services.auth.rotation.signing import Signing
from services.auth.rotation.targets.addresses import Network, checked
from services.auth.rotation.targets.calling import exchange
from services.auth.rotation.targets.courier import DeliveryError, Owner, Parcel
from shared.clock import Clock
from shared.events import Target

TYPE = "key.secret"


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of the key and its new secret."""

    key_id: str
    key_alias: str | None
    team_id: str | None
    organization_id: str
    version: int
    key: str
    expires: datetime | None
    old_key_expires: datetime | None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """The body."""

    type: str
    timestamp: datetime
    data: Content


class Webhook:
    """The courier of webhooks. `allowed` are networks beside the public ones that may be called."""

    def __init__(self, calls: httpx.AsyncClient, signing: Signing, clock: Clock, allowed: tuple[Network, ...]) -> None:
        self._calls = calls
        self._signing = signing
        self._clock = clock
        self._allowed = allowed

    async def check(self, target: Target, owner: Owner) -> None:
        """Whether the URL may be called; it is not."""
        await checked(target.place, self._allowed)

    async def deliver(self, target: Target, parcel: Parcel) -> str:
        """Post it; whatever is answered with 2xx has it."""
        place = await checked(target.place, self._allowed)
        body = msgspec.json.encode(_message(parcel))
        at = int(self._clock.now().timestamp())
        signatures = self._signing.signatures(
            parcel.owner.key_id, target.place, message_id=parcel.message_id, timestamp=at, body=body
        )
        status, _ = await exchange(
            self._calls,
            "POST",
            place.url,
            headers={
                "host": place.netloc,
                "content-type": "application/json",
                "user-agent": "tundish-webhook/1",
                "webhook-id": parcel.message_id,
                "webhook-timestamp": str(at),
                "webhook-signature": signatures,
            },
            content=body,
            extensions={"sni_hostname": place.host} if place.scheme == "https" else None,
            whole=False,
        )
        if 300 <= status < 400:
            raise DeliveryError(f"the webhook answered with a redirect ({status}), which is not followed: set its end")
        if not 200 <= status < 300:
            raise DeliveryError(f"the webhook answered {status}")
        return ""

    async def close(self) -> None:
        """Nothing is kept."""


def _message(parcel: Parcel) -> Message:
    owner = parcel.owner
    return Message(
        type=TYPE,
        timestamp=parcel.minted_at,
        data=Content(
            key_id=owner.key_id,
            key_alias=owner.alias,
            team_id=owner.team_id,
            organization_id=owner.org_id,
            version=parcel.version,
            key=parcel.secret,
            expires=parcel.ends_at,
            old_key_expires=parcel.old_ends_at,
        ),
    )
