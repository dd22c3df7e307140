"""Deployments: which model each serves, what it can do, its limits, and the headers that all its answers share."""

import re
from datetime import datetime
from typing import Annotated, TypeAlias

import msgspec

from deploy.simulator import catalogue
from deploy.simulator.catalogue import MAX_REMEMBERED, served_model
from deploy.simulator.errors import context_too_long
from deploy.simulator.fault_kinds import Target
from deploy.simulator.limits import ClaudeLimits, Limits, Ptu
from deploy.simulator.options import Options
from deploy.simulator.settings import Settings
from deploy.simulator.usage import Usage
from deploy.simulator.wire import Headers

__all__ = ["FIXED_HEADERS", "Config", "Deployment", "Deployments", "served_model"]

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
MAX_CONFIGS = 1_000

FIXED_HEADERS: Headers = [
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains; preload"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache, must-revalidate"),
    (b"access-control-allow-origin", b"*"),
]

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a test sets up for one deployment; None leaves it as it is by its name.

    `model`: the model it serves. `rpm`, `tpm`: its requests and tokens a minute. `itpm`, `otpm`: Claude's
    uncached input and output tokens a minute. `ptu`: provisioned units (no other limits then). `spillover`:
    the standard deployment that takes what the provisioned one cannot. `context`: most tokens of a call.
    `async_filter`: streams carry the content filter's results apart. `missing`: there is no such deployment.
    """

    deployment: str
    model: str | None = None
    rpm: Count | None = None
    tpm: Count | None = None
    itpm: Count | None = None
    otpm: Count | None = None
    ptu: Count | None = None
    spillover: str | None = None
    context: Count | None = None
    async_filter: bool = False
    missing: bool = False


class Estimate(msgspec.Struct, kw_only=True, gc=False):
    """What a call is counted as when it is admitted: tokens, `output` of them for output. `usage` is what it
    will be billed."""

    charged: int
    output: int
    usage: Usage | None


class Deployment(msgspec.Struct, kw_only=True):
    """One deployment and its rate counters of the current minute.

    `limited`: it has limits that are kept. `special`: its calls are marked in the served log.
    """

    name: str
    model: str
    model_json: bytes
    reasoning: bool
    claude: bool
    chats: bool
    embeds: bool
    completes: bool
    responds: bool
    grok: bool
    router: bool
    dimensions: int
    fixed_dimensions: bool
    headers: Headers
    limits: Limits | None = None
    claude_limits: ClaudeLimits | None = None
    ptu: Ptu | None = None
    spillover: str | None = None
    context: int | None = None
    async_filter: bool = False
    limited: bool = False
    special: bool = False
    minute: int = 0
    requests_used: int = 0
    tokens_used: int = 0


class Deployments:
    """The deployments of one resource, made when they are first called."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._known: dict[str, Deployment] = {}
        self._configs: dict[str, Config] = {}

    def find(self, name: str) -> Deployment | None:
        """The deployment of this name, or None when the resource has no such deployment."""
        found = self._known.get(name)
        if found is not None:
            return found
        config = self._configs.get(name)
        if NAME_PATTERN.match(name) is None or not self._exists(name, config):
            return None
        made = self._make(name, config or Config(deployment=name))
        if len(self._known) < MAX_REMEMBERED:
            self._known[name] = made
        return made

    def _exists(self, name: str, config: Config | None) -> bool:
        if config is not None:
            return not config.missing
        listed = self._options.deployments
        if listed is not None and name not in listed:
            return False
        return name not in self._options.missing and "missing" not in name.lower()

    def configure(self, config: Config) -> None:
        """Set up one deployment anew; raises ValueError when there are too many or the name cannot be one."""
        if NAME_PATTERN.match(config.deployment) is None:
            raise ValueError(f"{config.deployment!r} cannot be a deployment's name")
        if len(self._configs) >= MAX_CONFIGS and config.deployment not in self._configs:
            raise ValueError(f"there are {MAX_CONFIGS} set up already; remove some with DELETE /_sim/deployments")
        self._configs[config.deployment] = config
        self._known.pop(config.deployment, None)

    def configs(self) -> list[Config]:
        """What was set up."""
        return list(self._configs.values())

    def forget(self, name: str | None) -> int:
        """Undo what was set up, of one deployment or of all; how many they were."""
        gone = [one for one in self._configs if name in (None, one)]
        for one in gone:
            del self._configs[one]
            self._known.pop(one, None)
        return len(gone)

    def _make(self, name: str, config: Config) -> Deployment:
        model = config.model or self._options.served.get(name) or served_model(name)
        lowered = model.lower()
        names = (name.lower(), lowered)
        embeds = lowered.startswith(catalogue.EMBEDDING)
        sizes = (size for known, size in catalogue.DIMENSIONS.items() if lowered.startswith(known))
        special = embeds or catalogue.NO_CHAT.match(lowered) is not None
        known = special or lowered.startswith(catalogue.CHAT)
        return Deployment(
            name=name,
            model=model,
            model_json=msgspec.json.encode(model),
            reasoning=any(_reasons(one) for one in names) and not special,
            claude=any(one.startswith("claude") for one in names),
            chats=not special and catalogue.RESPONSES_ONLY.match(lowered) is None,
            embeds=embeds or not known,
            completes=catalogue.COMPLETIONS.match(lowered) is not None or not known,
            responds=not special and not lowered.startswith(catalogue.NO_RESPONSES),
            grok=lowered.startswith(catalogue.GROK),
            router=name.lower().startswith(catalogue.ROUTERS),
            dimensions=next(sizes, catalogue.DEFAULT_DIMENSIONS),
            fixed_dimensions=lowered.startswith(catalogue.FIXED_DIMENSIONS),
            headers=self._headers(name, config),
            limits=Limits(config.rpm, config.tpm) if config.rpm or config.tpm else None,
            claude_limits=_claude_limits(config, lowered),
            ptu=None if config.ptu is None else Ptu(config.ptu, model),
            spillover=config.spillover,
            context=config.context,
            async_filter=config.async_filter,
            limited=any((config.rpm, config.tpm, config.itpm, config.otpm, config.ptu, config.context)),
            special=config.ptu is not None or name.lower().startswith(catalogue.ROUTERS),
        )

    def _headers(self, name: str, config: Config) -> Headers:
        headers: Headers = [
            *FIXED_HEADERS,
            (b"x-ms-region", self._options.region.encode("latin-1", "replace")),
            (b"x-ms-deployment-name", name.encode()),
            (b"azureml-model-session", b"d20260721160656-07a7b394"),
            (b"x-ms-rai-invoked", b"true"),
        ]
        if config.ptu is None and config.rpm is None and config.tpm is None:
            headers.append((b"x-ratelimit-limit-requests", b"%d" % self._options.limit_requests))
            headers.append((b"x-ratelimit-limit-tokens", b"%d" % self._options.limit_tokens))
        return headers

    def admit(
        self, deployment: Deployment, estimate: Estimate, operation: str, now: datetime, settings: Settings
    ) -> Headers:
        """Count a call's estimate against the limits of its deployment; the headers of its answer.

        Raises the 429 of a full bucket, and the 400 of a call that is longer than the context.
        """
        charged, output = estimate.charged, estimate.output
        if deployment.context is not None and charged > deployment.context:
            raise context_too_long(deployment.context, charged - output, output)
        now_ms = int(now.timestamp() * 1000)
        if deployment.ptu is not None:
            return deployment.ptu.admit(charged, output, self._target(deployment, operation), now_ms)
        claude = deployment.claude_limits
        if claude is not None:
            claude.admit(estimate.usage or Usage(prompt=0), now_ms)
            return claude.anthropic_headers(now_ms) if settings.anthropic_limits else []
        if deployment.limits is not None:
            target = self._target(deployment, operation)
            return deployment.limits.admit(charged, target, now_ms, settings.older_limits)
        return self.count(deployment, charged, now_ms // 60_000)

    def _target(self, deployment: Deployment, operation: str) -> Target:
        return Target(
            deployment=deployment.name, model=deployment.model, region=self._options.region, operation=operation
        )

    def count(self, deployment: Deployment, tokens: int, minute: int) -> Headers:
        """Count a call against limits that are only told, not kept."""
        if deployment.minute != minute:
            deployment.minute = minute
            deployment.requests_used = deployment.tokens_used = 0
        deployment.requests_used += 1
        deployment.tokens_used += tokens
        requests = max(0, self._options.limit_requests - deployment.requests_used)
        left = max(0, self._options.limit_tokens - deployment.tokens_used)
        return [
            (b"x-ratelimit-remaining-requests", b"%d" % requests),
            (b"x-ratelimit-remaining-tokens", b"%d" % left),
        ]


def _reasons(name: str) -> bool:
    return name.startswith(catalogue.REASONING) and not name.startswith(catalogue.NOT_REASONING)


def _claude_limits(config: Config, model: str) -> ClaudeLimits | None:
    if not (config.itpm or config.otpm or (config.rpm and model.startswith("claude"))):
        return None
    return ClaudeLimits(config.rpm, config.itpm, config.otpm)
