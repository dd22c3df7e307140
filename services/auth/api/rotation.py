"""New secrets: `/key/regenerate`, `/key/{key}/rotate`, `/key/exchange`, `/rotation/list`."""

from services.auth.answers.keys import MintedKey
from services.auth.answers.rotation import CollectedKey, RotatedKey, RotatingKeys
from services.auth.api.operations import Ask, Body, Operation, Query
from services.auth.api.reading import page_of, size_of
from services.auth.domain.fields import keys as key_fields
from services.auth.domain.fields import rotation as fields
from services.auth.rotation.exchanging import Exchanging
from services.auth.rotation.rotating import Rotating
from services.auth.schemas import rotation as schemas
from services.auth.schemas.regeneration import RegenerateKey
from shared.access import Right

PAGES = Query(known={"page": "from 1", "size": "rows per page, at most 100"})


def rotation_operations(rotating: Rotating, exchanging: Exchanging) -> list[Operation]:
    """The rows."""

    async def regenerate(ask: Ask) -> MintedKey:
        return await rotating.regenerate(ask.path.get("key"), ask.body, ask.caller, ask.draws)

    async def rotate(ask: Ask) -> RotatedKey:
        return await rotating.rotate(ask.path["key"], ask.caller, ask.draws)

    async def exchange(ask: Ask) -> CollectedKey:
        return await exchanging.collect(ask)

    async def listed(ask: Ask) -> RotatingKeys:
        return await rotating.listed(ask.caller, page=page_of(ask.query), size=size_of(ask.query))

    regeneration = Body(fields=key_fields.REGENERATE_KEY, kind=RegenerateKey)
    return [
        Operation(
            method="POST",
            path="/key/regenerate",
            summary="A new secret for a key, shown once; those before end now, or after grace_period",
            right=Right.KEY_WRITE,
            body=regeneration,
            run=regenerate,
            answer=MintedKey,
            once=True,
            example={"key_alias": "team-search", "grace_period": "24h"},
        ),
        Operation(
            method="POST",
            path="/key/{key:str}/regenerate",
            summary="The same for the key in the path",
            right=Right.KEY_WRITE,
            body=Body(fields=key_fields.REGENERATE_KEY, kind=RegenerateKey, optional=True),
            run=regenerate,
            answer=MintedKey,
            once=True,
            example={"grace_period": "24h"},
        ),
        Operation(
            method="POST",
            path="/key/{key:str}/rotate",
            summary="Renew a key's secret now, and bring it to its owner as the schedule would",
            right=Right.KEY_WRITE,
            body=Body(fields=fields.ROTATE_KEY, kind=schemas.NoFields, optional=True),
            run=rotate,
            answer=RotatedKey,
            once=True,
        ),
        Operation(
            method="POST",
            path="/key/exchange",
            summary="Collect the new secret of a key, once, with the old one as the credential",
            who="keys",
            body=Body(fields=fields.EXCHANGE_KEY, kind=schemas.NoFields, optional=True),
            run=exchange,
            answer=CollectedKey,
            once=True,
        ),
        Operation(
            method="GET",
            path="/rotation/list",
            summary="The keys whose secrets are renewed, and how that goes",
            right=Right.KEY_READ,
            query=PAGES,
            run=listed,
            answer=RotatingKeys,
        ),
    ]
