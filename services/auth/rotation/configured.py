"""What the environment says of the renewal of secrets: where new ones may be brought to."""

from ipaddress import ip_network
from pathlib import Path
from typing import Literal, cast

import msgspec

from services.auth.rotation.targets.addresses import Network
from services.auth.rotation.targets.kubernetes import Cluster
from shared.errors import SettingsError
from shared.settings import Env

Twice = Literal["signal", "block"]
"""What follows when a new secret is asked for a second time."""
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class RotationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`vaults`: hosts that secrets may be written to. `webhook_allow`: networks beside the public ones that webhooks
    may be in. `cluster` None: not in Kubernetes."""

    vaults: tuple[str, ...] = ()
    webhook_allow: tuple[Network, ...] = ()
    twice: Twice = "signal"
    cluster: Cluster | None = None


def rotation_settings(env: Env) -> RotationSettings:
    """Read the environment; raises SettingsError naming what is wrong."""
    return RotationSettings(
        vaults=tuple(_vault(part) for part in _parts(env, "TUNDISH_KEY_VAULTS")),
        webhook_allow=tuple(_network(part) for part in _parts(env, "TUNDISH_WEBHOOK_ALLOW")),
        twice=cast("Twice", env.choice("TUNDISH_EXCHANGE_TWICE", "signal", ("signal", "block"))),
        cluster=_cluster(env),
    )


def _parts(env: Env, name: str) -> list[str]:
    return [part.strip() for part in env.text(name, "").split(",") if part.strip()]


def _vault(text: str) -> str:
    host = text.lower()
    if "/" in host or "@" in host or "*" in host.removeprefix("*.") or host in ("*.", "*"):
        raise SettingsError(
            f"TUNDISH_KEY_VAULTS: {text!r} is neither the host of a vault, such as kv1.vault.azure.net, nor '*.' and"
            " the end of such hosts"
        )
    return host


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise SettingsError(f"TUNDISH_WEBHOOK_ALLOW: {text!r} is no network such as 10.1.0.0/16: {error}") from error


def _cluster(env: Env) -> Cluster | None:
    host = env.text("KUBERNETES_SERVICE_HOST", "")
    if not host:
        return None
    return Cluster(
        host=host,
        port=env.integer("KUBERNETES_SERVICE_PORT", 443, low=1, high=65_535),
        folder=Path(env.text("TUNDISH_KUBERNETES_FOLDER", SERVICE_ACCOUNT)),
    )
