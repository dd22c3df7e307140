"""The connection of auth to Postgres: a pool whose connections see the schema `auth`."""

from shared import pg
from shared.pg import execute, rows, value

STATEMENT_TIMEOUT_S = 5


class Database(pg.Database):
    """The keeper of auth's connections; data that clashes raises asyncpg's own errors, for the store to name."""

    def __init__(self, url: str) -> None:
        super().__init__(url, schema="auth", name="tundish-auth", table="event", command_timeout_s=STATEMENT_TIMEOUT_S)


__all__ = ["Database", "execute", "rows", "value"]
