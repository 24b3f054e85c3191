"""What belongs to a user: read and written as the role ``swiftbolt_app``, which sees the rows of one user only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from swiftbolt.errors import StoreError
from swiftbolt.store.connection import Connection, Database, Operations
from swiftbolt.store.statements import statement


class UserOperations(Operations):
    """The tables that have a ``user_id``."""

    @contextmanager
    def as_user(self, claims: Mapping[str, Any] | None) -> Iterator[UserRows]:
        """One transaction as whoever ``claims`` say is signed in: kept when the block ends, undone when it raises.

        Args:
            claims: of a verified token; ``sub`` is the user. None is nobody, who has no rows.
        """
        with self._database.transaction() as connection:
            connection.execute(statement("become_app_role"))
            connection.execute(statement("set_claims"), {"claims": "" if claims is None else json.dumps(dict(claims))})
            rows = UserRows(self._database)
            try:
                yield rows
            finally:
                rows.end()


class UserRows:
    """The rows of one user, until the transaction of ``Store.as_user`` ends."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_over = False

    def end(self) -> None:
        """Refuse whatever comes later: it would be done by the tables' owner."""
        self._is_over = True

    def settings(self) -> dict[str, Any]:
        """The user's settings; empty where none were saved.

        Raises:
            StoreError: the transaction is over.
        """
        with self._connection() as connection:
            row = connection.execute(statement("settings")).fetchone()
            return {} if row is None else dict(row[0])

    def save_settings(self, settings: Mapping[str, Any]) -> None:
        """Replace the user's settings, as JSON can hold them.

        Raises:
            StoreError: nobody is signed in, or the transaction is over.
        """
        with self._connection() as connection:
            try:
                connection.execute(statement("save_settings"), {"settings": Jsonb(dict(settings))})
            except psycopg.errors.InsufficientPrivilege as exc:
                raise StoreError("settings belong to a user, and nobody is signed in") from exc

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        if self._is_over:
            raise StoreError("a user's rows are out of reach: the transaction they were asked for in is over")
        with self._database.connection() as connection:
            yield connection
