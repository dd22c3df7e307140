"""Rate limits of deployments: token and request buckets, Claude's three buckets, provisioned utilisation.

All are off until a deployment is given a limit. Times are Unix milliseconds.
"""

import msgspec

from deploy.simulator import errors
from deploy.simulator.errors import FoundryError
from deploy.simulator.fault_kinds import Target, ptu_full
from deploy.simulator.usage import Usage
from deploy.simulator.wire import Headers

MINUTE_MS = 60_000
SLICE_MS = 10_000
SLICES_PER_MINUTE = MINUTE_MS // SLICE_MS
TOO_BIG_WAIT_S = 86_400

PTU_RATES: dict[str, tuple[int, int]] = {
    "gpt-6-sol": (3_000, 5),
    "gpt-6-astra": (600, 5),
    "gpt-5.6-luna": (30_000, 6),
    "gpt-5.6-terra": (3_000, 6),
    "gpt-5.6-sol": (1_200, 6),
    "gpt-5.5": (1_200, 6),
    "gpt-5.4": (2_400, 6),
    "gpt-5.4-mini": (7_900, 6),
    "gpt-5.3-codex": (3_400, 8),
    "gpt-5.2": (3_400, 8),
    "gpt-5.1": (4_750, 8),
    "gpt-5": (4_750, 8),
    "gpt-5-mini": (23_750, 8),
    "gpt-4.1": (3_000, 4),
    "gpt-4.1-mini": (14_900, 4),
    "gpt-4.1-nano": (59_400, 4),
    "o3": (3_000, 4),
    "o4-mini": (5_400, 4),
    "gpt-4o": (2_500, 4),
    "gpt-4o-mini": (37_000, 4),
    "o3-mini": (2_500, 4),
    "o1": (230, 4),
    "llama-3.3-70b": (8_450, 4),
}
"""Beginning of a model's name → input tokens a minute of one unit, and what an output token weighs."""
DEFAULT_PTU_RATE = (2_500, 4)
CACHED_WEIGHT = {"gpt-6": 0.1}
"""What a cached token weighs in provisioned utilisation; nothing where it is not named."""


class Window(msgspec.Struct, kw_only=True):
    """A counter that begins anew with every window."""

    size_ms: int
    limit: int
    window: int = -1
    used: int = 0

    def turn(self, now_ms: int) -> None:
        """Begin anew when the window has passed."""
        window = now_ms // self.size_ms
        if window != self.window:
            self.window, self.used = window, 0

    def left(self) -> int:
        """What is left of the window's limit."""
        return max(0, self.limit - self.used)

    def wait_s(self, now_ms: int) -> int:
        """Whole seconds until the next window, at least one."""
        return max(1, -(-((self.window + 1) * self.size_ms - now_ms) // 1000))


class Limits:
    """A standard deployment's requests and tokens a minute; either may be None."""

    def __init__(self, rpm: int | None, tpm: int | None) -> None:
        self.rpm = rpm
        self.tpm = tpm
        slices = max(1, (rpm or 0) // SLICES_PER_MINUTE)
        self.requests = None if rpm is None else Window(size_ms=SLICE_MS, limit=slices)
        self.tokens = None if tpm is None else Window(size_ms=MINUTE_MS, limit=tpm)

    def admit(self, charged: int, target: Target, now_ms: int, older: bool) -> Headers:
        """Count a call by its estimate; the headers after it. Raises the 429 of a full bucket."""
        requests, tokens = self.requests, self.tokens
        for bucket in (requests, tokens):
            if bucket is not None:
                bucket.turn(now_ms)
        if tokens is not None and charged > tokens.limit:
            body = errors.rate_limited_older(target.operation, wait_s=TOO_BIG_WAIT_S)
            raise FoundryError(429, body, self._refusal("Tokens", TOO_BIG_WAIT_S, now_ms))
        if requests is not None and requests.used >= requests.limit:
            raise self._refused(target, "call", "Requests", requests.wait_s(now_ms), now_ms, older)
        if tokens is not None and tokens.used + charged > tokens.limit:
            raise self._refused(target, "token", "Tokens", tokens.wait_s(now_ms), now_ms, older)
        if requests is not None:
            requests.used += 1
        if tokens is not None:
            tokens.used += charged
        return self.headers(now_ms)

    def _refused(self, target: Target, what: str, kind: str, wait_s: int, now_ms: int, older: bool) -> FoundryError:
        if older:
            body = errors.rate_limited_older(target.operation, what, wait_s)
        else:
            named = (target.deployment, target.model, target.region, target.operation)
            body = errors.rate_limited(*named, what, wait_s)
        return FoundryError(429, body, self._refusal(kind, wait_s, now_ms))

    def _refusal(self, kind: str, wait_s: int, now_ms: int) -> Headers:
        wait: Headers = [(b"retry-after", b"%d" % wait_s), (b"retry-after-ms", b"%d" % (wait_s * 1000))]
        return [*wait, *self.headers(now_ms), (b"x-ratelimit-type", kind.encode())]

    def headers(self, now_ms: int) -> Headers:
        """What is left, in the newer front ends' words."""
        found: Headers = []
        rows = ((b"requests", self.rpm, self.requests), (b"tokens", self.tpm, self.tokens))
        for name, per_minute, bucket in rows:
            if per_minute is None or bucket is None:
                continue
            found += [
                (b"x-ratelimit-limit-" + name, b"%d" % per_minute),
                (b"x-ratelimit-remaining-" + name, b"%d" % bucket.left()),
                (b"x-ratelimit-renewalperiod-" + name, b"%d" % (bucket.size_ms // 1000)),
                (b"x-ratelimit-reset-" + name, b"%d" % bucket.wait_s(now_ms)),
            ]
        return found


class ClaudeLimits:
    """Claude's three buckets a minute: requests, input tokens that were not cached, output tokens."""

    def __init__(self, rpm: int | None, itpm: int | None, otpm: int | None) -> None:
        rows = (
            ("UserByModelByMinute", rpm),
            ("UserByModelByMinuteUncachedInputTokens", itpm),
            ("UserByModelByMinuteOutputTokens", otpm),
        )
        self._rows = [(kind, None if limit is None else Window(size_ms=MINUTE_MS, limit=limit)) for kind, limit in rows]

    def admit(self, usage: Usage, now_ms: int) -> None:
        """Count a call by its usage; raises the 429 of the bucket that is full."""
        amounts = (1, usage.prompt - usage.cached, usage.completion)
        for (kind, bucket), amount in zip(self._rows, amounts, strict=True):
            if bucket is None:
                continue
            bucket.turn(now_ms)
            if bucket.used + amount > bucket.limit:
                body, headers = errors.rate_limited_partner(kind, bucket.limit, bucket.wait_s(now_ms))
                raise FoundryError(429, body, headers)
        for (_, bucket), amount in zip(self._rows, amounts, strict=True):
            if bucket is not None:
                bucket.used += amount

    def anthropic_headers(self, now_ms: int) -> Headers:
        """Anthropic's own headers of the buckets."""
        found: Headers = []
        for name, (_, bucket) in zip((b"requests", b"input-tokens", b"output-tokens"), self._rows, strict=True):
            if bucket is not None:
                bucket.turn(now_ms)
                found.append((b"anthropic-ratelimit-" + name + b"-limit", b"%d" % bucket.limit))
                found.append((b"anthropic-ratelimit-" + name + b"-remaining", b"%d" % bucket.left()))
        return found


class Ptu:
    """Provisioned units as a leaky bucket of weighted tokens: full at one minute's worth, drained all the time."""

    def __init__(self, units: int, model: str) -> None:
        lowered = model.lower()
        fitting = [known for known in PTU_RATES if lowered.startswith(known)]
        per_unit, self.ratio = PTU_RATES[max(fitting, key=len)] if fitting else DEFAULT_PTU_RATE
        self.capacity = float(units * per_unit)
        self.cached_weight = next((w for known, w in CACHED_WEIGHT.items() if lowered.startswith(known)), 0.0)
        self.level = 0.0
        self.at_ms = 0

    def admit(self, charged: int, output: int, target: Target, now_ms: int) -> Headers:
        """Add a call's estimate, `output` of it for output; raises the 429 above 100 %."""
        self.level = max(0.0, self.level - self.capacity * max(0, now_ms - self.at_ms) / MINUTE_MS)
        self.at_ms = now_ms
        if self.level >= self.capacity:
            wait_ms = max(1, round((self.level - self.capacity) * MINUTE_MS / self.capacity))
            wait: Headers = [(b"retry-after", b"%d" % -(-wait_ms // 1000)), (b"retry-after-ms", b"%d" % wait_ms)]
            raise FoundryError(429, ptu_full(target), [*wait, *self.headers()])
        self.level += self._estimate(charged, output)
        return self.headers()

    def settle(self, charged: int, output: int, usage: Usage) -> None:
        """Put what a call really used in the place of its estimate."""
        self.level = max(0.0, self.level + self._actual(usage) - self._estimate(charged, output))

    def _estimate(self, charged: int, output: int) -> float:
        return charged - output + output * self.ratio

    def _actual(self, usage: Usage) -> float:
        return usage.prompt - usage.cached * (1 - self.cached_weight) + usage.completion * self.ratio

    def headers(self) -> Headers:
        """The utilisation; provisioned deployments send no rate limits."""
        return [(b"azure-openai-deployment-utilization", b"%.1f%%" % (100 * self.level / self.capacity))]
