"""Which deployment must serve a request that names stored objects: the one that made them, or one beside it."""

from collections.abc import Mapping, Sequence

from services.proxy.domain.admission import Caller, Refused
from services.proxy.domain.deployments import Deployment
from services.proxy.domain.objects.opening import Unsealed
from services.proxy.domain.objects.seal import Opened
from services.proxy.domain.paths import Endpoint


class Places:
    """All deployments, by id and by model."""

    def __init__(self, models: Mapping[str, Sequence[Deployment]]) -> None:
        self._models = models
        self._by_id = {item.id: item for items in models.values() for item in items}

    def __contains__(self, model: str) -> bool:
        return model in self._models

    def find(self, deployment: str) -> Deployment | None:
        """A deployment by its id."""
        return self._by_id.get(deployment)

    def holder(self, opened: Opened) -> Deployment:
        """The deployment whose resource has an object. Raises Refused when the configuration has it no more."""
        found = self._by_id.get(opened.deployment)
        if found is None:
            raise Refused(
                410,
                "deployment_gone",
                "The deployment that has this object is no longer in the gateway's configuration.",
                headers=((b"x-should-retry", b"false"),),
            )
        return found

    def pinned(self, model: str, unsealed: Unsealed, endpoint: Endpoint) -> Deployment | None:
        """The deployment of a model that can see all objects a request names; None when it names none.

        Raises Refused (400) when the model has no such deployment.
        """
        if unsealed.deployment is None and not unsealed.resources:
            return None
        bases = {self.base(one) for one in unsealed.resources}
        for item in self._models.get(model, ()):
            exact = unsealed.deployment is None or item.id == unsealed.deployment
            if exact and bases <= {item.base} and (not item.ways or endpoint in item.ways):
                return item
        raise Refused(
            400,
            "object_elsewhere",
            f"The request names responses, items or files that the model {model!r} cannot see: they were made by"
            " another model, or stand on another Azure resource. Name their model, or make them anew.",
            param="model",
        )

    def first(self, caller: Caller, endpoint: Endpoint, model: str | None) -> Deployment | None:
        """The first deployment that offers an operation: of a model, or of any that the caller may use."""
        for name, items in self._models.items():
            if model is not None and name != model:
                continue
            if model is None and not caller.may_use(name):
                continue
            for item in items:
                if endpoint in item.ways:
                    return item
        return None

    def base(self, deployment: str) -> str:
        """The resource of a deployment, by its base URL; empty for one that is not configured."""
        found = self._by_id.get(deployment)
        return "" if found is None else found.base
