"""The supervisor: keeps children running, and stops them in order when told to."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from deploy.local.children import Child, Spec
from deploy.local.printer import Printer
from deploy.local.runfile import RunFile

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Supervisor:
    """All children of one start. The first signal stops in order, the second ends everything at once."""

    def __init__(self, tasks: asyncio.TaskGroup, printer: Printer, run_file: RunFile) -> None:
        self._tasks = tasks
        self._printer = printer
        self._run_file = run_file
        self._children: list[Child] = []
        self._once: Child | None = None
        self._starting: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    def keep(self, spec: Spec) -> Child:
        """Start a child and keep it running."""
        child = Child(spec, self._printer, self._run_file)
        self._children.append(child)
        self._tasks.create_task(child.keep(), name=spec.name)
        return child

    async def run_once(self, spec: Spec, limit_s: float) -> tuple[str | None, Child]:
        """Run a program to its end; None if it went well, else what happened, and the child with its log."""
        child = Child(spec, self._printer, self._run_file)
        return await child.run_once(limit_s), child

    def listen(self) -> Callable[[], None]:
        """Take the signals that mean "stop"; returns what gives them back.

        A closed terminal is one of them, unless we were started with nohup.
        """
        loop = asyncio.get_running_loop()
        taken: list[signal.Signals] = list(STOP_SIGNALS)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            taken.append(signal.SIGHUP)
        for number in taken:
            loop.add_signal_handler(number, self.request_stop, number.name)

        def release() -> None:
            for number in taken:
                loop.remove_signal_handler(number)

        return release

    def request_stop(self, why: str) -> None:
        """Stop in order; asked again, end everything at once."""
        if self._stop.is_set():
            self._printer.say(f"{why} again: ending everything now")
            for child in self._children:
                child.kill()
            return
        self._printer.say(f"{why}: stopping (once more ends everything at once)")
        self._stop.set()
        if self._starting is not None:
            self._starting.cancel()

    async def start(self, starting: Coroutine[Any, Any, None]) -> Exception | None:
        """Run the start-up, which a stop request cancels; returns what it failed with."""
        failure: list[Exception] = []

        async def guarded() -> None:
            try:
                await starting
            except Exception as error:
                failure.append(error)

        self._starting = self._tasks.create_task(guarded(), name="start")
        await asyncio.wait({self._starting})
        self._starting = None
        return failure[0] if failure else None

    async def stop_requested(self) -> None:
        """Wait until somebody wants an end."""
        await self._stop.wait()

    @property
    def stopping(self) -> bool:
        """Whether somebody asked for an end."""
        return self._stop.is_set()

    async def stop_all(self) -> None:
        """Stop the children, rank by rank, those of a rank together."""
        self._stop.set()
        for rank in sorted({child.spec.stop_rank for child in self._children}):
            group = [child for child in self._children if child.spec.stop_rank == rank]
            self._printer.say(f"stopping {', '.join(child.spec.name for child in group)}")
            async with asyncio.TaskGroup() as stops:
                for child in group:
                    stops.create_task(child.stop())
