"""Where webhooks may lead: every spelling of an address that is not of the public Internet is refused."""

import asyncio
import socket
from ipaddress import ip_address, ip_network
from threading import Event
from typing import Any

import pytest

from services.auth.rotation.targets import addresses
from services.auth.rotation.targets.addresses import Address, checked, refusal
from services.auth.rotation.targets.courier import DeliveryError

INSIDE = [
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "169.254.170.2", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.1", "192.0.2.1", "198.18.0.1",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "fec0::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::127.0.0.1", "::a00:1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1",
    "2002:0a00:0001::", "2001:0:7f00:1::1",
]  # fmt: skip
PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("text", INSIDE)
def test_what_is_not_public_is_refused(text: str) -> None:
    why = refusal(ip_address(text), 443, "https", ())
    assert why is not None and "no public address" in why


@pytest.mark.parametrize("text", PUBLIC)
def test_what_is_public_may_be_called_by_https_alone(text: str) -> None:
    address = ip_address(text)
    assert refusal(address, 443, "https", ()) is None
    assert refusal(address, 8443, "https", ()) is None
    assert "https" in (refusal(address, 80, "http", ()) or "")
    for port in (1, 22, 25, 80, 465, 1023):
        assert "port" in (refusal(address, port, "https", ()) or "")


def test_what_is_allowed_is_that_network_and_no_other() -> None:
    allowed = (ip_network("10.1.0.0/16"), ip_network("127.0.0.0/8"))
    assert refusal(ip_address("10.1.2.3"), 22, "https", allowed) is None
    assert refusal(ip_address("::ffff:10.1.2.3"), 443, "https", allowed) is None
    assert refusal(ip_address("10.2.0.1"), 443, "https", allowed) is not None
    assert refusal(ip_address("127.0.0.1"), 8000, "http", allowed) is None, "plain http is for loopback"
    assert "https" in (refusal(ip_address("10.1.2.3"), 8000, "http", allowed) or "")
    assert refusal(ip_address("::1"), 443, "https", allowed) is not None
    wide = (ip_network("2002::/16"),)
    assert refusal(ip_address("2002:7f00:1::"), 443, "https", wide) is not None, "what it carries is looked at too"


@pytest.mark.parametrize(
    "url",
    [
        "https://localhost/", "https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f.1/",
        "https://0177.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://LOCALHOST:443/a?b",
        "https://169.254.169.254/latest/meta-data", "http://localhost:8080/",
    ],
)  # fmt: skip
async def test_urls_of_the_machine_itself_are_refused(url: str) -> None:
    with pytest.raises(DeliveryError) as refused:
        await checked(url, ())
    assert refused.value.lasting


@pytest.mark.parametrize("url", ["ftp://a.example/", "https://", "https://u:p@8.8.8.8/", "https://@8.8.8.8/"])
async def test_odd_urls_are_refused(url: str) -> None:
    with pytest.raises(DeliveryError):
        await checked(url, (ip_network("0.0.0.0/0"),))


async def test_one_bad_address_among_good_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Address] = [ip_address("8.8.8.8"), ip_address("10.0.0.1")]

    async def resolve(host: str, port: int) -> list[Address]:
        return found

    monkeypatch.setattr(addresses, "resolve", resolve)
    with pytest.raises(DeliveryError, match=r"10\.0\.0\.1"):
        await checked("https://hooks.example.com/x", ())
    found.pop()
    place = await checked("https://hooks.example.com:8443/x?y=1", ())
    assert (place.url, place.host, place.netloc) == (
        "https://8.8.8.8:8443/x?y=1", "hooks.example.com", "hooks.example.com:8443",
    )  # fmt: skip


async def test_a_name_that_does_not_exist_may_exist_later() -> None:
    with pytest.raises(DeliveryError) as refused:
        await checked("https://no-such-name.invalid/", ())
    assert not refused.value.lasting


async def test_names_that_nobody_answers_for_keep_no_other_name_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, asked = Event(), list[str]()

    def getaddrinfo(host: str, port: int, **_more: Any) -> list[Any]:
        asked.append(host)
        if host.endswith("slow.example"):
            answer.wait()
        return [(2, 1, 6, "", ("93.184.215.14", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    slow = [f"n{n}.slow.example" for n in range(3 * addresses.QUESTIONS_MAX)]
    try:
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(said(host)) for host in (*slow, *slow)]
            for n in range(addresses.QUESTIONS_MAX):
                assert [str(one) for one in await addresses.resolve(f"fine{n}.example.com", 443)] == ["93.184.215.14"]
            assert sum(host.endswith("slow.example") for host in asked) == addresses.PER_DOMAIN
            answer.set()
        found = [task.result() for task in waiting]
        assert found.count("93.184.215.14") == 2 * addresses.PER_DOMAIN  # who asks the same shares the answer
        assert sum("has to wait" in text for text in found) == 2 * (len(slow) - addresses.PER_DOMAIN)
        assert await said("n9.slow.example") == "93.184.215.14"
    finally:
        answer.set()


async def said(host: str) -> str:
    try:
        return str((await addresses.resolve(host, 443))[0])
    except DeliveryError as error:
        return error.reason
