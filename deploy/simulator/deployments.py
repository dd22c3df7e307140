"""Deployments: which model each serves, what it can do, and the headers that all its answers share."""

import re
from functools import lru_cache

import msgspec

from deploy.simulator.options import Options
from deploy.simulator.wire import Headers

MAX_REMEMBERED = 4_096
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
DATED_PATTERN = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{4})\Z")

SERVED_MODELS = {
    "gpt-4-turbo": "gpt-4-turbo-2024-04-09",
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-chat": "gpt-5-chat",
    "gpt-5-codex": "gpt-5-codex",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-5-nano": "gpt-5-nano-2025-08-07",
    "gpt-5-pro": "gpt-5-pro",
    "gpt-5.1": "gpt-5.1-2025-11-13",
    "gpt-5.2": "gpt-5.2-2025-12-11",
    "gpt-5.4": "gpt-5.4-2026-03-05",
    "gpt-5.4-mini": "gpt-5.4-mini-2026-03-17",
    "gpt-5.4-nano": "gpt-5.4-nano-2026-03-17",
    "gpt-5.5": "gpt-5.5-2026-04-24",
    "o1": "o1-2024-12-17",
    "o3": "o3-2025-04-16",
    "o3-mini": "o3-mini-2025-01-31",
    "o3-pro": "o3-pro-2025-06-10",
    "o4-mini": "o4-mini-2025-04-16",
    "phi-4": "Phi-4",
    "phi-4-mini": "Phi-4-mini-instruct",
    "phi-4-multimodal": "Phi-4-multimodal-instruct",
    "phi-4-reasoning": "Phi-4-reasoning",
    "llama-3.3-70b": "Llama-3.3-70B-Instruct",
    "mistral-large-3": "mistral-large-3",
    "text-embedding-3-large": "text-embedding-3-large",
    "text-embedding-3-small": "text-embedding-3-small",
    "text-embedding-ada-002": "text-embedding-ada-002",
}
"""Beginning of a deployment's name → model it serves; the longest one that ends at a separator counts."""

DIMENSIONS = {
    "text-embedding-3-large": 3072,
    "text-embedding-3-small": 1536,
    "text-embedding-ada-002": 1536,
    "cohere-embed-v3": 1024,
    "embed-v-4-0": 1536,
}
DEFAULT_DIMENSIONS = 1536
FIXED_DIMENSIONS = "text-embedding-ada-002"

REASONING = ("o1", "o3", "o4", "gpt-5", "gpt-6")
NOT_REASONING = ("gpt-5-chat",)
EMBEDDING = ("text-embedding-", "embed-v", "cohere-embed")
CHAT = ("gpt-", "o1", "o3", "o4", "phi-", "llama-", "mistral-", "deepseek-", "grok-", "claude-")

FIXED_HEADERS: Headers = [
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains; preload"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache, must-revalidate"),
    (b"access-control-allow-origin", b"*"),
]


class Deployment(msgspec.Struct, kw_only=True):
    """One deployment and its rate counters of the current minute."""

    name: str
    model: str
    model_json: bytes
    reasoning: bool
    claude: bool
    chats: bool
    embeds: bool
    dimensions: int
    fixed_dimensions: bool
    headers: Headers
    minute: int = 0
    requests_used: int = 0
    tokens_used: int = 0


@lru_cache(maxsize=MAX_REMEMBERED)
def served_model(name: str) -> str:
    """The model-version name that a deployment serves by the built-in table; else the name itself."""
    lowered = name.lower()
    if DATED_PATTERN.search(lowered):
        return name
    fitting = [known for known in SERVED_MODELS if _begins(lowered, known)]
    return SERVED_MODELS[max(fitting, key=len)] if fitting else name


def _begins(name: str, known: str) -> bool:
    return name.startswith(known) and (len(name) == len(known) or name[len(known)] in "-_")


class Deployments:
    """The deployments of one resource, made when they are first called."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._known: dict[str, Deployment] = {}

    def find(self, name: str) -> Deployment | None:
        """The deployment of this name, or None when the resource has no such deployment."""
        found = self._known.get(name)
        if found is not None:
            return found
        listed = self._options.deployments
        if NAME_PATTERN.match(name) is None or (listed is not None and name not in listed):
            return None
        if name in self._options.missing or "missing" in name.lower():
            return None
        made = self._make(name)
        if len(self._known) < MAX_REMEMBERED:
            self._known[name] = made
        return made

    def _make(self, name: str) -> Deployment:
        model = self._options.served.get(name) or served_model(name)
        lowered = model.lower()
        embeds = lowered.startswith(EMBEDDING)
        sizes = (size for known, size in DIMENSIONS.items() if lowered.startswith(known))
        names = (name.lower(), lowered)
        return Deployment(
            name=name,
            model=model,
            model_json=msgspec.json.encode(model),
            reasoning=any(n.startswith(REASONING) and not n.startswith(NOT_REASONING) for n in names),
            claude=any(n.startswith("claude") for n in names),
            chats=not embeds,
            embeds=embeds or not lowered.startswith(CHAT),
            dimensions=next(sizes, DEFAULT_DIMENSIONS),
            fixed_dimensions=lowered.startswith(FIXED_DIMENSIONS),
            headers=[
                *FIXED_HEADERS,
                (b"x-ms-region", self._options.region.encode("latin-1", "replace")),
                (b"x-ms-deployment-name", name.encode()),
                (b"azureml-model-session", b"d20260721160656-07a7b394"),
                (b"x-ms-rai-invoked", b"true"),
                (b"x-ratelimit-limit-requests", b"%d" % self._options.limit_requests),
                (b"x-ratelimit-limit-tokens", b"%d" % self._options.limit_tokens),
            ],
        )

    def charge(self, deployment: Deployment, tokens: int, minute: int) -> Headers:
        """Count a call against the minute's limits; the `x-ratelimit-remaining-*` headers after it."""
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
