"""Universe files."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError
from support.shared_data import shared_parquet

from swiftbolt.config import load_config
from swiftbolt.errors import ConfigError
from swiftbolt.providers.sample import SampleProvider
from swiftbolt.universe import Cohort, Universe

UNIVERSES = Path(__file__).parents[2] / "configs" / "universes"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("symbols: [AAPL, IBM, AAPL]", "symbols: AAPL stands there more than once"),
        ("symbols: []", "symbols: .*at least 1 item"),
        ("symbols: [' IBM']", "symbols: ' IBM' is not a symbol"),
        ("symbols: [ON]", "symbols: True is not text; put symbols such as 'ON'"),
        ("symbols: [IBM]\nstart: 2013-01-02\nend: 2012-01-03", "start 2013-01-02 is after end 2012-01-03"),
        ("symbols: [IBM]\nmin_sessions: 0", "min_sessions: "),
        ("symbol: [IBM]", r"symbol: unknown key \(did you mean 'symbols'\?\)"),
    ],
)
def test_a_universe_that_cannot_be_meant_is_refused_with_its_file_and_key(tmp_path, text, complaint):
    path = tmp_path / "universe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"universe.yaml: .*{complaint}"):
        load_config(path, Universe)


def test_the_demo_universe_is_the_sample_up_to_the_last_session_all_of_it_has():
    universe = load_config(UNIVERSES / "demo.yaml", Universe)
    bars = SampleProvider().fetch().bars
    last = bars.frame.group_by("symbol").agg(pl.col("session").max())["session"].min()
    assert universe.symbols == bars.symbols
    assert universe.end == last == date(2013, 3, 1)


def test_the_demo_universe_is_too_much_for_one_symbol_alone():
    universe = load_config(UNIVERSES / "demo.yaml", Universe)
    short = SampleProvider().fetch(universe.symbols, universe.start, universe.end).too_short(universe.min_sessions)
    assert [str(shortage) for shortage in short] == [f"FB: needs {universe.min_sessions} sessions, has 196"]


def test_the_smoke_universe_is_ten_symbols_of_the_shared_panel():
    universe = load_config(UNIVERSES / "smoke.yaml", Universe)
    held = pl.scan_parquet(shared_parquet("sp500_raw_1999_202104")).select(pl.col("symbol").unique()).collect()
    assert len(universe.symbols) == 10
    assert set(universe.symbols) <= set(held["symbol"])


def test_the_market_of_a_universe_is_one_of_its_symbols():
    assert Universe(symbols=("AAA", "SPY"), market="SPY").market == "SPY"
    with pytest.raises(ValidationError, match="market SPY is not among the symbols; add it to them"):
        Universe(symbols=("AAA",), market="SPY")


def test_a_cohort_is_told_apart_by_its_symbols_and_its_market_but_not_by_their_order():
    one = Cohort.of(["BBB", "AAA", "AAA"])
    assert one == Cohort.of(["AAA", "BBB"])
    hashes = {one.cohort_hash, Cohort.of(["AAA"]).cohort_hash, Cohort.of(["AAA", "BBB"], "AAA").cohort_hash}
    assert len(hashes) == 3
    with pytest.raises(ValueError, match="market CCC is not among the symbols that can be worked on"):
        Cohort.of(["AAA"], "CCC")
