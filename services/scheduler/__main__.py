"""`python -m services.scheduler`: the same as `tundish serve scheduler`."""

from services.scheduler.app import main
from shared.program import run_program
from shared.settings import Env
from shared.telemetry import configure_logging

if __name__ == "__main__":
    env = Env()
    configure_logging(env.text("TUNDISH_LOG", "text"), env.text("TUNDISH_LOG_LEVEL", "info"))
    run_program("scheduler", main)
