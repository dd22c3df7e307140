"""Calls that the simulator makes to itself: the lines of a batch."""

from collections.abc import Callable
from datetime import datetime

import msgspec

from deploy.simulator import errors
from deploy.simulator.answers import Answer, Call
from deploy.simulator.deployments import Deployment
from deploy.simulator.errors import FoundryError
from deploy.simulator.faults import Target, instead
from deploy.simulator.routes import OPERATIONS, SERVERLESS, SURFACES, Operation, Surface
from deploy.simulator.site import Line, LineResult, Site
from deploy.simulator.wire import Caller


class LineRunner:
    """Runs a line as if it had come over the wire, and bills it. Only faults that replace the answer hit it."""

    def __init__(self, site: Site, next_ids: Callable[[], tuple[str, str]]) -> None:
        self._site = site
        self._next_ids = next_ids

    def __call__(self, line: Line) -> LineResult:
        """The line's result; errors are results too."""
        surface = next((one for one in SURFACES if one.name == line.surface), SERVERLESS)
        request_id, serial = self._next_ids()
        now = self._site.clock.now()
        try:
            operation = OPERATIONS[surface].get(line.path)
            if operation is None:
                raise errors.not_found()
            request = operation.parse(line.body, line.content_type)
            name = request.model
            if not name:
                raise errors.no_model_name(surface.name)
            deployment = self._site.deployments.find(name)
            if deployment is None:
                raise errors.no_deployment(surface.name, name)
            broken = self._broken(operation, deployment, request_id)
            if broken is not None:
                return broken
            call = Call(
                caller=Caller([]),
                request_id=request_id,
                serial=serial,
                created=int(now.timestamp()),
                surface=surface.name,
                site=self._site,
            )
            answer = request.answer(deployment, call)
        except FoundryError as refused:
            return LineResult(status=refused.status, body=refused.body, request_id=request_id)
        self._bill(line, surface, operation, deployment, answer, request_id, now)
        if answer.commit is not None:
            answer.commit()
        body = answer.body if answer.events is None else b"".join(answer.events)
        return LineResult(status=answer.status, body=body, request_id=request_id)

    def _broken(self, operation: Operation, deployment: Deployment, request_id: str) -> LineResult | None:
        """What a fault puts in the place of the answer, if one does."""
        fault = self._site.faults.take(deployment.name, operation.name, None)
        if fault is None or not fault.replaces:
            return None
        target = Target(
            deployment=deployment.name,
            model=deployment.model,
            region=self._site.options.region,
            operation=operation.title,
        )
        status, _, body = instead(fault, target, request_id)
        return LineResult(status=status, body=body, request_id=request_id)

    def _bill(
        self,
        line: Line,
        surface: Surface,
        operation: Operation,
        deployment: Deployment,
        answer: Answer,
        request_id: str,
        now: datetime,
    ) -> None:
        usage = answer.usage
        if usage is None:
            return
        self._site.bill(
            at=now,
            id=answer.id,
            request_id=request_id,
            deployment=deployment,
            usage=msgspec.structs.replace(usage, service_tier=line.tier) if line.tier else usage,
            surface=line.billed_as or surface.billed_as,
            operation=operation.name,
            status=answer.status,
            client_request_id=line.client_request_id,
        )
