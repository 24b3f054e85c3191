"""The stages of an evaluation, each as a table of what it claims to know by a session.

``tables`` gives them in the order in which each is made from those before, and makes nothing that is not asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from swiftbolt.actions import forward_adjusted
from swiftbolt.ensemble.confidence import signal
from swiftbolt.ensemble.weights import ENSEMBLE, EnsembleState
from swiftbolt.evaluation.cuts import Cut, Place
from swiftbolt.evaluation.equity import simple_rule
from swiftbolt.evaluation.replay import Doubts, FittedUnit, Pipeline
from swiftbolt.folds import Fold
from swiftbolt.forecast import HORIZONS
from swiftbolt.models.registry import NETWORKS
from swiftbolt.models.trained import TrainedNetwork
from swiftbolt.panel import Panel
from swiftbolt.scaling import panel_volatility
from swiftbolt.sessions import as_day
from swiftbolt.windows import Labelled, outcomes, outcomes_known, train_rows, validation_rows

STAGES = (
    "actions",
    "universe",
    "findings",
    "prices",
    "features",
    "folds",
    "targets",
    "scaling",
    "fits",
    "forecasts",
    "ensemble",
    "combination",
    "positions",
)
# What names a row of a table; its other columns are values.
KEYS = ("fold", "kind", "model", "symbol", "session", "horizon", "item")


def tables(pipeline: Pipeline, cut: Cut, doubts: Doubts) -> Iterator[tuple[str, pl.DataFrame]]:
    """Stage and table of everything that claims to be known by the cut and that the cut can prove.

    Args:
        doubts: bars in doubt after the cut, in one future or another. Whether they are rows of a panel depends on the
            session it was made on: they are left out of the rows of targets and volatility. Until they are found out
            they count in features and forecasts, whatever comes: there they stay. No outcome that ends with one may
            count by then, nor anything learnt from it.
    """
    by = cut.session
    yield "actions", _actions(pipeline, by)
    yield "universe", _universe(pipeline, by)
    yield "findings", pipeline.findings.select(known_at=by).frame
    prices, features = _rows(pipeline.panel, by)
    yield "prices", prices
    yield "features", features
    yield "folds", _edges(pipeline.folds, by)
    yield "targets", _targets(pipeline.panel, pipeline.folds[cut.fold], cut, doubts)
    yield "scaling", _volatility(pipeline.panel, by, doubts)
    if cut.place is Place.TRAIN:
        yield "fits", _parameters(_units_of(pipeline, pipeline.scheduled(cut), cut), cut)
    if cut.place in (Place.EMBARGO, Place.TEST):
        yield from _tables_of_models(pipeline, cut)


def _tables_of_models(pipeline: Pipeline, cut: Cut) -> Iterator[tuple[str, pl.DataFrame]]:
    fitted, result = pipeline.walk(cut)
    units = _units_of(pipeline, fitted, cut)
    yield "scaling", _standardisers(units, pipeline.panel.feature_names, cut)
    yield "fits", _parameters(units, cut)
    yield "forecasts", _member_forecasts(units, cut)
    state = result.ensembles.get(cut.fold)  # a fold to burn in may be too early for any model
    yield "ensemble", _flat_table(json.loads(state.to_json()) if state is not None else {}, fold=cut.fold)
    if state is not None and cut.place is Place.TEST and not pipeline.folds[cut.fold].burn_in:
        published = result.forecasts.filter(pl.col("fold") == cut.fold).drop("realized")
        yield "combination", _by_origin(published, cut)
        combined = published.filter(pl.col("model") == ENSEMBLE)
        yield "positions", _by_origin(_signals(combined, state), cut)
        yield "positions", _equity(combined, pipeline, state, cut)


def _actions(pipeline: Pipeline, by: date) -> pl.DataFrame:
    known = (pl.col("ex_date") <= by) | (pl.col("known_at") <= by)
    return pipeline.history_actions.frame.filter(known).rename({"ex_date": "session"})


def _universe(pipeline: Pipeline, by: date) -> pl.DataFrame:
    return pipeline.bars.frame.filter(pl.col("session") <= by).select("symbol").unique().sort("symbol")


def _rows(panel: Panel, by: date) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Prices and features of every bar up to ``by``, each as known at its own close, whatever was found out later."""
    row_N = np.flatnonzero(panel.date_R <= as_day(by))
    frame = _keyed(panel, row_N).with_columns(
        close=panel.close_R[row_N],
        log_price=panel.log_price_R[row_N],
        **{name: panel.features_RF[row_N, f] for f, name in enumerate(panel.feature_names)},
    )
    doubted = [bar for bar in panel.doubted if panel.sessions[bar.session] <= as_day(by)]
    if doubted:
        rows = [
            (panel.symbols[b.symbol], panel.sessions[b.session].astype(object), b.close, b.log_price, *b.features_F)
            for b in doubted
        ]
        frame = pl.concat([frame, pl.DataFrame(rows, schema=frame.schema, orient="row")]).sort("symbol", "session")
    keys = ("symbol", "session")
    return frame.select(*keys, "close", "log_price"), frame.select(*keys, *panel.feature_names)


def _keyed(panel: Panel, row_N: NDArray[np.int64]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "symbol": pl.Series(panel.symbols, dtype=pl.String).gather(panel.symbol_R[row_N]),
            "session": pl.Series(panel.date_R[row_N], dtype=pl.Date),
        }
    )


def _edges(folds: Sequence[Fold], by: date) -> pl.DataFrame:
    edges = [
        (fold.index, f"{name}.{end}", getattr(within, end))
        for fold in folds
        for name, within in (("train", fold.train), ("validation", fold.validation), ("test", fold.test))
        if within is not None
        for end in ("first", "last")
    ]
    edges += [(fold.index, "known_through", fold.known_through) for fold in folds]
    schema = {"fold": pl.Int64, "item": pl.String, "edge": pl.Date}
    return pl.DataFrame(edges, schema=schema, orient="row").filter(pl.col("edge") <= by).sort("fold", "item")


def _targets(panel: Panel, fold: Fold, cut: Cut, doubts: Doubts) -> pl.DataFrame:
    """Outcomes that count by the cut, and the labels of each range of the fold that ended before it."""
    row_N = np.flatnonzero(panel.date_R <= as_day(cut.session))
    y_NH = outcomes(panel)[row_N]
    y_NH[outcomes_known(panel)[row_N] > panel.position(cut.session)] = np.nan
    labelled: dict[str, Labelled] = {"outcome": (row_N, y_NH)}
    if cut.place is not Place.TRAIN:
        labelled["train"] = train_rows(panel, fold)
    if cut.place in (Place.EMBARGO, Place.TEST):
        labelled["validation"] = validation_rows(panel, fold)
    frames = []
    for kind, (row_B, y_BH) in labelled.items():
        columns = {f"horizon {horizon}": y_BH[:, h] for h, horizon in enumerate(HORIZONS)}
        frames.append(_without(_keyed(panel, row_B).with_columns(kind=pl.lit(kind), **columns), doubts))
    return pl.concat(frames)


def _without(frame: pl.DataFrame, doubts: Doubts) -> pl.DataFrame:
    bars = pl.DataFrame(sorted(doubts), schema={"symbol": pl.String, "session": pl.Date}, orient="row")
    return frame.join(bars, on=["symbol", "session"], how="anti", maintain_order="left")


def _volatility(panel: Panel, by: date, doubts: Doubts) -> pl.DataFrame:
    row_N = np.flatnonzero(panel.date_R <= as_day(by))
    return _without(_keyed(panel, row_N).with_columns(volatility=panel_volatility(panel)[row_N]), doubts)


def _units_of(pipeline: Pipeline, fitted: Mapping[str, FittedUnit], cut: Cut) -> list[FittedUnit]:
    """The units of the cut's fold, of symbols that have a bar by then."""
    scopes = {None, *_universe(pipeline, cut.session)["symbol"]}
    units = (unit.outcome.unit for unit in fitted.values())
    return [fitted[unit.key] for unit in units if unit.fold.index == cut.fold and unit.symbol in scopes]


def _standardisers(units: Sequence[FittedUnit], names: Sequence[str], cut: Cut) -> pl.DataFrame:
    rows = []
    for unit in units:
        model = unit.outcome.unit.model
        if model in NETWORKS and unit.files:
            scale = TrainedNetwork.from_files(unit.files).standardiser
            pairs = zip(names, scale.mean_F.tolist(), scale.sd_F.tolist(), strict=True)
            rows += [(cut.fold, model, name, mean, sd) for name, mean, sd in pairs]
    schema = {"fold": pl.Int64, "model": pl.String, "item": pl.String, "mean": pl.Float64, "sd": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _parameters(units: Sequence[FittedUnit], cut: Cut) -> pl.DataFrame:
    """Every number of a model's JSON, and the digest of each of its tensors and other files."""
    rows = [
        (cut.fold, unit.outcome.unit.model, unit.outcome.unit.symbol, item, value)
        for unit in units
        for item, value in _state(unit, cut.session)
    ]
    schema = dict.fromkeys(("fold", "model", "symbol", "item", "value"), pl.String()) | {"fold": pl.Int64()}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("model", "symbol", "item")


def _state(unit: FittedUnit, by: date) -> Iterator[tuple[str, str]]:
    files = dict(unit.files)
    if files and unit.outcome.unit.model in NETWORKS:
        for name, weights in TrainedNetwork.from_files(files).weights.items():
            yield name, hashlib.sha256(weights.tobytes()).hexdigest()
        return
    for name, content in files.items():
        if not name.endswith(".json"):
            yield name, hashlib.sha256(content).hexdigest()
            continue
        described: dict[str, Any] = json.loads(content)
        for anchor in described.pop("anchors", ()):
            if anchor["session"] <= by.isoformat():
                yield from _leaves(anchor, f"{name} {anchor['session']}")
        yield from _leaves(described, name)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every plain value within ``value``, with the way to it."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{place}]")
    else:
        yield path, repr(value)


def _flat_table(value: Any, fold: int) -> pl.DataFrame:
    rows = [(fold, item, leaf) for item, leaf in _leaves(value, "")]
    return pl.DataFrame(rows, schema={"fold": pl.Int64, "item": pl.String, "value": pl.String}, orient="row")


def _by_origin(forecasts: pl.DataFrame, cut: Cut) -> pl.DataFrame:
    known = forecasts.filter(pl.col("origin") <= cut.session).rename({"origin": "session"})
    return known.sort(*(name for name in KEYS if name in known.columns))


def _member_forecasts(units: Sequence[FittedUnit], cut: Cut) -> pl.DataFrame:
    parts = [unit.outcome.forecasts for unit in units]
    return _by_origin(pl.concat([part.to_frame() for part in parts if part is not None]), cut)


def _signals(combined: pl.DataFrame, state: EnsembleState) -> pl.DataFrame:
    signals = [
        signal(p_up, median, threshold=state.confidence_threshold, cost=state.round_trip_cost)
        for p_up, median in combined.select("p_up", "q_0.5").iter_rows()
    ]
    return combined.select("symbol", "origin", "horizon").with_columns(signal=pl.Series(signals, dtype=pl.String))


def _equity(combined: pl.DataFrame, pipeline: Pipeline, state: EnsembleState, cut: Cut) -> pl.DataFrame:
    """What the simple rule holds, trades and earns up to the cut."""
    prices = forward_adjusted(pipeline.bars, pipeline.actions)
    parts = []
    for horizon in HORIZONS:
        found = simple_rule(
            combined.filter(pl.col("horizon") == horizon),
            prices,
            horizon=horizon,
            threshold=state.confidence_threshold,
        )
        part = {"gross": found.gross_T, "turnover": found.turnover_T, "net": found.net_T}
        parts.append(pl.DataFrame({"session": found.sessions_T, "horizon": horizon, **part}))
    return pl.concat(parts).filter(pl.col("session") <= cut.session)
