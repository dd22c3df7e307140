"""Key authentication of each surface. Entra tokens are not accepted: their refusal is."""

from deploy.simulator import errors
from deploy.simulator.wire import Caller

BEARER = b"bearer "


def check(caller: Caller, surface: str, key: bytes) -> None:
    """Pass a caller that holds the resource's key; raises the 401 that fits what it sent.

    The `api-key` header is accepted everywhere, the key as a bearer on v1 only.
    """
    if caller.api_key is not None:
        if caller.api_key != key:
            raise errors.wrong_key()
        return
    sent = caller.authorization
    if sent is None:
        raise errors.missing_key()
    if sent[: len(BEARER)].lower() != BEARER:
        raise errors.wrong_token()
    bearer = sent[len(BEARER) :].strip()
    if surface == "v1" and bearer == key:
        return
    if surface == "v1" and bearer.count(b".") != 2:
        raise errors.wrong_key()
    raise errors.wrong_token()
