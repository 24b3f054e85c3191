"""What a feature is, which ones a model was made with, and their values for a universe.

Knows nothing of how any of them is computed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import polars as pl

from swiftbolt.errors import DataError, SchemaError
from swiftbolt.features.history import History
from swiftbolt.features.rolling import Float64

Family = Literal["momentum", "volatility", "trend", "volume", "mean_reversion", "market", "calendar", "cross_section"]
Scope = Literal["symbol", "market", "cross_section", "calendar"]

KEYS = {"symbol": pl.String(), "session": pl.Date()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Feature:
    """One feature, declared once.

    Attributes:
        look_back: rows before its own that a value depends on (days, where it counts days). The first ``look_back``
            rows of a symbol have none.
        formula: what it is. O, H, L, C are adjusted prices, V volume, D dollars traded, r the log return of a
            session, m that of the market, [-n] n sessions earlier; mean, sd, var, max, min and ema run over the
            sessions that their index names.
        range: the values it can take.
        degenerate: its value where the formula divides zero by zero: flat prices, no volume.
        compute: one symbol's values; NaN where there is none and where the bars are degenerate. Of a cross-sectional
            feature: what is ranked.
        scope: what a value depends on beside its session: the symbol's own bars and actions, these and the market
            series, all symbols on that session, nothing.
        source: where the formula comes from, where it is not plain arithmetic.
        in_dollars: another unit of one symbol's price changes its value.
        roadmap: names in the roadmap that it stands for.
    """

    name: str
    family: Family
    look_back: int
    formula: str
    range: str
    degenerate: float
    compute: Callable[[History], Float64]
    scope: Scope = "symbol"
    source: str = ""
    in_dollars: bool = False
    roadmap: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureSpec:
    """An ordered set of features, as an artifact remembers it.

    Attributes:
        names: F names, in the order of the columns.
        look_backs: F counts of earlier rows that a value depends on.
        degenerate: F values for bars on which the formula is undefined.
        warmup: the first ``warmup`` rows of a symbol have no features, whatever their look-backs.
        version: raised whenever a formula changes under the same name.

    Raises:
        ValueError: names repeat, lengths differ, or the warm-up is shorter than a look-back.
    """

    names: tuple[str, ...]
    look_backs: tuple[int, ...]
    degenerate: tuple[float, ...]
    warmup: int
    version: int

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise ValueError("feature names must be distinct")
        if not len(self.names) == len(self.look_backs) == len(self.degenerate):
            raise ValueError("every feature needs one look-back and one value for degenerate bars")
        if not all(math.isfinite(value) for value in self.degenerate):
            raise ValueError("values for degenerate bars must be finite")
        for name, look_back in zip(self.names, self.look_backs, strict=True):
            if look_back > self.warmup:
                raise ValueError(f"{name} looks back {look_back} rows, the warm-up is only {self.warmup}")

    @classmethod
    def of(cls, features: Sequence[Feature], *, warmup: int, version: int) -> Self:
        """The spec of ``features`` in their order."""
        return cls(
            names=tuple(feature.name for feature in features),
            look_backs=tuple(feature.look_back for feature in features),
            degenerate=tuple(feature.degenerate for feature in features),
            warmup=warmup,
            version=version,
        )

    @property
    def spec_hash(self) -> str:
        """SHA-256 over every field: two sets of features that may differ in a value differ in it."""
        fields = [self.names, self.look_backs, self.degenerate, self.warmup, self.version]
        return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Features:
    """Features of one or more symbols, one row per bar, sorted by symbol and session.

    ``frame`` has ``symbol, session`` and one float64 column per name of ``spec``. A row is finite or NaN as a whole:
    NaN where fewer than ``spec.warmup`` sound bars came before it, and where the bar itself was known to be faulty.

    Raises:
        SchemaError: the columns are others, or in another order.
        DataError: rows are unsorted or double, or some values of a row are missing and others are not.
    """

    frame: pl.DataFrame
    spec: FeatureSpec

    def __post_init__(self) -> None:
        expected = KEYS | dict.fromkeys(self.spec.names, pl.Float64())
        if list(self.frame.schema.items()) != list(expected.items()):
            raise SchemaError(f"features must have exactly the columns {', '.join(expected)}, in this order")
        _check_order(self.frame)
        if not self.spec.names:
            return
        first = self.spec.names[0]
        known = self.frame[first].is_finite()
        wrong = self.frame.select(
            ((pl.col(name).is_finite() != known) | pl.col(name).is_infinite()).any() for name in self.spec.names
        )
        for name, is_wrong in wrong.row(0, named=True).items():
            if is_wrong:
                raise DataError(f"{name} must be finite where {first} is, and NaN elsewhere")

    def __len__(self) -> int:
        return len(self.frame)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Features) and self.spec == other.spec and self.frame.equals(other.frame)


def _check_order(frame: pl.DataFrame) -> None:
    """Refuse rows that are not strictly ascending by symbol, then session."""
    runs = frame["symbol"].rle().struct.unnest()
    lengths = runs["len"].to_numpy().astype(np.int64)
    later_R = np.diff(frame["session"].to_numpy().astype("datetime64[D]").astype(np.int64), prepend=0) > 0
    later_R[np.cumsum(lengths) - lengths] = True
    if not (later_R.all() and runs["value"].is_sorted() and runs["value"].is_unique().all()):
        raise DataError("features are not sorted by symbol and session, or hold a row twice")
