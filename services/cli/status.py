"""`tundish status`: what the front door says of itself."""

from argparse import Namespace

import msgspec

from services.cli.client import ApiFailure, Client
from services.cli.output import print_json


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/health/readiness`: each check says `ok` or what is wrong."""

    status: str
    checks: dict[str, str] = {}


def status(client: Client, options: Namespace) -> int:
    """Print readiness and its checks; 0 when ready."""
    response = client.answer("GET", "/health/readiness")
    try:
        said = msgspec.json.decode(response.content, type=Readiness)
    except msgspec.DecodeError as error:
        raise ApiFailure(
            response.status_code, f"the answer ({response.status_code}) is not one of Tundish: {error}"
        ) from error
    if options.json:
        print_json(said)
    else:
        print(said.status)
        for name, word in said.checks.items():
            print(f"  {name}: {word}")
    return 0 if response.status_code == 200 else 1
