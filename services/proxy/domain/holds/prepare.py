"""One call made ready for one deployment: what to send there, what to hold for it, and by which price."""

import msgspec

from services.proxy.domain.asked import Asked
from services.proxy.domain.deployments import Deployment, Way
from services.proxy.domain.holds.bounds import UNKNOWN_OUTPUT_TOKENS, Bound
from services.proxy.domain.holds.estimate import (
    ASCII_BYTES_PER_TOKEN,
    Need,
    likely,
    need_of,
    prompt_tokens,
    realistic,
    row_of_tier,
)
from services.proxy.domain.holds.refusal import Wanted
from services.proxy.domain.holds.strict import bound
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.requests import JSON, read_request
from services.proxy.domain.requests.multipart import content_type_of, with_model
from services.proxy.domain.requests.params import for_reasoning, touches
from services.proxy.domain.requests.writing import Fields, outgoing_body, outgoing_fields, written
from services.proxy.domain.translate.chat_request import to_messages
from services.proxy.domain.translate.messages_request import to_chat
from services.proxy.domain.unpriced import check_tools, unpriced_kind
from shared.pricing import PRIORITY, PriceRow, Usage, estimate

CHAT = Endpoint.CHAT
OUTPUT_UNBOUNDED = 10**9
CAP_BYTES = 40
"""More than a `max_tokens` takes in a body: a caller who follows our hint sends a little more than before."""
USAGE_ASKED = (CHAT, Endpoint.COMPLETIONS)
"""Operations whose streams tell their usage only when asked."""
TIERED = (CHAT, Endpoint.RESPONSES)
"""Operations that OpenAI's models serve by the deployment's own tier, unless the request says another."""
TIER_SINCE = "2025-10-01"
"""The first dated API version that knows `service_tier`; those of `/openai/v1` know it."""
UNSAID_TIERS = (b"", b"null", b'"auto"')


class NoPrice(Exception):
    """A class that the call is likely to use has no known price; the text is its name."""


class Prepared(msgspec.Struct, kw_only=True, gc=False):
    """A call that may be admitted. `bound` is None in default mode, where `body` goes out as it is.

    `guess` is the likely size of the prompt in tokens, `output_max` what the caller's or our cap allows in all
    choices. `usage` is the likely usage where it is more than a prompt and an output of text. `inject` says that we
    ask for a stream's usage and the caller did not.
    """

    url: str
    body: bytes
    row: PriceRow
    need: Need
    guess: int
    output_max: int
    content_type: str = JSON
    inject: bool = False
    usage: Usage | None = None
    fields: Fields | None = None
    bound: Bound | None = None

    @property
    def tokens(self) -> int:
        """What the call is likely to use at most: what a rate limit counts until it is known."""
        return self.guess + self.need.output

    @property
    def likely(self) -> Usage:
        """What the call is likely to use at most, class by class."""
        return self.usage or Usage(input=self.guess, output=self.need.output)

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
        limit, need = self.bound, self.need
        margin, beside = -(-CAP_BYTES // ASCII_BYTES_PER_TOKEN), 0
        assumed = need.output // asked.choices
        if limit is not None:
            margin, beside, assumed = CAP_BYTES * deployment.facts.expansion, limit.beside, limit.least
        helps = asked.chat and not asked.spoken
        return Wanted(
            held_nusd=need.amount,
            prompt_tokens=need.prompt + (margin if asked.output_cap is None else 0),
            row=self.row,
            choices=asked.choices if helps else 0,
            beside=beside,
            assumed_tokens=assumed if asked.chat and asked.output_cap is None else None,
            output_max=deployment.facts.max_output,
            field=asked.cap_field,
            more_nusd=need.amount - estimate(need.prompt, need.output, self.row) if helps else 0,
        )


def prepare(
    asked: Asked,
    body: bytes,
    deployment: Deployment,
    way: Way,
    row: PriceRow,
    *,
    strict: bool,
    default_output: int,
) -> Prepared:
    """Make a call ready for one way of a deployment.

    Raises BadRequest for what is no JSON after all, what the deployment cannot be asked, what has a price that nobody
    knows and that another request would not need, or, if `strict`, has no bound; NoPrice when a class that the call is
    likely to use has no price. What has none is let through where the deployment allows that.
    """
    inject = asked.stream and must_inject(deployment, asked, way)
    row = deployment.hold_row or row
    if strict:
        return _strict(asked, body, deployment, way, row, inject, default_output)
    facts = deployment.facts
    if asked.hosted and way.translation is None and not deployment.unpriced:
        check_tools(asked.hosted, row)
    if asked.tier:
        row = row_of_tier(row, asked.tier)
    if way.wire is CHAT and asked.endpoint is CHAT and not asked.parts and not asked.spoken:
        need = realistic(asked, body, facts, row, default_output)
        _check_text_price(deployment, row)
        plain = way.body_model is None and not inject and not facts.reasoning
        return Prepared(
            url=way.url,
            body=body if plain else _body(asked, body, deployment, way, inject),
            row=row,
            need=need,
            guess=need.prompt,
            output_max=OUTPUT_UNBOUNDED if asked.output_cap is None else need.output,
            inject=inject,
        )
    usage = likely(asked, body, facts, row, default_output, way.wire)
    _check_price(usage, deployment, row)
    need = need_of(usage, row, way.wire)
    return Prepared(
        url=way.url,
        body=_body(asked, body, deployment, way, inject),
        row=row,
        need=need,
        guess=need.prompt,
        output_max=OUTPUT_UNBOUNDED if asked.output_cap is None else need.output,
        content_type=JSON if asked.form is None else content_type_of(asked.form),
        inject=inject,
        usage=usage,
    )


def must_inject(deployment: Deployment, asked: Asked, way: Way) -> bool:
    """Whether we ask Foundry for a stream's usage though the caller did not. A translation asks for it itself."""
    return (
        asked.stream
        and not asked.include_usage
        and deployment.stream_usage
        and asked.endpoint in USAGE_ASKED
        and way.wire in USAGE_ASKED
        and way.translation is None
    )


def _strict(
    asked: Asked, body: bytes, deployment: Deployment, way: Way, row: PriceRow, inject: bool, default_output: int
) -> Prepared:
    """A call of a strict key: its bound is that of what goes to Foundry, after any translation."""
    facts = deployment.facts
    row = deployment.versions_row or row
    usage: Usage | None = None
    if way.wire is CHAT and asked.endpoint is CHAT and not asked.parts:
        guess = prompt_tokens(asked, body, facts)
        _check_text_price(deployment, row)
    else:
        usage = likely(asked, body, facts, row, default_output, way.wire)
        _check_price(usage, deployment, row)
        guess = usage.prompt
    sent, fields, out = asked, None, body
    if asked.form is not None:
        out = _body(asked, body, deployment, way, inject)
    elif way.translation is not None:
        out = _translated(asked, body, deployment, way)
        sent = _as_sent(asked, read_request(out, way.wire, asked.model))
        fields = outgoing_fields(out, model=None, inject_usage=False)
        if sent.output_cap is None:
            fields.pop("max_tokens", None)
    else:
        fields = outgoing_fields(body, model=way.body_model, inject_usage=inject)
        if way.wire is CHAT and facts.reasoning and not way.exact:
            fields = _for_reasoning(fields, deployment)
    tier = asked.tier
    if fields is not None and deployment.family == "openai" and way.wire in TIERED:
        tier = _said_tier(fields, way) or tier
    limit = bound(sent, {} if fields is None else fields, len(out), facts, guess, default_output, row)
    if tier:
        row = row_of_tier(row, tier)
    need = limit.need(row)
    return Prepared(
        url=way.url,
        body=out,
        row=row,
        need=need,
        guess=guess,
        output_max=need.output,
        content_type=JSON if asked.form is None else content_type_of(asked.form),
        inject=inject,
        usage=usage,
        fields=fields,
        bound=limit,
    )


def _said_tier(fields: Fields, way: Way) -> str:
    """A deployment may have the `priority` tier as its own: ask for the standard one where nothing was asked for.

    An API version that does not know the field would refuse it; the answer is the tier to hold for then, else empty.
    """
    if bytes(fields.get("service_tier", b"")) not in UNSAID_TIERS:
        return ""
    version = way.url.partition("api-version=")[2]
    if version[:1].isdecimal() and version[: len(TIER_SINCE)] < TIER_SINCE:
        return PRIORITY
    fields["service_tier"] = msgspec.Raw(b'"default"')
    return ""


def _as_sent(asked: Asked, sent: Asked) -> Asked:
    """What is asked of Foundry after translation; a cap that only the translation put in is ours to choose."""
    if asked.output_cap is not None:
        return sent
    return msgspec.structs.replace(sent, output_cap=None, max_tokens=None, max_completion_tokens=None)


def _body(asked: Asked, body: bytes, deployment: Deployment, way: Way, inject: bool) -> bytes:
    """The body for Foundry in default mode: the caller's, as far as that can be."""
    if asked.form is not None:
        return body if way.body_model is None else with_model(asked.form, body, way.body_model)
    if way.translation is not None:
        return _translated(asked, body, deployment, way)
    facts = deployment.facts
    drop = deployment.drop_params
    if (
        way.wire is CHAT
        and facts.reasoning
        and not way.exact
        and touches(body, refuses_sampling=facts.refuses_sampling, drop_params=drop)
    ):
        return written(_for_reasoning(outgoing_fields(body, model=way.body_model, inject_usage=inject), deployment))
    return outgoing_body(body, model=way.body_model, inject_usage=inject)


def _for_reasoning(fields: Fields, deployment: Deployment) -> Fields:
    refuses = deployment.facts.refuses_sampling
    return for_reasoning(fields, refuses_sampling=refuses, drop_params=deployment.drop_params)


def _translated(asked: Asked, body: bytes, deployment: Deployment, way: Way) -> bytes:
    facts = deployment.facts
    if way.translation == "chat_to_messages":
        return to_messages(
            body,
            model=way.body_model or deployment.name,
            max_tokens_default=facts.max_output or UNKNOWN_OUTPUT_TOKENS,
            drop_params=deployment.drop_params,
            adaptive_thinking=facts.adaptive_thinking,
        )
    return to_chat(
        body,
        model=way.body_model,
        cap_field=facts.cap_fields[0],
        drop_params=deployment.drop_params,
        reasoning=facts.reasoning,
        inject_usage=asked.stream and deployment.stream_usage,
        effort_with_tools=facts.effort_with_tools,
        refuses_sampling=facts.refuses_sampling,
    )


def _check_text_price(deployment: Deployment, row: PriceRow) -> None:
    """As `_check_price`, for calls of text."""
    rates, tier = row.rates, row.tier
    for one in (rates,) if tier is None else (rates, tier):
        if (one.input is None or one.output is None) and not deployment.unpriced:
            raise NoPrice("input" if one.input is None else "output")


def _check_price(usage: Usage, deployment: Deployment, row: PriceRow) -> None:
    if deployment.unpriced or (name := row.missing(usage)) is None:
        return
    if name == "images" and any("/" in kind for kind in row.kinds):
        raise unpriced_kind(usage.kind, row)
    raise NoPrice(name)
