"""`/pepper/status`: whether a pepper can go."""

from services.auth.answers.pepper import PepperStatus
from services.auth.api.operations import Ask, Operation
from services.auth.pepper import Peppers
from shared.access import Right


def pepper_operations(peppers: Peppers) -> list[Operation]:
    """The row of `/pepper/status`."""

    async def status(ask: Ask) -> PepperStatus:
        return await peppers.status()

    return [
        Operation(
            method="GET",
            path="/pepper/status",
            summary="The peppers: how many secrets stand under each, and which can be taken out",
            right=Right.OPERATE,
            everywhere=True,
            run=status,
            answer=PepperStatus,
        )
    ]
