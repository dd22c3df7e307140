"""A new version of a secret in an Azure Key Vault, by the identity of this process.

A secret of a vault belongs to the key that its tag `tundish-key` names: one without that tag is never overwritten.
"""

from urllib.parse import urlsplit

import httpx
import msgspec

from services.auth.rotation.targets.calling import exchange
from services.auth.rotation.targets.courier import DeliveryError, Owner, Parcel
from shared.azure import AzureIdentity, IdentityError
from shared.events import Target

API_VERSION = "7.4"
TAG = "tundish-key"
SCOPES = {
    "vault.usgovcloudapi.net": "https://vault.usgovcloudapi.net/.default",
    "vault.azure.cn": "https://vault.azure.cn/.default",
}
SCOPE = "https://vault.azure.net/.default"
_REMEDIES = {
    "ForbiddenByRbac": "give the identity of auth the role 'Key Vault Secrets Officer' on it",
    "ForbiddenByPolicy": "give the identity of auth the secret permissions Get and Set on it",
    "ForbiddenByFirewall": "let the network of auth through the vault's firewall",
    "SecretDisabled": "enable the secret's newest version, or delete the secret",
    "ObjectIsDeletedButRecoverable": "the secret was deleted: recover it, or purge it",
    "ObjectIsBeingDeleted": "the secret is being deleted",
}


class Attributes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A secret's attributes; times in Unix seconds."""

    enabled: bool | None = None
    exp: int | None = None


class Secret(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A secret as the vault has it."""

    value: str = ""
    id: str = ""
    contentType: str | None = None  # noqa: N815
    attributes: Attributes = Attributes()
    tags: dict[str, str] | None = None


class _Inner(msgspec.Struct, frozen=True):
    code: str = ""


class _Error(msgspec.Struct, frozen=True):
    code: str = ""
    innererror: _Inner | None = None


class _Refusal(msgspec.Struct, frozen=True):
    error: _Error = _Error()


class KeyVault:
    """The courier of vaults. `vaults` are hosts that may be written to, or `*.` and the end of them."""

    def __init__(self, calls: httpx.AsyncClient, identity: AzureIdentity, vaults: tuple[str, ...]) -> None:
        self._calls = calls
        self._identity = identity
        self._vaults = vaults

    async def check(self, target: Target, owner: Owner) -> None:
        """Whether the secret may be written: it is there with the key's tag, or is not there yet."""
        await self._own(target, owner)

    async def deliver(self, target: Target, parcel: Parcel) -> str:
        """Make a new version, unless the newest one is this secret already; the version's id."""
        owner = parcel.owner
        found = await self._own(target, owner)
        tags = {TAG: owner.key_id, "version": str(parcel.version)}
        if owner.team_id is not None:
            tags["team"] = owner.team_id
        if found is not None and found.value == parcel.secret:
            return _version_of(found)
        exp = None if parcel.ends_at is None else int(parcel.ends_at.timestamp())
        body = Secret(
            value=parcel.secret, contentType="text/plain", attributes=Attributes(enabled=True, exp=exp), tags=tags
        )
        status, answer = await self._call("PUT", target, msgspec.json.encode(body))
        if status != 200:
            raise _refused(status, answer)
        return _version_of(_read(answer))

    async def close(self) -> None:
        """Let go of the identity."""
        await self._identity.close()

    async def _own(self, target: Target, owner: Owner) -> Secret | None:
        """The newest version, which belongs to the key; None when there is none. Raises DeliveryError."""
        if not self._named(target.place):
            raise DeliveryError(
                f"the vault {urlsplit(target.place).netloc} is not one of TUNDISH_KEY_VAULTS, which names those that"
                " secrets may be written to",
                lasting=True,
            )
        status, answer = await self._call("GET", target)
        if status == 404:
            return None
        if status != 200:
            raise _refused(status, answer)
        found = _read(answer)
        if (found.tags or {}).get(TAG) != owner.key_id:
            raise DeliveryError(
                f"the vault has a secret {target.name!r} that is not of this key: give it the tag"
                f" {TAG}={owner.key_id}, or use another name",
                lasting=True,
            )
        return found

    async def _call(self, method: str, target: Target, content: bytes | None = None) -> tuple[int, bytes]:
        host = urlsplit(target.place).hostname or ""
        scope = next((scope for end, scope in SCOPES.items() if host.endswith("." + end)), SCOPE)
        try:
            token = await self._identity.token(scope)
        except IdentityError as error:
            raise DeliveryError(str(error)) from error
        headers = {"authorization": f"Bearer {token}"}
        if content is not None:
            headers["content-type"] = "application/json"
        url = f"{target.place}/secrets/{target.name}?api-version={API_VERSION}"
        return await exchange(self._calls, method, url, headers=headers, content=content)

    def _named(self, place: str) -> bool:
        parts = urlsplit(place)
        netloc, host = parts.netloc.lower(), (parts.hostname or "").lower()
        plain = parts.port in (None, 443)
        return any(
            netloc == vault or (plain and (host == vault or (vault.startswith("*.") and host.endswith(vault[1:]))))
            for vault in self._vaults
        )


def _read(answer: bytes) -> Secret:
    try:
        return msgspec.json.decode(answer, type=Secret)
    except msgspec.MsgspecError as error:
        raise DeliveryError("the vault's answer is no secret") from error


def _version_of(secret: Secret) -> str:
    """The secret's version, from its id."""
    return secret.id.rpartition("/")[2][:64]


def _refused(status: int, answer: bytes) -> DeliveryError:
    try:
        error = msgspec.json.decode(answer, type=_Refusal).error
    except msgspec.MsgspecError:
        error = _Error()
    code = (error.innererror.code if error.innererror is not None else "") or error.code
    known = code if code.isalnum() and len(code) <= 64 else ""
    remedy = _REMEDIES.get(known)
    why = " ".join(filter(None, (str(status), known)))
    return DeliveryError(
        f"the vault answered {why}" + (f": {remedy}" if remedy else ""), lasting=status in (400, 403, 409)
    )
