"""The work behind `/key/generate`, `info`, `list` and `update`."""

from msgspec import UNSET, UnsetType

from services.auth import schemas, secret
from services.auth.answers import KeyAnswer, KeyInfo, KeyInfoAnswer, KeyList, MintedKey
from services.auth.asked import change_of, names_a_budget
from services.auth.domain import key as domain
from services.auth.domain import values
from services.auth.domain.key import IssueKey, KeyState, UpdateKey
from services.auth.domain.stamp import Stamp
from services.auth.domain.team import TeamState
from services.auth.parts import Parts, saying_what_is_taken
from services.auth.rows import extended, key_row
from services.auth.store_views import KeyFilter
from shared.access import Principal
from shared.errors import ApiError
from shared.events import AnyAuthEvent
from shared.ids import DEFAULT_ORG, AccountId, KeyId, OrgId, TeamId, short_id
from shared.telemetry import Counter


class Keys:
    """Minting, reading and changing keys. `reserved` are credentials that no key may have."""

    def __init__(self, parts: Parts, *, reserved: frozenset[str], minted: Counter) -> None:
        self._parts = parts
        self._reserved = reserved
        self._minted = minted

    async def generate(self, request: schemas.GenerateKey, caller: Principal) -> MintedKey:
        """A new key, in force when this returns (or with a warning that it is not yet)."""
        parts = self._parts
        now = parts.clock.now()
        text = await self._secret(request.key)
        org_id, team = await self._home(request.team_id, request.organization_id)
        budget_id = request.budget_id or None
        if team is not None and not names_a_budget(request):
            budget_id = team.default_key_budget_id
        attach = await parts.attachment(budget_id)
        command = IssueKey(
            key_id=KeyId(short_id("key")),
            org_id=org_id,
            team_id=None if request.team_id is None else TeamId(request.team_id),
            secret=parts.vault.hashed(text),
            account=AccountId(short_id("acct")),
            change=change_of(request, values.name("key_alias", request.key_alias), attach, now),
            expires_at=values.expiry(request.duration, now),
            blocked=bool(request.blocked),
        )

        def decide(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_issue(state, command, stamp)

        with saying_what_is_taken():
            change = await parts.commits.key(command.key_id, decide, actor=caller.actor)
        self._minted.add()
        warnings = await parts.in_force(change.position)
        return extended(key_row(change.state, now), MintedKey, key=text, warnings=warnings)

    async def info(self, reference: str | None, alias: str | None, caller: Principal) -> KeyInfoAnswer:
        """A key with its spend. A virtual key sees itself and nothing else."""
        parts = self._parts
        if alias is not None:
            if not caller.is_admin:
                raise _itself_only()
            reference = await parts.key_named(reference, alias)
        if reference is None and caller.key_id is None:
            raise ApiError(400, "invalid_value", "Say which key: ?key=<secret, key id or stored hash>.", param="key")
        key_id = caller.key_id if reference is None else await self._visible(reference, caller)
        state = domain.living(await parts.views.key(key_id or ""))
        now = parts.clock.now()
        spend = await parts.ledger.spend("key", state.key_id, state, now=now, actor=caller.actor)
        info = extended(key_row(state, now, spend), KeyInfo, spend=spend.current, total_spend=spend.total)
        return KeyInfoAnswer(key=reference or state.key_id, info=info, warnings=spend.warnings)

    async def list(self, wanted: KeyFilter, *, page: int, size: int, whole: bool) -> KeyList:
        """One page of the living keys, newest first."""
        found, total = await self._parts.views.keys(wanted, page=page, size=size)
        now = self._parts.clock.now()
        return KeyList(
            keys=[key_row(state, now) for state in found] if whole else [state.key_id for state in found],
            total_count=total,
            current_page=page,
            total_pages=-(-total // size),
        )

    async def update(self, request: schemas.UpdateKey, caller: Principal) -> KeyAnswer:
        """Change settings; in force when this returns (or with a warning that they are not yet)."""
        parts = self._parts
        alias = request.key_alias
        if request.key is not None:
            key_id = await parts.find(request.key)
        elif isinstance(alias, str):
            key_id, alias = await parts.find_alias(alias), UNSET
        else:
            raise ApiError(400, "invalid_value", "Say which key: send key, or key_alias.", param="key")
        now = parts.clock.now()
        attach = await parts.attachment(request.budget_id)
        ends = request.duration
        command = UpdateKey(
            account=AccountId(short_id("acct")),
            change=change_of(
                request, alias if isinstance(alias, UnsetType) else values.name("key_alias", alias), attach, now
            ),
            expires_at=UNSET if isinstance(ends, UnsetType) else values.expiry(ends, now),
            team_id=UNSET if request.team_id is None else request.team_id,
            org_id=UNSET if request.organization_id is None else request.organization_id,
            blocked=UNSET if request.blocked is None else request.blocked,
        )

        def decide(state: KeyState | None, stamp: Stamp) -> list[AnyAuthEvent]:
            return domain.decide_update(state, command, stamp)

        with saying_what_is_taken():
            change = await parts.commits.key(key_id, decide, actor=caller.actor)
        warnings = await parts.told(change, command.change.money, now)
        return extended(key_row(change.state, now), KeyAnswer, key=key_id, warnings=warnings)

    async def _secret(self, wanted: str | None) -> str:
        """The secret of a new key. Raises ApiError 400, 409."""
        if wanted is None:
            return secret.mint()
        text = values.custom_secret(wanted)
        if text in self._reserved:
            raise ApiError(400, "invalid_value", "key: this text is an administrative credential.", param="key")
        if await self._parts.views.key_of_digest(self._parts.vault.digests(text)) is not None:
            raise ApiError(
                409,
                "key_taken",
                "key: this secret is, or was, that of another key: a secret is used once.",
                param="key",
            )
        return text

    async def _home(self, team_id: str | None, org_id: str | None) -> tuple[OrgId, TeamState | None]:
        """The organization and team of a new key: its team's, or the one named. Raises ApiError 400, 404."""
        if org_id is not None:
            values.scope_id("organization_id", org_id)
        if team_id is not None:
            team = await self._parts.views.team(values.scope_id("team_id", team_id))
            if team is None:
                raise _missing("team_id", f"There is no team {team_id!r}: make it with POST /team/new.")
            if org_id is not None and org_id != team.org_id:
                raise values.problem(
                    "organization_id", f"the team {team_id!r} belongs to the organization {team.org_id!r}"
                )
            return team.org_id, team
        if org_id is None:
            return DEFAULT_ORG, None
        if await self._parts.views.org(org_id) is None:
            raise _missing(
                "organization_id",
                f"There is no organization {org_id!r}: make it with POST /organization/new.",
            )
        return OrgId(org_id), None

    async def _visible(self, reference: str, caller: Principal) -> KeyId:
        if caller.is_admin:
            return await self._parts.find(reference)
        values.refuse_odd("key", reference)
        if self._parts.directory.find(reference) != caller.key_id:
            raise _itself_only()
        return KeyId(caller.key_id or "")


def _itself_only() -> ApiError:
    return ApiError(403, "not_allowed", "A virtual key may read about itself only.", kind="permission_error")


def _missing(param: str, text: str) -> ApiError:
    return ApiError(404, f"{param.removesuffix('_id')}_not_found", text, param=param, kind="not_found_error")
