"""One child process: started, listened to, restarted when it falls, stopped in steps."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from deploy.local.postgres_place import ServerUser
from deploy.local.printer import Printer
from deploy.local.processes import identify
from deploy.local.runfile import ChildRecord, RunFile

LAUNCH = Path(__file__).with_name("launch.py")
LINE_BYTES_MAX = 4_000
RECENT_LINES = 40
RESTART_FIRST_S = 0.2
RESTART_MAX_S = 10.0
STEADY_S = 30.0
"""A child that ran this long starts again without delay when it falls."""
KILL_WAIT_S = 8.0
EXIT_SETTINGS = 2
"""With this a program says that it cannot run with these settings, however often it is started."""
PUMP_WAIT_S = 1.0

RANK_PROXY = 0
RANK_SERVICE = 1
RANK_NATS = 2
RANK_POSTGRES = 3
"""The order of stopping: proxies drain while everything they need still runs."""


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """How to run one child.

    `stop_signal` and then, after `grace_s` seconds or at once when hurried, `kill_signal` end it;
    `death_signal` is what the system sends it when the supervisor dies (Linux). Log lines that contain
    one of `quiet` are not shown, only kept for the report of a failure.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str | None = None
    user: ServerUser | None = None
    stop_rank: int = RANK_SERVICE
    stop_signal: signal.Signals = signal.SIGTERM
    kill_signal: signal.Signals = signal.SIGKILL
    death_signal: signal.Signals = signal.SIGKILL
    grace_s: float = 10.0
    quiet: tuple[str, ...] = ()


class Ending(msgspec.Struct, frozen=True):
    """How one life of a process ended: well (exit 0) or not, and in words."""

    well: bool
    text: str


class Child:
    """A child process and its restarts. All methods belong to the supervisor's event loop."""

    def __init__(self, spec: Spec, printer: Printer, run_file: RunFile) -> None:
        self.spec = spec
        self.falls = 0
        self.misconfigured = False
        self.recent: deque[str] = deque(maxlen=RECENT_LINES)
        self._printer = printer
        self._run_file = run_file
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._gone = asyncio.Event()
        self._gone.set()

    @property
    def pid(self) -> int | None:
        """The pid of the running process, if one runs."""
        return None if self._process is None else self._process.pid

    async def keep(self) -> None:
        """Run the process, again and again, until told to stop."""
        self._gone.clear()
        clock = asyncio.get_running_loop().time
        wait = 0.0
        try:
            while not self._stopping.is_set():
                started = clock()
                ending = await self._run()
                if self._stopping.is_set():
                    return
                self.falls += 1
                ran = clock() - started
                wait = RESTART_FIRST_S if ran >= STEADY_S or not wait else min(wait * 2, RESTART_MAX_S)
                self._printer.say(f"{self.spec.name} {ending.text} after {ran:.1f} s; starting it again in {wait:g} s")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._stopping.wait()
        finally:
            self._gone.set()

    async def run_once(self, limit_s: float) -> str | None:
        """Run the process to its end; None if it succeeded in time, else what happened to it."""
        self._gone.clear()
        try:
            async with asyncio.timeout(limit_s):
                ending = await self._run()
        except TimeoutError:
            return f"did not end within {limit_s:g} s"
        finally:
            self._gone.set()
        return None if ending.well else ending.text

    async def stop(self) -> None:
        """Ask it to end; after its grace make it end. Returns when it is gone."""
        self._stopping.set()
        self._signal(self.spec.stop_signal)
        if await self._gone_within(self.spec.grace_s):
            return
        self._printer.say(f"{self.spec.name} still runs after {self.spec.grace_s:g} s; ending it by force")
        self.kill()
        if not await self._gone_within(KILL_WAIT_S):
            self._signal(signal.SIGKILL)
            await self._gone_within(KILL_WAIT_S)

    def kill(self) -> None:
        """Make it end now, and do not start it again."""
        self._stopping.set()
        self._signal(self.spec.kill_signal)

    async def _run(self) -> Ending:
        """One life of the process. Cancelled, it ends the process by force first."""
        try:
            process, pump = await self._spawn()
        except OSError as error:
            return Ending(False, f"could not be started ({error.strerror})")
        self._process = process
        if self._stopping.is_set():  # told while it was being started
            self._signal(self.spec.stop_signal)
        try:
            code = await process.wait()
            with contextlib.suppress(TimeoutError):  # a grandchild may keep the pipe open
                async with asyncio.timeout(PUMP_WAIT_S):
                    await pump.ended.wait()
        finally:
            await self._end_for_sure(process)
            self._process = None
            pump.close()
            self._run_file.drop_child(self.spec.name)
        self.misconfigured = code == EXIT_SETTINGS
        return Ending(code == 0, _how_it_ended(code))

    async def _end_for_sure(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            self._signal(signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KILL_WAIT_S):
                    await process.wait()

    async def _spawn(self) -> "tuple[asyncio.subprocess.Process, LinePump]":
        """Start the process in a session of its own, its output in a pipe of ours."""
        read_end, write_end = os.pipe()
        pump = LinePump(self._line)
        try:
            await asyncio.get_running_loop().connect_read_pipe(lambda: pump, os.fdopen(read_end, "rb", 0))
            process = await asyncio.create_subprocess_exec(
                *_launch_command(self.spec),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                env=dict(self.spec.env),
                cwd=self.spec.cwd,
                start_new_session=True,  # Ctrl-C in the terminal is the supervisor's to hand on
            )
        except BaseException:
            pump.close()
            raise
        finally:
            os.close(write_end)
        found = identify(process.pid)
        if found is not None:
            self._run_file.put_child(
                ChildRecord(
                    name=self.spec.name,
                    process=found,
                    stop_signal=self.spec.stop_signal,
                    grace_s=self.spec.grace_s,
                    stop_rank=self.spec.stop_rank,
                )
            )
        return process, pump

    def _line(self, text: str) -> None:
        self.recent.append(text)
        if not any(part in text for part in self.spec.quiet):
            self._printer.line(self.spec.name, text)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _gone_within(self, limit_s: float) -> bool:
        try:
            async with asyncio.timeout(limit_s):
                await self._gone.wait()
        except TimeoutError:
            return False
        return True


class LinePump(asyncio.Protocol):
    """Cuts what comes through a pipe into lines; an endless line is cut off, not collected."""

    def __init__(self, sink: Callable[[str], None]) -> None:
        self.ended = asyncio.Event()
        self._sink = sink
        self._rest = b""
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The pipe is open."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Pass complete lines on; keep the beginning of an incomplete one."""
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._emit(line)
        self._rest = rest[: LINE_BYTES_MAX + 1]

    def connection_lost(self, exc: Exception | None) -> None:
        """The process (and all who shared its pipe) closed it."""
        if self._rest:
            self._emit(self._rest)
            self._rest = b""
        self.ended.set()

    def close(self) -> None:
        """Stop listening."""
        if self._transport is not None:
            self._transport.close()

    def _emit(self, line: bytes) -> None:
        cut = len(line) > LINE_BYTES_MAX
        text = line[:LINE_BYTES_MAX].decode("utf-8", "replace").rstrip("\r")
        self._sink(text + " … (cut)" if cut else text)


def _launch_command(spec: Spec) -> tuple[str, ...]:
    uid, gid = ("-", "-") if spec.user is None else (str(spec.user.uid), str(spec.user.gid))
    launcher = (
        sys.executable,
        "-I",
        "-S",
        str(LAUNCH),
        str(os.getpid()),
        str(int(spec.death_signal)),
        uid,
        gid,
    )
    return (*launcher, *spec.argv)


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended (exit {code})"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
