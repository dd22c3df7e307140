"""Parameters that reasoning models do not take: the cap by its other name, and sampling.

`max_tokens` becomes `max_completion_tokens`. Sampling is refused by name where the model never takes it, unless it says
no more than the default does, the configuration has it dropped, or the caller turns reasoning off. Models that may run
with reasoning off are asked themselves; with them sampling is dropped, where the configuration says so, only beside an
effort. All other fields keep their bytes and their order.
"""

import msgspec

from services.proxy.domain.asked import BadRequest
from services.proxy.domain.requests.reading import ABSENT, UNREADABLE, unreadable
from services.proxy.domain.requests.writing import Fields

OLD_CAP, NEW_CAP = "max_tokens", "max_completion_tokens"
EFFORT = "reasoning_effort"
NO_REASONING = b'"none"'
ONE = (1,)
ZERO = (0,)
HARMLESS: dict[str, tuple[object, ...]] = {
    "temperature": ONE,
    "top_p": ONE,
    "presence_penalty": ZERO,
    "frequency_penalty": ZERO,
    "logprobs": (False,),
    "top_logprobs": ZERO,
    "logit_bias": ({},),
}
"""Parameters that reasoning models do not take, and the values that say no more than leaving them out."""

_NULL = (b"", b"null")
RESTING = (*_NULL, NO_REASONING)
"""Efforts with which a model that can do without reasoning may be doing without."""


class _Touched(msgspec.Struct, gc=False):
    """The fields that may have to change."""

    max_tokens: msgspec.Raw = msgspec.Raw()
    temperature: msgspec.Raw = msgspec.Raw()
    top_p: msgspec.Raw = msgspec.Raw()
    presence_penalty: msgspec.Raw = msgspec.Raw()
    frequency_penalty: msgspec.Raw = msgspec.Raw()
    logprobs: msgspec.Raw = msgspec.Raw()
    top_logprobs: msgspec.Raw = msgspec.Raw()
    logit_bias: msgspec.Raw = msgspec.Raw()
    reasoning_effort: msgspec.Raw = msgspec.Raw()


_touched = msgspec.json.Decoder(_Touched)
_NOTHING = _Touched()


def touches(body: bytes, *, refuses_sampling: bool, drop_params: bool) -> bool:
    """Whether a reasoning model may not take a chat body as it is. Raises BadRequest for what is no JSON."""
    try:
        said = _touched.decode(body)
    except UNREADABLE as error:
        raise unreadable(error) from error
    effort, said.reasoning_effort = bytes(said.reasoning_effort), ABSENT
    if said == _NOTHING:
        return False
    if said.max_tokens or refuses_sampling:
        return True
    return drop_params and effort not in RESTING


def for_reasoning(fields: Fields, *, refuses_sampling: bool, drop_params: bool) -> Fields:
    """The fields of a chat body as a reasoning model takes them.

    Raises BadRequest `unsupported_parameter`, naming the field, for what it does not take and is not to be dropped.
    """
    effort = bytes(fields.get(EFFORT, b""))
    sampling = effort == NO_REASONING if refuses_sampling else effort in RESTING or not drop_params
    both = bytes(fields.get(NEW_CAP, b"")) not in _NULL
    found: Fields = {}
    for name, raw in fields.items():
        if name == OLD_CAP and bytes(raw) not in _NULL:
            if not both:
                found[NEW_CAP] = raw
        elif name == NEW_CAP and not both:
            found.setdefault(name, raw)
        elif name not in HARMLESS or sampling or _says_nothing(name, raw):
            found[name] = raw
        elif not drop_params:
            raise BadRequest(
                f"'{name}' is not taken by this model, which reasons. Leave it out, or have drop_params set for this"
                " model: it is ignored then.",
                code="unsupported_parameter",
                param=name,
            )
    return found


def _says_nothing(name: str, raw: msgspec.Raw) -> bool:
    if bytes(raw) in _NULL:
        return True
    try:
        return msgspec.json.decode(raw) in HARMLESS[name]
    except UNREADABLE as error:
        raise unreadable(error) from error
