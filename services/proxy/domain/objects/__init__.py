"""Stored objects: ids that only their owner can use, and what is known of what they stand for."""

from services.proxy.domain.objects.opening import Unsealed, may_name, open_request
from services.proxy.domain.objects.places import Places
from services.proxy.domain.objects.seal import Opened, Seal, not_found, owner_of
from services.proxy.domain.objects.sealing import SealingTransform, SoundSealing, seal_text

__all__ = [
    "Opened",
    "Places",
    "Seal",
    "SealingTransform",
    "SoundSealing",
    "Unsealed",
    "may_name",
    "not_found",
    "open_request",
    "owner_of",
    "seal_text",
]
