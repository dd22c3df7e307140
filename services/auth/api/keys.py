"""`/key/*`: keys made, read, changed, killed."""

from collections.abc import Mapping
from typing import cast, get_args

from services.auth.answers.keys import (
    BulkAnswer,
    DeletedKeys,
    KeyAliases,
    KeyAnswer,
    KeyHealth,
    KeyInfoAnswer,
    KeyInfosAnswer,
    KeyList,
    MintedKey,
    RevokedKey,
)
from services.auth.api.operations import Ask, Body, Operation, Query
from services.auth.api.reading import page_of, size_of, truth
from services.auth.domain import values
from services.auth.domain.fields import keys as fields
from services.auth.keys.killing import Killing
from services.auth.keys.managing import Keys
from services.auth.keys.reading import KeyReading
from services.auth.schemas import keys as schemas
from services.auth.store_keys import KeyFilter, KeyOrder, KeyStatus
from shared.access import Right

NAME_ONE = Query(known={"key": "a secret, a key id or a stored hash", "key_alias": "the alias of a key"})
_INCLUDES = ("include_team_keys", "include_created_by_keys")
_PAGE = {"page": "from 1", "size": "rows per page, at most 100"}
_STATUSES: tuple[KeyStatus, ...] = get_args(KeyStatus)
_ORDERS: tuple[KeyOrder, ...] = get_args(KeyOrder)
FILTERS = Query(
    known={
        **_PAGE,
        "team_id": "only keys of this team",
        "organization_id": "only keys of this organization",
        "user_id": "only keys of this user",
        "key_alias": "only the key of this alias",
        "key_hash": "only the key with this stored hash, SHA-256 of its secret, or id",
        "search": "only keys with this text in the alias, the id or the user's id",
        "substring_matching": "true: key_alias and user_id need to be found in part only",
        "status": "active, expired, revoked (blocked) or deleted; without it all but the deleted ones",
        "sort_by": ", ".join(_ORDERS),
        "sort_order": "desc or asc",
        "return_full_object": "true: whole keys instead of ids",
        **dict.fromkeys(_INCLUDES, "true or false; all keys within reach are shown, unless they are filtered"),
    },
)


def filter_of(query: Mapping[str, str]) -> KeyFilter:
    """Which keys a list is to show. Raises ApiError 400."""
    for name in _INCLUDES:
        if truth(query, name) and "user_id" in query:
            raise values.problem(name, "user_id shows the keys of this user alone: leave one of the two out")
    return KeyFilter(
        team_id=query.get("team_id"),
        org_id=query.get("organization_id"),
        user_id=query.get("user_id"),
        alias=query.get("key_alias"),
        text=query.get("search"),
        parts=truth(query, "substring_matching"),
        status=cast("KeyStatus | None", _word(query, "status", _STATUSES)),
    )


def _word(query: Mapping[str, str], name: str, known: tuple[str, ...]) -> str | None:
    """One of a few words. Raises ApiError 400."""
    text = query.get(name)
    if text is not None and text not in known:
        raise values.problem(name, f"use one of {', '.join(known)}")
    return text


def key_operations(keys: Keys, reading: KeyReading, killing: Killing) -> list[Operation]:
    """The rows of `/key/*`."""

    async def generate(ask: Ask) -> MintedKey:
        return await keys.generate(ask.body, ask.caller, ask.draws)

    async def service_account(ask: Ask) -> MintedKey:
        return await keys.service_account(ask.body, ask.caller, ask.draws)

    async def info(ask: Ask) -> KeyInfoAnswer:
        return await reading.info(ask.query.get("key"), ask.query.get("key_alias"), ask.caller)

    async def infos(ask: Ask) -> KeyInfosAnswer:
        references, aliases = schemas.targets_of(ask.body)
        return await reading.infos(references, aliases, ask.caller)

    async def listed(ask: Ask) -> KeyList:
        query = ask.query
        order = cast("KeyOrder", _word(query, "sort_by", _ORDERS) or "created_at")
        return await reading.list(
            filter_of(query),
            ask.caller,
            reference=query.get("key_hash"),
            page=page_of(query),
            size=size_of(query),
            whole=truth(query, "return_full_object"),
            order=order,
            descending=_word(query, "sort_order", ("desc", "asc")) != "asc",
        )

    async def aliases(ask: Ask) -> KeyAliases:
        query = ask.query
        wanted = KeyFilter(alias=query.get("search"), parts=True)
        return await reading.aliases(wanted, ask.caller, page=page_of(query), size=size_of(query))

    async def health(ask: Ask) -> KeyHealth:
        return await reading.health(ask.caller, ask.secret)

    async def update(ask: Ask) -> KeyAnswer:
        return await keys.update(ask.body, ask.caller, ask.draws)

    async def bulk_update(ask: Ask) -> BulkAnswer:
        return await keys.bulk_update(ask.body, ask.caller, ask.draws)

    async def block(ask: Ask) -> KeyAnswer | RevokedKey:
        return await killing.block(ask.body, ask.caller)

    async def unblock(ask: Ask) -> KeyAnswer:
        return await killing.unblock(ask.body, ask.caller)

    async def delete(ask: Ask) -> DeletedKeys:
        references, names = schemas.targets_of(ask.body)
        return await killing.delete(references, names, ask.caller)

    write = Right.KEY_WRITE
    return [
        Operation(
            method="POST",
            path="/key/generate",
            summary="Make a key; its secret is shown once",
            right=write,
            body=Body(fields=fields.GENERATE_KEY, kind=schemas.GenerateKey),
            run=generate,
            answer=MintedKey,
            once=True,
            example={"key_alias": "team-search", "models": ["gpt-4o"], "max_budget": 200, "budget_duration": "30d"},
        ),
        Operation(
            method="POST",
            path="/key/service-account/generate",
            summary="Make a key that belongs to a team and to nobody in it",
            right=write,
            body=Body(fields=fields.SERVICE_ACCOUNT, kind=schemas.GenerateKey),
            run=service_account,
            answer=MintedKey,
            once=True,
            example={"team_id": "search", "key_alias": "search-nightly"},
        ),
        Operation(
            method="GET",
            path="/key/info",
            summary="A key with its spend; a virtual key asks about itself",
            right=Right.KEY_READ,
            who="keys",
            query=NAME_ONE,
            run=info,
            answer=KeyInfoAnswer,
        ),
        Operation(
            method="POST",
            path="/v2/key/info",
            summary="Several keys with their spend",
            right=Right.KEY_READ,
            body=Body(fields=fields.NAME_KEYS, kind=schemas.NameKeys),
            run=infos,
            answer=KeyInfosAnswer,
            example={"key_aliases": ["team-search"]},
        ),
        Operation(
            method="GET",
            path="/key/list",
            summary="The keys, newest first",
            right=Right.KEY_READ,
            query=FILTERS,
            run=listed,
            answer=KeyList,
        ),
        Operation(
            method="GET",
            path="/key/aliases",
            summary="The aliases of keys",
            right=Right.KEY_READ,
            query=Query(known={**_PAGE, "search": "only those with this text in them"}),
            run=aliases,
            answer=KeyAliases,
        ),
        Operation(
            method="POST",
            path="/key/health",
            summary="Whether the key that asks is in force, and which version of its secret that is",
            right=Right.KEY_READ,
            who="keys",
            body=Body(fields=fields.HEALTH, kind=schemas.NoBody, optional=True),
            run=health,
            answer=KeyHealth,
            example={},
        ),
        Operation(
            method="POST",
            path="/key/update",
            summary="Change a key",
            right=write,
            body=Body(fields=fields.UPDATE_KEY, kind=schemas.UpdateKey),
            run=update,
            answer=KeyAnswer,
            once=True,
            example={"key_alias": "team-search", "max_budget": 300},
        ),
        Operation(
            method="POST",
            path="/key/bulk_update",
            summary="Change several keys, each for itself",
            right=write,
            body=Body(fields=fields.BULK_UPDATE, kind=schemas.BulkUpdate),
            run=bulk_update,
            changes=lambda body: len(body.keys),
            answer=BulkAnswer,
            once=True,
            example={"keys": [{"key_alias": "team-search", "max_budget": 300}]},
        ),
        Operation(
            method="POST",
            path="/key/block",
            summary="Refuse a key until it is unblocked",
            right=write,
            body=Body(fields=fields.NAME_KEY, kind=schemas.NameKey),
            run=block,
            answer=KeyAnswer | RevokedKey,
            once=True,
            without_store=True,
            example={"key_alias": "team-search"},
        ),
        Operation(
            method="POST",
            path="/key/unblock",
            summary="Let a blocked key work again",
            right=write,
            body=Body(fields=fields.NAME_KEY, kind=schemas.NameKey),
            run=unblock,
            answer=KeyAnswer,
            once=True,
            example={"key_alias": "team-search"},
        ),
        Operation(
            method="POST",
            path="/key/delete",
            summary="End keys for good; their history stays",
            right=write,
            body=Body(fields=fields.NAME_KEYS, kind=schemas.NameKeys),
            run=delete,
            answer=DeletedKeys,
            once=True,
            without_store=True,
            example={"key_aliases": ["team-search"]},
        ),
    ]
