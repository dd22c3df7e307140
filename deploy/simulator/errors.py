"""Foundry's error bodies, in the several envelopes and the words that clients match on."""

import msgspec

from deploy.simulator.wire import JSON_TYPE, Headers

JSON_HEADERS: Headers = [JSON_TYPE]
FILTER_LINK = "https://go.microsoft.com/fwlink/?linkid=2198766"
SUPPORT_LINK = "https://go.microsoft.com/fwlink/?linkid=2213926"
OPERATIONS_LINK = "https://go.microsoft.com/fwlink/?linkid=2197993"
QUOTA_LINK = "https://aka.ms/oai/quotaincrease"
GA_VERSION = "2024-10-21"
WRONG_KEY = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key "
    "for an active subscription and use a correct regional API endpoint for your resource."
)
NO_KEY = (
    "Access denied due to missing subscription key. Make sure to include subscription key when making "
    "requests to an API."
)
NO_KEY_NEW = (
    "Access denied due to a missing application credentials or subscription key. Make sure to include an "
    "application token or a subscription key when making requests to the API."
)
NO_DEPLOYMENT = (
    "The API deployment for this resource does not exist. If you created the deployment within the last "
    "5 minutes, please wait a moment and try again."
)
FILTERED_PROMPT = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. "
    "Please modify your prompt and retry. To learn more about our content filtering policies please "
    f"read our documentation: {FILTER_LINK}"
)
SAFE = {"filtered": False, "severity": "safe"}
FILTERED = {
    "hate": SAFE,
    "jailbreak": {"filtered": True, "detected": True},
    "self_harm": SAFE,
    "sexual": SAFE,
    "violence": {"filtered": True, "severity": "medium"},
}
ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class FoundryError(Exception):
    """An answer that is an error: status, body and headers of its own.

    `too_long`: the context was too long, which a provisioned deployment may pass on.
    """

    def __init__(self, status: int, body: object, headers: Headers | None = None, *, too_long: bool = False) -> None:
        super().__init__(status)
        self.status = status
        self.body = msgspec.json.encode(body)
        self.headers = [*JSON_HEADERS, *(headers or [])]
        self.too_long = too_long


def azure(code: str, message: str) -> dict[str, object]:
    """The Azure envelope."""
    return {"error": {"code": code, "message": message}}


def gateway(status: int, message: str, activity_id: str | None = None) -> dict[str, object]:
    """The envelope of the gateway before the service."""
    body: dict[str, object] = {"statusCode": status, "message": message}
    return body if activity_id is None else {**body, "activityId": activity_id}


def openai(message: str, code: str | None, param: str | None) -> dict[str, object]:
    """The OpenAI envelope of a request that is wrong."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def anthropic(status: int, message: str, request_id: str) -> dict[str, object]:
    """The Anthropic envelope, its type by the status."""
    kind = ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": f"req_{request_id}"}


def as_anthropic(status: int, body: bytes, request_id: str) -> bytes:
    """An error body of any envelope put into Anthropic's; what is no JSON object stays as it is."""
    try:
        given = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        inner = msgspec.json.decode(given.get("error", msgspec.Raw(body)), type=dict[str, msgspec.Raw])
        message = msgspec.json.decode(inner.get("message", msgspec.Raw(b'"The request failed."')), type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return body
    return msgspec.json.encode(anthropic(status, message, request_id))


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
    if surface == "serverless":
        return FoundryError(404, {"status": "Serverless endpoint not found"})
    if surface == "v1":
        return FoundryError(404, openai(NO_DEPLOYMENT, "DeploymentNotFound", None))
    return FoundryError(404, azure("DeploymentNotFound", NO_DEPLOYMENT))


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


def context_too_long(limit: int, prompt: int, completion: int, param: str = "messages") -> FoundryError:
    """More tokens than the model's window."""
    message = (
        f"This model's maximum context length is {limit} tokens, however you requested {prompt + completion} "
        f"tokens ({prompt} in your prompt; {completion} for the completion). Please reduce your prompt; or "
        "completion length."
    )
    return FoundryError(400, openai(message, "context_length_exceeded", param), too_long=True)


def missing_key(new_wording: bool = False) -> FoundryError:
    """No credential at all."""
    return FoundryError(401, gateway(401, NO_KEY_NEW if new_wording else NO_KEY))


def wrong_key() -> FoundryError:
    """A key that is not the resource's."""
    return FoundryError(401, azure("401", WRONG_KEY))


def wrong_token(audience: str = "https://cognitiveservices.azure.com") -> FoundryError:
    """A bearer that is no valid Entra token; the audience shown is the expected one."""
    message = f"Unauthorized. Access token is missing, invalid, audience is incorrect ({audience}), or have expired."
    return FoundryError(401, gateway(401, message))


def no_role(principal: str | None = None) -> FoundryError:
    """A good token whose holder lacks the data action; the newer wording names the principal."""
    message = "Principal does not have access to API/Operation."
    if principal is not None:
        message = (
            f"The principal `{principal}` lacks the required data action `Microsoft.CognitiveServices/accounts/"
            "OpenAI/deployments/chat/completions/action` to perform `POST /openai/deployments/{deployment-id}/"
            "chat/completions` operation."
        )
    return FoundryError(401, azure("PermissionDenied", message))


def keys_off() -> FoundryError:
    """A key where the resource takes tokens only."""
    message = "Key based authentication is disabled for this resource."
    return FoundryError(403, azure("AuthenticationTypeDisabled", message))


def network_refused() -> FoundryError:
    """A caller from outside the resource's network."""
    return FoundryError(403, azure("403", "Access denied due to Virtual Network/Firewall rules."))


def blocked() -> FoundryError:
    """A resource that was blocked for abuse."""
    message = "Your resource has been temporarily blocked because we detected behavior that may violate our terms."
    return FoundryError(403, azure("403", message))


def body_too_large(limit: int) -> FoundryError:
    """The request body passes the simulator's bound."""
    return FoundryError(413, azure("413", f"The request body is larger than {limit} bytes."))


def content_filter() -> dict[str, object]:
    """The prompt was refused by the content filter."""
    error = {"message": FILTERED_PROMPT, "type": None, "param": "prompt", "code": "content_filter", "status": 400}
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": FILTERED}
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


def rate_limited(
    deployment: str, model: str, region: str, operation: str, what: str = "token", wait_s: int = 60
) -> dict[str, object]:
    """The rate limit of a deployment, `token` or `call`, in the current words."""
    message = (
        f"Your requests to {deployment} for {model} in {region} have exceeded the {what} rate limit for your "
        f"current AIServices S0 pricing tier. This request was for {operation} under Azure OpenAI API "
        f"version {GA_VERSION}. Please retry after {wait_s} seconds. To increase your default rate limit, visit: "
        f"{QUOTA_LINK}."
    )
    return azure("RateLimitReached", message)


def rate_limited_older(operation: str, what: str = "token", wait_s: int = 9) -> dict[str, object]:
    """The same in the older words."""
    message = (
        f"Requests to the {operation} Operation under Azure OpenAI API version {GA_VERSION} have exceeded "
        f"{what} rate limit of your current OpenAI S0 pricing tier. Please retry after {wait_s} seconds. Please "
        f"go here: {QUOTA_LINK} if you would like to further increase the default rate limit."
    )
    return azure("429", message)


def rate_limited_partner(kind: str, limit: int, wait_s: int) -> tuple[dict[str, object], Headers]:
    """A partner model's limit, Claude's among them: body and headers."""
    message = f"Rate limit of {limit} per 60s exceeded for {kind}. Please wait {wait_s} seconds before retrying."
    headers: Headers = [
        (b"x-ms-error-code", b"RateLimitReached"),
        (b"x-ratelimit-type", kind.encode()),
        (b"x-ratelimit-timeremaining", b"%d" % wait_s),
        (b"retry-after", b"%d" % wait_s),
    ]
    return {"error": {"code": "RateLimitReached", "message": message, "details": message}}, headers
