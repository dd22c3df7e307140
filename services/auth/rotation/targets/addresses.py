"""Which addresses a webhook may be sent to: a name is resolved once, every address of it is looked at, and the
connection goes to one that was, whatever the name says a moment later."""

import asyncio
import socket
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from threading import Lock
from urllib.parse import urlsplit

from services.auth.rotation.targets.courier import DeliveryError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
PORT_MIN = 1024
"""Below it a public address is called on 443 only."""
HTTPS_PORT = 443
HTTP_PORT = 80
RESOLVE_TIMEOUT_S = 5
ADDRESSES_MAX = 32
_PLATFORM = (ip_address("168.63.129.16"),)
"""Public by number, and answered by the machine's own host in Azure."""
_NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
_COMPATIBLE = IPv6Network("::/96")
QUESTIONS_MAX = 16
"""Names that are asked for at once, each in a thread; as many threads there are."""
PER_DOMAIN = 2
"""How many of them may be of one domain (its last two labels)."""
_Sockaddr = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
_Found = tuple[socket.AddressFamily, socket.SocketKind, int, str, _Sockaddr]
_names = ThreadPoolExecutor(max_workers=QUESTIONS_MAX, thread_name_prefix="webhook-names")
_asking: dict[tuple[str, int], "Future[list[_Found]]"] = {}
_domains: Counter[str] = Counter()
_asking_lock = Lock()


@dataclass(frozen=True, slots=True)
class Checked:
    """A URL of which it is known where it leads: `address` is called, `host` (and `netloc`) are what it is called."""

    scheme: str
    host: str
    netloc: str
    port: int
    path: str
    address: Address

    @property
    def url(self) -> str:
        """The URL by address."""
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{self.scheme}://{host}:{self.port}{self.path}"


async def checked(url: str, allowed: tuple[Network, ...]) -> Checked:
    """Where a URL leads, if it may be called. Raises DeliveryError naming the rule."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("https", "http") or not host or parts.username is not None or "@" in parts.netloc:
        raise DeliveryError("the URL is none that may be called", lasting=True)
    try:
        port = parts.port or (HTTPS_PORT if parts.scheme == "https" else HTTP_PORT)
    except ValueError as error:
        raise DeliveryError("the URL's port is none", lasting=True) from error
    found = await resolve(host, port)
    for address in found:
        why = refusal(address, port, parts.scheme, allowed)
        if why is not None:
            raise DeliveryError(f"{host} {why}", lasting=True)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Checked(parts.scheme, host, parts.netloc, port, path, found[0])


async def resolve(host: str, port: int) -> list[Address]:
    """All addresses of a name. Raises DeliveryError."""
    try:
        return [ip_address(host)]
    except ValueError:
        pass
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            found = await asyncio.shield(asyncio.wrap_future(_asked(host, port)))
    except (OSError, TimeoutError, UnicodeError) as error:
        raise DeliveryError(f"the name {host} cannot be resolved") from error
    addresses = list(dict.fromkeys(ip_address(entry[4][0]) for entry in found[:ADDRESSES_MAX]))
    if not addresses or len(found) > ADDRESSES_MAX:
        raise DeliveryError(f"the name {host} has no address, or too many")
    return addresses


def _asked(host: str, port: int) -> "Future[list[_Found]]":
    """The answer to a question about a name, which may be under way already. Raises DeliveryError.

    Nobody can end a question that was put to a name server which does not answer, so a time-out frees the asker and not
    the thread. Hence a pool of its own, in which names of one domain have a few places only.
    """
    question, domain = (host, port), ".".join(host.rstrip(".").lower().rsplit(".", 2)[-2:])
    with _asking_lock:
        asked = _asking.get(question)
        if asked is not None:
            return asked
        if len(_asking) >= QUESTIONS_MAX or _domains[domain] >= PER_DOMAIN:
            raise DeliveryError(f"too many names are being resolved at the moment, {host} has to wait")
        asked = _asking[question] = _names.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        _domains[domain] += 1

    def answered(_future: "Future[list[_Found]]") -> None:
        with _asking_lock:
            del _asking[question]
            _domains[domain] -= 1
            if not _domains[domain]:
                del _domains[domain]

    asked.add_done_callback(answered)
    return asked


def refusal(address: Address, port: int, scheme: str, allowed: tuple[Network, ...]) -> str | None:
    """Why an address may not be called, in words; None when it may."""
    meant = meant_by(address)
    if all(_inside(one, allowed) for one in meant):
        if scheme == "http" and not all(one.is_loopback for one in meant):
            return "is to be called with https (plain http is for loopback addresses that TUNDISH_WEBHOOK_ALLOW names)"
        return None
    for one in meant:
        if not is_public(one):
            return (
                f"leads to {one}, which is no public address: name its network in TUNDISH_WEBHOOK_ALLOW if it may be"
                " called"
            )
    if scheme == "http":
        return "is to be called with https"
    if port != HTTPS_PORT and port < PORT_MIN:
        return f"is to be called on port {HTTPS_PORT}, or on one from {PORT_MIN}"
    return None


def is_public(address: Address) -> bool:
    """Whether an address is one of the public Internet."""
    odd = address.is_multicast or address.is_unspecified or address.is_reserved or address.is_link_local
    if isinstance(address, IPv6Address):
        odd = odd or address.is_site_local
    return address.is_global and not odd and address not in _PLATFORM


def meant_by(address: Address) -> tuple[Address, ...]:
    """The address itself and the IPv4 address that it carries, if it is of a kind that carries one."""
    if isinstance(address, IPv4Address):
        return (address,)
    plain = IPv6Address(int(address))  # without a zone
    if plain.ipv4_mapped is not None:
        return (plain.ipv4_mapped,)
    carried: list[Address] = [plain]
    if plain.sixtofour is not None:
        carried.append(plain.sixtofour)
    if plain.teredo is not None:
        carried += plain.teredo
    if any(plain in network for network in _NAT64) or (plain in _COMPATIBLE and int(plain) > 1):
        carried.append(IPv4Address(int(plain) & 0xFFFF_FFFF))
    return tuple(carried)


def _inside(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
