"""From options to the fields of a request, and from answers to what a person is told."""

from argparse import Namespace

from services.cli.client import Json
from services.cli.limits import budget_fields, given, key_fields
from services.cli.output import plain, print_json, print_record, record_of, warn
from services.cli.parsers.rotation import RETIRE


def scope_fields(options: Namespace, aliases: str) -> Json:
    """What keys, teams and organizations have alike; `aliases` is the field of model aliases."""
    return (
        given(
            {
                "models": options.model,
                aliases: dict(options.alias_model or ()) or None,
                "tags": options.tag,
                "metadata": options.metadata,
            }
        )
        | budget_fields(options)
        | key_fields(options)
    )


def rotation_fields(options: Namespace) -> Json:
    """How a key is rotated."""
    return given(
        {
            "auto_rotate": options.auto_rotate,
            "rotation_interval": options.every,
            "grace_period": options.grace,
            "rotation_delivery": options.deliver,
            "rotation_retire": None if options.retire is None else RETIRE[options.retire],
        }
    )


def cleared(options: Namespace) -> Json:
    """The fields that are to have no value any longer."""
    return {str(field): None for field in options.clear}


def show_record(answer: object, options: Namespace, name: str = "") -> int:
    """A record field by field, with the service's warnings."""
    if options.json:
        print_json(answer)
        return 0
    print_record({field: value for field, value in record_of(answer, name).items() if field != "warnings"})
    warn(record_of(answer, ""))
    return 0


def tell(answer: object, options: Namespace, done: str) -> int:
    """A sentence that something is done, with what the proxies said of it."""
    if options.json:
        print_json(answer)
        return 0
    record = record_of(answer, "")
    print(done + fleet_words(record))
    warn(record)
    return 0


def fleet_words(record: Json) -> str:
    """How many proxies have said that they refuse it; nothing where the answer does not say."""
    fleet = record.get("fleet")
    if not isinstance(fleet, dict):
        return ""
    said = record_of(record, "fleet")
    return f" ({plain(said.get('applied'))} of {plain(said.get('proxies'))} proxies, {plain(said.get('ms'))} ms)"
