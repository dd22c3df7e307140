"""What `make up` says when everything runs: where it is, and two calls to paste."""

import shlex
from pathlib import Path

import msgspec

from deploy.local.models import Models
from deploy.local.postgres_place import Place
from deploy.local.stack import master_key_path

FIRST_BUDGET = 1
"""Dollars: the budget of the key that the first call makes."""


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The facts the banner states."""

    urls: tuple[str, ...]
    seconds: float
    home: Path
    config: Path
    own_master_key: bool
    models: Models
    place: Place | None
    nats_embedded: bool


def signals_path(home: Path) -> Path:
    """Where the URL for listeners to signals is kept."""
    return home / "signals.url"


def front_url(host: str, port: int) -> str:
    """The front door's URL for a caller on this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def banner(ready: Ready) -> str:
    """The text, ending in calls that work as they stand in bash, from any directory."""
    facts = [
        ("config", f"{shown_path(ready.config)}{_about_models(ready.models)}"),
        (
            "master key",
            "TUNDISH_MASTER_KEY" if ready.own_master_key else shown_path(master_key_path(ready.home)),
        ),
        ("data", f"{shown_path(ready.home)}{_about_servers(ready)}"),
        ("stop", "Ctrl-C here, or `make down`"),
    ]
    if ready.nats_embedded:
        path = shlex.quote(shown_path(signals_path(ready.home)))
        facts.insert(-1, ("signals", f'.venv/bin/python examples/budget_signals.py "$(cat {path})"'))
    lines = [f"Tundish is ready: {' '.join(ready.urls)} ({ready.seconds:.1f} s)", ""]
    lines += [f"  {name:<11} {text}" for name, text in facts]
    return "\n" + "\n".join(lines) + "\n\n" + calls(ready) + "\n"


def calls(ready: Ready) -> str:
    """Two commands: the first makes a key and keeps it in KEY, the second uses it."""
    model, url = ready.models.chat, ready.urls[0]
    if model is None:
        scope = f'{{"max_budget": {FIRST_BUDGET}}}'
        use = f'curl -sS {url}/v1/models -H "Authorization: Bearer $KEY"; echo'
    else:
        name = msgspec.json.encode(model).decode()
        scope = f'{{"models": [{name}], "max_budget": {FIRST_BUDGET}}}'
        body = f'{{"model": {name}, "messages": [{{"role": "user", "content": "Hello"}}]}}'
        use = _curl(f"{url}/v1/chat/completions", "$KEY", body) + "; echo"
    if ready.own_master_key:
        master = "$TUNDISH_MASTER_KEY"
    else:
        master = f"$(cat {shlex.quote(str(master_key_path(ready.home)))})"
    mint = _curl(f"{url}/key/generate", master, scope)
    extract = r"""sed -n 's/.*"key": *"\(sk-[^"]*\)".*/\1/p'"""
    return f'Mint a key:\n\n  KEY=$({mint} | {extract}); echo "$KEY"\n\nUse it:\n\n  {use}\n'


def shown_path(path: Path) -> str:
    """A path as short as it can be said from the working directory."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _curl(url: str, bearer: str, body: str) -> str:
    return (
        f'curl -sS {url} -H "Authorization: Bearer {bearer}" '
        f"-H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )


def _about_models(models: Models) -> str:
    if not models.simulated:
        return ""
    if len(models.simulated) == len(models.names):
        return " (its models are simulated: no Azure account is used)"
    return f" (simulated: {', '.join(models.simulated)})"


def _about_servers(ready: Ready) -> str:
    parts: list[str] = []
    if ready.place is None:
        parts.append("PostgreSQL is the one of TUNDISH_POSTGRES_URL")
    elif ready.place.user is not None:
        where = f", its data is in {ready.place.parent}" if ready.place.outside else ""
        parts.append(f"PostgreSQL runs as {ready.place.user.name}{where}")
    if not ready.nats_embedded:
        parts.append("NATS is the one of TUNDISH_NATS_URL")
    return f" ({'; '.join(parts)})" if parts else ""
