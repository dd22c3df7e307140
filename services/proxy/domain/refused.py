"""Refusals that several ways of calling have in common, in words."""

from services.proxy.domain.admission import Refused
from services.proxy.domain.deployments import Deployment
from services.proxy.domain.paths import Endpoint
from services.proxy.domain.surfaces import serves

FINAL = ((b"x-should-retry", b"false"),)


def missing_key() -> Refused:
    """A request without a credential."""
    return Refused(
        401,
        "missing_api_key",
        "No API key was sent. Send a virtual key as 'Authorization: Bearer sk-…' or 'api-key: sk-…'.",
        kind="authentication_error",
    )


def not_served(model: str, endpoint: Endpoint, deployment: Deployment) -> Refused:
    """A model that has no such operation, or that is known not to have it."""
    text = f"The model '{model}' does not serve {endpoint}. It serves: {', '.join(serves(deployment))}."
    if endpoint in deployment.ways and deployment.guessed:
        text += " That is known by names alone; if it is wrong, the platform team must set model_info.base_model."
    return Refused(
        400,
        "endpoint_not_supported",
        text,
        param="model",
        headers=FINAL,
    )


def no_price(deployment: Deployment, endpoint: Endpoint, what: str | None = None) -> Refused:
    """A model, or something of it, that has no known price: the caller's mistake if the model does something else."""
    model = deployment.model
    served = serves(deployment)
    if served and endpoint not in served:
        return not_served(model, endpoint, deployment)
    priced = "No price is known" if what is None else f"No price for {what} is known"
    return Refused(
        503,
        "price_unknown",
        f"{priced} for the model '{model}', so it is not served. The platform team must set model_info.base_model or a"
        " price in the gateway's configuration, or say model_info.unpriced: allow.",
        kind="server_error",
        headers=FINAL,
    )
