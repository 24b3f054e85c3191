"""A universe's history out of the store, as every run that fits models on the cluster reads it."""

from __future__ import annotations

from pathlib import Path

from cluster.run_records import Line
from swiftbolt.errors import ConfigError, DataError
from swiftbolt.evaluation.evaluate import market_of
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.walk_forward import short_of_history
from swiftbolt.feature_cache import CohortHistory, read_steadily
from swiftbolt.store import Store
from swiftbolt.universe import Cohort, Universe, is_file


def refuse_files(universe: Universe, file: Path) -> None:
    """Serving reads the store: what it does not hold, nobody could forecast with tomorrow.

    Raises:
        ConfigError: ``market:`` or ``vix:`` in ``file`` names a file.
    """
    for key, named in (("market", universe.market), ("vix", universe.vix)):
        if named is not None and is_file(named):
            raise ConfigError(
                str(file),
                key,
                f"{named} is a file, and forecasts are served from the store: bring it there (swiftbolt ingest"
                " --provider files) and name its symbol",
            )


def load_history(store: Store, universe: Universe, recipe: Recipe, write: Line) -> tuple[CohortHistory, dict[str, str]]:
    """Everything the universe is trained on, as the store held it at one moment, and why symbols are not forecast.

    Raises:
        DataError: nobody has enough history.
    """

    def read() -> tuple[CohortHistory, dict[str, str]]:
        bars = store.bars(symbols=universe.symbols, start=universe.start, end=universe.end)
        missing = sorted(set(universe.symbols) - set(bars.symbols))
        skipped = {symbol: f"{symbol}: no bars in the store; run swiftbolt ingest" for symbol in missing}
        short = short_of_history(bars, recipe.needed_sessions(universe))
        skipped.update(short)
        if len(short) == len(bars.symbols):
            raise DataError("no symbol of the universe can be trained: " + "; ".join(skipped.values()))
        cohort = Cohort.of(bars.symbols, market_of(universe, bars, short), universe.vix)
        return CohortHistory.of(store, cohort, bars), skipped

    history, skipped = read_steadily(store, universe.sources, read)
    if history.vix is not None:
        history.vix.require_within(history.bars)
        if history.vix.last_session != history.bars.last_session:
            write(f"{history.vix.name}: its newest value is of {history.vix.last_session}, not of the newest session")
    for reason in skipped.values():
        write(f"skipped: {reason}")
    for line in history.findings.quarantining().summary():
        write(line)
    return history, skipped
