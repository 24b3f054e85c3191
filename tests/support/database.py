"""Fixtures over a real PostgreSQL: one server a session, an empty store a test.

A conftest imports the fixtures it wants: ``from support.database import database_url, migrated_url, store``.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest

from swiftbolt.store import Store, embedded

_numbers = count(1)


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    """URL of an embedded server for the tests of this session."""
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
def temporary_database(server_url: str) -> Iterator[str]:
    """Create an empty database for the time of the block."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        try:
            yield named(server_url, name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


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
