"""What both relays know of a call: whom to believe, what to hide, and what the answer's head says."""

from time import perf_counter_ns

import msgspec

from services.proxy.answers import Headers, answer_headers
from services.proxy.call import Call
from services.proxy.domain.deployments import Deployment
from services.proxy.domain.errors.failures import Failure, caller_failure
from services.proxy.domain.meters import Reading, trusted
from services.proxy.domain.meters.reading import model_name
from services.proxy.domain.meters.stream import waiting
from services.proxy.domain.money.figures import Figures
from services.proxy.upstream import Reply


def believed(reading: Reading, call: Call, reply: Reply) -> Reading:
    """A reading that names the model that served, or none: of a name that is only the deployment's, Foundry's own
    header is taken instead."""
    reading = trusted(reading, call.way.wire, call.deployment.name)
    if reading.served_model is not None:
        return reading
    served = model_name(reply.header("x-ms-served-model"))
    if served is None or served == call.deployment.name:
        return reading
    return msgspec.structs.replace(reading, served_model=served)


def shown_to(call: Call, failure: Failure) -> Failure:
    """A failure of Foundry's as the caller of this call may see it."""
    shown = caller_failure(failure, hide=call.deployment.secrets)
    if call.transform is None:
        return shown
    return msgspec.structs.replace(shown, message=call.transform.text(shown.message))


def grok(deployment: Deployment) -> bool:
    """Whether a deployment's model tells its reasoning beside its output."""
    return deployment.facts.reasoning_beside


def with_wait(failure: Failure, reply: Reply) -> Failure:
    """A failure inside a stream with the wait that the reply's head asks for, unless it says one itself."""
    return waiting(failure, reply.header("retry-after"), reply.header("retry-after-ms"))


def gateway_headers(call: Call, headers: Headers, figures: Figures, cost_nusd: int | None = None) -> Headers:
    """Headers of an answer with what every metered answer says.

    `figures`: what was spent and is left as far as it is known here; `cost_nusd` None: the call is not over.
    """
    overhead_ns: int | None = None
    if cost_nusd is not None:
        now_ns = perf_counter_ns()
        upstream_ns = (call.upstream_until_ns or now_ns) - call.upstream_from_ns if call.upstream_from_ns else 0
        overhead_ns = now_ns - call.started_ns - upstream_ns
    own = answer_headers(
        call_id=call.call_id,
        model=call.model,
        deployment=call.deployment.id,
        cost_nusd=cost_nusd,
        key_spend_nusd=figures.key_spend_nusd,
        budget_left_nusd=figures.budget_left_nusd,
        overhead_ns=overhead_ns,
    )
    own += headers
    return own
