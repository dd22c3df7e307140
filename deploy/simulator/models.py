"""The lists of models: base models, not deployments, as Foundry has it; and what a `/models` endpoint is."""

import re
from typing import Any

import msgspec

from deploy.simulator import catalogue, errors
from deploy.simulator.answers import Answer
from deploy.simulator.asks import Ask

CREATED = 1_735_689_600
DEPRECATION = {"inference": CREATED + 63_072_000}


def _entry(name: str) -> dict[str, Any]:
    lowered = name.lower()
    embeds = lowered.startswith(catalogue.EMBEDDING)
    chats = not embeds and catalogue.NO_CHAT.match(lowered) is None
    capabilities = {
        "fine_tune": False,
        "inference": True,
        "completion": catalogue.COMPLETIONS.match(lowered) is not None,
        "chat_completion": chats,
        "embeddings": embeds,
    }
    return {
        "status": "succeeded",
        "capabilities": capabilities,
        "lifecycle_status": "generally-available",
        "deprecation": DEPRECATION,
        "id": name,
        "created_at": CREATED,
        "updated_at": CREATED,
        "object": "model",
        "created": CREATED,
        "owned_by": "system",
    }


_LIST = {name: _entry(name) for name in sorted({catalogue.served_model(name) for name in catalogue.NAMES})}


async def listed(ask: Ask, match: re.Match[str]) -> Answer:
    """All base models."""
    body = msgspec.json.encode({"data": list(_LIST.values()), "object": "list"})
    return Answer(id="", usage=None, body=body)


async def one(ask: Ask, match: re.Match[str]) -> Answer:
    """One base model."""
    found = _LIST.get(match["id"])
    if found is None:
        raise errors.not_found()
    return Answer(id="", usage=None, body=msgspec.json.encode(found))


async def info(ask: Ask, match: re.Match[str]) -> Answer:
    """What the model behind a `/models` endpoint is."""
    name = ask.site.options.serverless
    provider = name.partition("-")[0]
    body = {"model_name": name, "model_type": "chat_completion", "model_provider_name": provider}
    return Answer(id="", usage=None, body=msgspec.json.encode(body))
