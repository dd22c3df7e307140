"""The models that a key may use, in the shapes of OpenAI, Anthropic, Azure and LiteLLM."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from services.proxy.domain.admission import Caller, check_model
from services.proxy.domain.deployments import Deployment
from services.proxy.domain.paths import Endpoint, Route
from services.proxy.domain.price_keys import price_keys
from services.proxy.domain.surfaces import serves

Json = dict[str, object]

CREATED_AT = datetime(2026, 1, 1, tzinfo=UTC)
"""Foundry gives deployments no creation time, so one date stands for all."""
PAGE_MAX = 1_000
CAPABILITIES: dict[str, Endpoint] = {
    "chat_completion": Endpoint.CHAT,
    "completion": Endpoint.COMPLETIONS,
    "embeddings": Endpoint.EMBEDDINGS,
    "responses": Endpoint.RESPONSES,
}
"""What Azure's list of models says of each."""


class ModelPages:
    """All public models and their deployments, shown to callers."""

    def __init__(self, models: Mapping[str, Sequence[Deployment]]) -> None:
        self._models = models

    def page(self, route: Route, caller: Caller | None, *, anthropic: bool) -> Json:
        """The answer to a route for models. `caller` None is the administrator, who sees all, and where.

        `anthropic`: the caller's client is Anthropic's. Raises Refused for a model that the caller may not use.
        """
        if route.endpoint is Endpoint.MODEL_INFO:
            return self._infos(route.path, caller)
        anthropic = anthropic or route.dialect == "anthropic"
        show: Callable[[str], Json] = openai_entry
        if route.path == "/openai":
            show = partial(self._azure, caller)
        if anthropic:
            show = anthropic_entry
        if route.model is not None:
            model = route.model if caller is None else caller.resolved(route.model)
            if caller is not None:
                check_model(caller, model, model in self._models)
            return show(route.model)
        entries = [show(name) for name in self._callable(caller)]
        if not anthropic:
            return {"object": "list", "data": entries}
        first, last = (entries[0]["id"], entries[-1]["id"]) if entries else (None, None)
        return {"data": entries, "has_more": False, "first_id": first, "last_id": last}

    def _names(self, caller: Caller | None) -> list[str]:
        return [name for name in self._models if caller is None or caller.may_use(name)]

    def _callable(self, caller: Caller | None) -> list[str]:
        """All that a caller may send as a model's name: public names, then its aliases. A name that is both is an alias
        first, here as in calls."""
        if caller is None or not caller.aliases:
            return self._names(caller)
        names = dict.fromkeys((*self._models, *caller.aliases))
        meant = ((name, caller.resolved(name)) for name in names)
        return [name for name, model in meant if model in self._models and caller.may_use(model)]

    def _azure(self, caller: Caller | None, name: str) -> Json:
        model = name if caller is None else caller.resolved(name)
        ways = {endpoint for item in self._models[model] for endpoint in serves(item)}
        return {
            "id": name,
            "object": "model",
            "status": "succeeded",
            "lifecycle_status": "generally-available",
            "created_at": int(CREATED_AT.timestamp()),
            "updated_at": int(CREATED_AT.timestamp()),
            "capabilities": {
                "fine_tune": False,
                "inference": True,
                **{capability: endpoint in ways for capability, endpoint in CAPABILITIES.items()},
            },
        }

    def _infos(self, path: str, caller: Caller | None) -> Json:
        names = self._names(caller)
        if path == "/model_group/info":
            return {"data": [group_entry(name, self._models[name]) for name in names]}
        entries = [info_entry(item, address=caller is None) for name in names for item in self._models[name]]
        if path != "/v2/model/info":
            return {"data": entries}
        return {
            "data": entries,
            "total_count": len(entries),
            "current_page": 1,
            "total_pages": 1,
            "size": len(entries),
        }


def openai_entry(name: str) -> Json:
    """A model as OpenAI's clients read it."""
    return {"id": name, "object": "model", "created": int(CREATED_AT.timestamp()), "owned_by": "tundish"}


def anthropic_entry(name: str) -> Json:
    """A model as Anthropic's clients read it."""
    return {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"}


def info_entry(deployment: Deployment, *, address: bool) -> Json:
    """A deployment as LiteLLM's `/model/info` shows it; `address`: with its resource. Never with a credential."""
    prefix = "azure" if deployment.provider == "azure" else "azure_ai"
    params: Json = {"model": f"{prefix}/{deployment.name}"}
    if address:
        params["api_base"] = deployment.base
    return {
        "model_name": deployment.model,
        "litellm_params": params,
        "model_info": {
            "id": deployment.id,
            "db_model": False,
            "base_model": deployment.model_name,
            "priced_by": deployment.priced_by,
            "discovered_by": deployment.discovered_by,
            "guessed": deployment.guessed,
            "family": deployment.family,
            "family_guessed": deployment.family_guessed,
            "closed_by_name": deployment.closed,
            "surface": deployment.surface,
            "endpoints": [str(endpoint) for endpoint in serves(deployment)],
            "litellm_provider": prefix,
            **_known(deployment),
        },
    }


def group_entry(name: str, deployments: Sequence[Deployment]) -> Json:
    """A public model as LiteLLM's `/model_group/info` shows it: of several deployments the most that one has."""
    known = [_known(item) for item in deployments]
    merged: Json = {}
    for facts in known:
        for key, value in facts.items():
            old = merged.get(key)
            if isinstance(value, (int, float)) and isinstance(old, (int, float)) and not isinstance(value, bool):
                merged[key] = max(old, value)
            elif isinstance(value, bool):
                merged[key] = bool(old) or value
            else:
                merged[key] = value if old is None else old
    providers = dict.fromkeys("azure" if item.provider == "azure" else "azure_ai" for item in deployments)
    return {"model_group": name, "providers": list(providers), **merged}


def _known(deployment: Deployment) -> Json:
    """Mode, limits, prices and abilities under LiteLLM's names; what is not known is null or left out."""
    facts, ways = deployment.facts, serves(deployment)
    prices: Json = {} if deployment.row is None else dict(price_keys(deployment.row))
    return {
        "mode": facts.mode or None,
        "max_tokens": facts.max_output,
        "max_input_tokens": facts.context_window,
        "max_output_tokens": facts.max_output,
        "input_cost_per_token": None,
        "output_cost_per_token": None,
        **prices,
        "supports_reasoning": facts.reasoning,
        "refuses_sampling": facts.refuses_sampling,
        "effort_with_tools": facts.effort_with_tools,
        "adaptive_thinking": facts.adaptive_thinking,
        "supports_native_streaming": Endpoint.CHAT in ways or Endpoint.RESPONSES in ways,
    }
