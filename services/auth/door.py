"""Who asks: an administrator, or a virtual key that may read about itself."""

from services.auth.directory import Directory
from services.auth.secret import Vault
from shared.access import Gatekeeper, Principal, bearer
from shared.clock import Clock
from shared.errors import ApiError
from shared.http import HttpRequest, headers_of
from shared.ids import KeyId
from shared.topology import key_kv


class Door:
    """Turns a request into a Principal or refuses it."""

    def __init__(self, gate: Gatekeeper, directory: Directory, vault: Vault, clock: Clock) -> None:
        self._gate = gate
        self._directory = directory
        self._vault = vault
        self._clock = clock

    def caller(self, request: HttpRequest) -> Principal:
        """An administrator, or a key that is in force. Raises ApiError 401, 503."""
        headers = headers_of(request)
        try:
            principal = self._gate.authenticate(headers, self._directory.secrets)
        except ApiError as error:
            if error.code == "invalid_api_key" and not self._directory.ready:
                raise ApiError(503, "unavailable", "The keys are not loaded yet; try again shortly.") from error
            raise
        if principal.key_id is not None:
            self._refuse_dead(principal.key_id, bearer(headers) or "")
        return principal

    def admin(self, request: HttpRequest) -> Principal:
        """An administrator. Raises ApiError 401, 403, 503."""
        principal = self.caller(request)
        if not principal.is_admin:
            raise ApiError(
                403,
                "not_allowed",
                "A virtual key may ask GET /key/info about itself; all else takes the master key.",
                kind="permission_error",
            )
        return principal

    def _refuse_dead(self, key_id: KeyId, secret: str) -> None:
        directory, now = self._directory, self._clock.now()
        record = directory.keys.get(key_kv(key_id))
        names = self._vault.names(secret)
        ends = [directory.secrets[name].not_after for name in names if name in directory.secrets]
        if record is None or any(name in directory.revoked for name in (key_kv(key_id), *names)):
            why = "revoked"
        elif record.blocked:
            why = "blocked"
        elif any(end is not None and end <= now for end in (record.expires_at, *ends)):
            why = "expired"
        else:
            return
        raise ApiError(401, "invalid_api_key", f"The API key is {why}.", kind="authentication_error")
