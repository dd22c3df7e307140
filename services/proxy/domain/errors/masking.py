"""What callers may not read in Foundry's errors: hosts and addresses behind the gateway, keys, tokens, foreign ids."""

import re
from collections.abc import Iterable
from typing import cast

TEXT_CHARS_MAX = 8_000
DEPTH_MAX = 24
ITEMS_MAX = 200
HIDDEN_CHARS_MIN = 4
"""No shorter text is looked for: it would be found in words."""

_HOSTS = re.compile(
    r"(?:(?:https?|wss?):\\?/\\?/)?(?<![\w.-])"
    r"(?:(?:[\w-]{1,100}\.){1,8}(?:azure\.(?:com|us|cn|net)|azure-api\.(?:net|us|cn)|azurewebsites\.net|azurefd\.net"
    r"|windows\.net|chinacloudapi\.cn|svc|internal|local|localdomain)|localhost)"
    r"(?![\w-])(?::\d{1,5})?(?:/[\w\-./~%?=&+:{}]{0,2000})?",
    re.IGNORECASE,
)
_ADDRESSES = re.compile(
    r"(?:(?:https?|wss?)://)?(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w])(?::\d{1,5})?(?:/[\w\-./~%?=&+:{}]{0,2000})?"
    r"|(?:(?:https?|wss?)://)?\[[0-9a-f:.]{2,45}\](?::\d{1,5})?(?:/[\w\-./~%?=&+:{}]{0,2000})?",
    re.IGNORECASE,
)
_SECRETS = re.compile(
    r"\bBearer\s+[\w\-.~+/=]{6,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)?"
    r"|\bsk-[\w*-]{6,}"
    r"|(?<![\w-])[0-9a-fA-F]{32}(?![\w-])"
    r"|(?<![\w-])[A-Za-z0-9]{64,}(?![\w-])"
    r"|(?:AccountKey|SharedAccessKey|sig|api[-_]?key)=[^&;\s\"']{4,}",
)
_IDS = re.compile(r"(?<![\w-])(?:resp|batch|file|assistant|conv|cntr|vs|asst|thread)[_-][A-Za-z0-9]{16,}(?![\w-])")


def masked(text: str, hide: Iterable[str] = ()) -> str:
    """A text without upstream hosts, addresses, credentials and ids of stored objects; `hide` are further ones.

    What a person reads of documentation (`aka.ms`, `learn.microsoft.com`, …) stays. Cut at TEXT_CHARS_MAX.
    """
    text = text[:TEXT_CHARS_MAX]
    for secret in hide:
        if len(secret) >= HIDDEN_CHARS_MIN:
            text = re.sub(re.escape(secret), "(hidden)", text, flags=re.IGNORECASE)
    text = _HOSTS.sub("(host)", text)
    text = _ADDRESSES.sub("(host)", text)
    text = _SECRETS.sub("(secret)", text)
    return _IDS.sub("(id)", text)


def masked_value(value: object, hide: Iterable[str] = (), depth: int = 0) -> object:
    """A decoded JSON value with every text in it masked; too deep or too long parts are cut."""
    if isinstance(value, str):
        return masked(value, hide)
    if isinstance(value, dict):
        if depth >= DEPTH_MAX:
            return {}
        items = list(cast(dict[str, object], value).items())[:ITEMS_MAX]
        return {masked(key, hide): masked_value(item, hide, depth + 1) for key, item in items}
    if isinstance(value, list):
        if depth >= DEPTH_MAX:
            return []
        return [masked_value(item, hide, depth + 1) for item in cast(list[object], value)[:ITEMS_MAX]]
    return value
