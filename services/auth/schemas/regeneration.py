"""`POST /key/regenerate` and `/key/{key}/regenerate`."""

from services.auth.schemas.keys import UpdateKey


class RegenerateKey(UpdateKey, frozen=True, kw_only=True):
    """A new secret for a key, with a change of its settings. `grace_period` is that of this call: for how long the
    secrets before go on; without it they end now. `new_key` is a secret of the caller's own."""

    new_key: str | None = None
