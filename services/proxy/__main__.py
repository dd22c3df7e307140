"""`python -m services.proxy`: run the proxy."""

from services.proxy.app import main
from shared.program import run_program

if __name__ == "__main__":
    run_program("proxy", main)
