"""`make up` and `make down`: `python -m deploy.local.up [--down]`.

Exit codes: 0 after a stop that was asked for, 1 when it cannot start (the reason is printed), 2 for
wrong arguments.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path

from deploy.local.banner import Ready, banner, front_url, shown_path
from deploy.local.down import already_running, stop_running
from deploy.local.errors import UpError
from deploy.local.models import read_models
from deploy.local.ports import front_door_taken, pick_ports, reserve
from deploy.local.postgres_place import Place
from deploy.local.printer import Printer, standard_printer
from deploy.local.runfile import RunFile, locked, make_home, read_record, run_path, stop_leftovers
from deploy.local.settings import LocalSettings, load_settings
from deploy.local.stack import load_secrets
from deploy.local.startup import Plan, Startup, port_names
from deploy.local.supervisor import Supervisor


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.up", description="Run Tundish on this machine.")
    parser.add_argument("--down", action="store_true", help="stop the Tundish that runs from this data folder")
    arguments = parser.parse_args()
    began = time.monotonic()
    try:
        settings = load_settings(os.environ, Path.cwd())
        if arguments.down:
            return stop_running(settings.home)
        return up(settings, began)
    except UpError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def up(settings: LocalSettings, began: float) -> int:
    """Become the supervisor of the data folder and run until told to stop; returns the exit code."""
    make_home(settings.home)
    with locked(settings.home) as ours:
        if not ours:
            raise UpError(already_running(settings.home))
        printer = standard_printer()
        try:
            return asyncio.run(_supervise(settings, printer, began))
        finally:
            printer.close()


async def _supervise(settings: LocalSettings, printer: Printer, began: float) -> int:
    """Clear up what a dead supervisor left, claim the ports, run until told to stop."""
    record = read_record(settings.home)
    stop_leftovers(record, printer.say)
    with contextlib.ExitStack() as held:
        for port in settings.ports:
            try:
                held.enter_context(reserve(settings.host, port))
            except OSError:
                raise UpError(front_door_taken(settings.host, port)) from None
        models = read_models(settings.config)
        plan = Plan(
            settings=settings,
            secrets=load_secrets(settings),
            models=models,
            ports=pick_ports(port_names(settings, models), record.ports, held),
            urls=tuple(front_url(settings.host, port) for port in settings.ports),
            inherited=dict(os.environ),
        )
        run_file = RunFile(run_path(settings.home), record)
        run_file.open(plan.urls[0], plan.ports)
        failure = await _run(plan, printer, run_file, began)
    if failure is not None:
        raise failure
    printer.say("stopped")
    return 0


async def _run(plan: Plan, printer: Printer, run_file: RunFile, began: float) -> Exception | None:
    """Start everything, keep it running, stop it in order; returns what the start failed with."""
    home, config = shown_path(plan.settings.home), shown_path(plan.settings.config)
    printer.say(f"starting; data in {home}, models from {config}")
    async with asyncio.TaskGroup() as tasks:
        supervisor = Supervisor(tasks, printer, run_file)
        release = supervisor.listen()
        startup = Startup(plan, supervisor, printer)
        try:
            failure = await supervisor.start(startup.run())
            if failure is None and not supervisor.stopping:
                printer.plain(banner(_facts(plan, startup.place, time.monotonic() - began)))
                await supervisor.stop_requested()
        finally:
            await supervisor.stop_all()
            run_file.close()
            release()
    return failure


def _facts(plan: Plan, place: Place | None, seconds: float) -> Ready:
    return Ready(
        urls=plan.urls,
        seconds=seconds,
        home=plan.settings.home,
        config=plan.settings.config,
        own_master_key=plan.settings.master_key is not None,
        models=plan.models,
        place=place,
        nats_embedded=plan.settings.nats_url is None,
    )


if __name__ == "__main__":
    sys.exit(main())
