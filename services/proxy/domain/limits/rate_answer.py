"""Rate limits in the caller's words: the refusal, and the `x-ratelimit-*` headers of every answer."""

from collections.abc import Iterable
from hashlib import blake2b

import msgspec

from services.proxy.domain.admission import Refused, ScopeLimits
from services.proxy.domain.limits.quota import Quota
from shared.policy import Limits, matches

SCOPE_NAMES = {"key": "key", "team": "team", "org": "organization"}
FIELDS = {"requests": "rpm_limit", "tokens": "tpm_limit", "parallel": "max_parallel_requests"}
MODEL_FIELDS = {"requests": "model_rpm_limit", "tokens": "model_tpm_limit", "parallel": "max_parallel_requests"}

Headers = tuple[tuple[bytes, bytes], ...]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One limit that a call counts against: whose, of what kind (`r`, `t`, `p`), and for which models."""

    id: str
    kind: str
    limit: int
    scope: ScopeLimits
    pattern: str | None


def rules_of(scopes: Iterable[ScopeLimits], model: str) -> tuple[Rule, ...]:
    """The limits that a call for a public model counts against."""
    return tuple(
        rule
        for scope in scopes
        for pattern, limits in ((None, scope.limits), *scope.model_limits.items())
        if pattern is None or matches(pattern, model)
        for rule in _rules(scope, pattern, limits)
    )


def _rules(scope: ScopeLimits, pattern: str | None, limits: Limits) -> Iterable[Rule]:
    """The id is short and the same at every instance; the limit itself is no part of it, since it may change."""
    name = f"{scope.scope_kind}\0{scope.scope_id}\0{pattern or ''}"
    digest = blake2b(name.encode(), digest_size=12).hexdigest()
    for kind, limit in (("r", limits.rpm), ("t", limits.tpm), ("p", limits.parallel)):
        if limit is not None:
            yield Rule(id=digest + kind, kind=kind, limit=limit, scope=scope, pattern=pattern)


def headers_of(requests: Iterable[Quota], tokens: Iterable[Quota], now_ms: int) -> Headers:
    """What is left of the tightest limit of each kind; `reset` is when all of it is free if nobody calls."""
    return _three(_REQUESTS, requests, now_ms) + _three(_TOKENS, tokens, now_ms)


_REQUESTS = (b"x-ratelimit-limit-requests", b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests")
_TOKENS = (b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens")


def _three(names: tuple[bytes, bytes, bytes], quotas: Iterable[Quota], now_ms: int) -> Headers:
    tightest: Quota | None = None
    least = 0
    for quota in quotas:
        left = quota.room(now_ms)
        if tightest is None or left < least:
            tightest, least = quota, left
    if tightest is None:
        return ()
    return (
        (names[0], b"%d" % tightest.limit),
        (names[1], b"%d" % max(0, least)),
        (names[2], b"%ds" % _seconds(tightest.reset_ms(now_ms))),
    )


def refusal(
    rule: Rule,
    *,
    used: int,
    wanted: int,
    wait_ms: int | None,
    headers: Headers,
    in_flight: int = 0,
    assumed: int = 0,
) -> Refused:
    """429 in OpenAI's form. `used` is the whole fleet's, as far as is known; `wait_ms` None: waiting is of no use.

    For tokens: `in_flight` of those used are estimates of calls that have not ended, `assumed` of those wanted are
    output that the caller has not capped.
    """
    scope = rule.scope
    name = f"{SCOPE_NAMES[scope.scope_kind]} {scope.alias!r}" if scope.alias else _plain(scope)
    kind = {"r": "requests", "t": "tokens", "p": "parallel"}[rule.kind]
    field = (FIELDS if rule.pattern is None else MODEL_FIELDS)[kind]
    models = "" if rule.pattern is None else f" for models {rule.pattern!r}"
    if kind == "parallel":
        limit = f"{rule.limit:,} {_many('call', rule.limit)} at a time ({field})"
        state = f"{used:,} {'is' if used == 1 else 'are'} in flight"
    else:
        limit = f"{rule.limit:,} {_many(kind[:-1], rule.limit)} per minute ({field})"
        state = f"{used:,} {'was' if used == 1 else 'were'} used in the last 60 seconds"
        if kind == "tokens":
            if in_flight:
                state += f" ({in_flight:,} of them are estimates of calls in flight, set right when those end)"
            state += f" and this call may need {wanted:,}"
            if assumed:
                state += (
                    f" (no max_tokens was sent, so {assumed:,} output {_many('token', assumed)}"
                    f" {'is' if assumed == 1 else 'are'} assumed; send max_tokens to need less)"
                )
    if rule.limit > 0 and used + wanted <= rule.limit:
        state += "; what is left is with other instances of the gateway at this moment"
    again = "Ask your platform team for a higher one."
    retry: Headers = ()
    if wait_ms is not None:
        again = f"Try again in {_seconds(wait_ms)} s."
        retry = (
            (b"retry-after", str(_seconds(wait_ms)).encode()),
            (b"retry-after-ms", str(wait_ms).encode()),
        )
    return Refused(
        429,
        "rate_limit_exceeded",
        f"Rate limit reached for {name}{models}: {limit}; {state}. {again}",
        kind="rate_limit_error",
        extra={
            "rate_limit": {
                "scope": scope.scope_kind,
                "scope_id": scope.scope_id,
                "alias": scope.alias,
                "models": rule.pattern,
                "type": kind,
                "limit": rule.limit,
                "used": used,
                "wanted": wanted,
                "retry_after_ms": wait_ms,
            }
        },
        headers=(*retry, *headers),
    )


def _many(word: str, number: int) -> str:
    return word if number == 1 else f"{word}s"


def _plain(scope: ScopeLimits) -> str:
    return f"{SCOPE_NAMES[scope.scope_kind]} {scope.scope_id}"


def _seconds(ms: int) -> int:
    """Whole seconds, rounded up, at least one when there is anything to wait for."""
    return -(-ms // 1_000)
