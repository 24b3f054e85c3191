"""One connection to PostgreSQL: opened, checked, replaced when it died, its errors told in our words.

Knows how to run the statements of ``queries.sql``; knows nothing of what they mean.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import polars as pl
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import class_row

from swiftbolt.errors import StoreError, StoreUnavailable
from swiftbolt.store.statements import statement
from swiftbolt.store.wire import POSTGRES_TYPES

CONNECT_TIMEOUT_S = 5
# SQLSTATE classes that mean the server or the line is gone: connection exceptions, operator intervention.
GONE = ("08", "57P")

# A server that vanished without a word is noticed within a minute instead of hours (milliseconds the last one).
_NOTICE_A_DEAD_LINE = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

Connection = psycopg.Connection[tuple[Any, ...]]
RowT = TypeVar("RowT")


class Database:
    """A connection that threads may share; processes may not."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters
        self._lock = threading.RLock()
        self._connection: Connection | None = _open(parameters)
        self._in_transaction = False

    @classmethod
    def connect(cls, url: str) -> Self:
        """Connect to ``url``, waiting at most ``CONNECT_TIMEOUT_S`` unless the URL says otherwise.

        Raises:
            StoreUnavailable: one line with the place, the reason and the remedy, never the password.
        """
        try:
            parameters = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            # libpq quotes the piece it stumbled over, which may be the password: its words are not kept.
            raise StoreUnavailable(
                "DATABASE_URL is not a PostgreSQL address: write postgresql://user:password@host:port/database, with "
                "special characters of the password percent-encoded and no parameter that libpq does not know"
            ) from None
        defaults = {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "swiftbolt", **_NOTICE_A_DEAD_LINE}
        return cls({**defaults, **parameters})

    def close(self) -> None:
        """Disconnect for good."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """The connection, alive, for this thread alone; within ``transaction`` it is that transaction's."""
        with self._lock, _translated():
            if self._connection is None:
                raise StoreError("the store is closed")
            if not self._in_transaction and not _is_alive(self._connection):
                self._connection.close()
                self._connection = _open(self._parameters)
            yield self._connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """All that happens inside is kept when it ends, or nothing when it raises. Does not nest."""
        with self.connection() as connection, connection.transaction():
            assert not self._in_transaction
            self._in_transaction = True
            try:
                yield connection
            finally:
                self._in_transaction = False

    def execute(self, name: str, values: Mapping[str, Any]) -> int:
        """Run one statement; the number of rows it touched."""
        with self.connection() as connection:
            return connection.execute(statement(name), values).rowcount

    def rows(self, kind: type[RowT], name: str, values: Mapping[str, Any] | None = None) -> list[RowT]:
        """What a query finds, a dataclass a row."""
        with self.connection() as connection, connection.cursor(row_factory=class_row(kind)) as cursor:
            return cursor.execute(statement(name), values).fetchall()

    def frame(self, name: str, values: Mapping[str, Any], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
        """What a query finds, as a frame with exactly the columns of ``schema``."""
        with self.connection() as connection, connection.cursor(binary=True) as cursor:
            found = cursor.execute(statement(name), values).fetchall()
        return pl.DataFrame(found, schema=dict(schema), orient="row")

    def copy(self, name: str, frame: pl.DataFrame) -> None:
        """Send ``frame`` through a binary COPY statement, its columns in their order."""
        with self.connection() as connection, connection.cursor() as cursor, cursor.copy(statement(name)) as copy:
            copy.set_types([POSTGRES_TYPES[dtype] for dtype in frame.dtypes])
            for row in frame.iter_rows():
                copy.write_row(row)

    def copy_encoded(self, name: str, chunks: Iterable[bytes]) -> None:
        """Send what is encoded already through a binary COPY statement."""
        with self.connection() as connection, connection.cursor() as cursor, cursor.copy(statement(name)) as copy:
            for chunk in chunks:
                copy.write(chunk)


class Operations:
    """What the store can do about one subject; ``Store`` is all subjects together, over one connection."""

    def __init__(self, database: Database) -> None:
        self._database = database


def _open(parameters: Mapping[str, Any]) -> Connection:
    try:
        # No server-side prepared statements: a transaction pooler gives each transaction another server.
        return psycopg.connect(**parameters, autocommit=True, prepare_threshold=None)
    except psycopg.OperationalError as exc:
        reason = str(exc).splitlines()[0].rpartition("failed: ")[2].removeprefix("FATAL:  ")
        host, port = parameters.get("host") or "localhost", parameters.get("port") or 5432
        raise StoreUnavailable(
            f"cannot reach the database at {host}:{port} ({reason}): start it or mend DATABASE_URL; "
            "without DATABASE_URL an embedded one is started"
        ) from exc


def _is_alive(connection: Connection) -> bool:
    if connection.closed:
        return False
    try:
        connection.execute("")
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def _translated() -> Iterator[None]:
    """Raise the driver's errors as ours, in one line each, the cause kept."""
    try:
        yield
    except psycopg.Error as exc:
        said = " ".join(str(exc).split())
        if isinstance(exc, psycopg.errors.RaiseException):
            # A sentence of our own migrations, without the lines of SQL that the driver adds.
            raise StoreError(exc.diag.message_primary) from exc
        if isinstance(exc, psycopg.errors.UndefinedTable):
            raise StoreError(f"the database lacks tables of ours, it must be migrated first: {said}") from exc
        # Without a code it is not the server that speaks, but the driver that lost it.
        if isinstance(exc, psycopg.OperationalError) and (exc.sqlstate is None or exc.sqlstate.startswith(GONE)):
            raise StoreUnavailable(f"the database went away: {said}") from exc
        raise StoreError(said) from exc
