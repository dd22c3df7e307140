"""An entry of a Kubernetes Secret, where auth itself runs in the cluster.

A Secret belongs to the key that its annotation `tundish.io/key` names, by its id or by organization, team and alias;
no other is written to. An alias alone names nobody: any team may give its key the name that another one gave up.
"""

import base64
import ssl
from pathlib import Path

import httpx
import msgspec

from services.auth.rotation.targets.calling import client, exchange
from services.auth.rotation.targets.courier import DeliveryError, Owner, Parcel
from shared.events import Target

ANNOTATION = "tundish.io/key"
TOKEN_BYTES_MAX = 64 * 1024
NAMESPACE_OF = "the Role of auth there needs get and patch on this Secret"


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """The API server of the cluster that auth runs in, and the folder of its service account."""

    host: str
    port: int
    folder: Path


class _Metadata(msgspec.Struct, frozen=True):
    annotations: dict[str, str] | None = None
    resourceVersion: str = ""  # noqa: N815


class _Secret(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    data: dict[str, str] | None = None


class Kubernetes:
    """The courier of Kubernetes Secrets; `cluster` None: auth runs in none."""

    def __init__(self, cluster: Cluster | None) -> None:
        self._cluster = cluster
        self._calls: httpx.AsyncClient | None = None

    async def check(self, target: Target, owner: Owner) -> None:
        """Whether the Secret is there and is the key's."""
        await self._own(target, owner)

    async def deliver(self, target: Target, parcel: Parcel) -> str:
        """Set the entry, unless it is this secret already; the Secret's version."""
        found = await self._own(target, parcel.owner)
        entry = target.name.partition("/")[2]
        value = base64.b64encode(parcel.secret.encode()).decode()
        if (found.data or {}).get(entry) == value:
            return found.metadata.resourceVersion[:64]
        patch = {"metadata": {"resourceVersion": found.metadata.resourceVersion}, "data": {entry: value}}
        status, answer = await self._call("PATCH", target, msgspec.json.encode(patch))
        if status == 409:
            raise DeliveryError("somebody else changed the Secret at the same moment")
        if status != 200:
            raise _refused(status)
        return _read(answer).metadata.resourceVersion[:64]

    async def close(self) -> None:
        """Let go of connections."""
        if self._calls is not None:
            await self._calls.aclose()

    async def _own(self, target: Target, owner: Owner) -> _Secret:
        status, answer = await self._call("GET", target)
        name = f"{target.place}/{target.name.partition('/')[0]}"
        if status == 404:
            raise DeliveryError(f"there is no Secret {name}: make it, with the annotation {ANNOTATION}", lasting=True)
        if status != 200:
            raise _refused(status)
        found = _read(answer)
        named = (found.metadata.annotations or {}).get(ANNOTATION)
        values = names_of(owner)
        if named not in values:
            told = " or ".join(f"{ANNOTATION}={value}" for value in values)
            raise DeliveryError(f"the Secret {name} is not of this key: annotate it with {told}", lasting=True)
        return found

    async def _call(self, method: str, target: Target, content: bytes | None = None) -> tuple[int, bytes]:
        cluster = self._cluster
        if cluster is None:
            raise DeliveryError(
                "auth does not run in a Kubernetes cluster, so it cannot write to Secrets", lasting=True
            )
        try:
            if self._calls is None:
                self._calls = client(ssl.create_default_context(cafile=cluster.folder / "ca.crt"))
            token = (cluster.folder / "token").read_text()[:TOKEN_BYTES_MAX].strip()
        except (OSError, ValueError) as error:
            raise DeliveryError(f"the service account in {cluster.folder} cannot be read") from error
        headers = {"authorization": f"Bearer {token}", "accept": "application/json"}
        if content is not None:
            headers["content-type"] = "application/merge-patch+json"
        host = f"[{cluster.host}]" if ":" in cluster.host else cluster.host
        secret = target.name.partition("/")[0]
        url = f"https://{host}:{cluster.port}/api/v1/namespaces/{target.place}/secrets/{secret}"
        return await exchange(self._calls, method, url, headers=headers, content=content)


def names_of(owner: Owner) -> tuple[str, ...]:
    """What the annotation may say: the key's id, or `<organization>/<team>/<alias>`, without a team
    `<organization>/<alias>`; such an alias with a '/' in it could be that of a team's key, and is no name."""
    if owner.alias is None or (owner.team_id is None and "/" in owner.alias):
        return (owner.key_id,)
    return owner.key_id, "/".join(filter(None, (owner.org_id, owner.team_id, owner.alias)))


def _read(answer: bytes) -> _Secret:
    try:
        return msgspec.json.decode(answer, type=_Secret)
    except msgspec.MsgspecError as error:
        raise DeliveryError("the cluster's answer is no Secret") from error


def _refused(status: int) -> DeliveryError:
    remedy = f": {NAMESPACE_OF}" if status in (401, 403) else ""
    return DeliveryError(f"the cluster answered {status}{remedy}", lasting=status in (401, 403))
