"""The store itself: every operation on the database, each all or nothing.

SQL stands in ``queries.sql``; its names in Python, and the transactions around it, in a module per subject.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from swiftbolt.store.connection import Database
from swiftbolt.store.coverage import CoverageOperations
from swiftbolt.store.features import FeatureOperations
from swiftbolt.store.findings import FindingOperations
from swiftbolt.store.leases import LeaseOperations
from swiftbolt.store.market import MarketOperations
from swiftbolt.store.releases import ReleaseOperations
from swiftbolt.store.runs import RunOperations
from swiftbolt.store.statements import migrations, statement
from swiftbolt.store.trials import TrialOperations
from swiftbolt.store.units import UnitOperations
from swiftbolt.store.users import UserOperations


class Store(
    MarketOperations,
    FindingOperations,
    CoverageOperations,
    FeatureOperations,
    RunOperations,
    UnitOperations,
    LeaseOperations,
    ReleaseOperations,
    TrialOperations,
    UserOperations,
):
    """A connection to the database. Threads may share one; processes may not.

    A connection that died between two operations is replaced; one that dies within an operation undoes it
    and raises. Every method may raise ``StoreError``, and ``StoreUnavailable`` where the database cannot be reached.
    """

    @classmethod
    def connect(cls, url: str) -> Self:
        """Connect to ``url`` (``postgresql://user:password@host:port/database``); nothing is created.

        Raises:
            StoreUnavailable: one line with the place, the reason and the remedy, never the password.
        """
        return cls(Database.connect(url))

    def close(self) -> None:
        """Disconnect; later operations raise ``StoreError``."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def migrate(self) -> list[str]:
        """Apply the migrations this database lacks, each in a transaction of its own; returns their names."""
        # Looked at first without the lock: who only uses the database needs no right to alter it.
        with self._database.connection() as connection:
            known = connection.execute(statement("has_schema_migrations")).fetchone() == (True,)
            applied = connection.execute(statement("applied_migrations")).fetchall() if known else []
        return [name for name, sql in migrations() if (name,) not in applied and self._apply(name, sql)]

    def _apply(self, name: str, sql: bytes) -> bool:
        with self._database.transaction() as connection:
            connection.execute(statement("lock_migrations"))
            connection.execute(statement("create_schema_migrations"))
            if (name,) in connection.execute(statement("applied_migrations")).fetchall():
                return False  # by another process, while we waited
            connection.execute(sql)
            connection.execute(statement("record_migration"), {"name": name})
            return True
