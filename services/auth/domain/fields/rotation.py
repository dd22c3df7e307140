"""The fields of requests about the renewal of secrets (those of POST /key/regenerate are with the keys)."""

from services.auth.domain.fields.base import Fields

TERMS = ("auto_rotate", "rotation_interval", "grace_period", "rotation_delivery", "rotation_retire")
"""What POST /key/generate and /key/update say about it."""
ROTATE_KEY = Fields(known=(), refused={})
EXCHANGE_KEY = Fields(known=(), refused={})
