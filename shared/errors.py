"""The exceptions of Tundish. Each says what was wrong and what to do; boundaries map them by class.

TundishError
├── SettingsError        a setting is missing or cannot be read
├── BusError
│   ├── BusUnavailable   no answer in time, or no connection: the outcome is unknown
│   ├── Conflict         a fence or an expected revision did not match: somebody else wrote
│   ├── Rejected         the broker refused the request for good (its words are in the text)
│   └── StreamChanged    a stream is missing or was made anew: sequences mean something else now
├── StoreError
│   ├── StoreUnavailable the database does not answer
│   └── VersionConflict  another writer was faster: load again and decide again
└── ApiError             an answer to a caller of an admin API (status, code, message, param)
"""


class TundishError(Exception):
    """Base of all errors of this project."""


class SettingsError(TundishError):
    """A setting is missing or cannot be read; the text names it and what to set."""


class BusError(TundishError):
    """Something about NATS."""


class BusUnavailable(BusError):
    """No answer in time, or no connection: whether the request took effect is unknown."""


class Conflict(BusError):
    """A fence or an expected revision did not match: somebody else wrote first."""


class Rejected(BusError):
    """The broker refused the request; repeating it unchanged does not help."""


class StreamChanged(BusError):
    """A stream is missing, differs from the topology, or was made anew since it was last read."""


class StoreError(TundishError):
    """Something about Postgres."""


class StoreUnavailable(StoreError):
    """The database does not answer; nothing was changed, or the outcome is unknown."""


class VersionConflict(StoreError):
    """Another writer appended to the same stream first."""


class ApiError(TundishError):
    """An answer to a caller of an admin API, in OpenAI's error shape; `retry_after_s` is sent as a header."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        kind: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.kind = kind or ("invalid_request_error" if status < 500 else "server_error")

    def body(self) -> dict[str, dict[str, str | None]]:
        """`{"error": {"message", "type", "param", "code"}}`."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}
