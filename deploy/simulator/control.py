"""The simulator's own controls under `/_sim/`: served calls, faults, deployments, settings, health. No key: a
loopback tool."""

from urllib.parse import parse_qs

import msgspec

from deploy.simulator.batches import Batches
from deploy.simulator.deployments import Config
from deploy.simulator.faults import Fault
from deploy.simulator.served import MAX_PAGE_CALLS
from deploy.simulator.settings import Settings
from deploy.simulator.site import Site

PREFIX = "/_sim/"
NAMES = ("health", "served", "faults", "deployments", "settings")


class ControlError(Exception):
    """A control request that cannot be done: status and what to do about it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Control:
    """Answers control requests with a status and a JSON value."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def handle(self, method: str, path: str, query: bytes, body: bytes) -> tuple[int, bytes]:
        """Status and JSON body of a control request."""
        try:
            return 200, msgspec.json.encode(self._handle(method, path.removeprefix(PREFIX), query, body))
        except ControlError as error:
            return error.status, msgspec.json.encode({"error": error.message})

    def _handle(self, method: str, name: str, query: bytes, body: bytes) -> object:
        served = self._site.served
        self._site.one(Batches).advance(self._site)
        match (method, name):
            case ("GET", "health"):
                return {"status": "ok"}
            case ("GET", "served"):
                return served.page(_number(query, "since", 0), _number(query, "limit", MAX_PAGE_CALLS))
            case ("DELETE", "served"):
                served.clear()
                return {"total": 0}
            case (_, "faults"):
                return self._faults(method, query, body)
            case (_, "deployments"):
                return self._deployments(method, query, body)
            case (_, "settings"):
                return self._settings(method, body)
            case (_, "health" | "served"):
                raise _not_here(method)
            case _:
                raise ControlError(404, "known paths: " + ", ".join(PREFIX + one for one in NAMES))

    def _faults(self, method: str, query: bytes, body: bytes) -> object:
        faults = self._site.faults
        match method:
            case "GET":
                return {"faults": faults.all()}
            case "POST":
                try:
                    return faults.add(msgspec.json.decode(body, type=Fault))
                except (msgspec.MsgspecError, UnicodeError, ValueError) as error:
                    raise ControlError(400, f"not a fault: {error}") from error
            case "DELETE":
                chosen = _number(query, "id", 0)
                return {"removed": faults.remove(lambda fault: chosen in (0, fault.id))}
            case _:
                raise _not_here(method)

    def _deployments(self, method: str, query: bytes, body: bytes) -> object:
        deployments = self._site.deployments
        match method:
            case "GET":
                return {"deployments": deployments.configs()}
            case "POST":
                try:
                    config = msgspec.json.decode(body, type=Config)
                    deployments.configure(config)
                except (msgspec.MsgspecError, UnicodeError, ValueError) as error:
                    raise ControlError(400, f"not a deployment: {error}") from error
                return config
            case "DELETE":
                names = parse_qs(query.decode("latin-1")).get("deployment")
                return {"removed": deployments.forget(names[0] if names else None)}
            case _:
                raise _not_here(method)

    def _settings(self, method: str, body: bytes) -> object:
        """GET tells the settings, POST changes those in its body, DELETE puts all back."""
        settings = self._site.settings
        match method:
            case "GET":
                return settings
            case "POST":
                try:
                    merged = msgspec.to_builtins(settings) | msgspec.json.decode(body, type=dict[str, object])
                    changes = msgspec.convert(merged, Settings)
                except (msgspec.MsgspecError, UnicodeError) as error:
                    raise ControlError(400, f"not settings: {error}") from error
            case "DELETE":
                changes = Settings()
            case _:
                raise _not_here(method)
        for name in Settings.__struct_fields__:
            setattr(settings, name, getattr(changes, name))
        return settings


def _not_here(method: str) -> ControlError:
    return ControlError(405, f"{method} is not possible here")


def _number(query: bytes, name: str, default: int) -> int:
    values = parse_qs(query.decode("latin-1")).get(name)
    if not values:
        return default
    if not (values[0].isascii() and values[0].isdigit() and len(values[0]) <= 15):
        raise ControlError(400, f"{name} must be a whole number of zero or more")
    return int(values[0])
