"""The couriers against real servers: a webhook's receiver, the simulator's Key Vault over TLS, a cluster's API."""

import asyncio
import base64
import hmac
import ssl
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.simulator.tls import make
from services.auth.rotation.signing import Signing
from services.auth.rotation.targets import addresses
from services.auth.rotation.targets.addresses import Address
from services.auth.rotation.targets.calling import client
from services.auth.rotation.targets.courier import REPLY_BYTES_MAX, DeliveryError, Owner, Parcel
from services.auth.rotation.targets.key_vault import KeyVault
from services.auth.rotation.targets.kubernetes import Cluster, Kubernetes, names_of
from services.auth.rotation.targets.webhook import Webhook
from shared.azure import AzureIdentity
from shared.clock import SystemClock
from shared.events import Target
from shared.ids import KeyId
from tests.support.pods import pod_environment
from tests.support.receiver import Received, Receiver, Reply, receiving
from tests.unit.simulator_server import Server, running

LOOPBACK = (ip_network("127.0.0.0/8"),)
OWNER = Owner(key_id=KeyId("key_1"), org_id="default", team_id="search", alias="team-search")
PEPPERS = {"p2": b"\x02" * 32, "p1": b"\x01" * 32}
AT = datetime(2026, 3, 1, tzinfo=UTC)


def parcel(secret: str = "sk-the-new-one", version: int = 2, **more: Any) -> Parcel:
    return Parcel(owner=OWNER, version=version, secret=secret, minted_at=AT, message_id="msg_1", **more)


# ---- webhooks ----------------------------------------------------------------------------------------


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver, None]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def webhook() -> AsyncGenerator[Webhook, None]:
    async with client() as calls:
        yield Webhook(calls, Signing(PEPPERS), SystemClock(), LOOPBACK)


def verified(secret: str, request: Received) -> bool:
    """What a receiver does who was given the signing secret, by the words of Standard Webhooks."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    wanted = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    return f"v1,{wanted}" in request.headers["webhook-signature"].split(" ")


async def test_a_webhook_is_signed_and_says_the_same_again(webhook: Webhook, receiver: Receiver) -> None:
    url = receiver.url + "/new-secret?of=search"
    target = Target(kind="webhook", place=url)
    await webhook.deliver(target, parcel())
    await webhook.deliver(target, parcel())
    first, second = receiver.got
    assert (first.method, first.path) == ("POST", "/new-secret?of=search")
    assert first.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == "msg_1"
    assert abs(int(first.headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60
    body = msgspec.json.decode(first.body)
    assert body["type"] == "key.secret"
    assert body["data"] == {
        "key_id": "key_1", "key_alias": "team-search", "team_id": "search", "organization_id": "default", "version": 2,
        "key": "sk-the-new-one", "expires": None, "old_key_expires": None,
    }  # fmt: skip
    assert verified(Signing(PEPPERS).secret("key_1", url), first)
    assert verified(Signing({"p1": PEPPERS["p1"]}).secret("key_1", url), first), "known under the pepper before"
    assert not verified(Signing(PEPPERS).secret("key_1", url + "x"), first)
    assert not verified(Signing(PEPPERS).secret("key_2", url), first)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 500, 503])
async def test_only_success_counts_and_redirects_are_not_followed(
    webhook: Webhook, receiver: Receiver, status: int
) -> None:
    receiver.answer = lambda _: (status, {"location": receiver.url + "/elsewhere"}, b"")
    with pytest.raises(DeliveryError, match=str(status)):
        await webhook.deliver(Target(kind="webhook", place=receiver.url + "/"), parcel())
    assert len(receiver.got) == 1


async def test_no_webhook_sees_the_cookies_of_another_one(webhook: Webhook, receiver: Receiver) -> None:
    async with receiving() as other:  # the same address
        for cookie in ("session=of-the-first; Path=/", "\u00ff\u00fe=x"):
            other.answer = lambda _request, cookie=cookie: (200, {"set-cookie": cookie}, b"")
            await webhook.deliver(Target(kind="webhook", place=other.url + "/"), parcel())
            await webhook.deliver(Target(kind="webhook", place=receiver.url + "/"), parcel())
    assert len(receiver.got) == 2
    assert not any("cookie" in request.headers for request in receiver.got)


async def test_a_long_answer_is_not_read_to_its_end(webhook: Webhook, receiver: Receiver) -> None:
    receiver.answer = lambda _: (200, {}, b"x" * (8 * REPLY_BYTES_MAX))
    await webhook.deliver(Target(kind="webhook", place=receiver.url + "/"), parcel())


async def test_without_leave_the_machine_itself_is_not_called(receiver: Receiver) -> None:
    async with client() as calls:
        webhook = Webhook(calls, Signing(PEPPERS), SystemClock(), ())
        for place in (receiver.url, f"http://localhost:{receiver.port}/", f"https://127.1:{receiver.port}/"):
            with pytest.raises(DeliveryError):
                await webhook.check(Target(kind="webhook", place=place), OWNER)
            with pytest.raises(DeliveryError):
                await webhook.deliver(Target(kind="webhook", place=place), parcel())
    assert receiver.got == []


async def test_the_address_that_was_checked_is_the_one_that_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is resolved once; the certificate and the Host header are those of the name."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[Address]:
        asked.append(host)
        return [ip_address("127.0.0.1")]

    monkeypatch.setattr(addresses, "resolve", resolve)
    async with receiving(tmp_path) as receiver:
        trust = ssl.create_default_context(cafile=receiver.authority)
        async with client(trust) as calls:
            webhook = Webhook(calls, Signing(PEPPERS), SystemClock(), LOOPBACK)
            place = f"https://hooks.example.com:{receiver.port}/a"
            await webhook.deliver(Target(kind="webhook", place=place), parcel())
            with pytest.raises(DeliveryError, match="certificate"):
                wrong = f"https://other.example.com:{receiver.port}/a"
                await webhook.deliver(Target(kind="webhook", place=wrong), parcel())
        [request] = receiver.got
        assert request.headers["host"] == f"hooks.example.com:{receiver.port}"
    assert asked == ["hooks.example.com", "other.example.com"]


# ---- Key Vault ---------------------------------------------------------------------------------------


@pytest.fixture
async def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[tuple[Server, str], None]:
    """The simulator over TLS, and the environment of a pod with workload identity."""
    folder = tmp_path / "tls"
    make(folder)
    with running("--tls", str(folder), verify=False) as server:
        for name, value in pod_environment(tmp_path, server.url, folder / "ca.pem").items():
            monkeypatch.setenv(name, value)
        yield server, server.url


async def test_a_vault_gets_versions_by_workload_identity(vault: tuple[Server, str]) -> None:
    server, url = vault
    async with client() as calls:
        courier = KeyVault(calls, AzureIdentity(), (url.removeprefix("https://"),))
        target = Target(kind="key_vault", place=url, name="team-search")
        await courier.check(target, OWNER)
        ends = datetime(2030, 1, 1, tzinfo=UTC)
        first = await courier.deliver(target, parcel("sk-2", 2, ends_at=ends))
        assert await courier.deliver(target, parcel("sk-2", 2)) == first, "it is there already"
        second = await courier.deliver(target, parcel("sk-3", 3))
        assert len({first, second}) == 2
        token = await AzureIdentity().token("https://vault.azure.net/.default")
        headers = {"authorization": f"Bearer {token}"}
        answer = await calls.get(f"{url}/secrets/team-search/{first}?api-version=7.4", headers=headers)
        old = answer.json()
        assert old["value"] == "sk-2"
        assert old["attributes"]["exp"] == int(ends.timestamp())
        assert old["tags"] == {"tundish-key": "key_1", "team": "search", "version": "2"}
        listed = await calls.get(f"{url}/secrets/team-search/versions?api-version=7.4", headers=headers)
        assert len(listed.json()["value"]) == 2

        with pytest.raises(DeliveryError, match="not of this key"):
            await courier.check(target, Owner(key_id=KeyId("key_2"), org_id="default"))
        body = {"value": "somebody's"}
        await calls.put(f"{url}/secrets/others?api-version=7.4", json=body, headers=headers)
        with pytest.raises(DeliveryError, match="tundish-key=key_1") as refused:
            await courier.deliver(Target(kind="key_vault", place=url, name="others"), parcel())
        assert refused.value.lasting

        server.settings(vault_error="ForbiddenByRbac")
        with pytest.raises(DeliveryError, match="Key Vault Secrets Officer"):
            await courier.deliver(target, parcel("sk-4", 4))
        server.settings(vault_error="Throttled")
        with pytest.raises(DeliveryError, match="429") as throttled:
            await courier.deliver(target, parcel("sk-4", 4))
        assert not throttled.value.lasting
        await courier.close()


async def test_a_vault_that_is_not_named_is_not_called(vault: tuple[Server, str]) -> None:
    _, url = vault
    async with client() as calls:
        courier = KeyVault(calls, AzureIdentity(), ("kv1.vault.azure.net", "*.internal.example"))
        for place in (
            url, "https://kv2.vault.azure.net", "https://internal.example", "https://xinternal.example",
            "https://kv1.vault.azure.net:8443", "https://kv1.vault.azure.net.evil.example",
        ):  # fmt: skip
            with pytest.raises(DeliveryError, match="TUNDISH_KEY_VAULTS"):
                await courier.check(Target(kind="key_vault", place=place, name="a"), OWNER)
        await courier.close()


async def test_without_an_identity_the_reason_says_what_to_do(
    vault: tuple[Server, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, url = vault
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "gone"))
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "WorkloadIdentityCredential")
    async with client() as calls:
        courier = KeyVault(calls, AzureIdentity(), (url.removeprefix("https://"),))
        with pytest.raises(DeliveryError, match="az login"):
            await courier.check(Target(kind="key_vault", place=url, name="a"), OWNER)
        await courier.close()


# ---- Kubernetes --------------------------------------------------------------------------------------


class Api:
    """As much of the API server as two verbs on one Secret take."""

    def __init__(self) -> None:
        self.annotations = {"tundish.io/key": "default/search/team-search"}
        self.data = {"OTHER": "b3RoZXI="}
        self.revision = 7

    def __call__(self, request: Received) -> Reply:
        if request.headers.get("authorization") != "Bearer a-service-account":
            return 401, {}, b"{}"
        if request.path != "/api/v1/namespaces/apps/secrets/search":
            return 404, {}, b"{}"
        if request.method == "PATCH":
            assert request.headers["content-type"] == "application/merge-patch+json"
            patch = msgspec.json.decode(request.body)
            if patch["metadata"]["resourceVersion"] != str(self.revision):
                return 409, {}, b"{}"
            self.data |= patch["data"]
            self.revision += 1
        metadata = {"annotations": self.annotations, "resourceVersion": str(self.revision)}
        return 200, {}, msgspec.json.encode({"kind": "Secret", "metadata": metadata, "data": self.data})


async def test_an_entry_of_a_secret_in_the_cluster(tmp_path: Path) -> None:
    async with receiving(tmp_path) as server:
        api = Api()
        server.answer = api
        (tmp_path / "token").write_text("a-service-account\n")
        (tmp_path / "ca.crt").write_bytes((tmp_path / "ca.pem").read_bytes())
        courier = Kubernetes(Cluster(host="127.0.0.1", port=server.port, folder=tmp_path))
        target = Target(kind="kubernetes", place="apps", name="search/OPENAI_API_KEY")
        await courier.check(target, OWNER)
        assert await courier.deliver(target, parcel()) == "8"
        assert api.data == {"OTHER": "b3RoZXI=", "OPENAI_API_KEY": base64.b64encode(b"sk-the-new-one").decode()}
        assert await courier.deliver(target, parcel()) == "8", "it is there already"
        assert [one.method for one in server.got].count("PATCH") == 1

        said = "tundish.io/key=key_1 or tundish.io/key=default/search/team-search"
        for value in (None, "another", "team-search", "default/team-search", "other/search/team-search", ""):
            api.annotations = {} if value is None else {"tundish.io/key": value}
            with pytest.raises(DeliveryError, match=said):
                await courier.deliver(target, parcel("sk-next", 3))
        api.annotations = {"tundish.io/key": "key_1"}
        await courier.deliver(target, parcel("sk-next", 3))
        with pytest.raises(DeliveryError, match="no Secret apps/none"):
            await courier.deliver(Target(kind="kubernetes", place="apps", name="none/A"), parcel())
        (tmp_path / "token").write_text("another")
        with pytest.raises(DeliveryError, match="Role"):
            await courier.check(target, OWNER)
        await courier.close()


@pytest.mark.parametrize(
    ("team_id", "alias", "names"),
    [
        ("search", "app", ("key_1", "default/search/app")),
        (None, "app", ("key_1", "default/app")),
        (None, "search/app", ("key_1",)),
        ("search", None, ("key_1",)),
    ],
)
def test_the_names_of_a_key_in_an_annotation_are_nobody_elses(
    team_id: str | None, alias: str | None, names: tuple[str, ...]
) -> None:
    assert names_of(Owner(key_id=KeyId("key_1"), org_id="default", team_id=team_id, alias=alias)) == names


async def test_outside_of_a_cluster_it_is_refused() -> None:
    courier = Kubernetes(None)
    with pytest.raises(DeliveryError, match="does not run in a Kubernetes cluster"):
        await courier.check(Target(kind="kubernetes", place="apps", name="search/A"), OWNER)
    await courier.close()


async def test_a_target_that_says_nothing_is_given_up(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.auth.rotation.targets import calling

    monkeypatch.setattr(calling, "TIMEOUT_S", 0.2)
    held = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(DeliveryError, match="no answer within"):
            await webhook.deliver(Target(kind="webhook", place=f"http://127.0.0.1:{port}/"), parcel())
        held.set()
