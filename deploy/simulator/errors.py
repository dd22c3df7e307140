"""Foundry's error bodies, in the several envelopes and the words that clients match on."""

import msgspec

from deploy.simulator.wire import JSON_TYPE, Headers

JSON_HEADERS: Headers = [JSON_TYPE]
FILTER_LINK = "https://go.microsoft.com/fwlink/?linkid=2198766"
SUPPORT_LINK = "https://go.microsoft.com/fwlink/?linkid=2213926"
OPERATIONS_LINK = "https://go.microsoft.com/fwlink/?linkid=2197993"
WRONG_KEY = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key "
    "for an active subscription and use a correct regional API endpoint for your resource."
)


class FoundryError(Exception):
    """An answer that is an error: status, body and headers of its own."""

    def __init__(self, status: int, body: object, headers: Headers | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = msgspec.json.encode(body)
        self.headers = [*JSON_HEADERS, *(headers or [])]


def azure(code: str, message: str) -> dict[str, object]:
    """The Azure envelope."""
    return {"error": {"code": code, "message": message}}


def openai(message: str, code: str | None, param: str | None) -> dict[str, object]:
    """The OpenAI envelope of a request that is wrong."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def invalid(message: str, code: str | None = None, param: str | None = None) -> FoundryError:
    """400 in the OpenAI envelope."""
    return FoundryError(400, openai(message, code, param))


def not_found() -> FoundryError:
    """Wrong path, method or api-version."""
    return FoundryError(404, azure("404", "Resource not found"))


def no_deployment(surface: str, name: str) -> FoundryError:
    """The resource has no such deployment; each surface says it in its own way."""
    if surface == "models":
        return FoundryError(404, azure("unknown_model", f"Unknown model: {name}"))
    message = (
        "The API deployment for this resource does not exist. If you created the deployment within the last "
        "5 minutes, please wait a moment and try again."
    )
    if surface == "v1":
        return FoundryError(404, openai(message, "DeploymentNotFound", None))
    return FoundryError(404, azure("DeploymentNotFound", message))


def no_model_name(surface: str) -> FoundryError:
    """The body names no model on a surface that takes it from there."""
    if surface == "models":
        message = "No model specified in request. Please provide a model name in the request body."
        return FoundryError(400, azure("no_model_name", message))
    return invalid("you must provide a model parameter", param="model")


def api_not_supported() -> FoundryError:
    """A Claude deployment on an OpenAI path."""
    return FoundryError(404, azure("api_not_supported", "Requested API is currently not supported"))


def wrong_operation(operation: str, model: str) -> FoundryError:
    """Chat with an embedding model, or the reverse."""
    message = (
        f"The {operation} operation does not work with the specified model, {model}. Please choose different "
        "model and try again. You can learn more about which models can be used with each operation here: "
        f"{OPERATIONS_LINK}."
    )
    return FoundryError(400, azure("OperationNotSupported", message))


def missing_key() -> FoundryError:
    """No credential at all."""
    message = (
        "Access denied due to missing subscription key. Make sure to include subscription key when making "
        "requests to an API."
    )
    return FoundryError(401, {"statusCode": 401, "message": message})


def wrong_key() -> FoundryError:
    """A key that is not the resource's."""
    return FoundryError(401, azure("401", WRONG_KEY))


def wrong_token() -> FoundryError:
    """A bearer that is no valid Entra token."""
    message = (
        "Unauthorized. Access token is missing, invalid, audience is incorrect "
        "(https://cognitiveservices.azure.com), or have expired."
    )
    return FoundryError(401, {"statusCode": 401, "message": message})


def body_too_large(limit: int) -> FoundryError:
    """The request body passes the simulator's bound."""
    return FoundryError(413, azure("413", f"The request body is larger than {limit} bytes."))


def content_filter() -> dict[str, object]:
    """The prompt was refused by the content filter."""
    message = (
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. "
        "Please modify your prompt and retry. To learn more about our content filtering policies please "
        f"read our documentation: {FILTER_LINK}"
    )
    safe = {"filtered": False, "severity": "safe"}
    result = {
        "hate": safe,
        "jailbreak": {"filtered": True, "detected": True},
        "self_harm": safe,
        "sexual": safe,
        "violence": {"filtered": True, "severity": "medium"},
    }
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": result}
    error = {"message": message, "type": None, "param": "prompt", "code": "content_filter", "status": 400}
    return {"error": {**error, "innererror": inner}}


def server_error(request_id: str) -> dict[str, object]:
    """Foundry's own failure, also the error inside a stream."""
    message = (
        "The server had an error while processing your request. Sorry about that! You can retry your "
        f"request, or contact us through an Azure support request at: {SUPPORT_LINK} if you keep seeing this "
        f"error. (Please include the request ID {request_id} in your message.)"
    )
    return {"error": {"message": message, "type": "server_error", "param": None, "code": None}}


def overloaded(request_id: str) -> dict[str, object]:
    """The model has no room."""
    message = (
        "That model is currently overloaded with other requests. You can retry your request, or contact us "
        f"through an Azure support request at: {SUPPORT_LINK} if the error persists. (Please include the "
        f"request ID {request_id} in your message.)"
    )
    return {"error": {"message": message, "type": "server_error", "param": None, "code": None}}


def rate_limited(deployment: str, model: str, region: str, operation: str) -> dict[str, object]:
    """The token rate limit of a deployment."""
    message = (
        f"Your requests to {deployment} for {model} in {region} have exceeded the token rate limit for your "
        f"current AIServices S0 pricing tier. This request was for {operation} under Azure OpenAI API "
        "version 2024-10-21. Please retry after 60 seconds. To increase your default rate limit, visit: "
        "https://aka.ms/oai/quotaincrease."
    )
    return azure("RateLimitReached", message)
