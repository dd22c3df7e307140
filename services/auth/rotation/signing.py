"""Signatures of webhooks, as Standard Webhooks has them. Nothing is stored: the secret follows from a pepper."""

import base64
import hmac

PREFIX = "whsec_"
_PURPOSE = b"tundish/webhook/v1\n"


class Signing:
    """Signing secrets, one for each key and URL, under every pepper that is listed (the current one first)."""

    def __init__(self, peppers: dict[str, bytes]) -> None:
        self._peppers = tuple(peppers.values())

    def secret(self, key_id: str, url: str) -> str:
        """What the receiver checks signatures with: `whsec_` and base64."""
        return PREFIX + base64.b64encode(self._secrets(key_id, url)[0]).decode()

    def signatures(self, key_id: str, url: str, *, message_id: str, timestamp: int, body: bytes) -> str:
        """The header `webhook-signature`: one signature for each pepper, so that a receiver who was given its secret
        under an older one need not be told anew before that is gone."""
        signed = f"{message_id}.{timestamp}.".encode() + body
        made = (hmac.digest(secret, signed, "sha256") for secret in self._secrets(key_id, url))
        return " ".join("v1," + base64.b64encode(signature).decode() for signature in made)

    def _secrets(self, key_id: str, url: str) -> list[bytes]:
        about = _PURPOSE + f"{key_id}\n{url}".encode()
        return [hmac.digest(pepper, about, "sha256") for pepper in self._peppers]
