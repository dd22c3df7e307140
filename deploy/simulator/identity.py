"""Entra and the machine's identity endpoint: tokens for workloads, managed identities and clients with secrets.

Serve the simulator over TLS (`--tls FOLDER`) where a client insists on `https://` for its authority.
"""

import base64
import re
from datetime import datetime
from urllib.parse import parse_qs

import msgspec

from deploy.simulator.answers import Answer
from deploy.simulator.asks import Ask
from deploy.simulator.errors import FoundryError
from deploy.simulator.files import own_host, reply

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_AUDIENCE = "api://AzureADTokenExchange"
DEFAULT = "/.default"
IMDS_VERSIONS = ("2018-02-01", "2019-08-01", "2021-02-01")
APP_SERVICE_VERSION = "2019-08-01"
MACHINE_CLIENT = "11111111-1111-1111-1111-111111111111"
MACHINE_TENANT = "00000000-0000-0000-0000-0000000000aa"
OBJECT_ID = "22222222-2222-2222-2222-222222222222"
SIGNATURE = base64.urlsafe_b64encode(b"stub signature").rstrip(b"=").decode()

REFUSALS: dict[str, tuple[int, str, str]] = {
    "50027": (401, "invalid_client", "JWT token is invalid or malformed."),
    "70003": (400, "unsupported_grant_type", "The app requested an unsupported grant type '{}'."),
    "70021": (401, "invalid_client", "No matching federated identity record found for presented assertion."),
    "90002": (400, "invalid_request", "Tenant '{}' not found."),
    "700016": (400, "unauthorized_client", "Application with identifier '{}' was not found in the directory."),
    "700024": (401, "invalid_client", "Client assertion is not within its valid time range."),
    "700212": (
        401,
        "invalid_client",
        "No matching federated identity record found for presented assertion audience '{}'.",
    ),
    "700213": (
        401,
        "invalid_client",
        "No matching federated identity record found for presented assertion subject '{}'.",
    ),
    "900144": (400, "invalid_request", "The request body must contain the following parameter: '{}'."),
    "1002012": (400, "invalid_scope", "The provided value for scope {} is not valid."),
    "7000215": (401, "invalid_client", "Invalid client secret provided for app '{}'."),
}
"""AADSTS number → status, OAuth error and text."""


class Assertion(msgspec.Struct):
    """What of a federated token's claims decides anything."""

    sub: str
    aud: str | list[str]
    exp: int


def mint(audience: str, now: int, life_s: int, client: str, tenant: str = MACHINE_TENANT) -> str:
    """An access token as Entra makes them, with a signature that nothing here looks at."""
    header = {"alg": "RS256", "typ": "JWT", "kid": "stub"}
    claims = {
        "aud": audience,
        "iss": f"https://sts.windows.net/{tenant}/",
        "iat": now,
        "nbf": now,
        "exp": now + life_s,
        "oid": OBJECT_ID,
        "tid": tenant,
        "appid": client,
        "ver": "1.0",
    }
    return ".".join([_part(header), _part(claims), SIGNATURE])


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).rstrip(b"=").decode()


async def token(ask: Ask, match: re.Match[str]) -> Answer:
    """The token endpoint of a tenant, for the client credentials grant."""
    now = ask.site.clock.now()
    tenant = match[1]
    form = {name: values[0] for name, values in parse_qs(ask.body.decode("latin-1"), keep_blank_values=True).items()}
    _check(ask, form, tenant, now)
    settings = ask.site.settings
    audience = form["scope"].split()[0].removesuffix(DEFAULT)
    made: dict[str, object] = {
        "token_type": "Bearer",
        "expires_in": settings.token_life_s,
        "ext_expires_in": settings.token_life_s,
        "access_token": mint(audience, int(now.timestamp()), settings.token_life_s, form["client_id"], tenant),
    }
    if settings.token_refresh_s is not None:
        made["refresh_in"] = settings.token_refresh_s
    return reply(ask, made)


def _check(ask: Ask, form: dict[str, str], tenant: str, now: datetime) -> None:
    """Raise Entra's refusal of a token request."""
    settings = ask.site.settings
    if "missing" in tenant.lower():
        raise _refused(ask, "90002", tenant)
    if settings.token_error is not None:
        raise _refused(ask, settings.token_error, form.get("client_id", ""))
    for name in ("grant_type", "client_id", "scope"):
        if not form.get(name):
            raise _refused(ask, "900144", name)
    if form["grant_type"] != "client_credentials":
        raise _refused(ask, "70003", form["grant_type"])
    if not all(scope.endswith(DEFAULT) for scope in form["scope"].split()):
        raise _refused(ask, "1002012", form["scope"])
    if form.get("client_assertion_type") == ASSERTION_TYPE:
        _check_assertion(ask, form.get("client_assertion", ""), now)
        return
    secret = form.get("client_secret")
    if secret is None:
        raise _refused(ask, "900144", "client_assertion")
    known = settings.token_secrets
    if known and form["client_id"] not in known:
        raise _refused(ask, "700016", form["client_id"])
    if known and known[form["client_id"]] != secret:
        raise _refused(ask, "7000215", form["client_id"])


def _check_assertion(ask: Ask, assertion: str, now: datetime) -> None:
    claims = _claims(assertion)
    if claims is None:
        raise _refused(ask, "50027", "")
    audiences = claims.aud if isinstance(claims.aud, list) else [claims.aud]
    if ASSERTION_AUDIENCE not in audiences:
        raise _refused(ask, "700212", " ".join(audiences))
    if claims.exp <= now.timestamp():
        raise _refused(ask, "700024", "")
    subjects = ask.site.settings.token_subjects
    if subjects and claims.sub not in subjects:
        raise _refused(ask, "700213", claims.sub)


def _claims(assertion: str) -> Assertion | None:
    parts = assertion.split(".")
    if len(parts) != 3:
        return None
    try:
        raw = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return msgspec.json.decode(raw, type=Assertion)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        return None


def _refused(ask: Ask, number: str, about: str) -> FoundryError:
    status, error, text = REFUSALS.get(number, (400, "invalid_request", "The request was refused."))
    at = ask.site.clock.now().strftime("%Y-%m-%d %H:%M:%SZ")
    trace = ask.request_id
    told = f"AADSTS{number}: {text.format(about)} Trace ID: {trace} Correlation ID: {trace} Timestamp: {at}"
    body = {
        "error": error,
        "error_description": told,
        "error_codes": [int(number)] if number.isdigit() else [],
        "timestamp": at,
        "trace_id": trace,
        "correlation_id": trace,
    }
    return FoundryError(status, body)


async def instances(ask: Ask, match: re.Match[str]) -> Answer:
    """Which hosts are authorities, as client libraries ask before anything else."""
    asked = parse_qs(ask.scope["query_string"].decode("latin-1")).get("authorization_endpoint", [own_host(ask)])[0]
    host = asked.partition("://")[2].partition("/")[0]
    cloud = {"preferred_network": host, "preferred_cache": host, "aliases": [host]}
    tenant = asked.removesuffix("/").removesuffix("/oauth2/v2.0/authorize")
    configuration = f"{tenant}/v2.0/.well-known/openid-configuration"
    return reply(
        ask,
        {"tenant_discovery_endpoint": configuration, "api-version": "1.1", "metadata": [cloud]},
    )


async def configuration(ask: Ask, match: re.Match[str]) -> Answer:
    """The OpenID configuration of a tenant."""
    if "missing" in match[1].lower():
        raise _refused(ask, "90002", match[1])
    base = f"{own_host(ask)}/{match[1]}"
    return reply(
        ask,
        {
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "issuer": f"{base}/v2.0",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "response_types_supported": ["code", "id_token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid"],
            "tenant_region_scope": "WW",
            "cloud_instance_name": own_host(ask).partition("://")[2],
        },
    )


async def imds(ask: Ask, match: re.Match[str]) -> Answer:
    """The virtual machine's token endpoint: all values are strings."""
    if ask.caller.headers.get(b"metadata", b"").lower() != b"true":
        raise _bad("Required metadata header not specified")
    return reply(ask, _machine_token(ask, IMDS_VERSIONS, with_lifetimes=True))


async def app_service(ask: Ask, match: re.Match[str]) -> Answer:
    """The token endpoint of App Service and Container Apps; any X-IDENTITY-HEADER is right."""
    if not ask.caller.headers.get(b"x-identity-header"):
        raise _bad("The header X-IDENTITY-HEADER is missing")
    return reply(ask, _machine_token(ask, (APP_SERVICE_VERSION,), with_lifetimes=False))


def _machine_token(ask: Ask, versions: tuple[str, ...], with_lifetimes: bool) -> dict[str, str]:
    query = {name: values[0] for name, values in parse_qs(ask.scope["query_string"].decode("latin-1")).items()}
    settings = ask.site.settings
    if query.get("api-version") not in versions:
        raise _bad("Identity version is unknown or missing: api-version")
    resource = query.get("resource")
    if not resource:
        raise _bad("Required query variable 'resource' is missing")
    asked = [query[name] for name in ("client_id", "object_id", "msi_res_id", "mi_res_id") if name in query]
    known = settings.managed_identities
    if asked and known and asked[0] not in known:
        raise _bad("Identity not found")
    now = int(ask.site.clock.now().timestamp())
    client = asked[0] if asked else MACHINE_CLIENT
    life = settings.token_life_s
    made = {
        "access_token": mint(resource, now, life, client),
        "client_id": client,
        "expires_on": str(now + life),
        "resource": resource,
        "token_type": "Bearer",
    }
    if with_lifetimes:
        made |= {"expires_in": str(life), "ext_expires_in": str(life), "not_before": str(now)}
        if settings.token_refresh_s is not None:
            made["refresh_in"] = str(settings.token_refresh_s)
    return made


def _bad(text: str) -> FoundryError:
    return FoundryError(400, {"error": "invalid_request", "error_description": text})
