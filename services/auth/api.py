"""The routes, with LiteLLM's paths. Bodies are read raw, so that every field is answered for by name."""

from typing import TypeVar

from litestar import get, patch, post
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from services.auth import schemas
from services.auth.answers import (
    BudgetObject,
    DeletedKeys,
    KeyAnswer,
    KeyInfoAnswer,
    KeyList,
    MintedKey,
    NewOrg,
    NewTeam,
    OrgAnswer,
    OrgInfo,
    OrgRow,
    RemovedBudget,
    ResetAnswer,
    RevokedKey,
    Setting,
    TeamAnswer,
    TeamInfoAnswer,
    TeamRow,
)
from services.auth.budgets import Budgets
from services.auth.corrections import Corrections
from services.auth.domain import fields, values
from services.auth.domain.fields import Fields
from services.auth.door import Door
from services.auth.keys import Keys
from services.auth.killing import Killing
from services.auth.scopes import Scopes
from services.auth.store_views import KeyFilter
from shared.errors import ApiError
from shared.http import HttpRequest

PAGE_MAX = 1_000_000
PAGE_SIZE = 10
PAGE_SIZE_MAX = 100

T = TypeVar("T")

_LIST_FILTERS = ("page", "size", "team_id", "organization_id", "key_alias", "return_full_object")
_LIST_HARMLESS = {
    "include_team_keys": ("true", "false"),
    "include_created_by_keys": ("true", "false"),
    "substring_matching": ("false",),
    "sort_by": ("created_at",),
    "sort_order": ("desc",),
}


def key_routes(door: Door, keys: Keys, killing: Killing) -> list[ControllerRouterHandler]:
    """`/key/*`."""

    @post("/key/generate", status_code=200)
    async def generate(request: HttpRequest) -> MintedKey:
        caller = door.admin(request)
        return await keys.generate(await _read(request, fields.GENERATE_KEY, schemas.GenerateKey), caller)

    @get("/key/info")
    async def info(request: HttpRequest) -> KeyInfoAnswer:
        caller = door.caller(request)
        query = _query(request, "key", "key_alias")
        return await keys.info(query.get("key"), query.get("key_alias"), caller)

    @get("/key/list")
    async def listed(request: HttpRequest) -> KeyList:
        door.admin(request)
        query = _query(request, *_LIST_FILTERS, harmless=_LIST_HARMLESS)
        wanted = KeyFilter(
            team_id=query.get("team_id"), org_id=query.get("organization_id"), alias=query.get("key_alias")
        )
        return await keys.list(
            wanted,
            page=_number(query, "page", 1, PAGE_MAX),
            size=_number(query, "size", PAGE_SIZE, PAGE_SIZE_MAX),
            whole=_truth(query, "return_full_object"),
        )

    @post("/key/update", status_code=200)
    async def update(request: HttpRequest) -> KeyAnswer:
        caller = door.admin(request)
        return await keys.update(await _read(request, fields.UPDATE_KEY, schemas.UpdateKey), caller)

    @post("/key/block", status_code=200)
    async def block(request: HttpRequest) -> KeyAnswer | RevokedKey:
        caller = door.admin(request)
        return await killing.block(await _read(request, fields.NAME_KEY, schemas.NameKey), caller)

    @post("/key/unblock", status_code=200)
    async def unblock(request: HttpRequest) -> KeyAnswer:
        caller = door.admin(request)
        return await killing.unblock(await _read(request, fields.NAME_KEY, schemas.NameKey), caller)

    @post("/key/delete", status_code=200)
    async def delete(request: HttpRequest) -> DeletedKeys:
        caller = door.admin(request)
        asked = await _read(request, fields.DELETE_KEYS, schemas.DeleteKeys)
        references, aliases = schemas.targets_of(asked)
        return await killing.delete(references, aliases, caller)

    return [generate, info, listed, update, block, unblock, delete]


def scope_routes(door: Door, scopes: Scopes) -> list[ControllerRouterHandler]:
    """`/team/*` and `/organization/*`."""

    @post("/team/new", status_code=200)
    async def new_team(request: HttpRequest) -> NewTeam:
        caller = door.admin(request)
        return await scopes.new_team(await _read(request, fields.NEW_TEAM, schemas.NewTeam), caller)

    @post("/team/update", status_code=200)
    async def update_team(request: HttpRequest) -> TeamAnswer:
        caller = door.admin(request)
        return await scopes.update_team(await _read(request, fields.UPDATE_TEAM, schemas.UpdateTeam), caller)

    @get("/team/info")
    async def team_info(request: HttpRequest) -> TeamInfoAnswer:
        caller = door.admin(request)
        return await scopes.team_info(_needed(_query(request, "team_id"), "team_id"), caller)

    @get("/team/list")
    async def team_list(request: HttpRequest) -> list[TeamRow]:
        door.admin(request)
        return await scopes.teams(_query(request, "organization_id").get("organization_id"))

    @post("/organization/new", status_code=200)
    async def new_org(request: HttpRequest) -> NewOrg:
        caller = door.admin(request)
        return await scopes.new_org(await _read(request, fields.NEW_ORG, schemas.NewOrganization), caller)

    @post("/organization/update", status_code=200)
    async def update_org(request: HttpRequest) -> OrgAnswer:
        return await changed_org(request)

    @patch("/organization/update")
    async def patch_org(request: HttpRequest) -> OrgAnswer:
        return await changed_org(request)

    async def changed_org(request: HttpRequest) -> OrgAnswer:
        caller = door.admin(request)
        return await scopes.update_org(await _read(request, fields.UPDATE_ORG, schemas.UpdateOrganization), caller)

    @get("/organization/info")
    async def org_info(request: HttpRequest) -> OrgInfo:
        caller = door.admin(request)
        query = _query(request, "organization_id")
        return await scopes.org_info(_needed(query, "organization_id"), caller)

    @get("/organization/list")
    async def org_list(request: HttpRequest) -> list[OrgRow]:
        door.admin(request)
        _query(request)
        return await scopes.orgs()

    return [new_team, update_team, team_info, team_list, new_org, update_org, patch_org, org_info, org_list]


def budget_routes(door: Door, budgets: Budgets, corrections: Corrections) -> list[ControllerRouterHandler]:
    """`/budget/*`, and `reset_spend` of every kind of scope."""

    @post("/budget/new", status_code=200)
    async def new(request: HttpRequest) -> BudgetObject:
        caller = door.admin(request)
        return await budgets.new(await _read(request, fields.BUDGET, schemas.NewBudget), caller)

    @post("/budget/update", status_code=200)
    async def update(request: HttpRequest) -> BudgetObject:
        caller = door.admin(request)
        return await budgets.update(await _read(request, fields.BUDGET, schemas.UpdateBudget), caller)

    @post("/budget/info", status_code=200)
    async def info(request: HttpRequest) -> list[BudgetObject]:
        door.admin(request)
        return await budgets.info(await _read(request, fields.NAME_BUDGETS, schemas.NameBudgets))

    @get("/budget/list")
    async def listed(request: HttpRequest) -> list[BudgetObject]:
        door.admin(request)
        _query(request)
        return await budgets.all()

    @get("/budget/settings")
    async def settings(request: HttpRequest) -> list[Setting]:
        door.admin(request)
        return await budgets.settings(_needed(_query(request, "budget_id"), "budget_id"))

    @post("/budget/delete", status_code=200)
    async def delete(request: HttpRequest) -> RemovedBudget:
        caller = door.admin(request)
        return await budgets.delete(await _read(request, fields.NAME_BUDGET, schemas.NameBudget), caller)

    @post("/key/{key:str}/reset_spend", status_code=200)
    async def reset_key(request: HttpRequest, key: FromPath[str]) -> ResetAnswer:
        caller = door.admin(request)
        return await corrections.key(key, await _read_reset(request), caller)

    @post("/team/{team_id:str}/reset_spend", status_code=200)
    async def reset_team(request: HttpRequest, team_id: FromPath[str]) -> ResetAnswer:
        caller = door.admin(request)
        return await corrections.team(team_id, await _read_reset(request), caller)

    @post("/organization/{organization_id:str}/reset_spend", status_code=200)
    async def reset_org(request: HttpRequest, organization_id: FromPath[str]) -> ResetAnswer:
        caller = door.admin(request)
        return await corrections.org(organization_id, await _read_reset(request), caller)

    return [new, update, info, listed, settings, delete, reset_key, reset_team, reset_org]


async def _read(request: HttpRequest, known: Fields, kind: type[T]) -> T:
    return schemas.read(await request.body(), known, kind)


async def _read_reset(request: HttpRequest) -> schemas.ResetSpend:
    """No body at all asks for what an empty one asks for."""
    return schemas.read(await request.body() or b"{}", fields.RESET, schemas.ResetSpend)


def _query(request: HttpRequest, *known: str, harmless: dict[str, tuple[str, ...]] | None = None) -> dict[str, str]:
    """The query's parameters; one that would have no effect is refused, for it would give a wrong answer."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        text = str(value)
        if name in known:
            values.refuse_odd(name, text)
            found[name] = text
        elif text.lower() not in (harmless or {}).get(name, ()):
            raise ApiError(
                400,
                "unknown_parameter",
                f"{name[:100]!r} has no effect here: leave it out"
                + (f", or use {', '.join(known)}." if known else "."),
                param=name[:100],
            )
    return found


def _needed(query: dict[str, str], name: str) -> str:
    if name not in query:
        raise ApiError(400, "invalid_value", f"Say which one: ?{name}=…", param=name)
    return query[name]


def _number(query: dict[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        raise values.problem(name, f"use a whole number from 1 to {most}")
    return int(text)


def _truth(query: dict[str, str], name: str) -> bool:
    text = query.get(name, "false").lower()
    if text not in ("true", "false"):
        raise values.problem(name, "use true or false")
    return text == "true"
