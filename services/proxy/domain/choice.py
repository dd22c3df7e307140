"""Public model names and the deployments behind them: which one serves the next call."""

from collections.abc import Mapping, Sequence

from services.proxy.domain.deployments import Deployment


class Models:
    """Deployments by public name, taken in turn."""

    def __init__(self, models: Mapping[str, Sequence[Deployment]]) -> None:
        self._models = models
        self._turn = 0

    def __contains__(self, model: str) -> bool:
        return model in self._models

    def names(self) -> list[str]:
        """All public names, in the order of the configuration."""
        return list(self._models)

    def of(self, model: str) -> Sequence[Deployment]:
        """The deployments of a model, in the order of the configuration."""
        return self._models[model]

    def next(self, model: str) -> Deployment:
        """The deployment that serves the next call of a model."""
        deployments = self._models[model]
        if len(deployments) == 1:
            return deployments[0]
        self._turn += 1
        return deployments[self._turn % len(deployments)]
