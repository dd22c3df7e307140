"""What a request asks for of a key's renewal, every value checked, the field named that is wrong.

Nothing here looks anything up: whether a target is within the rules of this installation is for `Couriers.check`.
"""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from msgspec import UNSET, UnsetType

from services.auth.domain import values
from services.auth.domain.rotation import RotationChange
from services.auth.domain.versions import way_of
from services.auth.schemas.rotation import RotationFields, TargetRequest
from shared.events import RetireWhen, Target
from shared.rotation import interval_of
from shared.windows import WindowError, duration_seconds

TARGETS_MAX = 5
URL_CHARS_MAX = 500
HOST_CHARS_MAX = 253
FIELDS: dict[str, tuple[str, ...]] = {
    "key_vault": ("vault", "secret"),
    "webhook": ("url",),
    "kubernetes": ("namespace", "secret", "entry"),
    "exchange": (),
}
"""The fields of each type of delivery."""
NONE = re.compile(r"0+(s|m|h|d)?")
_VAULT_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")
_KUBERNETES_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_ENTRY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_LABEL = re.compile(r"[a-zA-Z0-9_]([-a-zA-Z0-9_]{0,61}[a-zA-Z0-9_])?")
_VISIBLE = re.compile(r"[\x21-\x7e]+")


def rotation_change(request: RotationFields) -> RotationChange:
    """The change of the terms. Raises ApiError 400."""
    auto, interval = request.auto_rotate, request.rotation_interval
    targets, exchange = _delivery(request.rotation_delivery)
    return RotationChange(
        auto=auto if isinstance(auto, UnsetType) else bool(auto),
        interval=interval if isinstance(interval, UnsetType) or interval is None else interval_text(interval),
        grace=_grace(request.grace_period),
        retire=_retire(request.rotation_retire),
        targets=targets,
        exchange=exchange,
    )


def interval_text(value: str) -> str:
    """A `rotation_interval`."""
    try:
        interval_of(value)
    except WindowError as error:
        raise values.problem("rotation_interval", str(error)) from error
    return value


def grace_text(value: str) -> str:
    """A `grace_period`; none at all is `0s`, however it is written."""
    if NONE.fullmatch(value):
        return "0s"
    try:
        duration_seconds(value)
    except WindowError as error:
        raise values.problem("grace_period", str(error)) from error
    return value


def _grace(value: str | UnsetType | None) -> str | UnsetType | None:
    return value if isinstance(value, UnsetType) or value is None else grace_text(value)


def _retire(value: str | UnsetType | None) -> RetireWhen | UnsetType | None:
    if isinstance(value, UnsetType) or value is None:
        return value
    if value == "after_delivery" or value == "after_grace":
        return value
    raise values.problem("rotation_retire", "use 'after_delivery' or 'after_grace'")


def _delivery(
    entries: list[TargetRequest] | UnsetType | None,
) -> tuple[tuple[Target, ...] | UnsetType, bool | UnsetType]:
    if isinstance(entries, UnsetType):
        return UNSET, UNSET
    targets: list[Target] = []
    exchange = False
    for index, entry in enumerate(entries or []):
        place = f"rotation_delivery[{index}]"
        _check_fields(entry, place)
        if entry.type == "exchange":
            exchange = True
        else:
            targets.append(_TARGETS[entry.type](entry, place))
    if len(targets) > TARGETS_MAX:
        raise values.problem("rotation_delivery", f"at most {TARGETS_MAX} targets")
    if len({way_of(target) for target in targets}) < len(targets):
        raise values.problem("rotation_delivery", "a target is named twice")
    return tuple(targets), exchange


def _check_fields(entry: TargetRequest, place: str) -> None:
    wanted = FIELDS.get(entry.type)
    if wanted is None:
        raise values.problem(f"{place}.type", f"{entry.type[:50]!r} is unknown: use one of {', '.join(FIELDS)}")
    for name in ("vault", "secret", "url", "namespace", "entry"):
        given = getattr(entry, name) is not None
        if name in wanted and not given:
            raise values.problem(f"{place}.{name}", f"is needed with the type {entry.type!r}")
        if given and name not in wanted:
            raise values.problem(f"{place}.{name}", f"has no meaning with the type {entry.type!r}")


def _key_vault(entry: TargetRequest, place: str) -> Target:
    parts = _https(entry.vault or "", f"{place}.vault", plain=False)
    if parts.path not in ("", "/") or parts.query:
        raise values.problem(f"{place}.vault", "name the vault alone, such as 'https://kv1.vault.azure.net'")
    name = entry.secret or ""
    if _VAULT_NAME.fullmatch(name) is None:
        raise values.problem(f"{place}.secret", "a vault's secret has 1 to 127 letters, digits and '-'")
    return Target(kind="key_vault", place=f"https://{_netloc(parts)}", name=name)


def _netloc(parts: "_Url") -> str:
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return host if parts.port in (None, 443) else f"{host}:{parts.port}"


def _webhook(entry: TargetRequest, place: str) -> Target:
    url = entry.url or ""
    _https(url, f"{place}.url", plain=True)
    return Target(kind="webhook", place=url)


def _kubernetes(entry: TargetRequest, place: str) -> Target:
    namespace, secret, name = entry.namespace or "", entry.secret or "", entry.entry or ""
    checks = (("namespace", namespace, _NAMESPACE), ("secret", secret, _KUBERNETES_NAME), ("entry", name, _ENTRY))
    for field, text, pattern in checks:
        if pattern.fullmatch(text) is None or text in (".", ".."):
            raise values.problem(f"{place}.{field}", f"{text[:50]!r} is no name that Kubernetes knows")
    return Target(kind="kubernetes", place=namespace, name=f"{secret}/{name}")


_TARGETS = {"key_vault": _key_vault, "webhook": _webhook, "kubernetes": _kubernetes}


def is_host(text: str) -> bool:
    """Whether a text is an address, or can be the name of a host."""
    try:
        ip_address(text)
    except ValueError:
        name = text.removesuffix(".")
        return len(name) <= HOST_CHARS_MAX and all(_is_label(label) for label in name.split("."))
    return True


def _is_label(text: str) -> bool:
    if _LABEL.fullmatch(text) is None:
        return False
    try:
        text.encode("idna").decode("idna")  # what looks encoded can be decoded
    except UnicodeError:
        return False
    return True


class _Url:
    """The parts of a URL that was looked at."""

    def __init__(self, text: str) -> None:
        split = urlsplit(text)
        self.scheme, self.path, self.query = split.scheme, split.path, split.query
        self.hostname = split.hostname or ""
        self.port = split.port
        self.user = split.username is not None or split.password is not None or "@" in split.netloc
        self.fragment = "#" in text


def _https(text: str, place: str, *, plain: bool) -> _Url:
    """The parts of a URL that may be called. Whether plain http is allowed there is decided by the target's rules."""
    if len(text) > URL_CHARS_MAX or _VISIBLE.fullmatch(text) is None or "\\" in text:
        raise values.problem(place, f"use a URL of at most {URL_CHARS_MAX} printable ASCII characters, without '\\'")
    try:
        parts = _Url(text)
    except ValueError as error:
        raise values.problem(place, "is no URL") from error
    if parts.scheme != "https" and not (plain and parts.scheme == "http"):
        raise values.problem(place, "use https")
    if not parts.hostname or parts.user or parts.fragment or parts.port == 0:
        raise values.problem(place, "use https://<host>/<path>, without user, password and fragment")
    if not is_host(parts.hostname):
        raise values.problem(place, f"{parts.hostname[:100]!r} is the name of no host")
    return parts
