"""What the ensemble is worth out of sample: against its members, EWMA and a GJR-GARCH(1,1)-t refitted every year.

    PYTHONPATH=tests python -m benchmarks.targets --symbols 100 --start 2015-01-02

Walks ``configs/evaluate/default.yaml`` over the shared panel of raw prices and scores, per horizon, every model and the
peer on the same rows: ``arch``'s GJR-GARCH(1,1) with a constant mean and Student-t innovations, fitted on all returns
before each year and, with those parameters, filtered through it; its quantiles are of simulated paths. Defaults are
chosen on origins 2008-2014; a look at later ones is a look, to be taken once per landed default. ``--forecasts`` judges
a forecasts.parquet that is already there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from arch import arch_model
from arch.univariate import StudentsT
from support.shared_data import shared_parquet

from swiftbolt.evaluation.evaluate import Plan, evaluate
from swiftbolt.evaluation.replay import NoProgress
from swiftbolt.evaluation.significance import diebold_mariano, session_means
from swiftbolt.features import build_panel
from swiftbolt.forecast import HORIZONS, LEVELS, QUANTILE_COLUMNS, Float64, crps_from_quantiles
from swiftbolt.panel import Panel
from swiftbolt.providers.base import MarketData
from swiftbolt.providers.files import read_market_data
from swiftbolt.quality import inspect
from swiftbolt.universe import Universe

PANEL = "sp500_raw_1999_202104"
CONFIG = Path("configs/evaluate/default.yaml")
FIRST_SESSION = date(1999, 11, 5)  # symbols that begin later are left out: every fold then has the same ones
PATHS = 1000
PEER = "gjr_garch_yearly"
KEYS = ["symbol", "origin", "horizon"]
CALIBRATION = (
    "coverage_95",
    "coverage_90",
    "coverage_90_terciles",
    "coverage_90_after_breaks",
    "calibration_error",
    "directional_accuracy",
)
AIMS = {1: 0.015, 5: 0.010, 20: 0.010}


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the tables."""
    wanted = _arguments(arguments)
    data = panel_data(wanted.symbols, wanted.history, wanted.end)
    if wanted.forecasts is None:
        with tempfile.TemporaryDirectory() as folder:
            out = wanted.out or Path(folder) / "evaluation"
            started = time.perf_counter()
            walk(data, wanted.config, out, wanted.start)
            print(f"evaluate: {len(data.bars.symbols)} symbols in {time.perf_counter() - started:.0f} s", flush=True)
            forecasts = pl.read_parquet(out / "forecasts.parquet")
            scorecard = json.loads((out / "scorecard.json").read_text())
            show_calibration(scorecard["models"]["ensemble"])
    else:
        forecasts = pl.read_parquet(wanted.forecasts)
    forecasts = forecasts.filter(pl.col("origin") >= wanted.start, pl.col("realized").is_not_null())
    started = time.perf_counter()
    panel = build_panel(data.bars, data.actions, inspect(data.bars, data.actions))
    peer = yearly_gjr_garch(panel, forecasts["origin"].min().year, forecasts["origin"].max().year)  # type: ignore[union-attr]
    print(f"{PEER}: {time.perf_counter() - started:.0f} s")
    show_scores(forecasts, peer)


def panel_data(count: int, start: date | None, end: date | None) -> MarketData:
    """The prices of ``count`` symbols, spread evenly over the alphabet of those that were there from the beginning."""
    path = shared_parquet(PANEL)
    spans = pl.scan_parquet(path).group_by("symbol").agg(first=pl.col("date").min()).collect()
    names = spans.filter(pl.col("first") <= FIRST_SESSION)["symbol"].sort().to_list()
    chosen = [names[len(names) * k // count] for k in range(count)]
    return read_market_data(path, tuple(chosen), start, end)


def walk(data: MarketData, config: Path, out: Path, start: date) -> None:
    """The evaluation of a recipe on these prices instead of its own universe."""
    plan = Plan.read(config)
    universe = Universe(symbols=data.bars.symbols, min_sessions=plan.universe.min_sessions)
    evaluate(replace(plan, universe=universe), data, out, start=start, progress=NoProgress())


def yearly_gjr_garch(panel: Panel, first: int, last: int) -> pl.DataFrame:
    """``symbol, origin, horizon`` and quantiles of the peer, from every session of the years."""
    parts = []
    for symbol in panel.symbols:
        rows = panel.rows(symbol)
        date_T = panel.date_R[rows][1:]  # of the returns
        percent_T = 100.0 * panel.log_returns(symbol)
        for year in range(first, last + 1):
            begin, end = (int(np.searchsorted(date_T, np.datetime64(f"{y}-01-01"))) for y in (year, year + 1))
            if begin < 500 or begin == end:
                continue
            model = arch_model(percent_T[:end], mean="Constant", vol="GARCH", p=1, o=1, q=1)
            model.distribution = StudentsT(seed=np.random.default_rng(year))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fitted = model.fit(last_obs=begin, disp="off")
                paths_NPH = fitted.forecast(
                    horizon=HORIZONS[-1], start=begin, method="simulation", simulations=PATHS, reindex=False
                ).simulations.values
            summed_NPH = np.cumsum(paths_NPH / 100.0, axis=2)
            for horizon in HORIZONS:
                quantiles_QN = np.quantile(summed_NPH[:, :, horizon - 1], LEVELS, axis=1)
                parts.append(
                    pl.DataFrame(
                        {
                            "symbol": pl.Series([symbol] * (end - begin), dtype=pl.String),
                            "origin": pl.Series(date_T[begin:end], dtype=pl.Date),
                            "horizon": pl.Series([horizon] * (end - begin), dtype=pl.Int32),
                            **dict(zip(QUANTILE_COLUMNS, quantiles_QN, strict=True)),
                        }
                    )
                )
    return pl.concat(parts)


def show_scores(forecasts: pl.DataFrame, peer: pl.DataFrame) -> None:
    """CRPS on the rows that all have, and Diebold-Mariano tests of the ensemble against each."""
    models = forecasts["model"].unique(maintain_order=True).to_list()
    rows = forecasts.filter(pl.col("model") == "ensemble").select(*KEYS, "realized")
    crps_of: dict[str, Any] = {}
    for name in [*models, PEER]:
        part = peer if name == PEER else forecasts.filter(pl.col("model") == name)
        joined = rows.join(part.drop("realized", strict=False), on=KEYS, how="inner")
        score_N = crps_from_quantiles(joined.select(QUANTILE_COLUMNS).to_numpy(), joined["realized"].to_numpy())
        crps_of[name] = joined.select(KEYS).with_columns(pl.Series(name, score_N))
    table = rows.select(KEYS)
    for frame in crps_of.values():
        table = table.join(frame, on=KEYS, how="inner")
    table = table.sort(KEYS)
    print(f"{len(table):,} rows, origins {table['origin'].min()} to {table['origin'].max()}")
    for horizon in HORIZONS:
        at = table.filter(pl.col("horizon") == horizon)
        naive = float(at["naive"].mean())  # type: ignore[arg-type]
        best = min((name for name in models if name not in ("naive", "ensemble")), key=lambda name: at[name].mean())  # type: ignore[type-var]
        print(f"horizon {horizon}: {len(at):,} rows; aim {AIMS[horizon]:.1%} over naive; best member {best}")
        for name in [*models, PEER]:
            skill = 1.0 - float(at[name].mean()) / naive  # type: ignore[arg-type]
            line = f"  {name:<17} CRPS {at[name].mean():.6f}  skill {skill:+.2%}"
            if name != "ensemble":
                line += f"  ensemble better: p {_p_better(at, 'ensemble', name, horizon):.4f}"
            print(line)


def show_calibration(ensemble: dict[str, Any]) -> None:
    """Coverage and calibration of the ensemble, as the scorecard has them."""
    for horizon in map(str, HORIZONS):
        entry = ensemble[horizon]
        shown = ", ".join(f"{name} {_figures(entry[name])}" for name in CALIBRATION)
        print(f"horizon {horizon}: {shown}")


def _figures(found: float | list[float] | None) -> str:
    if found is None:
        return "-"
    return " / ".join(f"{value:.3f}" for value in (found if isinstance(found, list) else [found]))


def _p_better(at: pl.DataFrame, one: str, other: str, horizon: int) -> float:
    loss_T, other_T = (_by_session(at, name) for name in (one, other))
    return diebold_mariano(loss_T, other_T, horizon).p_less


def _by_session(at: pl.DataFrame, name: str) -> Float64:
    return session_means(at["origin"].to_numpy(), at[name].to_numpy())[1]


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.targets", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--start", type=date.fromisoformat, default=date(2015, 1, 2), help="first origin judged")
    parser.add_argument("--history", type=date.fromisoformat, default=None, help="first session learnt from")
    parser.add_argument("--end", type=date.fromisoformat, default=None, help="last session")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--out", type=Path, default=None, help="keep the evaluation here")
    parser.add_argument("--forecasts", type=Path, default=None, help="judge these instead of evaluating")
    return parser.parse_args(arguments or [])


if __name__ == "__main__":
    main(sys.argv[1:])
