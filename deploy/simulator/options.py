"""What a simulator can be told at its start."""

from pathlib import Path

import msgspec

DEFAULT_KEY = "sim-foundry-key"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How one simulated Foundry resource is set up.

    `deployments`: the only deployment names that exist; None accepts any name.
    `missing`: names that never exist (names that contain "missing" never do).
    `served`: deployment name → model name that it serves, before the built-in table.
    `serverless`: the deployment behind serverless paths when neither the host nor the body names one.
    `log`: file to which every billed call is appended as a line of JSON; it is read again at the start.
    `limit_requests`, `limit_tokens`: per minute and deployment, as told in `x-ratelimit-*`; enforced only where
    `/_sim/deployments` sets a limit.
    """

    key: str = DEFAULT_KEY
    region: str = "East US 2"
    deployments: frozenset[str] | None = None
    missing: frozenset[str] = frozenset()
    served: dict[str, str] = {}
    serverless: str = "mistral-large-3"
    log: Path | None = None
    limit_requests: int = 1_000_000
    limit_tokens: int = 1_000_000_000
