"""Releases: published whole, promoted and rolled back by one row."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl
from psycopg.types.json import Jsonb

from swiftbolt.errors import NotFound
from swiftbolt.store.connection import Operations
from swiftbolt.store.rows import FORECAST_SCHEMA, RESULT_SCHEMA, ArtifactRow, ReleaseRow, with_columns
from swiftbolt.store.statements import statement


class ReleaseOperations(Operations):
    """The tables ``releases``, ``artifacts``, ``scores``, ``forecasts`` and ``promotions``."""

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
        rows = with_columns(forecasts, FORECAST_SCHEMA, "forecasts")
        scores = with_columns(results, RESULT_SCHEMA, "results")
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


def _no_release(version: int | None, held: Sequence[ReleaseRow]) -> str:
    if not held:
        return "there is no release yet: a retrain makes one"
    return f"no release {version}: there are {', '.join(str(row.version) for row in reversed(held[:20]))}"
