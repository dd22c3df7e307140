"""`tundish pepper …`: a fresh pepper, without a moment in which a secret is not known."""

import os
import secrets
import sys
from argparse import Namespace
from pathlib import Path

from services.cli.asking import confirm
from services.cli.client import Client, Json
from services.cli.files import read_text, replace_text
from services.cli.output import Column, plain, print_json, print_table, record_of, rows_of, warn
from shared.errors import SettingsError
from shared.settings import Env, peppers

PEPPER_BYTES = 32
PEPPERS_MAX = 8
VARIABLE = "TUNDISH_PEPPERS"
COLUMNS: tuple[Column, ...] = (
    ("PEPPER", "label", plain),
    ("CURRENT", "current", plain),
    ("SECRETS", "secrets", plain),
    ("SEALED", "sealed", plain),
    ("SET", "configured", plain),
    ("MAY GO", "removable", plain),
)


def status(client: Client, options: Namespace) -> int:
    """How many living secrets are hashed with which pepper; 1 when one that is needed is not set."""
    answer = client.get("/pepper/status")
    if options.json:
        print_json(answer)
        return 0 if record_of(answer, "").get("ok", True) else 1
    print_table(_rows(answer), COLUMNS, "No pepper is known.")
    warn(record_of(answer, ""))
    return 0 if record_of(answer, "").get("ok", True) else 1


def rotate(options: Namespace) -> int:
    """Put a fresh pepper in front: in the file of this installation, or as values to roll out."""
    known, path = _known()
    if len(known) >= PEPPERS_MAX:
        raise SettingsError(
            f"there are {len(known)} peppers already; `tundish pepper status` says which may go, `tundish pepper drop`"
            " takes it out"
        )
    label = _fresh_label(known)
    fresh = f"{label}:{secrets.token_hex(PEPPER_BYTES)}"
    old = _text(known)
    if path is None:
        return _two_values(label, f"{old},{fresh}", f"{fresh},{old}", options)
    confirm(options, f"Put a fresh pepper {label!r} in front of {', '.join(known)} in {path}?")
    replace_text(path, f"{fresh},{old}\n")
    if options.json:
        print_json({"file": str(path), "current": label, "labels": [label, *known]})
        return 0
    print(f"{label} is in front of {', '.join(known)} in {path}")
    print("Restart Tundish (`make down`, `make up`): new secrets are hashed with it then, and each old one when it is")
    print("used next. `tundish pepper status` says when an old pepper may go. Keep a copy of this file.")
    return 0


def drop(client: Client, options: Namespace) -> int:
    """Take a pepper out that nothing needs any longer."""
    known, path = _known()
    label: str = options.label
    if label not in known:
        raise SettingsError(f"there is no pepper {label!r}; there are {', '.join(known)}")
    _refuse_needed(_rows(client.get("/pepper/status")), label)
    left = {name: pepper for name, pepper in known.items() if name != label}
    if not left:
        raise SettingsError(f"{label!r} is the only pepper; `tundish pepper rotate` makes another one first")
    if path is None:
        if options.json:
            print_json({"final": _text(left)})
        else:
            print(f"Set {VARIABLE} everywhere to:\n{_text(left)}")
        return 0
    confirm(options, f"Take the pepper {label!r} out of {path} for good?")
    replace_text(path, _text(left) + "\n")
    if options.json:
        print_json({"file": str(path), "labels": [*left]})
    else:
        print(f"{label} is out of {path}; restart Tundish")
    return 0


def _known() -> tuple[dict[str, bytes], Path | None]:
    """(the peppers, current first; the file they stand in, or None if they are a setting). Raises SettingsError."""
    if os.environ.get(VARIABLE, "").strip():
        return peppers(), None
    path = Env().path("TUNDISH_HOME", ".tundish") / "pepper"
    text = read_text(path)
    if text is None:
        raise SettingsError(
            f"no peppers: there is no {path}. Name the installation's folder by TUNDISH_HOME, or set {VARIABLE} to its"
            " present value to be told the values to roll out"
        )
    return peppers(Env({VARIABLE: text})), path


def _refuse_needed(rows: list[Json], label: str) -> None:
    """Raises SettingsError unless the gateway says that this pepper may go."""
    row = next((row for row in rows if row.get("label") == label), None)
    if row is None or row.get("removable") is True:
        return
    raise SettingsError(
        f"{label!r} is still needed: {plain(row.get('secrets'))} secrets are hashed with it, and"
        f" {plain(row.get('sealed'))} things wait sealed under it"
        + (", and it is the current one" if row.get("current") else "")
        + ". A secret goes over to the current pepper when it is used; rotate or delete keys that are not used"
    )


def _two_values(label: str, first: str, then: str, options: Namespace) -> int:
    if options.json:
        print_json({"label": label, "first": first, "then": then})
        return 0
    whose = "auth, proxies, ledger-bookkeeper and scheduler"
    print(f"1. Set {VARIABLE} of {whose} to this, and restart them one by one:\n{first}\n")
    print(f"2. When all of them have it, to this, and restart them one by one again:\n{then}\n")
    print(
        f"So no process meets a secret hashed with {label} before it knows it. Then `tundish pepper status` says when"
        " the old one may go.",
        file=sys.stderr,
    )
    return 0


def _rows(answer: object) -> list[Json]:
    return rows_of(answer, "peppers")


def _fresh_label(known: dict[str, bytes]) -> str:
    numbers = [int(label[1:]) for label in known if label[:1] == "p" and label[1:].isdecimal()]
    number = max(numbers, default=0) + 1
    while f"p{number}" in known:
        number += 1
    return f"p{number}"


def _text(known: dict[str, bytes]) -> str:
    return ",".join(f"{label}:{pepper.hex()}" for label, pepper in known.items())
