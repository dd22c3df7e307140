"""One call made ready for one deployment: what to send there, what to hold for it, and by which price."""

import msgspec

from services.proxy.domain.deployments import Deployment
from services.proxy.domain.dialect import Asked, Fields, outgoing_body, outgoing_fields, written
from services.proxy.domain.estimate import ASCII_BYTES_PER_TOKEN, Need, prompt_tokens, realistic
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.refusal import Wanted
from services.proxy.domain.strict import Bound, bound
from shared.pricing import PriceRow

OUTPUT_UNBOUNDED = 10**9
CAP_BYTES = 40
"""More than a `max_tokens` takes in a body: a caller who follows our hint sends a little more than before."""


class Prepared(msgspec.Struct, kw_only=True, gc=False):
    """A call that may be admitted. `bound` is None in default mode, where `body` goes out as it is.

    `guess` is the likely size of the prompt in tokens, `output_max` what the caller's or our cap allows in all
    choices.
    """

    url: str
    body: bytes
    row: PriceRow
    need: Need
    guess: int
    output_max: int
    fields: Fields | None = None
    bound: Bound | None = None

    @property
    def tokens(self) -> int:
        """What the call is likely to use at most: what a rate limit counts until it is known."""
        return self.guess + self.need.output

    def seal(self, amount: int) -> int | None:
        """Money is held: set the output cap that it pays for. The cap, or None when the caller's own stands."""
        limit = self.bound
        if limit is None or self.fields is None:
            return None
        if limit.cap is not None:
            self.body = written(self.fields)
            return None
        cap = limit.cap_for(amount, self.row)
        self.output_max = cap * limit.choices + limit.beside
        self.body = written(self.fields, limit.field, cap)
        return cap

    def wanted(self, asked: Asked, deployment: Deployment) -> Wanted:
        """What a refusal has to know to say what would fit."""
        limit = self.bound
        margin, beside = -(-CAP_BYTES // ASCII_BYTES_PER_TOKEN), 0
        assumed = self.need.output // asked.choices
        if limit is not None:
            margin, beside, assumed = CAP_BYTES * deployment.facts.expansion, limit.beside, limit.least
        return Wanted(
            held_nusd=self.need.amount,
            prompt_tokens=self.need.prompt + (margin if asked.output_cap is None else 0),
            row=self.row,
            choices=asked.choices if asked.chat else 0,
            beside=beside,
            assumed_tokens=assumed if asked.output_cap is None else None,
            output_max=deployment.facts.max_output,
        )


def prepare(
    asked: Asked,
    body: bytes,
    deployment: Deployment,
    endpoint: Endpoint,
    row: PriceRow,
    *,
    strict: bool,
    default_output: int,
) -> Prepared:
    """Make a call ready. Raises BadRequest for what is no JSON after all, or, if `strict`, has no bound."""
    target = deployment.targets[endpoint]
    inject = must_inject(deployment, asked)
    facts = deployment.facts
    row = deployment.hold_row or row
    if not strict:
        need = realistic(asked, body, facts, row, default_output)
        return Prepared(
            url=target.url,
            body=outgoing_body(body, model=target.body_model, inject_usage=inject),
            row=row,
            need=need,
            guess=need.prompt,
            output_max=OUTPUT_UNBOUNDED if asked.output_cap is None else need.output,
        )
    fields = outgoing_fields(body, model=target.body_model, inject_usage=inject)
    row = deployment.versions_row or row
    guess = prompt_tokens(asked, body, facts)
    limit = bound(asked, fields, len(body), facts, guess, default_output)
    need = limit.need(row)
    return Prepared(
        url=target.url,
        body=body,
        row=row,
        need=need,
        guess=guess,
        output_max=need.output,
        fields=fields,
        bound=limit,
    )


def must_inject(deployment: Deployment, asked: Asked) -> bool:
    """Whether we ask Foundry for a stream's usage though the caller did not."""
    return asked.stream and not asked.include_usage and deployment.stream_usage
