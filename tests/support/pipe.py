"""A TCP proxy in a process of its own, so that SIGSTOP cuts a connection without closing it."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import time

CHUNK = 65_536
READY_S = 10.0


class Pipe:
    """A running pipe to a port of this machine; `freeze` and `thaw` cut and heal everything that runs through it."""

    def __init__(self, listen: int, target: int) -> None:
        self.port = listen
        self._process = subprocess.Popen([sys.executable, __file__, str(listen), str(target)])
        deadline = time.monotonic() + READY_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", listen), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    self.stop()
                    raise
                time.sleep(0.02)

    def freeze(self) -> None:
        """Nothing passes any more, and nothing is closed."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """What waited passes now."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it, frozen or not."""
        self._process.kill()
        self._process.wait(10)


async def _serve(listen: int, target: int) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass(reader, onward[1]), _pass(onward[0], writer))

    server = await asyncio.start_server(accept, "127.0.0.1", listen)
    await server.serve_forever()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
