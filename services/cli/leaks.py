"""`tundish key revoke` and `report-leak`: a secret that got out is ended by whoever has it in hand."""

from argparse import Namespace

from services.cli.asking import confirm
from services.cli.bodies import fleet_words
from services.cli.client import Client, Json, open_client
from services.cli.keys import named
from services.cli.limits import given
from services.cli.output import plain, print_json, record_of, warn
from services.cli.where import NOBODY, secret_from
from shared.errors import SettingsError


def revoke(client: Client, options: Namespace) -> int:
    """End the secrets of a key, or the one that is named."""
    leaked = options.leaked is not None
    _read_reference(options)
    what = "it leaked" if leaked else "it is revoked"
    confirm(options, f"Every proxy will refuse the secret at once, because {what}. Go on?")
    more = given({"leaked": leaked, "reason": options.reason})
    answer = named(
        options,
        lambda: client.post("/key/revoke", {"key": options.key} | more),
        lambda alias: client.post("/key/revoke", {"key_alias": alias} | more),
    )
    if options.json:
        print_json(answer)
        return 0
    record = record_of(answer, "")
    print(f"revoked: every proxy refuses it now{fleet_words(record)}")
    _explain(record)
    warn(record)
    return 0


def report(options: Namespace) -> int:
    """Report a secret that was found; whoever has it may, and is told nothing of its key."""
    body: Json = {"key": secret_from(options.secret, "the secret that was found")}
    with open_client(access=NOBODY) as client:
        answer = client.post("/key/report-leak", body | given({"source": options.source, "url": options.where}))
    if options.json:
        print_json(answer)
    else:
        print("reported: if it is a secret of a key here, it is dealt with now")
    return 0


def _read_reference(options: Namespace) -> None:
    """`--leaked` may bring the secret itself; then nothing else names the key."""
    named_otherwise = options.key is not None or options.alias is not None
    if options.leaked:
        if named_otherwise:
            raise SettingsError("--leaked SECRET already says which key it is: leave the other name out")
        options.key = secret_from(options.leaked, "the leaked secret or its SHA-256")
    elif options.leaked == "" and not named_otherwise:
        options.key = secret_from("", "the leaked secret or its SHA-256")
    elif not named_otherwise:
        raise SettingsError("say which: a key (its id or alias), or --leaked with the secret that got out")


def _explain(record: Json) -> None:
    """What was found by the secret alone, and what to do next."""
    if record.get("token_id") is None:
        return
    key = plain(record["token_id"])
    name = f" ({plain(record['key_alias'])})" if record.get("key_alias") else ""
    team = f" of the team {plain(record['team_id'])}" if record.get("team_id") else ""
    print(f"It was version {plain(record.get('versions'))} of the secret of {key}{name}{team}.")
    left = record.get("versions_left")
    if left == []:
        print(f"The key has no secret now; its scope and its spend stay. `tundish key regenerate {key}` gives it one.")
    elif left:
        print(f"Version {plain(left)} still works; `tundish key revoke {key} --leaked` ends all of them.")
