"""A Key Vault: secrets with versions, soft delete, and the challenge that tells a client where to get a token."""

import re
from urllib.parse import parse_qs

import msgspec

from deploy.simulator import auth
from deploy.simulator.answers import Answer
from deploy.simulator.asks import Ask
from deploy.simulator.errors import FoundryError
from deploy.simulator.files import now_s, reply
from deploy.simulator.wire import Headers

AUDIENCES = ("https://vault.azure.net", "https://vault.usgovcloudapi.net", "https://vault.azure.cn")
MAX_SECRETS = 10_000
MAX_VERSIONS = 500
MAX_VALUE_BYTES = 25 * 1024
RECOVERABLE_DAYS = 90
NAME_PATTERN = re.compile(r"[0-9a-zA-Z-]{1,127}")
VERSION_PATTERN = re.compile(r"7\.\d(-preview\.\d)?|20\d\d-\d\d-\d\d(-preview)?")


class Attributes(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A secret's attributes; times in Unix seconds."""

    enabled: bool | None = None
    nbf: int | None = None
    exp: int | None = None
    created: int | None = None
    updated: int | None = None
    recoveryLevel: str | None = None  # noqa: N815
    recoverableDays: int | None = None  # noqa: N815


class NewSecret(msgspec.Struct):
    """The body that sets a secret."""

    value: str
    contentType: str | None = None  # noqa: N815
    attributes: Attributes = msgspec.field(default_factory=Attributes)
    tags: dict[str, str] | None = None


class Secret(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One version of a secret as answers show it."""

    value: str | None = None
    contentType: str | None = None  # noqa: N815
    id: str
    attributes: Attributes
    tags: dict[str, str] | None = None


class Vault:
    """The secrets of one vault: name → version → secret, and those that are deleted but can come back."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, Secret]] = {}
        self.deleted: dict[str, tuple[int, dict[str, Secret]]] = {}
        self.made = 0


def _error(
    status: int, code: str, message: str, inner: str | None = None, headers: Headers | None = None
) -> FoundryError:
    error: dict[str, object] = {"code": code, "message": message}
    if inner is not None:
        error["innererror"] = {"code": inner}
    return FoundryError(status, {"error": error}, headers)


def _enter(ask: Ask) -> Vault:
    """Check token and version; raises the vault's refusals."""
    settings = ask.site.settings
    challenge = f'Bearer authorization="https://login.windows.net/{settings.vault_tenant}", resource="{AUDIENCES[0]}"'
    headers: Headers = [
        (b"www-authenticate", challenge.encode()),
        (b"x-ms-keyvault-region", b"eastus2"),
        (b"x-ms-request-id", ask.request_id.encode()),
        (b"x-ms-keyvault-service-version", b"1.9.0.0"),
        (b"x-ms-keyvault-network-info", b"conn_type=Ipv4;addr=127.0.0.1;act_addr_fam=InterNetwork;"),
    ]
    sent = ask.caller.authorization
    if sent is None or sent[:7].lower() != b"bearer ":
        message = "AKV10000: Request is missing a Bearer or PoP token."
        raise _error(401, "Unauthorized", message, None, headers)
    claims = auth.read_token(sent[7:].strip())
    if claims is None or claims.aud.rstrip("/") not in AUDIENCES:
        message = "AKV10022: Invalid audience. Expected https://vault.azure.net."
        raise _error(401, "Unauthorized", message, None, headers)
    if claims.exp <= now_s(ask):
        raise _error(401, "Unauthorized", "AKV10004: The token has expired.", None, headers)
    if settings.vault_error == "Throttled":
        raise _error(429, "Throttled", "Request was not processed because too many requests were received.")
    if settings.vault_error is not None:
        raise _error(403, "Forbidden", "The caller may not do this on the vault.", settings.vault_error)
    versions = parse_qs(ask.scope["query_string"].decode("latin-1")).get("api-version", [])
    if len(versions) != 1 or VERSION_PATTERN.fullmatch(versions[0]) is None:
        raise _error(400, "BadParameter", "The api-version is missing or unknown.")
    return ask.site.one(Vault)


def _name(match: re.Match[str]) -> str:
    if NAME_PATTERN.fullmatch(match[1]) is None:
        message = "The request URI contains an invalid name: it must match ^[0-9a-zA-Z-]{1,127}$."
        raise _error(400, "BadParameter", message)
    return match[1]


def _missing(name: str) -> FoundryError:
    message = f"A secret with (name/id) {name} was not found in this key vault."
    return _error(404, "SecretNotFound", message)


def _base(ask: Ask) -> str:
    return "https://" + ask.caller.headers.get(b"host", b"localhost").decode("latin-1")


async def put(ask: Ask, match: re.Match[str]) -> Answer:
    """Make a new version of a secret."""
    vault = _enter(ask)
    name = _name(match)
    try:
        asked = msgspec.json.decode(ask.body, type=NewSecret)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _error(400, "BadParameter", f"The request body is no secret: {error}") from error
    if len(asked.value.encode()) > MAX_VALUE_BYTES:
        raise _error(400, "BadParameter", "The value is longer than 25 KB.")
    if name in vault.deleted:
        message = f"Secret {name} is currently in a deleted but recoverable state, and its name cannot be reused."
        raise _error(409, "Conflict", message, "ObjectIsDeletedButRecoverable")
    versions = vault.secrets.setdefault(name, {})
    if len(vault.secrets) > MAX_SECRETS or len(versions) >= MAX_VERSIONS:
        raise _error(403, "Forbidden", "The vault is full.")
    vault.made += 1
    version = f"{vault.made:032x}"
    now = now_s(ask)
    given = asked.attributes
    made = Secret(
        value=asked.value,
        contentType=asked.contentType,
        id=f"{_base(ask)}/secrets/{name}/{version}",
        attributes=Attributes(
            enabled=given.enabled is not False,
            nbf=given.nbf,
            exp=given.exp,
            created=now,
            updated=now,
            recoveryLevel="Recoverable+Purgeable",
            recoverableDays=RECOVERABLE_DAYS,
        ),
        tags=asked.tags,
    )
    versions[version] = made
    return reply(ask, made)


async def get(ask: Ask, match: re.Match[str]) -> Answer:
    """The newest version of a secret, or the one that is named."""
    vault = _enter(ask)
    name = _name(match)
    versions = vault.secrets.get(name, {})
    wanted = match[2] if match.lastindex and match.lastindex > 1 else None
    found = versions.get(wanted) if wanted else next(reversed(versions.values()), None)
    if found is None:
        raise _missing(name)
    if found.attributes.enabled is False:
        raise _error(403, "Forbidden", "Operation get is not allowed on a disabled secret.", "SecretDisabled")
    return reply(ask, found)


async def list_all(ask: Ask, match: re.Match[str]) -> Answer:
    """All secrets, without their values."""
    vault = _enter(ask)
    newest = [next(reversed(versions.values())) for versions in vault.secrets.values()]
    rows = [msgspec.structs.replace(one, value=None, id=one.id.rpartition("/")[0]) for one in newest]
    return reply(ask, {"value": rows, "nextLink": None})


async def list_versions(ask: Ask, match: re.Match[str]) -> Answer:
    """All versions of a secret, without their values."""
    vault = _enter(ask)
    versions = vault.secrets.get(_name(match), {})
    return reply(
        ask, {"value": [msgspec.structs.replace(one, value=None) for one in versions.values()], "nextLink": None}
    )


async def delete(ask: Ask, match: re.Match[str]) -> Answer:
    """Delete a secret so that it can still come back."""
    vault = _enter(ask)
    name = _name(match)
    versions = vault.secrets.pop(name, None)
    if versions is None:
        raise _missing(name)
    vault.deleted[name] = (now_s(ask), versions)
    return reply(ask, _shown_deleted(ask, name, vault))


async def get_deleted(ask: Ask, match: re.Match[str]) -> Answer:
    """A deleted secret."""
    vault = _enter(ask)
    name = _name(match)
    if name not in vault.deleted:
        raise _missing(name)
    return reply(ask, _shown_deleted(ask, name, vault))


async def purge(ask: Ask, match: re.Match[str]) -> Answer:
    """Delete a deleted secret for good."""
    vault = _enter(ask)
    if vault.deleted.pop(_name(match), None) is None:
        raise _missing(match[1])
    answer = reply(ask, b"")
    answer.status = 204
    return answer


async def recover(ask: Ask, match: re.Match[str]) -> Answer:
    """Bring a deleted secret back."""
    vault = _enter(ask)
    name = _name(match)
    if name not in vault.deleted:
        raise _missing(name)
    _, versions = vault.deleted.pop(name)
    vault.secrets[name] = versions
    newest = next(reversed(versions.values()))
    return reply(ask, msgspec.structs.replace(newest, value=None))


def _shown_deleted(ask: Ask, name: str, vault: Vault) -> dict[str, object]:
    at, versions = vault.deleted[name]
    newest = next(reversed(versions.values()))
    return {
        "recoveryId": f"{_base(ask)}/deletedsecrets/{name}",
        "deletedDate": at,
        "scheduledPurgeDate": at + RECOVERABLE_DAYS * 86_400,
        "contentType": newest.contentType,
        "id": newest.id,
        "attributes": newest.attributes,
        "tags": newest.tags,
    }
