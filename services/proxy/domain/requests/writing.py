"""Bodies for Foundry: the caller's bytes, but for the fields that have to change."""

import msgspec

from services.proxy.domain.asked import BadRequest
from services.proxy.domain.requests.reading import UNREADABLE, starts, unreadable

Fields = dict[str, msgspec.Raw]
"""The fields of a body, each in its own bytes."""

_fields: msgspec.json.Decoder[Fields] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.encode


def outgoing_body(body: bytes, *, model: str | None, inject_usage: bool) -> bytes:
    """The body for Foundry: byte for byte the caller's unless the model's name or `stream_options` must change.

    All other fields keep their bytes. Raises BadRequest for what only a closer look shows to be no JSON.
    """
    if model is None and not inject_usage:
        return body
    return written(outgoing_fields(body, model=model, inject_usage=inject_usage))


def outgoing_fields(body: bytes, *, model: str | None, inject_usage: bool) -> Fields:
    """The fields of the body for Foundry, to be looked at and written. Raises BadRequest for what is no JSON.

    A field that stood twice stands once, so that nobody reads another one than we do; a model's name in other letters,
    which some readers take for it, is refused.
    """
    try:
        fields = _fields.decode(body)
        if model is not None:
            for name in fields:
                if len(name) == 5 and name != "model" and name.lower() == "model":
                    raise BadRequest(f"The field '{name}' is not written as 'model'.", param="model")
            fields["model"] = msgspec.Raw(_encode(model))
        if inject_usage:
            given = fields.get("stream_options")
            options = _fields.decode(given) if given is not None and starts(given, b"{") else {}
            options["include_usage"] = msgspec.Raw(b"true")
            fields["stream_options"] = msgspec.Raw(_encode(options))
    except UNREADABLE as error:
        raise unreadable(error) from error
    return fields


def written(fields: Fields, cap_field: str | None = None, cap: int = 0) -> bytes:
    """The body of these fields, with an output cap of ours if `cap_field` names one."""
    if cap_field is not None:
        fields = {**fields, cap_field: msgspec.Raw(b"%d" % cap)}
    return _encode(fields)
