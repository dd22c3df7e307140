"""What a request asks for, and which deployment serves it by which way."""

from typing import Any, NamedTuple
from urllib.parse import parse_qs

import msgspec

from services.proxy.domain.admission import Caller, Refused
from services.proxy.domain.asked import Asked
from services.proxy.domain.choice import Models
from services.proxy.domain.deployments import Deployment, Way
from services.proxy.domain.objects import Places, Seal, may_name, open_request, owner_of
from services.proxy.domain.paths import Endpoint, Route
from services.proxy.domain.raw import RawOperation, offered, raw_operation, raw_way
from services.proxy.domain.refused import not_served
from services.proxy.domain.requests import read_request

NAMING = (
    Endpoint.RESPONSES,
    Endpoint.MESSAGES,
    Endpoint.COUNT_TOKENS,
    Endpoint.IMAGES,
    Endpoint.IMAGE_EDITS,
    Endpoint.OCR,
)
"""Operations whose bodies may name stored objects anywhere; chat completions do in few places: see `may_name`."""


class Chosen(NamedTuple):
    """Where a call goes, and the body it takes there (ids opened)."""

    deployment: Deployment
    way: Way
    body: bytes


class Choosing:
    """Reads requests and finds their deployments."""

    def __init__(self, models: Models, places: Places, seal: Seal) -> None:
        self._models = models
        self._places = places
        self._seal = seal

    def read(self, route: Route, headers: dict[bytes, bytes], body: bytes) -> Asked:
        """What the body asks for. Raises BadRequest, or Refused for a raw path that is not offered."""
        endpoint = route.endpoint
        if endpoint is Endpoint.CHAT:
            return read_request(body, endpoint, route.model)
        if endpoint is Endpoint.RAW:
            endpoint = raw_of(route)[0].reads
        content_type = headers.get(b"content-type", b"application/json").decode("latin-1")
        return read_request(body, endpoint, route.model, content_type)

    def choose(self, route: Route, scope: Any, caller: Caller, asked: Asked, body: bytes) -> Chosen:
        """The deployment that serves, its way, and the body with the ids that Foundry knows. Raises Refused."""
        deployment: Deployment | None = None
        if asked.parts or asked.endpoint in NAMING or (asked.endpoint is Endpoint.CHAT and may_name(body)):
            opened = open_request(asked.endpoint, body, self._seal, owner_of(caller))
            deployment = self._places.pinned(asked.model, opened, asked.endpoint)
            body = opened.body
        if deployment is None:
            deployment = self._models.next(asked.model)
        if route.endpoint is Endpoint.RAW:
            return Chosen(deployment, self._raw_way(route, scope, deployment, caller), body)
        way = deployment.ways.get(asked.endpoint)
        if way is None:
            raise not_served(asked.model, asked.endpoint, deployment)
        return Chosen(deployment, way, body)

    def _raw_way(self, route: Route, scope: Any, deployment: Deployment, caller: Caller) -> Way:
        operation, named = raw_of(route)
        if named is not None and caller.aliases:
            named = caller.resolved(named)
        if named not in (None, deployment.name, deployment.model):
            raise Refused(404, "not_found", f"The path names another deployment than that of '{deployment.model}'.")
        versions = parse_qs(scope["query_string"].decode("latin-1")).get("api-version", [None])
        way = raw_way(operation, deployment, versions[-1])
        if way is None:
            raise Refused(404, "not_supported", f"The model '{deployment.model}' has no such path in Foundry.")
        return way


def resolved(asked: Asked, caller: Caller) -> Asked:
    """A request that names its model by an alias of the caller's as if it had named the model itself."""
    model = caller.resolved(asked.model)
    return asked if model == asked.model else msgspec.structs.replace(asked, model=model)


def raw_of(route: Route) -> tuple[RawOperation, str | None]:
    """The row of a raw path and the deployment that it names. Raises Refused."""
    provider = route.provider or ""
    found = raw_operation(provider, route.rest)
    if found is None:
        raise Refused(
            404,
            "not_supported",
            f"'{route.rest}' is not passed on behind /{provider}/{{model}}/. These paths are: {offered(provider)}.",
        )
    return found
