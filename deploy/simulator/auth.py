"""Who may call: keys and Entra tokens, as each surface takes them, and the refusals that tell them apart."""

import base64
from functools import lru_cache

import msgspec

from deploy.simulator import errors
from deploy.simulator.site import Site
from deploy.simulator.wire import Caller

BEARER = b"bearer "
MAX_TOKENS_KEPT = 1_024
MAX_TOKEN_BYTES = 16_384

_COGNITIVE = "https://cognitiveservices.azure.com"
_FOUNDRY = "https://ai.azure.com"
_ML = "https://ml.azure.com"
_SOVEREIGN = ("https://cognitiveservices.azure.us", "https://cognitiveservices.azure.cn")

AUDIENCES: dict[str, tuple[str, ...]] = {
    "classic": (_COGNITIVE, *_SOVEREIGN),
    "v1": (_FOUNDRY, _COGNITIVE, *_SOVEREIGN),
    "models": (_COGNITIVE, *_SOVEREIGN),
    "serverless": (_ML,),
    "anthropic": (_FOUNDRY,),
    "providers": (_COGNITIVE, *_SOVEREIGN),
    "mai": (_COGNITIVE, _FOUNDRY, *_SOVEREIGN),
}
"""Audiences a token may have, by surface; the first is the one that refusals name."""
KEY_AS_BEARER = frozenset({"v1", "serverless", "providers", "mai"})
ISSUERS = ("https://sts.windows.net/", "https://login.microsoftonline.", "https://login.chinacloudapi.cn/")


class Claims(msgspec.Struct, frozen=True):
    """What of a token's claims decides anything."""

    aud: str
    exp: int
    iss: str = ""
    nbf: int = 0
    oid: str = "00000000-0000-0000-0000-000000000000"


def check(caller: Caller, surface: str, site: Site) -> None:
    """Pass a caller that a surface lets in; raises the 401 or 403 that fits what it sent."""
    settings = site.settings
    if settings.network_off:
        raise errors.network_refused()
    key = site.key
    sent_key = caller.api_key
    if surface == "anthropic":
        sent_key = caller.headers.get(b"x-api-key", sent_key)
    if sent_key is not None and surface != "serverless":
        if settings.keys_off:
            raise errors.keys_off()
        if sent_key != key:
            raise errors.wrong_key()
    else:
        _check_bearer(caller.authorization, surface, site, key)
    if settings.blocked:
        raise errors.blocked()


def _check_bearer(sent: bytes | None, surface: str, site: Site, key: bytes) -> None:
    settings = site.settings
    audience = AUDIENCES[surface][0]
    if sent is None:
        raise errors.missing_key(settings.new_wording)
    if sent[: len(BEARER)].lower() != BEARER:
        raise errors.wrong_token(audience)
    bearer = sent[len(BEARER) :].strip()
    if surface in KEY_AS_BEARER and bearer.count(b".") != 2:
        if settings.keys_off:
            raise errors.keys_off()
        if bearer != key:
            raise errors.wrong_key()
        return
    claims = read_token(bearer)
    if claims is None or not claims.iss.startswith(ISSUERS) or claims.aud.rstrip("/") not in AUDIENCES[surface]:
        raise errors.wrong_token(audience)
    now = site.clock.now().timestamp()
    if claims.exp <= now or claims.nbf > now:
        raise errors.wrong_token(audience)
    if settings.no_role:
        raise errors.no_role(claims.oid if settings.new_wording else None)


@lru_cache(maxsize=MAX_TOKENS_KEPT)
def read_token(token: bytes) -> Claims | None:
    """The claims of a JWT, whose signature is not looked at; None for what is no token."""
    parts = token.split(b".")
    if len(parts) != 3 or len(token) > MAX_TOKEN_BYTES:
        return None
    try:
        padded = parts[1] + b"=" * (-len(parts[1]) % 4)
        return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=Claims)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        return None
