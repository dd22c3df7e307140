"""The simulator's own controls under `/_sim/`: served calls, faults, health. No key: a loopback tool."""

from urllib.parse import parse_qs

import msgspec

from deploy.simulator.faults import Fault, Faults
from deploy.simulator.served import MAX_PAGE_CALLS, ServedLog

PREFIX = "/_sim/"


class ControlError(Exception):
    """A control request that cannot be done: status and what to do about it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Control:
    """Answers control requests with a status and a JSON value."""

    def __init__(self, served: ServedLog, faults: Faults) -> None:
        self._served = served
        self._faults = faults

    def handle(self, method: str, path: str, query: bytes, body: bytes) -> tuple[int, bytes]:
        """Status and JSON body of a control request."""
        try:
            return 200, msgspec.json.encode(self._handle(method, path, query, body))
        except ControlError as error:
            return error.status, msgspec.json.encode({"error": error.message})

    def _handle(self, method: str, path: str, query: bytes, body: bytes) -> object:
        match (method, path.removeprefix(PREFIX)):
            case ("GET", "health"):
                return {"status": "ok"}
            case ("GET", "served"):
                return self._served.page(_number(query, "since", 0), _number(query, "limit", MAX_PAGE_CALLS))
            case ("DELETE", "served"):
                self._served.clear()
                return {"total": 0}
            case ("GET", "faults"):
                return {"faults": self._faults.all()}
            case ("POST", "faults"):
                return self._add(body)
            case ("DELETE", "faults"):
                chosen = _number(query, "id", 0)
                return {"removed": self._faults.remove(lambda fault: chosen in (0, fault.id))}
            case (_, "health" | "served" | "faults"):
                raise ControlError(405, f"{method} is not possible here")
            case _:
                raise ControlError(404, "known paths: /_sim/served, /_sim/faults, /_sim/health")

    def _add(self, body: bytes) -> Fault:
        try:
            return self._faults.add(msgspec.json.decode(body, type=Fault))
        except (msgspec.MsgspecError, UnicodeError, ValueError) as error:
            raise ControlError(400, f"not a fault: {error}") from error


def _number(query: bytes, name: str, default: int) -> int:
    values = parse_qs(query.decode("latin-1")).get(name)
    if not values:
        return default
    if not (values[0].isascii() and values[0].isdigit() and len(values[0]) <= 15):
        raise ControlError(400, f"{name} must be a whole number of zero or more")
    return int(values[0])
