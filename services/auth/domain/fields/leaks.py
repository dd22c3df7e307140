"""The fields of requests about secrets that should not be known."""

from services.auth.domain.fields.base import Fields

REVOKE_SECRET = Fields(known=("key", "key_alias", "leaked", "reason"), refused={})
REPORT_LEAK = Fields(known=("key", "source", "url"), refused={})
