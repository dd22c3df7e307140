"""`deploy/nats.conf`, the configuration of a NATS server for Tundish, written from the permission table.

    python -m deploy.nats_conf            # write it
    python -m deploy.nats_conf --check    # 1 if it is not up to date

Passwords come from the environment of the server: `NATS_PASSWORD_AUTH`, `NATS_PASSWORD_PROXY` and so on.
"""

import sys
from pathlib import Path

from deploy.local.nats import render_config
from shared.topology import PERMISSIONS

PATH = Path(__file__).with_name("nats.conf")
HEAD = """\
# Written by `python -m deploy.nats_conf` from the permission table in shared/topology.py; do not edit.
# Passwords come from the environment, one for each user.
"""


def password_variable(user: str) -> str:
    """The variable with a user's password."""
    return f"NATS_PASSWORD_{user.upper()}"


def render() -> str:
    """The text of the file."""
    return HEAD + render_config(
        PERMISSIONS,
        passwords={user: f"${password_variable(user)}" for user in PERMISSIONS},
        name="tundish",
        host="0.0.0.0",
        port=4222,
        store="/data",
        sync="always",
        monitor="0.0.0.0:8222",
    )


def main(arguments: list[str]) -> int:
    """Write or check the file; the exit code."""
    text = render()
    if "--check" in arguments:
        if PATH.exists() and PATH.read_text(encoding="utf-8") == text:
            return 0
        print(f"{PATH} is not up to date: run `python -m deploy.nats_conf`", file=sys.stderr)
        return 1
    PATH.write_text(text, encoding="utf-8")
    print(f"wrote {PATH}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
