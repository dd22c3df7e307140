"""The work behind `/key/generate`, `/key/service-account/generate`, `/key/update` and `/key/bulk_update`."""

from datetime import datetime
from hashlib import sha256

import msgspec
from msgspec import UNSET, UnsetType

from services.auth import secret
from services.auth.answers.keys import BulkAnswer, FailedKey, KeyAnswer, MintedKey, UpdatedKey
from services.auth.asked import aliases_of, change_of, names_a_budget
from services.auth.domain import key as domain
from services.auth.domain import values
from services.auth.domain.fields import keys as fields
from services.auth.domain.key import IssueKey, UpdateKey
from services.auth.domain.key_state import HashedSecret, KeyState
from services.auth.domain.rotation import RotationChange
from services.auth.domain.scope import or_before
from services.auth.domain.stamp import Stamp
from services.auth.draws import Draws
from services.auth.keys.homes import Home, check_role, home_of, refuse_calling, role_of
from services.auth.keys.outliving import CAPPED, capped, check_end, check_owner_stays, end_of
from services.auth.parts import Parts, saying_what_is_taken
from services.auth.rotation.asked import rotation_change
from services.auth.rotation.signing import Signing
from services.auth.rotation.targets.courier import Owner
from services.auth.rotation.targets.couriers import Couriers
from services.auth.rows.base import extended
from services.auth.rows.keys import LLM_API_ROUTES, key_row
from services.auth.rows.rotation import SigningSecret
from services.auth.schemas import keys as schemas
from services.auth.schemas.base import read
from services.auth.store import bound_keys
from shared.access import Principal
from shared.errors import ApiError
from shared.events import AnyAuthEvent
from shared.ids import AccountId, KeyId, UserId
from shared.policy import Reach, Role
from shared.telemetry import Counter

HIDDEN = f"{secret.PREFIX}..."
"""The masked form of a secret of which only the hash is known."""


class Keys:
    """Minting and changing keys. `reserved` are credentials that no key may have."""

    def __init__(
        self, parts: Parts, *, reserved: frozenset[str], minted: Counter, couriers: Couriers, signing: Signing
    ) -> None:
        self._parts = parts
        self._reserved = frozenset(sha256(text.encode()).digest() for text in reserved)
        self._minted = minted
        self._couriers = couriers
        self._signing = signing

    # ---- new keys ------------------------------------------------------------------------------------

    async def generate(self, request: schemas.GenerateKey, caller: Principal, draws: Draws) -> MintedKey:
        """A new key, in force when this returns (or with a warning that it is not yet)."""
        parts = self._parts
        now = parts.clock.now()
        home = await home_of(parts, request, caller)
        role = role_of(request.key_type, home.reach)
        if role is not None:
            check_role(role, home, caller)
            refuse_calling(request)
        key_id = KeyId(draws.short_id("key"))
        text, hashed = await self._secret(request, key_id, draws, role)
        command = await self._issue(request, key_id, hashed, home, role, caller, now, draws)
        owner = Owner(key_id=key_id, org_id=home.org_id, team_id=command.team_id, alias=request.key_alias)
        await self._check_targets(command.rotation, owner)

        def decide(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_issue(state, command, stamp)

        with saying_what_is_taken():
            change = await parts.commits.key(command.key_id, decide, actor=caller.actor, beside=bound_keys)
        position = change.position
        if position is None:  # an earlier attempt of the same request made it
            position = await parts.commits.head()
        else:
            self._minted.add()
        warnings = await parts.in_force(position)
        if command.expires_at != values.expiry(request.duration, now):
            warnings.insert(0, CAPPED)
        row = key_row(change.state, now, caller=caller, signing=self.signing_of(key_id))
        return extended(row, MintedKey, key=text, warnings=warnings)

    async def service_account(self, request: schemas.GenerateKey, caller: Principal, draws: Draws) -> MintedKey:
        """A new key that belongs to a team and to nobody in it."""
        if request.team_id is None:
            raise values.problem("team_id", "is missing: a service account belongs to a team")
        return await self.generate(request, caller, draws)

    async def _issue(
        self,
        request: schemas.GenerateKey,
        key_id: KeyId,
        hashed: HashedSecret,
        home: Home,
        role: Role | None,
        caller: Principal,
        now: datetime,
        draws: Draws,
    ) -> IssueKey:
        """The command for a request whose home and role are settled. Raises ApiError 400, 404."""
        parts, team = self._parts, home.team
        budget_id = request.budget_id or None
        if team is not None and role is None and not names_a_budget(request):
            budget_id = team.default_key_budget_id
        team_id = None if team is None else team.team_id
        reach = None if role is None else home.reach
        user_id = request.user_id or None
        if user_id is not None:
            await parts.owners.check_owner(user_id, team_id, role, reach, caller)
        alias = values.key_alias(request.key_alias)
        attach = await parts.attachment(budget_id)
        aliases = aliases_of("aliases", request.aliases)
        return IssueKey(
            key_id=key_id,
            org_id=home.org_id,
            team_id=team_id,
            secret=hashed,
            account=AccountId(draws.short_id("acct")),
            change=change_of(request, alias, attach, now, model_aliases=aliases),
            expires_at=capped(
                values.expiry(request.duration, now), None if role is None else end_of(caller, parts.people)
            ),
            allowed_routes=or_before(_routes(request, role), ()),
            user_id=None if user_id is None else UserId(user_id),
            role=role,
            reach=reach,
            rotation=rotation_change(request),
            blocked=bool(request.blocked),
            again=draws.again,
        )

    async def _secret(
        self, request: schemas.GenerateKey, key_id: KeyId, draws: Draws, role: Role | None
    ) -> tuple[str | None, HashedSecret]:
        """(the secret of a new key if it is known, its stored form). Raises ApiError 400, 409."""
        vault = self._parts.vault
        if request.key_hash is None and request.key_name is not None:
            raise values.problem("key_name", "is taken with key_hash only: else it follows from the secret")
        if request.key is not None and request.key_hash is not None:
            raise values.problem("key_hash", "send either key or key_hash: the hash follows from the secret")
        if request.key_hash is not None:
            inner = values.secret_sha256(request.key_hash)
            name = values.name("key_name", request.key_name) or HIDDEN
            if sha256(name.encode()).digest() == inner:
                raise values.problem("key_name", "this is the secret itself: send its masked form, such as sk-...abcd")
            await self._refuse_taken("key_hash", inner, request.key_hash.lower(), key_id)
            return None, vault.imported(inner, name)
        if request.key is None:
            text = draws.secret()
        else:
            text = values.custom_secret(request.key, role=role is not None)
            await self._refuse_taken("key", sha256(text.encode()).digest(), text, key_id)
        return text, vault.hashed(text)

    async def _refuse_taken(self, param: str, inner: bytes, reference: str, key_id: KeyId | None) -> None:
        """Refuse a secret that is an administrator's, or that another key has or had. Raises ApiError 400, 409."""
        if inner in self._reserved:
            raise ApiError(400, "invalid_value", f"{param}: this is an administrative credential.", param=param)
        found = await self._parts.views.key_of_digest(self._parts.vault.digests(reference))
        if found not in (None, key_id):
            raise ApiError(
                409,
                "key_taken",
                f"{param}: this secret is, or was, that of another key: a secret is used once.",
                param=param,
            )

    async def further_secret(self, wanted: str | None, key: KeyState, draws: Draws) -> str:
        """The next secret of a key that there is: the one that is wanted, or one that is drawn.

        Raises ApiError 400, 409.
        """
        if wanted is None:
            return draws.secret()
        text = values.custom_secret(wanted, param="new_key", role=key.role is not None)
        inner = sha256(text.encode()).digest()
        await self._refuse_taken("new_key", inner, text, key.key_id if draws.again else None)
        return text

    # ---- changes -------------------------------------------------------------------------------------

    async def update(self, request: schemas.UpdateKey, caller: Principal, draws: Draws) -> KeyAnswer:
        """Change settings; in force when this returns (or with a warning that they are not yet)."""
        parts = self._parts
        alias = request.key_alias
        if request.key is not None:
            key_id = await parts.find(request.key, caller)
        elif isinstance(alias, str):
            key_id, alias = await parts.find_alias(alias, caller), UNSET
        else:
            raise ApiError(400, "invalid_value", "Say which key: send key, or key_alias.", param="key")
        key = domain.living(await parts.views.key(key_id))
        now = parts.clock.now()
        command = await self.change_of_key(key, request, alias, caller, draws)

        def decide(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_update(state, command, stamp)

        with saying_what_is_taken():
            change = await parts.commits.key(key_id, decide, actor=caller.actor)
        warnings = await parts.told(change, command.change.money, now)
        signing = None if request.rotation_delivery is UNSET else self.signing_of(key_id)
        row = key_row(change.state, now, caller=caller, signing=signing)
        return extended(row, KeyAnswer, key=key_id, warnings=warnings)

    async def change_of_key(
        self,
        key: KeyState,
        request: schemas.UpdateKey,
        alias: str | UnsetType | None,
        caller: Principal,
        draws: Draws,
    ) -> UpdateKey:
        """What a request changes of a living key, which is within the caller's reach. Raises ApiError 400, 404."""
        parts, ends = self._parts, request.duration
        now = parts.clock.now()
        if key.role is not None:
            refuse_calling(request)
        user_id = request.user_id
        if not isinstance(user_id, UnsetType):
            check_owner_stays(key, user_id, caller)
        expires_at = key.expires_at if isinstance(ends, UnsetType) else values.expiry(ends, now)
        if key.role is not None and not isinstance(ends, UnsetType):
            check_end(key, expires_at, end_of(caller, parts.people))
        if isinstance(user_id, str):
            await parts.owners.check_owner(user_id, key.team_id, key.role, key.reach, caller)
        renewed = rotation_change(request)
        owner = Owner(key_id=key.key_id, org_id=key.org_id, team_id=key.team_id, alias=key.alias)
        await self._check_targets(renewed, owner)
        attach = await parts.attachment(request.budget_id)
        return UpdateKey(
            account=AccountId(draws.short_id("acct")),
            change=change_of(
                request,
                alias if isinstance(alias, UnsetType) else values.key_alias(alias),
                attach,
                now,
                model_aliases=aliases_of("aliases", request.aliases),
            ),
            expires_at=UNSET if isinstance(ends, UnsetType) else expires_at,
            allowed_routes=_routes(request, key.role),
            user_id=UserId(user_id) if isinstance(user_id, str) else user_id,
            rotation=renewed,
            team_id=request.team_id,
            org_id=request.organization_id,
            role=UNSET if request.key_type is None else role_of(request.key_type, _reach_of(key)),
            blocked=UNSET if request.blocked is None else request.blocked,
        )

    async def bulk_update(self, request: schemas.BulkUpdate, caller: Principal, draws: Draws) -> BulkAnswer:
        """Change several keys, each for itself: what is wrong with one of them is told and stops no other."""
        schemas.check_count("keys", len(request.keys))
        done: list[UpdatedKey] = []
        failed: list[FailedKey] = []
        for entry in request.keys:
            named = entry.get("key", entry.get("key_alias"))
            name = named if isinstance(named, str) else None
            try:
                wanted = read(msgspec.json.encode(entry), fields.UPDATE_KEY, schemas.UpdateKey)
                answer = await self.update(wanted, caller, draws)
            except ApiError as error:
                if error.status >= 500:
                    raise
                failed.append(FailedKey(key=name, failed_reason=error.message, code=error.code, param=error.param))
            else:
                done.append(UpdatedKey(key=name or answer.token_id, key_info=answer))
        return BulkAnswer(total_requested=len(request.keys), successful_updates=done, failed_updates=failed)

    # ---- parts ---------------------------------------------------------------------------------------

    def signing_of(self, key_id: KeyId) -> SigningSecret:
        """What makes the signing secrets of a key's webhooks, for the answer to the call that sets them."""
        return lambda url: self._signing.secret(key_id, url)

    async def _check_targets(self, change: RotationChange, owner: Owner) -> None:
        """Refuse targets that could not be delivered to. Raises ApiError 400, 503."""
        if not isinstance(change.targets, UnsetType):
            await self._couriers.check(change.targets, owner)


def _routes(request: schemas.KeyFields, role: Role | None) -> tuple[str, ...] | UnsetType:
    """The routes that a request allows; `llm_api` stands for a group of them."""
    if not isinstance(request.allowed_routes, UnsetType):
        found = values.routes(request.allowed_routes, role=role is not None)
        if found or request.key_type != "llm_api":
            return found
    return LLM_API_ROUTES if request.key_type == "llm_api" else UNSET


def _reach_of(key: KeyState) -> Reach:
    """How far a role would reach where a key is."""
    return key.reach or ("all" if key.team_id is None else "team")
