"""What the platform team must mend: said in the log when Foundry refuses a deployment, and not for each call."""

import logging

from services.proxy.domain.deployments import Deployment
from services.proxy.domain.errors.failures import Failure
from services.proxy.domain.errors.masking import masked
from shared.clock import Clock

log = logging.getLogger(__name__)

SILENCE_MS = 60_000
"""The same complaint about one deployment is logged once in this time."""
CODE_CHARS_MAX = 100
REMEDIES = {
    "upstream_auth_failed": "check its api_key and api_base",
    "upstream_blocked": "the resource is blocked in Azure",
    "upstream_deployment_not_found": "check the deployment's name in litellm_params.model, api_base and api_version",
    "upstream_redirect": "check its api_base",
}
"""What callers are told of failures that they cannot mend, and what is to be done."""


class Complaints:
    """Remembers what was said of each deployment, and when."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told_ms: dict[tuple[str, str], int] = {}

    def note(self, deployment: Deployment, said: Failure, shown: Failure) -> None:
        """Foundry has `said` no, and the caller was `shown` this: log it if it is the platform team's to mend."""
        code = shown.code or ""
        remedy = REMEDIES.get(code) if shown.status == 502 and not shown.retryable else None
        if remedy is None:
            return
        now_ms = self._clock.monotonic_ms()
        told_ms = self._told_ms.get((deployment.id, code))
        if told_ms is not None and now_ms - told_ms < SILENCE_MS:
            return
        self._told_ms[deployment.id, code] = now_ms
        own = masked(said.code or "none", deployment.secrets)[:CODE_CHARS_MAX]
        log.warning(
            "deployment %s at %s: callers get %s, since Foundry answered HTTP %d with the code %r: %s",
            deployment.name, deployment.host, code, said.status, own, remedy,
        )  # fmt: skip
