"""All features of 348 symbols over 21 years, against the roadmap's pandas and TA-Lib code.

    PYTHONPATH=tests python -m benchmarks.features

Times are of the wall clock, the best of three, per row and feature. The peer computes the roadmap's 39 features of
every third symbol, one symbol after the other, and keeps them, as we keep ours. Without the shared prices synthetic
ones of the same size are used.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
from benchmarks.seed_features import FeatureEngineer
from support.markets import make_bars

from swiftbolt.actions import CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.features import DEFAULT_SPEC, build_features, growth_of

PRICES = Path(__file__).resolve().parents[3] / "shared" / "data" / "dev" / "sp500_raw_1999_202104.parquet"
SYMBOLS, SESSIONS = 348, 4816  # of the synthetic prices: as many rows
ROUNDS = 3
UNIVERSE, RECENT = 500, 330  # symbols of an update, and the sessions it reads where it does not read all
COUNT = len(DEFAULT_SPEC.names)
NANOSECONDS = "ns per row and feature"

Market = tuple[Bars, CorporateActions]


def load() -> Market:
    """The bars and actions to work on."""
    if not PRICES.is_file():
        return make_bars([f"S{i:03}" for i in range(SYMBOLS)], SESSIONS, seed=1), CorporateActions.of()
    frame = pl.read_parquet(PRICES).rename({"date": "session"}).cast({"volume": pl.Float64})
    events = [
        frame.filter(condition).select("symbol", ex_date="session", kind=pl.lit(kind), value=kind)
        for kind, condition in (("dividend", pl.col("dividend") > 0), ("split", pl.col("split") != 1))
    ]
    actions = pl.concat(events).with_columns(known_at=pl.lit(None, dtype=pl.Date))
    bars = frame.select("symbol", "session", "open", "high", "low", "close", "volume")
    return Bars(frame=bars), CorporateActions.from_frame(actions)


def main() -> None:
    """Measure and print the table."""
    # First, while this process is small: a child's peak counts its parent's memory at the time it was started.
    peak = peak_over_output()
    bars, actions = load()
    print(f"features: {len(bars):,} rows of {len(bars.symbols)} symbols, {COUNT} features")
    theirs = peer(bars)
    line("peer, pandas and TA-Lib", theirs, NANOSECONDS)
    ours = best(lambda: build_features(bars, actions)) / len(bars) / COUNT * 1e9
    line("ours, one core", ours, NANOSECONDS)
    line("  the peer takes", theirs / ours, "times as long")
    for share in (0.25, 0.5, 1, 2):
        part = portion(bars, actions, share)
        seconds = best(lambda part=part: build_features(*part))
        line(f"{share} times the rows", seconds / len(part[0]) / COUNT * 1e9, NANOSECONDS)
    line("peak memory", peak, "times the output")
    for name, seconds in updates(bars, actions).items():
        line(name, seconds, f"s for one new session of {UNIVERSE} symbols")


def line(what: str, value: float, unit: str) -> None:
    """One line of the table."""
    print(f"  {what:26}{value:8.2f} {unit}", flush=True)


def best(run: Callable[[], object]) -> float:
    """Seconds of the quickest of a few rounds."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def peer(bars: Bars) -> float:
    """Nanoseconds per row and feature of the roadmap's code."""
    frame = bars.select(bars.symbols[::3]).frame.to_pandas()
    symbols = [rows.drop(columns=["symbol", "session"]) for _, rows in frame.groupby("symbol", sort=False)]
    inputs, rows = symbols[0].shape[1], len(frame)
    made = FeatureEngineer(symbols[0]).all_features().shape[1] - inputs
    return best(lambda: [FeatureEngineer(symbol).all_features() for symbol in symbols]) / rows / made * 1e9


def portion(bars: Bars, actions: CorporateActions, share: float) -> Market:
    """A part of the symbols, or more than there are: some a second time under another name."""
    count = round(len(bars.symbols) * share)
    frames = [(bars.frame, actions.frame)]
    while len(frames) * len(bars.symbols) < count:
        renamed = pl.col("symbol") + f"~{len(frames)}"
        frames.append((bars.frame.with_columns(renamed), actions.frame.with_columns(renamed)))
    together = Bars(frame=pl.concat([own for own, _ in frames]).sort("symbol", "session"))
    return (
        together.select(together.symbols[:count]),
        CorporateActions.from_frame(pl.concat([own for _, own in frames])),
    )


def updates(bars: Bars, actions: CorporateActions) -> dict[str, float]:
    """Seconds for the newest session's features, from all of the history and from the last sessions of it."""
    many, acting = portion(bars, actions, UNIVERSE / len(bars.symbols))
    start = many.frame["session"].unique().sort()[-RECENT]
    recent = many.select(start=start)
    growth = growth_of(many, acting).filter(pl.col("session") >= start)
    base = growth.group_by("symbol", maintain_order=True).first()
    return {
        "update, all history read": best(lambda: build_features(many, acting, last=1)),
        f"update, {RECENT} sessions": best(lambda: build_features(recent, acting, last=1, base=base)),
    }


def peak_over_output() -> float:
    """Largest memory of a process that computes all features, its interpreter and its bars included."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.features", "peak"], capture_output=True, text=True, check=True
    )
    return float(json.loads(done.stdout))


def _print_peak() -> None:
    bars, actions = load()
    output = build_features(bars, actions).frame.select(DEFAULT_SPEC.names).estimated_size()
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / output))


if __name__ == "__main__":
    if sys.argv[1:2] == ["peak"]:
        _print_peak()
    else:
        main()
