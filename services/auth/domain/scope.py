"""What keys, teams and organizations have in common: settings, money, and how both change."""

from datetime import datetime
from typing import TypedDict, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from services.auth.domain.accounts import Owner, accounts_of, increase_of, main_of
from services.auth.domain.budget import NOTHING, BudgetPatch, asking, has_plain_limit, named, patched
from services.auth.domain.rates import RatePatch, limits_after, model_limits_after
from services.auth.domain.stamp import Stamp
from shared.errors import ApiError
from shared.events import BudgetSet, BudgetTerms, KeyIssued, KeyUpdated, OrgCreated, TeamCreated
from shared.policy import Budget, Increase, Limits

T = TypeVar("T")
S = TypeVar("S", bound="ScopeState")


class ScopeState(msgspec.Struct, frozen=True, kw_only=True):
    """The common part of a scope's state; times are UTC. `lent` are rate limits of an attached budget object."""

    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    alias: str | None = None
    models: tuple[str, ...] = ()
    metadata: dict[str, object] = {}
    limits: Limits = Limits()
    model_limits: dict[str, Limits] = {}
    model_aliases: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    budgets: tuple[Budget, ...] = ()
    terms: BudgetTerms = NOTHING
    budget_id: str | None = None
    budget_version: int = 0
    lent: Limits = Limits()

    @property
    def budget(self) -> Budget | None:
        """The account of `max_budget`, if there is one."""
        return main_of(self.terms, self.budgets)


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A budget object as a scope takes it over."""

    budget_id: str
    version: int
    terms: BudgetTerms
    limits: Limits = Limits()


class MoneyChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a scope's budgets: UNSET stays, None clears. `attach` takes a budget object over."""

    patch: BudgetPatch = BudgetPatch()
    increase: Increase | UnsetType | None = UNSET
    attach: Attachment | UnsetType | None = UNSET


class ScopeChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change of what every scope has; a new scope is a change of nothing."""

    alias: str | UnsetType | None = UNSET
    models: tuple[str, ...] | UnsetType = UNSET
    metadata: dict[str, object] | UnsetType = UNSET
    model_aliases: dict[str, str] | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    rates: RatePatch = RatePatch()
    money: MoneyChange = MoneyChange()


class Settings(TypedDict):
    """The settings that states and events of every kind of scope carry."""

    alias: str | None
    models: tuple[str, ...]
    metadata: dict[str, object]
    limits: Limits
    model_limits: dict[str, Limits]
    model_aliases: dict[str, str]
    tags: tuple[str, ...]


_NO_SETTINGS = Settings(alias=None, models=(), metadata={}, limits=Limits(), model_limits={}, model_aliases={}, tags=())


def settings_of(of: ScopeState | KeyIssued | KeyUpdated | TeamCreated | OrgCreated) -> Settings:
    """The settings of a state or an event."""
    return Settings(
        alias=of.alias,
        models=of.models,
        metadata=of.metadata,
        limits=of.limits,
        model_limits=of.model_limits,
        model_aliases=of.model_aliases,
        tags=of.tags,
    )


def settings_after(state: ScopeState | None, change: ScopeChange) -> Settings:
    """The settings after a change."""
    before = _NO_SETTINGS if state is None else settings_of(state)
    return Settings(
        alias=or_before(change.alias, before["alias"]),
        models=or_before(change.models, before["models"]),
        metadata=or_before(change.metadata, before["metadata"]),
        limits=limits_after(before["limits"], change.rates),
        model_limits=model_limits_after(before["model_limits"], change.rates),
        model_aliases=or_before(change.model_aliases, before["model_aliases"]),
        tags=or_before(change.tags, before["tags"]),
    )


def money_events(state: ScopeState | None, change: MoneyChange, owner: Owner, stamp: Stamp, n: int) -> list[BudgetSet]:
    """The event of changed budgets, with the stamp's n-th id; none when nothing changes.

    Raises ApiError 400 naming a field that makes no sense.
    """
    held, budget_id, version, lent = _attached_after(state, change)
    budgets: tuple[Budget, ...] = () if state is None else state.budgets
    increase = _increase_after(budgets, change, held, stamp.at)
    after = accounts_of(held, increase, budgets, owner, stamp.at)
    event = BudgetSet(
        **stamp.envelope(n),
        scope_kind=owner.kind,
        scope_id=owner.scope_id,
        budgets=after,
        terms=held,
        budget_id=budget_id,
        budget_version=version,
        lent=lent,
    )
    return [] if _same(state, event, stamp.at) else [event]


def with_money(state: S, event: BudgetSet) -> S:
    """A scope's state with the budgets of an event."""
    return msgspec.structs.replace(
        state,
        budgets=event.budgets,
        terms=event.terms,
        budget_id=event.budget_id,
        budget_version=event.budget_version,
        lent=event.lent,
    )


def follow(state: ScopeState, attachment: Attachment, owner: Owner, stamp: Stamp) -> list[BudgetSet]:
    """Take over a newer version of the budget object that is attached; nothing when it is another one or not newer."""
    if state.budget_id != attachment.budget_id or state.budget_version >= attachment.version:
        return []
    return money_events(state, MoneyChange(attach=attachment), owner, stamp, 0)


def or_before(value: T | UnsetType, before: T) -> T:
    """What is wanted, or what was before when nothing is said."""
    return before if isinstance(value, UnsetType) else value


def _attached_after(state: ScopeState | None, change: MoneyChange) -> tuple[BudgetTerms, str | None, int, Limits]:
    """(terms, budget object, its version, its rate limits) after a change."""
    attach = change.attach
    if isinstance(attach, Attachment):
        _refuse_mixing(asking(change.patch), attach.budget_id)
        if state is not None and state.budget_id == attach.budget_id and state.budget_version >= attach.version:
            return state.terms, state.budget_id, state.budget_version, state.lent
        return attach.terms, attach.budget_id, attach.version, attach.limits
    if state is not None and state.budget_id is not None:
        if attach is UNSET:
            _refuse_mixing(named(change.patch), state.budget_id)
            return state.terms, state.budget_id, state.budget_version, state.lent
        return patched(NOTHING, change.patch), None, 0, Limits()
    return patched(NOTHING if state is None else state.terms, change.patch), None, 0, Limits()


def _refuse_mixing(fields: list[str], budget_id: str) -> None:
    if fields:
        raise ApiError(
            400,
            "invalid_value",
            f"{fields[0]}: the budget comes from the budget object {budget_id!r}. Change it there with POST"
            f" /budget/update, or give it up with budget_id null and send fields of its own"
            " (temp_budget_increase and rate limits may stand beside it).",
            param=fields[0],
        )


def _increase_after(
    budgets: tuple[Budget, ...], change: MoneyChange, terms: BudgetTerms, at: datetime
) -> Increase | None:
    increase = increase_of(budgets, at) if isinstance(change.increase, UnsetType) else change.increase
    if increase is None or has_plain_limit(terms):
        return increase
    if change.increase is UNSET:
        return None
    raise ApiError(
        400,
        "invalid_value",
        "temp_budget_increase needs a max_budget (or budget_limits) that it raises for a time.",
        param="temp_budget_increase",
    )


def _same(state: ScopeState | None, event: BudgetSet, at: datetime) -> bool:
    """Whether an event would change nothing; an increase that is over is no difference."""
    before = state or ScopeState(created_at=at, created_by="", updated_at=at, updated_by="")
    held = tuple(
        msgspec.structs.replace(budget, increase=None)
        if budget.increase is not None and budget.increase.until <= at
        else budget
        for budget in before.budgets
    )
    return (held, before.terms, before.budget_id, before.budget_version, before.lent) == (
        event.budgets,
        event.terms,
        event.budget_id,
        event.budget_version,
        event.lent,
    )
