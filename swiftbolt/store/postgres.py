"""The store itself: every operation on the database, each all or nothing.

SQL stands in ``queries.sql``; here are its names in Python and the transactions around it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import polars as pl
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from swiftbolt.actions import ACTION_SCHEMA, CorporateActions
from swiftbolt.bars import BAR_SCHEMA, Bars
from swiftbolt.errors import NotFound, SchemaError
from swiftbolt.store.connection import Database
from swiftbolt.store.rows import (
    FORECAST_SCHEMA,
    RESULT_SCHEMA,
    ArtifactRow,
    ReleaseRow,
    RunRow,
    SymbolRow,
    UpsertCount,
    read_arrays,
)
from swiftbolt.store.statements import migrations, statement


class Store:
    """A connection to the database. Threads may share one; processes may not.

    A connection that died between two operations is replaced; one that dies within an operation undoes it
    and raises. Every method may raise ``StoreError``, and ``StoreUnavailable`` where the database cannot be reached.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

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

    # ---- schema -------------------------------------------------------------------------------------------

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

    # ---- market data --------------------------------------------------------------------------------------

    def upsert_bars(self, bars: Bars, source: str) -> UpsertCount:
        """Insert ``bars`` and replace those that differ; ingesting the same bars again changes nothing."""
        return self._upsert("bars", bars.frame, source)

    def upsert_actions(self, actions: CorporateActions, source: str) -> UpsertCount:
        """Make ``actions`` all there is for each of their symbols, ex-dates and kinds.

        An action held under the same three that is not among them is withdrawn, and counted as revised.
        """
        return self._upsert("actions", actions.frame, source)

    def _upsert(self, noun: Literal["bars", "actions"], frame: pl.DataFrame, source: str) -> UpsertCount:
        with (
            self._database.transaction() as connection,
            connection.cursor(row_factory=class_row(UpsertCount)) as cursor,
        ):
            cursor.execute(statement(f"create_incoming_{noun}"))
            self._database.copy(f"copy_{noun}", frame)
            if noun == "actions":
                cursor.execute(statement("lock_actions"))
            count = cursor.execute(statement(f"merge_{noun}"), {"source": source}).fetchone()
            assert count is not None
            return count

    def bars(self, symbols: Iterable[str] | None = None, start: date | None = None, end: date | None = None) -> Bars:
        """Bars of ``symbols`` from ``start`` to ``end``, both included; None does not restrict."""
        wanted = {"symbols": _as_list(symbols), "start": start, "end": end}
        with self._database.connection() as connection, connection.cursor(binary=True) as cursor:
            read_arrays(cursor)
            rows = cursor.execute(statement("bars"), wanted).fetchall()
        if not rows:
            return Bars(frame=pl.DataFrame(schema=BAR_SCHEMA))
        names, *columns = zip(*rows, strict=True)
        lengths = pl.Series([len(sessions) for sessions in columns[0]], dtype=pl.UInt32)
        symbol = pl.select(pl.lit(pl.Series(names, dtype=pl.String)).repeat_by(lengths).explode()).to_series()
        values = dict(zip(list(BAR_SCHEMA)[1:], map(np.concatenate, columns), strict=True))
        return Bars(frame=_columns(pl.DataFrame({"symbol": symbol, **values}), BAR_SCHEMA, "bars"))

    def actions(self, symbols: Iterable[str] | None = None) -> CorporateActions:
        """Corporate actions of ``symbols``, or of all."""
        return CorporateActions.from_frame(
            self._database.frame("actions", {"symbols": _as_list(symbols)}, ACTION_SCHEMA)
        )

    def symbols(self) -> list[SymbolRow]:
        """Every symbol that has bars, in order."""
        return self._database.rows(SymbolRow, "symbols")

    def last_sessions(self) -> dict[str, date]:
        """The newest session held for each symbol."""
        with self._database.connection() as connection:
            return dict(connection.execute(statement("last_sessions")).fetchall())

    # ---- runs ---------------------------------------------------------------------------------------------

    def start_run(self, kind: str, config: Mapping[str, Any], *, now: datetime) -> str:
        """Record that a run begins; returns its name, such as ``retrain-20261122-143000-ab12`` (UTC).

        Args:
            config: what it was asked to do, as JSON can hold it.
            now: an aware time.
        """
        if now.tzinfo is None:
            raise ValueError("a run starts at an aware time")
        # The suffix parts runs of one second, also those of two databases over one folder of artifacts.
        run = f"{kind}-{now.astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        self._database.execute("insert_run", {"run": run, "kind": kind, "config": Jsonb(dict(config)), "started": now})
        return run

    def progress_run(self, run: str, done: int, failed: int, total: int) -> None:
        """Record how many of ``total`` symbols are done and how many failed.

        Raises:
            NotFound: there is no such run.
        """
        self._update_run("progress_run", {"run": run, "done": done, "failed": failed, "total": total})

    def finish_run(
        self, run: str, state: Literal["succeeded", "failed"], seconds: float, failures: Mapping[str, str]
    ) -> None:
        """Record how a run ended.

        Args:
            failures: the reason of each symbol that failed.

        Raises:
            NotFound: there is no such run.
        """
        values = {"run": run, "state": state, "seconds": seconds, "failures": Jsonb(dict(failures))}
        self._update_run("finish_run", values)

    def _update_run(self, name: str, values: Mapping[str, Any]) -> None:
        if self._database.execute(name, values) == 0:
            raise NotFound(f"no run {values['run']!r}")

    def runs(self) -> list[RunRow]:
        """Every run, newest first."""
        return self._database.rows(RunRow, "runs")

    # ---- releases -----------------------------------------------------------------------------------------

    def publish_release(
        self,
        *,
        run: str,
        digest: str,
        origin: date,
        directory: str,
        forecasts: pl.DataFrame,
        results: pl.DataFrame,
        artifacts: Sequence[ArtifactRow],
        reproducible: bool = True,
    ) -> int:
        """Publish what ``run`` made, in one transaction: whoever reads sees all of it or none.

        Publishing does not promote.

        Args:
            digest: the ``release_digest``.
            directory: holds ``release.json`` and the artifacts.
            forecasts: as ``Forecasts.to_frame`` makes them, of any number of models.
            results: ``model, horizon, metrics``, one row each; metrics is JSON text. The keys ``rmse``, ``mae``,
                ``directional_accuracy``, ``sharpe_ratio``, ``max_drawdown``, ``test_period_start`` and
                ``test_period_end`` become columns of the view ``model_results``.

        Returns:
            The version of the release.

        Raises:
            SchemaError: a column is missing.
            StoreError: the run is unknown or has a release already, or a row appears twice.
        """
        rows = _columns(forecasts, FORECAST_SCHEMA, "forecasts")
        scores = _columns(results, RESULT_SCHEMA, "results")
        release = {
            "run": run,
            "release_digest": digest,
            "origin": origin,
            "directory": directory,
            "reproducible": reproducible,
        }
        models = [
            {"run": run, "model": row.model, "manifest": Jsonb(dict(row.manifest)), "directory": row.directory}
            for row in artifacts
        ]
        with self._database.transaction() as connection, connection.cursor() as cursor:
            inserted = cursor.execute(statement("insert_release"), release).fetchone()
            assert inserted is not None
            version = int(inserted[0])
            cursor.executemany(statement("insert_artifact"), models)
            cursor.executemany(statement("insert_score"), [{"run": run, **row} for row in scores.to_dicts()])
            self._database.copy(
                "copy_forecasts", rows.select(pl.lit(version, dtype=pl.Int64).alias("version"), pl.all())
            )
            return version

    def releases(self) -> list[ReleaseRow]:
        """Every release, newest first."""
        return self._releases()

    def release(self, version: int) -> ReleaseRow:
        """One release.

        Raises:
            NotFound: there is no such version.
        """
        found = self._releases(version=version)
        if not found:
            raise NotFound(_no_release(version, self._releases()))
        return found[0]

    def active_release(self) -> ReleaseRow | None:
        """The release that is served, or None before the first promotion."""
        return next(iter(self._releases(only_active=True)), None)

    def promote(self, version: int | None = None) -> ReleaseRow:
        """Make a release the one that is served; None means the newest. Promoting the active one changes nothing.

        Listeners on the channel ``swiftbolt_release`` are told its version.

        Raises:
            NotFound: there is no such version, or none at all.
        """
        with self._database.transaction() as connection:
            connection.execute(statement("lock_active_release"))
            found = self._releases(version=version)
            if not found:
                raise NotFound(_no_release(version, self._releases()))
            if found[0].active:
                return found[0]
            connection.execute(statement("promote"), {"version": found[0].version})
            return self.release(found[0].version)

    def rollback(self) -> ReleaseRow:
        """Serve again what was served before the active release; repeated, it goes back step by step.

        Raises:
            NotFound: nothing was served before, or nothing is.
        """
        with self._database.transaction() as connection:
            connection.execute(statement("lock_active_release"))
            restored = connection.execute(statement("rollback")).fetchone()
            if restored is None:
                active = self.active_release()
                raise NotFound(
                    "nothing to roll back to: no release was ever promoted"
                    if active is None
                    else f"nothing to roll back to: no release was served before release {active.version}"
                )
            return self.release(restored[0])

    def _releases(self, *, version: int | None = None, only_active: bool = False) -> list[ReleaseRow]:
        return self._database.rows(ReleaseRow, "releases", {"version": version, "only_active": only_active})

    def forecasts(self, version: int, symbol: str | None = None) -> pl.DataFrame:
        """What a release forecast, by symbol, model and horizon, with the columns of ``Forecasts.to_frame``.

        Raises:
            NotFound: there is no such version. A symbol it has no forecast for gives an empty frame.
        """
        found = self._database.frame("forecasts", {"version": version, "symbol": symbol}, FORECAST_SCHEMA)
        if not len(found):
            self.release(version)
        return found

    def results(self, version: int) -> pl.DataFrame:
        """A release's scorecard, ``model, horizon, metrics`` (JSON text), by model and horizon.

        Raises:
            NotFound: there is no such version.
        """
        found = self._database.frame("results", {"version": version}, RESULT_SCHEMA)
        if not len(found):
            self.release(version)
        return found


def _columns(frame: pl.DataFrame, schema: Mapping[str, pl.DataType], what: str) -> pl.DataFrame:
    missing = [name for name in schema if name not in frame.columns]
    if missing:
        raise SchemaError(f"{what} lack the columns {', '.join(missing)}")
    return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())


def _as_list(symbols: Iterable[str] | None) -> list[str] | None:
    return None if symbols is None else list(symbols)


def _no_release(version: int | None, held: Sequence[ReleaseRow]) -> str:
    if not held:
        return "there is no release yet: a retrain makes one"
    return f"no release {version}: there are {', '.join(str(row.version) for row in reversed(held[:20]))}"
