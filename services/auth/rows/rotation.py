"""How a key's secret is renewed, as an answer."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from msgspec import UNSET

from services.auth.answers.rotation import DeliveryRow, RotatingKey, RotationRow, TargetRow
from services.auth.domain import rotation
from services.auth.domain.key_state import KeyState
from services.auth.domain.versions import EXCHANGE, is_collectable, newest, old_ends_at, way_of
from services.auth.store_rotation import Trouble
from shared.access import Principal, Right
from shared.events import RotationTerms, Target

R = TypeVar("R", bound=RotationRow)
SigningSecret = Callable[[str], str]
"""The signing secret of a webhook's URL."""


def with_rotation(
    row: R, key: KeyState, now: datetime, signing: SigningSecret | None = None, *, caller: Principal | None = None
) -> R:
    """The row of a key with its renewal filled in; `signing` only in the answer to the call that set the targets.

    The URL of a webhook, which may carry credentials, is for a `caller` who may change the key.
    """
    terms = key.rotation
    row.last_rotation_at = rotation.last_at(key)
    row.rotation_count = rotation.count_of(key)
    if terms is None:
        return row
    row.auto_rotate = terms.interval is not None
    row.rotation_interval = terms.interval
    row.grace_period = terms.grace
    row.rotation_retire = terms.retire
    row.rotation_delivery = target_rows(terms, signing, whole=caller is not None and caller.may(Right.KEY_WRITE))
    row.key_rotation_at = rotation.next_at(key, now)
    return row


def target_rows(terms: RotationTerms, signing: SigningSecret | None = None, *, whole: bool = False) -> list[TargetRow]:
    """The entries of `rotation_delivery`, with the URLs of webhooks `whole` or in short."""
    found = [_target_row(target, signing, whole or signing is not None) for target in terms.targets]
    return [*found, TargetRow(type=EXCHANGE)] if terms.exchange else found


def _target_row(target: Target, signing: SigningSecret | None, whole: bool) -> TargetRow:
    match target.kind:
        case "key_vault":
            return TargetRow(type=target.kind, vault=target.place, secret=target.name)
        case "webhook":
            secret = UNSET if signing is None else signing(target.place)
            url = target.place if whole else in_short(target)
            return TargetRow(type=target.kind, url=url, signing_secret=secret)
        case "kubernetes":
            secret, _, entry = target.name.partition("/")
            return TargetRow(type=target.kind, namespace=target.place, secret=secret, entry=entry)


def in_short(webhook: Target) -> str:
    """A webhook's URL without what may be secret in it: the hash behind the host is that of the short names of targets,
    and tells two URLs apart."""
    scheme, _, _ = webhook.place.partition("://")
    return f"{scheme}://{way_of(webhook).removeprefix('webhook:')}"


def rotating_key(key: KeyState, troubles: list[Trouble], now: datetime) -> RotatingKey:
    """A row of GET /rotation/list."""
    terms = key.rotation or RotationTerms()
    found = newest(key)
    worst = max(troubles, key=lambda trouble: trouble.attempts, default=None)
    return RotatingKey(
        token_id=key.key_id,
        key_alias=key.alias,
        team_id=key.team_id,
        organization_id=key.org_id,
        state=rotation.stage_of(key, now),
        version=0 if found is None else found.version,
        auto_rotate=terms.interval is not None,
        rotation_interval=terms.interval,
        key_rotation_at=rotation.next_at(key, now),
        last_rotation_at=rotation.last_at(key),
        rotation_count=rotation.count_of(key),
        old_key_expires=None if found is None else old_ends_at(key, found.version),
        collectable=found is not None and is_collectable(key, found),
        attempts=0 if worst is None else worst.attempts,
        last_error=None if worst is None else worst.last_error,
        deliveries=[
            DeliveryRow(
                target=trouble.way,
                version=trouble.version,
                attempts=trouble.attempts,
                last_error=trouble.last_error,
                next_attempt_at=trouble.next_at,
            )
            for trouble in troubles
        ],
    )
