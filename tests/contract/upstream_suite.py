"""What the data plane relies on in an HTTP client; every adapter passes all of it."""

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest

from services.proxy.upstream import Upstream, UpstreamError, UpstreamRequest
from tests.support.raw_server import Asked, Conn, chunked, raw_server, whole

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def request(url: str, body: bytes = b'{"a":1}') -> UpstreamRequest:
    return UpstreamRequest(url, (("content-type", "application/json"), ("api-key", "foundry-key")), body)


async def rest_of(reply: object) -> bytes:
    parts: list[bytes] = []
    while (part := await reply.chunk()) is not None:  # type: ignore[attr-defined]
        parts.append(part)
    return b"".join(parts)


async def fetch(client: Upstream, url: str, body: bytes = b"{}") -> tuple[int, bytes]:
    async with client.open(request(url, body)) as reply:
        return reply.status, await rest_of(reply)


async def failure(client: Upstream, url: str) -> str:
    with pytest.raises(UpstreamError) as error:
        await fetch(client, url)
    assert str(error.value)
    return error.value.kind


async def say_hello(conn: Conn, asked: Asked) -> None:
    await conn.send(whole(b"hello"))


class UpstreamContract:
    """Inherit and say how an adapter is made."""

    def make(self, *, total_s: float = 30, idle_s: float = 30) -> Upstream:
        raise NotImplementedError

    @pytest.fixture
    async def client(self) -> AsyncIterator[Upstream]:
        made = self.make()
        async with asyncio.timeout(30):
            yield made
        await made.close()

    async def test_request_and_reply_arrive_as_they_are(self, client: Upstream) -> None:
        body = bytes(range(256)) * 400

        async def script(conn: Conn, asked: Asked) -> None:
            await conn.send(whole(asked.body, "201 Created", "X-Ms-Region: West", "X-Ms-Region: East"))

        async with raw_server(script) as server, client.open(request(server.url, body)) as reply:
            assert reply.status == 201
            assert reply.header("x-ms-region") in ("West", "West, East")
            assert reply.header("X-MS-Region") == reply.header("x-ms-region")
            assert reply.header("none") is None
            assert await rest_of(reply) == body
            assert await reply.chunk() is None
            (asked,) = server.asked
        assert asked.line == "POST /openai/deployments/d/chat/completions?api-version=1 HTTP/1.1"
        assert asked.body == body
        assert asked.headers["api-key"] == "foundry-key"
        assert asked.headers["content-type"] == "application/json"
        assert asked.headers["user-agent"] == "tundish"
        assert asked.headers["host"] == f"127.0.0.1:{server.port}"
        assert {"cookie", "referer", "authorization", "expect"}.isdisjoint(asked.headers)

    async def test_the_path_goes_out_as_it_is_written(self, client: Upstream) -> None:
        async with raw_server(say_hello) as server:
            url = server.url.replace("/d/", "/a%2Fb%20c/")
            assert await fetch(client, url) == (200, b"hello")
        assert "/openai/deployments/a%2Fb%20c/chat/completions?api-version=1" in server.asked[0].line

    async def test_the_head_comes_before_the_first_chunk_and_each_chunk_before_the_next(self, client: Upstream) -> None:
        read = asyncio.Semaphore(0)
        parts = [b"data: one\n\n", b"x", b"y" * 100_000, b"data: [DONE]\n\n"]

        async def script(conn: Conn, asked: Asked) -> None:
            await conn.send(HEAD)
            for part in parts:
                await read.acquire()
                await conn.send(chunked(part))
            await read.acquire()
            await conn.send(END)

        async with raw_server(script) as server, client.open(request(server.url)) as reply:
            assert reply.status == 200
            for part in parts:
                read.release()
                got = b""
                while len(got) < len(part):
                    got += await reply.chunk() or b""
                assert got == part
            read.release()
            assert await reply.chunk() is None

    async def test_nothing_is_decompressed(self, client: Upstream) -> None:
        packed = gzip.compress(b"hello" * 100)

        async def script(conn: Conn, asked: Asked) -> None:
            await conn.send(whole(packed, "200 OK", "Content-Encoding: gzip"))

        async with raw_server(script) as server:
            async with client.open(request(server.url)) as reply:
                assert reply.header("content-encoding") == "gzip"
                assert await rest_of(reply) == packed
            assert server.asked[0].headers.get("accept-encoding", "identity") == "identity"

    @pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
    async def test_a_redirect_is_an_answer(self, client: Upstream, status: str) -> None:
        async def redirect(conn: Conn, asked: Asked) -> None:
            await conn.send(whole(b"", status, f"Location: {other.url}"))

        async with raw_server(say_hello) as other, raw_server(redirect) as server:
            assert await fetch(client, server.url) == (int(status[:3]), b"")
        assert (len(server.asked), len(other.asked)) == (1, 0)

    async def test_cookies_are_not_kept(self, client: Upstream) -> None:
        async def script(conn: Conn, asked: Asked) -> None:
            await conn.send(whole(b"", "200 OK", "Set-Cookie: affinity=1; Path=/"))

        async with raw_server(script) as server:
            for _ in range(2):
                await fetch(client, server.url)
        assert all("cookie" not in asked.headers for asked in server.asked)

    async def test_proxies_of_the_environment_are_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with raw_server(say_hello) as proxy, raw_server(say_hello) as server:
            for name in ("http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
                monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{proxy.port}")
            monkeypatch.delenv("REQUEST_METHOD", raising=False)
            client = self.make()
            assert await fetch(client, server.url) == (200, b"hello")
            await client.close()
        assert (proxy.connections, len(server.asked)) == (0, 1)

    @pytest.mark.parametrize("status", ["400 Bad", "401 No", "404 None", "429 Slow", "500 Broken", "503 Busy"])
    async def test_an_error_status_is_an_answer(self, client: Upstream, status: str) -> None:
        async def script(conn: Conn, asked: Asked) -> None:
            await conn.send(whole(b"oops", status, "Retry-After: 3"))

        async with raw_server(script) as server, client.open(request(server.url)) as reply:
            assert (reply.status, reply.header("retry-after")) == (int(status[:3]), "3")
            assert await rest_of(reply) == b"oops"

    async def test_nobody_listens(self, client: Upstream) -> None:
        async with raw_server(say_hello) as server:
            url = server.url
        assert await failure(client, url) == "connect"

    async def test_a_handshake_that_fails(self, client: Upstream) -> None:
        async def refuse(conn: Conn, asked: Asked) -> None:
            raise AssertionError

        async with raw_server(refuse) as server:
            assert await failure(client, server.url.replace("http://", "https://")) == "connect"

    async def test_a_name_that_does_not_exist(self, client: Upstream) -> None:
        assert await failure(client, "http://foundry.invalid/openai") == "connect"

    async def test_no_answer_in_time(self) -> None:
        async def silent(conn: Conn, asked: Asked) -> None:
            await conn.left()

        client = self.make(idle_s=0.1)
        async with raw_server(silent) as server:
            assert await failure(client, server.url) == "timeout"
        await client.close()

    async def test_a_stall_within_the_body(self) -> None:
        async def stall(conn: Conn, asked: Asked) -> None:
            await conn.send(HEAD + chunked(b"one"))
            await conn.left()

        client = self.make(idle_s=0.1)
        async with raw_server(stall) as server, client.open(request(server.url)) as reply:
            assert await reply.chunk() == b"one"
            with pytest.raises(UpstreamError) as error:
                await reply.chunk()
            assert error.value.kind == "timeout"
        await client.close()

    @pytest.mark.parametrize("begun", [True, False])
    async def test_the_whole_call_is_bounded(self, begun: bool) -> None:
        async def trickle(conn: Conn, asked: Asked) -> None:
            if begun:
                await conn.send(HEAD + chunked(b"one"))
            await conn.left()

        client = self.make(total_s=0.2)
        async with raw_server(trickle) as server:
            assert await failure(client, server.url) == "timeout"
        await client.close()

    async def test_a_reset_before_the_head(self, client: Upstream) -> None:
        async def reset(conn: Conn, asked: Asked) -> None:
            conn.abort()

        async with raw_server(reset) as server:
            assert await failure(client, server.url) == "reset"

    @pytest.mark.parametrize("head", [HEAD + chunked(b"one"), b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\none"])
    async def test_a_reply_that_is_cut_off(self, client: Upstream, head: bytes) -> None:
        async def cut(conn: Conn, asked: Asked) -> None:
            await conn.send(head)
            conn._writer.close()

        async with raw_server(cut) as server:
            assert await failure(client, server.url) == "reset"

    async def test_a_reset_within_the_body(self, client: Upstream) -> None:
        read = asyncio.Event()

        async def reset(conn: Conn, asked: Asked) -> None:
            await conn.send(HEAD + chunked(b"one"))
            await read.wait()
            conn.abort()

        async with raw_server(reset) as server, client.open(request(server.url)) as reply:
            assert await reply.chunk() == b"one"
            read.set()
            with pytest.raises(UpstreamError) as error:
                await rest_of(reply)
            assert error.value.kind == "reset"

    @pytest.mark.parametrize("rubbish", [b"rubbish\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 20 + b"\r\n\r\n"])
    async def test_what_is_no_http(self, client: Upstream, rubbish: bytes) -> None:
        async def script(conn: Conn, asked: Asked) -> None:
            await conn.send(rubbish)
            conn._writer.close()

        async with raw_server(script) as server:
            assert await failure(client, server.url) == "reset"

    async def test_connections_are_used_again(self, client: Upstream) -> None:
        async with raw_server(say_hello) as server:
            for _ in range(5):
                assert await fetch(client, server.url) == (200, b"hello")
            assert (server.connections, len(server.asked)) == (1, 5)

    async def test_calls_run_side_by_side(self, client: Upstream) -> None:
        together = asyncio.Barrier(20)

        async def script(conn: Conn, asked: Asked) -> None:
            await together.wait()
            await conn.send(whole(asked.body))

        async with raw_server(script) as server:
            bodies = [b"%d" % number for number in range(20)]
            answers = await asyncio.gather(*(fetch(client, server.url, body) for body in bodies))
        assert answers == [(200, body) for body in bodies]

    @pytest.mark.parametrize("begun", [True, False])
    async def test_a_cancelled_call_leaves_the_client_usable(self, client: Upstream, begun: bool) -> None:
        reached = asyncio.Event()

        async def script(conn: Conn, asked: Asked) -> None:
            if asked.body == b"ok":
                await conn.send(whole(b"hello"))
                return
            if begun:
                await conn.send(HEAD + chunked(b"one"))
            else:
                reached.set()
            await conn.left()

        async def read_on(url: str) -> None:
            async with client.open(request(url)) as reply:
                assert await reply.chunk() == b"one"
                reached.set()
                await reply.chunk()

        async with raw_server(script) as server:
            task = asyncio.create_task(read_on(server.url))
            await reached.wait()
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await fetch(client, server.url, b"ok") == (200, b"hello")

    async def test_leaving_before_the_end_leaves_the_client_usable(self, client: Upstream) -> None:
        async def script(conn: Conn, asked: Asked) -> None:
            await conn.send(HEAD + chunked(b"one") if asked.body != b"ok" else whole(b"hello"))

        async with raw_server(script) as server:
            async with client.open(request(server.url)) as reply:
                assert await reply.chunk() == b"one"
            assert await fetch(client, server.url, b"ok") == (200, b"hello")

    async def test_a_connection_that_the_other_side_has_closed(self, client: Upstream) -> None:
        """Closed while it was idle: the next call goes over a new one or fails as `reset`, never hangs."""

        async def script(conn: Conn, asked: Asked) -> None:
            await conn.send(whole(b"hello"))
            conn._writer.close()

        async with raw_server(script) as server:
            assert await fetch(client, server.url) == (200, b"hello")
            try:
                second = (await fetch(client, server.url))[1]
            except UpstreamError as error:
                second = error.kind.encode()
            assert second in (b"hello", b"reset")
            assert len(server.asked) <= 2

    async def test_a_request_is_never_sent_twice(self, client: Upstream) -> None:
        """A call that may have been served must not be repeated behind our back: it would be paid twice."""

        async def script(conn: Conn, asked: Asked) -> None:
            if asked.body == b"warm":
                await conn.send(whole(b"hello"))
            else:
                conn.abort()

        async with raw_server(script) as server:
            await fetch(client, server.url, b"warm")
            with pytest.raises(UpstreamError):
                await fetch(client, server.url, b"paid")
            assert [asked.body for asked in server.asked] == [b"warm", b"paid"]

    async def test_close_with_idle_connections(self) -> None:
        client = self.make()
        async with raw_server(say_hello) as server:
            await fetch(client, server.url)
            async with asyncio.timeout(10):
                await client.close()
                await client.close()
