"""`/key/revoke` and `/key/report-leak`: secrets that should not be known."""

from services.auth.answers.revocations import Received, RevokedSecrets
from services.auth.api.operations import Ask, Body, Operation
from services.auth.domain.fields import leaks as fields
from services.auth.keys.leaks import Leaks
from services.auth.schemas import leaks as schemas
from shared.access import Right

_TEXT = {"type": "string"}
REPORT_SCHEMA: dict[str, object] = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"key": _TEXT, "source": {"type": ["string", "null"]}, "url": {"type": ["string", "null"]}},
            "required": ["key"],
            "additionalProperties": False,
        },
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"token": _TEXT, "type": _TEXT, "url": _TEXT, "source": _TEXT},
                "required": ["token"],
            },
            "minItems": 1,
        },
    ]
}
"""One secret, or the list that GitHub sends."""


def leak_operations(leaks: Leaks) -> list[Operation]:
    """The rows of `/key/revoke` and `/key/report-leak`."""

    async def revoke(ask: Ask) -> RevokedSecrets:
        return await leaks.revoke(ask.body, ask.caller)

    async def report(ask: Ask) -> Received:
        return await leaks.report(ask.body)

    return [
        Operation(
            method="POST",
            path="/key/revoke",
            summary="End one secret of a key (by itself or a hash of it), or all of them; the key itself stays",
            right=Right.KEY_WRITE,
            body=Body(fields=fields.REVOKE_SECRET, kind=schemas.RevokeSecret),
            run=revoke,
            answer=RevokedSecrets,
            once=True,
            without_store=True,
            example={"key_alias": "team-search", "leaked": True, "reason": "in a screenshot"},
        ),
        Operation(
            method="POST",
            path="/key/report-leak",
            summary="Report a secret that was found; takes the list of GitHub's secret scanning, too",
            who="anybody",
            body=Body(
                fields=fields.REPORT_LEAK, kind=schemas.LeakReport, reader=schemas.read_report, schema=REPORT_SCHEMA
            ),
            run=report,
            answer=Received,
            without_store=True,
            example={"key": "sk-…", "source": "my-scanner", "url": "https://example.com/where"},
        ),
    ]
