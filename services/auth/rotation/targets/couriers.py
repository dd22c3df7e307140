"""The couriers by kind of target, and what is asked of them when targets are set."""

from collections.abc import Mapping, Sequence

import httpx

from services.auth.rotation.signing import Signing
from services.auth.rotation.targets.addresses import Network
from services.auth.rotation.targets.calling import client
from services.auth.rotation.targets.courier import Courier, DeliveryError, Owner, Parcel
from services.auth.rotation.targets.key_vault import KeyVault
from services.auth.rotation.targets.kubernetes import Cluster, Kubernetes
from services.auth.rotation.targets.webhook import Webhook
from shared.azure import AzureIdentity
from shared.clock import Clock
from shared.errors import ApiError
from shared.events import Target, TargetKind


class Couriers:
    """One courier for each kind of target."""

    def __init__(self, by_kind: Mapping[TargetKind, Courier], *, calls: httpx.AsyncClient | None = None) -> None:
        self._by_kind = by_kind
        self._calls = calls

    async def check(self, targets: Sequence[Target], owner: Owner) -> None:
        """Refuse targets that could not be delivered to. Raises ApiError 400, 503."""
        for target in targets:
            try:
                await self._by_kind[target.kind].check(target, owner)
            except DeliveryError as error:
                remedy = "" if error.lasting else " Try again, or leave the target out for now."
                raise ApiError(
                    400 if error.lasting else 503,
                    "target_refused" if error.lasting else "target_unreachable",
                    f"rotation_delivery ({target.kind}): {error.reason.rstrip('.')}.{remedy}",
                    param="rotation_delivery",
                ) from error

    async def deliver(self, target: Target, parcel: Parcel) -> str:
        """Bring a secret to a target; what there is to say of it. Raises DeliveryError."""
        return await self._by_kind[target.kind].deliver(target, parcel)

    async def close(self) -> None:
        """Let go of all connections."""
        for courier in self._by_kind.values():
            await courier.close()
        if self._calls is not None:
            await self._calls.aclose()


def couriers(
    *,
    signing: Signing,
    clock: Clock,
    vaults: tuple[str, ...],
    webhook_allow: tuple[Network, ...],
    cluster: Cluster | None,
) -> Couriers:
    """The couriers of a running service."""
    calls = client()
    return Couriers(
        {
            "key_vault": KeyVault(calls, AzureIdentity(), vaults),
            "webhook": Webhook(calls, signing, clock, webhook_allow),
            "kubernetes": Kubernetes(cluster),
        },
        calls=calls,
    )
