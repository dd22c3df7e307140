"""`deploy/nats.conf`, the configuration of a NATS server for Tundish, written from the permission table.

    python -m deploy.nats_conf            # write it
    python -m deploy.nats_conf --check    # 1 if it is not up to date

Passwords come from the environment of the server: `NATS_PASSWORD_AUTH`, `NATS_PASSWORD_PROXY` and so on.
"""

import sys
from pathlib import Path

from shared.topology import BUCKETS, PERMISSIONS, STREAMS, Permissions

PATH = Path(__file__).with_name("nats.conf")
GIB = 1024**3
ANSWER_LIMIT_S = 30
"""How long after a request its receiver may answer it."""


def password_variable(user: str) -> str:
    """The variable with a user's password."""
    return f"NATS_PASSWORD_{user.upper()}"


def render() -> str:
    """The text of the file."""
    wanted = sum(stream.max_bytes for stream in STREAMS) + sum(bucket.max_bytes for bucket in BUCKETS)
    users = "\n".join(_user(name, rights) for name, rights in PERMISSIONS.items())
    return f"""\
# Written by `python -m deploy.nats_conf` from the permission table in shared/topology.py; do not edit.
# Passwords come from the environment, one for each user.
server_name: tundish
host: "0.0.0.0"
port: 4222
http: 8222
max_payload: 8MB
ping_interval: "20s"
ping_max: 3

jetstream {{
  store_dir: "/data"
  max_memory_store: 256MB
  max_file_store: {(wanted * 5 // 4) // GIB + 1}GB
  sync_interval: always
}}

# With the second format of acknowledgements the Python client loses its connection.
feature_flags {{
  js_ack_fc_v2: false
}}

system_account: SYS
accounts {{
  SYS {{}}
  TUNDISH {{
    jetstream: enabled
    users: [
{users}
    ]
  }}
}}
"""


def _user(name: str, rights: Permissions) -> str:
    answers = f'\n          allow_responses: {{ max: 1, expires: "{ANSWER_LIMIT_S}s" }}' if rights.respond else ""
    return f"""\
      {{
        user: "{name}"
        password: ${password_variable(name)}
        permissions {{
          publish {{ allow: [{_subjects(rights.publish)}] }}
          subscribe {{ allow: [{_subjects(rights.subscribe)}] }}{answers}
        }}
      }}"""


def _subjects(subjects: tuple[str, ...]) -> str:
    return ", ".join(f'"{subject}"' for subject in subjects)


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
