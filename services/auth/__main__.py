"""`python -m services.auth`."""

from services.auth.app import main as serve
from shared.program import run_program


def main() -> None:
    """Run the service until SIGTERM or SIGINT; does not return."""
    run_program("auth", serve)


if __name__ == "__main__":
    main()
