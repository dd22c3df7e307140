"""Keys that end because of what became of their owner: refused at once, recorded after."""

from collections.abc import Sequence

import msgspec

from services.auth.answers.revocations import FleetAnswer
from services.auth.domain.members import allowed_role
from services.auth.keys.revocations import Order
from services.auth.parts import Parts
from services.auth.store_people import Owned
from shared.errors import ApiError
from shared.ids import KeyId


class Died(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that work nowhere any more. `fleet` is None when there were none."""

    keys: tuple[KeyId, ...] = ()
    fleet: FleetAnswer | None = None
    warnings: tuple[str, ...] = ()


def excess(owned: Owned) -> str | None:
    """Why a key is more than its owner may have; None when it is not."""
    if owned.user_deleted:
        return f"the user {owned.user_id} was deleted"
    if owned.team_id is not None and owned.member_role is None:
        return f"the user {owned.user_id} is no member of the team {owned.team_id} any more"
    return allowed_role(owned.user_role, owned.role, owned.reach, owned.member_role)


async def end_keys(parts: Parts, keys: Sequence[Owned], actor: str, cause: str) -> Died:
    """Refuse keys everywhere and delete them. Raises ApiError 503 when that is not in force, StoreUnavailable."""
    orders: list[Order] = []
    for owned in keys:
        try:
            orders.append(await parts.revoking.order_for_key("deleted", owned.key_id))
        except ApiError as error:
            if error.status != 404:
                raise  # one that is dead by now needs no ending
    if not orders:
        return Died()
    revoked = await parts.revoking.revoke(orders, actor, cause=cause)
    ended = tuple(KeyId(order.scope_id) for order in orders)
    return Died(keys=ended, fleet=revoked.fleet, warnings=tuple(revoked.warnings))
