"""What a request asks for: the few facts of its body that decide its way and its price."""

import msgspec

from services.proxy.domain.paths import Endpoint
from shared.pricing import Usage

NO_UNITS = Usage()
CAPPED = (Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES, Endpoint.MESSAGES)
"""Operations that give back tokens which a cap in the request bounds."""


class BadRequest(ValueError):
    """A body that cannot be understood: `code`, `param` and a text that says what to send."""

    def __init__(self, message: str, *, code: str = "invalid_request_body", param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class Part(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A part of a form: its field, and where its content stands in the body. `filename` is None for texts."""

    name: str
    filename: str | None
    start: int
    end: int


class Form(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where the parts of a `multipart/form-data` body stand; `at` is the offset of its first delimiter."""

    boundary: str
    at: int
    parts: tuple[Part, ...]


class Asked(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What matters of a request body; the rest passes unread.

    `output_cap` is the larger of the caller's caps on one choice, None without a cap; `max_tokens` and
    `max_completion_tokens` are the caller's own fields. `choices` are the answers that are billed. `parts` are the
    contents of messages that are lists of parts and no plain text; `input` is what embeddings and completions are made
    of. `units` are what is known to be billed beside tokens: images (with their kind), characters, queries. `guess` is
    what the body shows of the rest, by its size: milliseconds of sound, pages, and tokens that are not to be counted
    from the body's text. `tier` is the service tier asked for where it has prices of its own (`flex`, `priority`);
    `spoken` says that sound is asked for; `hosted` are tools that Foundry runs and bills by more than tokens, by their
    types. `content_type` is the request's own, `form` the parts of a body that is no
    JSON.
    """

    model: str
    endpoint: Endpoint
    stream: bool = False
    include_usage: bool = False
    output_cap: int | None = None
    choices: int = 1
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    parts: tuple[msgspec.Raw, ...] = ()
    input: msgspec.Raw = msgspec.Raw()
    units: Usage = NO_UNITS
    tier: str = ""
    background: bool = False
    content_type: str = "application/json"
    guess: Usage = NO_UNITS
    spoken: bool = False
    hosted: tuple[str, ...] = ()
    form: Form | None = None

    @property
    def chat(self) -> bool:
        """Whether tokens are given back that a cap bounds."""
        return self.endpoint in CAPPED

    @property
    def cap_field(self) -> str:
        """The field by which the caller caps the output."""
        if self.endpoint is Endpoint.RESPONSES:
            return "max_output_tokens"
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
