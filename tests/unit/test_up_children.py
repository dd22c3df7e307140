"""Child processes: output cut into lines, restarts, orderly and forced ends."""

import asyncio
import io
import re
import signal
import sys
import threading
from pathlib import Path

import pytest

from deploy.local.children import LINE_BYTES_MAX, Child, LinePump, Spec
from deploy.local.errors import UpError
from deploy.local.printer import QUEUE_MAX, Printer
from deploy.local.processes import send_signal
from deploy.local.runfile import RunFile, RunRecord, read_record, run_path
from deploy.local.supervisor import Supervisor
from deploy.local.waiting import FALLS_MAX, wait_ready

LIMIT_S = 20.0
FALLS = "import sys; print('no luck', flush=True); sys.exit({code})"
SERVES = "import signal; print('up', flush=True); signal.sigwait({signal.SIGTERM}); print('bye', flush=True)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
BLOCKED = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); "


class Terminal(io.StringIO):
    """What was printed, kept after the printer has closed."""


@pytest.fixture
def out() -> Terminal:
    return Terminal()


@pytest.fixture
def printer(out: Terminal) -> Printer:
    return Printer(out)


@pytest.fixture
def run_file(tmp_path: Path) -> RunFile:
    return RunFile(run_path(tmp_path), RunRecord())


def python(code: str, *, grace_s: float = 5.0, quiet: tuple[str, ...] = ()) -> Spec:
    return Spec(
        name="child",
        argv=(sys.executable, "-c", code),
        env={"PATH": "/usr/bin:/bin"},
        grace_s=grace_s,
        quiet=quiet,
    )


async def said(child: Child, text: str) -> None:
    """Wait until the child's log holds a line."""

    async def probe() -> str | None:
        return None if text in child.recent else f"it did not say {text}"

    await wait_ready("the child", probe, LIMIT_S)


def pumped(*chunks: bytes) -> list[str]:
    lines: list[str] = []
    pump = LinePump(lines.append)
    for chunk in chunks:
        pump.data_received(chunk)
    pump.connection_lost(None)
    return lines


def test_lines_are_cut_at_line_ends_only() -> None:
    assert pumped(b"one\ntw", b"o\r\n", b"\nlast") == ["one", "two", "", "last"]
    assert pumped(b"\xe2\x82", b"\xac\n") == ["€"]
    assert pumped(b"\xff\n") == ["�"]


def test_an_endless_line_is_cut_and_not_collected() -> None:
    lines = pumped(*[b"x" * 1_000] * 50, b"\nnext\n")
    assert [len(line) for line in lines] == [LINE_BYTES_MAX + len(" … (cut)"), 4]
    assert lines[0].endswith("(cut)")


def test_a_log_line_cannot_steer_the_terminal(out: Terminal, printer: Printer) -> None:
    printer.line("auth", "red \x1b[31m, \x07\tand \x9b2J")
    printer.plain("as it is")
    printer.close()
    assert "\x1b" not in out.getvalue()
    assert out.getvalue() == "auth              | red �[31m, �\tand �2J\nas it is\n"


def test_a_slow_terminal_loses_lines_and_is_told_so() -> None:
    go_on = threading.Event()

    class Stopped(Terminal):
        def write(self, text: str) -> int:
            go_on.wait(LIMIT_S)
            return super().write(text)

    out = Stopped()
    printer = Printer(out)
    for number in range(QUEUE_MAX + 100):
        printer.line("auth", str(number))
    go_on.set()
    printer.close()
    text = out.getvalue()
    assert QUEUE_MAX <= text.count("auth") <= QUEUE_MAX + 1
    assert re.search(r"\[(99|100) log lines were dropped", text)


async def test_a_child_that_falls_starts_again_and_one_told_to_stop_does_not(
    out: Terminal, printer: Printer, run_file: RunFile, tmp_path: Path
) -> None:
    child = Child(python(BLOCKED + SERVES), printer, run_file)
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(child.keep())
        await said(child, "up")
        first = read_record(tmp_path).children["child"].process
        assert first.pid == child.pid
        child.recent.clear()
        assert send_signal(first, signal.SIGKILL)
        await said(child, "up")
        assert child.pid != first.pid
        assert child.falls == 1
        await child.stop()
    printer.close()
    assert child.pid is None
    assert list(child.recent) == ["up", "bye"]
    assert read_record(tmp_path).children == {}
    assert "was killed by SIGKILL" in out.getvalue()


async def test_one_that_does_not_listen_is_ended(out: Terminal, printer: Printer, run_file: RunFile) -> None:
    child = Child(python(STUBBORN, grace_s=0.1), printer, run_file)
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(child.keep())
        await said(child, "up")
        await child.stop()
    printer.close()
    assert child.falls == 0
    assert "ending it by force" in out.getvalue()


async def test_a_program_run_once_says_how_it_went(out: Terminal, printer: Printer, run_file: RunFile) -> None:
    async with asyncio.timeout(LIMIT_S):
        well = Child(python("print('done')", quiet=("don",)), printer, run_file)
        assert await well.run_once(LIMIT_S) is None
        assert list(well.recent) == ["done"]
        umask = Child(python("import os; print(oct(os.umask(0)))"), printer, run_file)
        assert await umask.run_once(LIMIT_S) is None
        assert list(umask.recent) == ["0o77"]
        badly = Child(python(FALLS.format(code=3)), printer, run_file)
        assert await badly.run_once(LIMIT_S) == "ended (exit 3)"
        never = Child(python(STUBBORN), printer, run_file)
        assert await never.run_once(0.5) == "did not end within 0.5 s"
        missing = Child(Spec(name="child", argv=("/no/such/program",), env={}), printer, run_file)
        assert await missing.run_once(LIMIT_S) == "ended (exit 126)"
    printer.close()
    assert "done" not in out.getvalue()
    assert "child             | no luck\n" in out.getvalue()
    assert "cannot start /no/such/program" in out.getvalue()


@pytest.mark.parametrize(("code", "falls"), [(1, FALLS_MAX), (2, 1)])
async def test_a_child_that_cannot_start_is_given_up_with_its_last_words(
    code: int, falls: int, printer: Printer, run_file: RunFile
) -> None:
    """Exit code 2 says that the settings are wrong: trying again is of no use."""

    async def probe() -> str | None:
        return "not yet"

    child = Child(python(FALLS.format(code=code)), printer, run_file)
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(child.keep())
        with pytest.raises(UpError, match="no luck"):
            await wait_ready("the child", probe, LIMIT_S, child)
        assert child.falls >= falls
        await child.stop()
    printer.close()


async def test_a_stop_during_the_start_ends_the_start(printer: Printer, run_file: RunFile, out: Terminal) -> None:
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
        supervisor = Supervisor(tasks, printer, run_file)
        child = supervisor.keep(python(BLOCKED + SERVES))

        async def starting() -> None:
            await said(child, "up")
            supervisor.request_stop("SIGTERM")
            await asyncio.Event().wait()

        assert await supervisor.start(starting()) is None
        assert supervisor.stopping
        await supervisor.stop_all()
    printer.close()
    assert child.pid is None
    assert "stopping child" in out.getvalue()


async def test_a_failed_start_is_reported_not_raised(printer: Printer, run_file: RunFile) -> None:
    async def starting() -> None:
        raise UpError("no disk")

    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
        supervisor = Supervisor(tasks, printer, run_file)
        failure = await supervisor.start(starting())
        assert isinstance(failure, UpError)
        await supervisor.stop_all()
    printer.close()
