"""HTTP to the front door: every change is made once, also when an answer is lost, and errors say what to do."""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Literal, TypeVar

import httpx
import msgspec

from services.cli.where import LOOPBACK, Access, admin_access, front_door, host_of
from shared.errors import TundishError
from shared.ids import uuid7
from shared.settings import Env

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0
ERROR_TEXT_MAX = 500
RETRY_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
"""A change whose answer was lost is asked for this often again, after these pauses."""
Patience = Literal["none", "lost", "absent"]
"""What is tried again: nothing, what was sent and lost its answer, or also what found nobody there at first."""
AGAIN_STATUS = (502, 504)
"""Between the front door and the service behind it an answer was lost."""
AGAIN_CODES = {"idempotency_in_progress", "service_unavailable", "busy", "too_many_changes"}

T = TypeVar("T")
Json = dict[str, object]
Query = Mapping[str, str | int | None]


class ApiFailure(TundishError):
    """The front door answered with an error; the text is what it said."""

    def __init__(self, status: int, text: str, code: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.code = code


class Unreachable(TundishError):
    """Nobody answers at the address."""


class _ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    message: str = ""
    code: str | None = None


class _ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    error: _ErrorDetail = _ErrorDetail()


class Client:
    """Requests to the admin APIs. All raise Unreachable and ApiFailure."""

    def __init__(
        self, http: httpx.Client, url: str, access: Access, *, once: str | None = None, patience: Patience = "lost"
    ) -> None:
        self._patience = patience
        self._http = http
        self._url = url
        self._access = access
        self._once = once or uuid7()
        self._named = once is not None
        self._changes = 0

    def get(self, path: str, query: Query | None = None) -> object:
        """The decoded answer of a GET; parameters that are None are left out."""
        return decoded(self.raw("GET", path, query=query))

    def post(self, path: str, body: Json) -> object:
        """The decoded answer of a POST with a JSON body: a change, made once however often it has to be sent."""
        return decoded(self.raw("POST", path, body=body))

    def raw(self, method: str, path: str, *, query: Query | None = None, body: Json | None = None) -> bytes:
        """The bytes of a successful answer."""
        response = self.answer(method, path, query=query, body=body)
        if response.is_success:
            return response.content
        raise self._failure(response)

    def answer(self, method: str, path: str, *, query: Query | None = None, body: Json | None = None) -> httpx.Response:
        """The answer whatever its status; all but a GET is a change, and made once. Raises Unreachable."""
        if method != "GET":
            return self._change(method, path, body)
        params = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            return self._http.request(method, path, params=params)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _next_key(self) -> str:
        """One `Idempotency-Key` for each change of a command: the same ones when the command is run again with it."""
        self._changes += 1
        return self._once if self._changes == 1 else f"{self._once}.{self._changes}"

    def _change(self, method: str, path: str, body: Json | None) -> httpx.Response:
        headers = {"idempotency-key": self._next_key()}
        content = b"" if body is None else msgspec.json.encode(body)
        if content:
            headers["content-type"] = "application/json"
        pauses = iter(() if self._patience == "none" else RETRY_PAUSES_S)
        sent = False
        while True:
            pause: float | None = None
            try:
                response = self._http.request(method, path, content=content, headers=headers)
            except httpx.HTTPError as error:
                sent = sent or not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if sent or self._patience == "absent":
                    pause = next(pauses, None)
                if pause is None:
                    raise (self._lost(error) if sent else self._unreachable(error)) from error
            else:
                if _passing(response):
                    pause = next(pauses, None)
                if pause is None:
                    return response
                sent = True
            time.sleep(pause)

    def _unreachable(self, error: httpx.HTTPError) -> Unreachable:
        reason = str(error) or type(error).__name__
        return Unreachable(
            f"{self._url} does not answer ({reason}). Is Tundish running? TUNDISH_URL names another address."
        )

    def _lost(self, error: httpx.HTTPError) -> Unreachable:
        reason = str(error) or type(error).__name__
        return Unreachable(
            f"the answer of {self._url} was lost ({reason}), and whether the change was made is not known. The same"
            f" command with --idempotency-key {self._once}, within minutes, makes it once and gives the answer."
        )

    def _failure(self, response: httpx.Response) -> ApiFailure:
        detail = _detail(response)
        said = detail.message or response.text[:ERROR_TEXT_MAX]
        code = detail.code or ""
        if response.status_code == 401:
            return ApiFailure(401, f"{self._url} does not accept {self._access.what}: {said}", code)
        if self._named and code == "idempotency_key_reused":
            said += " Give --idempotency-key only with the very same command."
        return ApiFailure(
            response.status_code, f"{self._url} answered {response.status_code}: {said or 'no reason given'}", code
        )


def by_alias_too(reference: str, ask: Callable[[], T], ask_alias: Callable[[], T]) -> T:
    """The answer for a key by id or secret; when there is none, for the key that has this alias.

    What looks like a secret is never sent as an alias: aliases are named in errors. Raises ApiFailure, Unreachable.
    """
    try:
        return ask()
    except ApiFailure as failure:
        if failure.status != 404 or reference.startswith("sk-"):
            raise
        try:
            return ask_alias()
        except ApiFailure as second:
            if second.status != 404:
                raise
            raise ApiFailure(404, f"{failure} No key has the alias {reference!r} either.") from second


@contextmanager
def open_client(
    env: Env | None = None,
    *,
    once: str | None = None,
    access: Access | None = None,
    url: str | None = None,
    patience: Patience = "lost",
) -> Generator[Client, None, None]:
    """A client for the front door, as the administrator if no other access is given. Raises SettingsError."""
    env = env or Env()
    url = front_door(env, url)
    access = access or admin_access(env)
    with httpx.Client(
        base_url=url,
        headers={} if access.key is None else {"authorization": f"Bearer {access.key}"},
        timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        trust_env=host_of(url) not in LOOPBACK,
        follow_redirects=False,
    ) as http:
        yield Client(http, url, access, once=once, patience=patience)


def decoded(content: bytes) -> object:
    """A JSON answer."""
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise TundishError(f"the answer is not JSON, so this is not Tundish: {error}") from error


def _passing(response: httpx.Response) -> bool:
    """Whether the same request, sent again, may well get another answer."""
    return response.status_code in AGAIN_STATUS or (
        response.status_code in (409, 429, 503) and _detail(response).code in AGAIN_CODES
    )


def _detail(response: httpx.Response) -> _ErrorDetail:
    try:
        return msgspec.json.decode(response.content, type=_ErrorBody).error
    except msgspec.MsgspecError:
        return _ErrorDetail()
