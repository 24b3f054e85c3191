"""Fixtures over a real PostgreSQL: one server a session, an empty store a test; and what its tests fill it with.

A conftest imports the fixtures it wants: ``from support.database import database_url, migrated_url, store``.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from itertools import count
from pathlib import Path

import polars as pl
import psycopg
import pytest

from swiftbolt.bars import BAR_SCHEMA, Bars
from swiftbolt.errors import StoreError
from swiftbolt.store import Store, embedded

MONDAY, TUESDAY, WEDNESDAY, THURSDAY = (date(2024, 1, day) for day in (8, 9, 10, 11))

_numbers = count(1)


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """URL of an embedded server for the tests of this session."""
    with temporary_server() as url:
        yield url


@pytest.fixture
def empty_url(database_url: str) -> Iterator[str]:
    """URL of an empty database, dropped after the test."""
    with temporary_database(database_url) as url:
        yield url


@pytest.fixture(scope="session")
def _migrated(database_url: str) -> Iterator[str]:
    with temporary_database(database_url) as url:
        with Store.connect(url) as store:
            store.migrate()
        yield url


@pytest.fixture
def migrated_url(_migrated: str) -> Iterator[str]:
    """URL of a database with our tables and nothing in them; emptied after the test."""
    yield _migrated
    empty_tables(_migrated)


@pytest.fixture
def store(migrated_url: str) -> Iterator[Store]:
    """A store with nothing in it."""
    with Store.connect(migrated_url) as store:
        yield store


@contextmanager
def temporary_server() -> Iterator[str]:
    """Run an embedded server for the time of the block."""
    # Not pytest's own folder: a socket needs a short path, and the server's user must be let in.
    home = Path(tempfile.mkdtemp(prefix="swiftbolt-test-", dir="/tmp"))
    try:
        url = embedded.start(home / "postgres").url
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # nobody mourns these databases
            connection.execute("SELECT pg_reload_conf()")
        yield url
    finally:
        embedded.stop(home / "postgres")
        shutil.rmtree(home)


@contextmanager
def temporary_database(server_url: str) -> Iterator[str]:
    """Create an empty database for the time of the block."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        try:
            yield named(server_url, name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def shut(server_url: str, inside: psycopg.Connection) -> Iterator[None]:
    """Throw everybody out of a database for the time of the block, but for one connection into it."""
    name = inside.info.dbname
    others = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s AND pid <> %s"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        try:
            connection.execute(others, (name, inside.info.backend_pid))
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


def named(server_url: str, database: str) -> str:
    """URL of another database of the same server."""
    return server_url.replace("@/postgres?", f"@/{database}?")


def empty_tables(url: str) -> None:
    """Delete every row but the list of migrations; numbering starts again.

    Ten times faster than a database a test. Partitioned tables are deleted from, as truncating their
    partitions would make hundreds of new files.
    """
    with psycopg.connect(url, options="-c lock_timeout=20s") as connection:
        tables = connection.execute(
            "SELECT oid::regclass::text, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'schema_migrations'"
        ).fetchall()
        for table in (name for name, kind in tables if kind == "p"):
            connection.execute(f"DELETE FROM {table}".encode())
        plain = ", ".join(name for name, kind in tables if kind == "r")
        connection.execute(f"TRUNCATE {plain} RESTART IDENTITY CASCADE".encode())


def bars_of(*rows: tuple[str, date, float]) -> Bars:
    """Bars whose four prices are all the close given, with a volume of 1000."""
    frame = pl.DataFrame([(s, day, p, p, p, p, 1000.0) for s, day, p in rows], schema=BAR_SCHEMA, orient="row")
    return Bars(frame=frame.sort("symbol", "session"))


def at_once(*works: Callable[[], object]) -> list[object]:
    """Run each in a thread of its own, let go together; what each returned or raised."""
    gate = threading.Barrier(len(works))
    outcomes: list[object] = [None] * len(works)

    def run(place: int, work: Callable[[], object]) -> None:
        gate.wait()
        try:
            outcomes[place] = work()
        except StoreError as exc:
            outcomes[place] = exc

    threads = [threading.Thread(target=run, args=item) for item in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def until_blocked(sql: psycopg.Connection, is_running: Callable[[], bool]) -> None:
    """Return when another session of the database waits for a lock; fail when the work ends without."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while sql.execute(waiting).fetchone() == (0,):
        assert is_running(), "ended without waiting for anybody"
