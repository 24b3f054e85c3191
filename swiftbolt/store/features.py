"""The cache of features, so that serving and research read the same numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

import numpy as np
import polars as pl

from swiftbolt.errors import SchemaError
from swiftbolt.store.connection import Database, Operations
from swiftbolt.store.rows import require_storable, with_columns
from swiftbolt.store.statements import statement
from swiftbolt.store.wire import encoded_features, read_arrays, repeated

KEY_SCHEMA = {
    "symbol": pl.String(),
    "session": pl.Date(),
    "price_growth": pl.Float64(),
    "share_growth": pl.Float64(),
}


class FeatureOperations(Operations):
    """The tables ``feature_sets`` and ``feature_rows``."""

    def cache_features(self, *, spec_hash: str, universe_hash: str, revision: str, frame: pl.DataFrame) -> None:
        """Keep ``frame``, bit for bit; rows of another revision under the same spec and universe are deleted.

        Cache a session once all bars of the universe for it are in. A bar stored later than that withdraws the rows
        from its session on, of every universe.

        Args:
            revision: ``data_revision`` of the universe, asked for before its bars were read.
            frame: ``symbol, session, price_growth, share_growth`` and then the features, float64. NaN is a value,
                null is none.

        Raises:
            SchemaError: a column is missing or of another type, or holds a null.
        """
        names = [name for name in frame.columns if name not in KEY_SCHEMA]
        if not names:
            raise SchemaError("features lack columns besides those of their key")
        others = [name for name in names if frame.schema[name] != pl.Float64()]
        if others:
            raise SchemaError(f"features must be float64, {others[0]} is {frame.schema[others[0]]}")
        rows = with_columns(frame, {**KEY_SCHEMA, **dict.fromkeys(names, pl.Float64())}, "features").sort(
            "symbol", "session"
        )
        empty = [name for name, count in rows.null_count().row(0, named=True).items() if count]
        if empty:
            raise SchemaError(f"features hold a null in {empty[0]}: a value that is not known is NaN")
        require_storable(rows["symbol"].unique())
        key = {"spec_hash": spec_hash, "universe_hash": universe_hash, "revision": revision, "columns": names}
        with self._database.transaction() as connection:
            held = connection.execute(statement("keep_feature_set"), key).fetchone()
            assert held is not None
            feature_set, *contents = held
            if contents != [revision, names]:
                connection.execute(statement("renew_feature_set"), {**key, "feature_set": feature_set})
            connection.execute(statement("create_incoming_features"))
            self._database.copy_encoded("copy_features", encoded_features(rows))
            connection.execute(statement("merge_features"), {"feature_set": feature_set})

    def cached_features(
        self,
        *,
        spec_hash: str,
        universe_hash: str,
        revision: str,
        symbols: Iterable[str],
        start: date | None = None,
        columns: Sequence[str],
    ) -> pl.DataFrame:
        """What is cached for ``symbols`` from ``start`` on, by symbol and session, with the columns it was cached with.

        Args:
            columns: names of all features, in the order they were cached in; under other names nothing is found.
        """
        wanted = {
            "spec_hash": spec_hash,
            "universe_hash": universe_hash,
            "revision": revision,
            "symbols": list(symbols),
            "start": start,
            "columns": list(columns),
        }
        with self._database.connection() as connection, connection.cursor(binary=True) as cursor:
            read_arrays(cursor)
            rows = cursor.execute(statement("cached_features"), wanted).fetchall()
        if not rows:
            return pl.DataFrame(schema={**KEY_SCHEMA, **dict.fromkeys(columns, pl.Float64())})
        names, sessions, prices, shares, features = zip(*rows, strict=True)
        key = {
            "symbol": repeated(names, sessions),
            "session": np.concatenate(sessions),
            "price_growth": np.concatenate(prices),
            "share_growth": np.concatenate(shares),
        }
        values = np.concatenate(features)
        frame = pl.DataFrame({**key, **{name: values[:, place] for place, name in enumerate(columns)}})
        return frame.with_columns(pl.col("session").cast(pl.Date))

    def cached_growth(
        self, *, spec_hash: str, universe_hash: str, revision: str, symbols: Iterable[str], start: date
    ) -> pl.DataFrame:
        """What one share of each symbol had become by its first cached session from ``start`` on that is not NaN.

        Returns:
            ``symbol, session, price_growth, share_growth`` and ``newest``, the symbol's last cached session.
        """
        wanted = {
            "spec_hash": spec_hash,
            "universe_hash": universe_hash,
            "revision": revision,
            "symbols": list(symbols),
            "start": start,
        }
        return self._database.frame("cached_growth", wanted, {**KEY_SCHEMA, "newest": pl.Date()})


def withdraw_features(database: Database, first: date) -> None:
    """Within the open transaction, in which a bar of ``first`` was appended: withdraw what was cached without it."""
    with database.connection() as connection:
        # Locked before they are emptied: whoever caches at this moment is waited for.
        late = connection.execute(statement("lock_late_feature_sets"), {"first": first}).fetchall()
        if late:
            values = {"first": first, "feature_sets": [feature_set for (feature_set,) in late]}
            connection.execute(statement("withdraw_features"), values)
