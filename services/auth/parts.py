"""What the use cases are made of, in one bundle, and the ways they all find a key and wait for the relay."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from msgspec import UnsetType

from services.auth.commits import Change, Commits
from services.auth.domain.budget_object import existing
from services.auth.domain.key_state import KeyState
from services.auth.domain.notices import notices
from services.auth.domain.org import OrgState
from services.auth.domain.scope import Attachment, MoneyChange
from services.auth.domain.team import TeamState
from services.auth.domain.values import refuse_odd, scope_id
from services.auth.keys.revocations import Revocations
from services.auth.keys.revoking import Revoking
from services.auth.people.owners import Owners
from services.auth.relay import Relay
from services.auth.rotation.signing import Signing
from services.auth.rotation.targets.couriers import Couriers
from services.auth.secret import Vault, mistyped
from services.auth.spend import Ledger
from services.auth.store import Duplicate, NoSuchBudget, TooManyKeys
from services.auth.store_keys import LIVING_KEYS_MAX
from services.auth.store_people import PeopleViews
from services.auth.store_views import Views
from shared.access import Principal
from shared.clock import Clock
from shared.errors import ApiError, StoreUnavailable
from shared.ids import KeyId
from shared.people import People
from shared.policy import KeyRecord
from shared.tasks import Supervisor
from shared.topology import key_kv

S = TypeVar("S", KeyState, TeamState, OrgState)

LATE = "recorded, and in force as soon as the proxies hear of it: the message bus does not answer at the moment"
_NO_KEY = (
    "There is no such key: name it by its secret, its id or its stored hash; an alias is understood only where a call"
    " takes key_alias."
)
_TAKEN = {
    "key_alias": "another key has this alias: aliases of keys are unique",
    "team_alias": "another team of the organization has this alias",
    "organization_alias": "another organization has this alias",
    "user_email": "another user has this address",
    "key": "this secret is, or was, that of another key: a secret is used once",
}


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one running service."""

    commits: Commits
    views: Views
    people: People
    revocations: Revocations
    revoking: Revoking
    relay: Relay
    vault: Vault
    couriers: Couriers
    signing: Signing
    ledger: Ledger
    tasks: Supervisor
    clock: Clock
    users: PeopleViews
    owners: Owners

    async def find(self, reference: str, caller: Principal) -> KeyId:
        """The key that a secret, a key id or a hash names. Raises ApiError 404, 503.

        A key out of the caller's reach is none. The mirror is asked first: it needs no database.
        """
        refuse_odd("key", reference)
        key_id = self.mirrored(reference)
        if key_id is None or key_kv(key_id) not in self.people.keys:
            try:
                digests = self.vault.digests(reference)
                key_id = await self.views.key_of_digest(digests) if digests else KeyId(reference)
            except StoreUnavailable as error:
                raise _unseen() from error
        if key_id is None or not await self._within(key_id, caller):
            raise no_key(reference)
        return key_id

    def mirrored(self, reference: str) -> KeyId | None:
        """What the mirror knows of a reference."""
        if key_kv(reference) in self.people.keys:
            return KeyId(reference)
        for name in self.vault.names(reference):
            record = self.people.secrets.get(name)
            if record is not None:
                return record.key_id
        return None

    async def find_alias(self, alias: str, caller: Principal) -> KeyId:
        """The living key of an alias, within the caller's reach. Raises ApiError 404, 503."""
        refuse_odd("key_alias", alias)
        try:
            key_id = await self.views.key_of_alias(alias)
        except StoreUnavailable as error:
            key_id = self.people.find_alias(alias)
            if key_id is None:
                raise _unseen() from error
        if key_id is None or not await self._within(key_id, caller):
            raise no_alias(alias)
        return key_id

    async def key_named(self, key: str | None, alias: str | None, caller: Principal) -> KeyId:
        """The key that a request names, by reference or by alias. Raises ApiError 400, 404, 503."""
        if key is not None and alias is None:
            return await self.find(key, caller)
        if alias is not None and key is None:
            return await self.find_alias(alias, caller)
        raise ApiError(400, "invalid_value", "Say which key: send key, or key_alias, and not both.", param="key")

    async def _within(self, key_id: KeyId, caller: Principal) -> bool:
        """Whether there is such a key, living or deleted, within the caller's reach. Raises ApiError 503."""
        key: KeyRecord | KeyState | None = self.people.keys.get(key_kv(key_id))
        if key is None:
            try:
                key = await self.views.key(key_id)
            except StoreUnavailable as error:
                raise _unseen() from error
        return key is not None and caller.covers_key(key.org_id, key.team_id, key.reach)

    async def attachment(
        self, budget_id: str | UnsetType | None, *, param: str = "budget_id"
    ) -> Attachment | UnsetType | None:
        """The budget object of an id as a scope takes it over. Raises ApiError 400, 404."""
        if isinstance(budget_id, UnsetType) or budget_id is None:
            return budget_id
        state = await self.views.budget(scope_id(param, budget_id))
        return existing(state, budget_id, param=param).attachment

    async def in_force(self, position: int | None) -> list[str]:
        """Wait until a commit is in force; a warning when that takes too long."""
        return [] if await self.relay.applied_in_time(position) else [LATE]

    async def told(self, change: Change[S], asked: MoneyChange, now: datetime) -> list[str]:
        """Wait likewise; the warnings of a changed scope, those of what else its change did included."""
        return notices(change.before, change.state, asked, now) + await self.in_force(change.position)


@contextmanager
def saying_what_is_taken() -> Generator[None, None, None]:
    """Turn a broken uniqueness into an answer for the caller."""
    try:
        yield
    except Duplicate as error:
        param = "key" if error.what == "secret" else error.what
        raise ApiError(409, f"{param}_taken", f"{param}: {_TAKEN.get(param, 'taken')}.", param=param) from error
    except NoSuchBudget as error:
        raise ApiError(
            404,
            "budget_not_found",
            "The budget object was removed meanwhile: make it with POST /budget/new, or name another one.",
            param="budget_id",
            kind="not_found_error",
        ) from error
    except TooManyKeys as error:
        raise ApiError(
            409,
            "too_many_keys",
            f"{error} has {LIVING_KEYS_MAX} keys, and no more than that: delete keys that nobody uses (those that have"
            " expired count until then), or make this one in another team.",
            param="team_id",
        ) from error


def no_key(reference: str) -> ApiError:
    """The answer to a reference that names no key, or none within reach."""
    hint = " Its checksum is wrong: it was probably mistyped." if mistyped(reference) else ""
    return ApiError(404, "key_not_found", f"{_NO_KEY}{hint}", param="key", kind="not_found_error")


def no_alias(alias: str) -> ApiError:
    """The answer to an alias that no key has, or none within reach."""
    return ApiError(404, "key_not_found", f"No key has the alias {alias!r}.", param="key_alias", kind="not_found_error")


def _unseen() -> ApiError:
    return ApiError(
        503,
        "unavailable",
        "The key is not known to the proxies, and the database, which may know more, does not answer."
        " Try again shortly.",
    )
