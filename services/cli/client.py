"""HTTP to the front door, with errors that say what to do."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from shared.errors import SettingsError, TundishError
from shared.settings import Env

URL_DEFAULT = "http://127.0.0.1:4000"
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0
KEY_FILE_BYTES_MAX = 4_096
ERROR_TEXT_MAX = 500
RUN_FILE_BYTES_MAX = 1024 * 1024
LOOPBACK = {"127.0.0.1", "::1", "localhost"}

T = TypeVar("T")
Json = dict[str, object]
Query = Mapping[str, str | int | None]


class ApiFailure(TundishError):
    """The front door answered with an error; the text is what it said."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Unreachable(TundishError):
    """Nobody answers at the address."""


class _ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    message: str = ""


class _ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    error: _ErrorDetail = _ErrorDetail()


class Client:
    """Requests to the admin APIs. All raise Unreachable and ApiFailure."""

    def __init__(self, http: httpx.Client, url: str, key_source: str) -> None:
        self._http = http
        self._url = url
        self._key_source = key_source

    def get(self, path: str, query: Query | None = None) -> object:
        """The decoded answer of a GET; parameters that are None are left out."""
        return _decode(self.raw("GET", path, query=query))

    def post(self, path: str, body: Json) -> object:
        """The decoded answer of a POST with a JSON body."""
        return _decode(self.raw("POST", path, body=body))

    def raw(self, method: str, path: str, *, query: Query | None = None, body: Json | None = None) -> bytes:
        """The bytes of a successful answer."""
        response = self.answer(method, path, query=query, body=body)
        if response.is_success:
            return response.content
        raise ApiFailure(response.status_code, self._explain(response))

    def answer(self, method: str, path: str, *, query: Query | None = None, body: Json | None = None) -> httpx.Response:
        """The answer whatever its status. Raises Unreachable."""
        params = {name: value for name, value in (query or {}).items() if value is not None}
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            return self._http.request(method, path, params=params, content=content, headers=headers)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(
                f"{self._url} does not answer ({reason}). Is Tundish running? TUNDISH_URL names another address."
            ) from error

    def _explain(self, response: httpx.Response) -> str:
        try:
            said = msgspec.json.decode(response.content, type=_ErrorBody).error.message
        except msgspec.DecodeError:
            said = response.text[:ERROR_TEXT_MAX]
        if response.status_code == 401:
            return f"{self._url} does not accept the master key from {self._key_source}: {said}"
        return f"{self._url} answered {response.status_code}: {said or 'no reason given'}"


class _RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    url: str = ""


def _running_here(env: Env) -> str | None:
    """Where the Tundish of this data folder answers, as `make up` has noted it; None if it did not."""
    try:
        with (env.path("TUNDISH_HOME", ".tundish") / "run.json").open("rb") as file:
            return msgspec.json.decode(file.read(RUN_FILE_BYTES_MAX), type=_RunRecord).url or None
    except (OSError, msgspec.MsgspecError):
        return None


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
def open_client(env: Env | None = None) -> Generator[Client, None, None]:
    """A client for TUNDISH_URL with the master key. Raises SettingsError."""
    env = env or Env()
    url = env.text("TUNDISH_URL", _running_here(env) or URL_DEFAULT).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"TUNDISH_URL={url!r} is not an address such as {URL_DEFAULT}")
    key, source = master_key(env)
    with httpx.Client(
        base_url=url,
        headers={"authorization": f"Bearer {key}"},
        timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        trust_env=parts.hostname not in LOOPBACK,
        follow_redirects=False,
    ) as http:
        yield Client(http, url, source)


def master_key(env: Env) -> tuple[str, str]:
    """(the key, where it came from): TUNDISH_MASTER_KEY, else the file that `make up` keeps."""
    key = env.text("TUNDISH_MASTER_KEY", "")
    if key:
        return _sendable(key, "TUNDISH_MASTER_KEY"), "TUNDISH_MASTER_KEY"
    path = env.path("TUNDISH_HOME", ".tundish") / "master.key"
    return _sendable(_read(path), str(path)), str(path)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(KEY_FILE_BYTES_MAX).decode("latin-1").strip()
    except OSError as error:
        raise SettingsError(
            f"no master key: set TUNDISH_MASTER_KEY, or TUNDISH_HOME so that {path} can be read ({error.strerror})"
        ) from error
    if not text:
        raise SettingsError(f"{path} is empty; it should hold the master key")
    return text


def _sendable(key: str, source: str) -> str:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError(f"{source} does not look like a key: it holds blanks or odd characters")
    return key


def _decode(content: bytes) -> object:
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise TundishError(f"the answer is not JSON, so this is not Tundish: {error}") from error
