"""Universe files."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError
from support.shared_data import shared_parquet

from swiftbolt.config import load_config
from swiftbolt.errors import ConfigError
from swiftbolt.providers.sample import SampleProvider
from swiftbolt.universe import Cohort, Universe, is_file

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
    with pytest.raises(ValidationError, match="market SPY is not among the symbols; add it to them, or name a parquet"):
        Universe(symbols=("AAA",), market="SPY")


@pytest.mark.parametrize("named", ["index.parquet", "../data/index.CSV", "vix.csv.gz", "/data/vix.tsv"])
def test_the_market_and_the_vix_may_be_files(named):
    assert is_file(named)
    universe = Universe(symbols=("AAA",), market=named, vix=named)
    assert universe.sources == ("AAA",)


@pytest.mark.parametrize("named", ["VIX", "^VIX", "BRK.B", "I:VIX", "parquet"])
def test_what_has_no_ending_of_a_file_is_a_symbol(named):
    assert not is_file(named)
    assert Universe(symbols=("AAA",), vix=named).sources == ("AAA", named)


def test_the_vix_is_not_forecast_and_so_is_none_of_the_symbols():
    with pytest.raises(ValidationError, match="vix VIX is no share to be forecast; take it out of the symbols"):
        Universe(symbols=("AAA", "VIX"), vix="VIX")
    with pytest.raises(ValidationError, match="vix ' ' is neither a symbol nor a file"):
        Universe(symbols=("AAA",), vix=" ")
    with pytest.raises(ValueError, match="vix AAA is among the symbols that are worked on"):
        Cohort.of(["AAA"], vix="AAA")


def test_a_cohort_is_told_apart_by_its_symbols_and_its_market_but_not_by_their_order():
    one = Cohort.of(["BBB", "AAA", "AAA"])
    assert one == Cohort.of(["AAA", "BBB"])
    hashes = {one.cohort_hash, Cohort.of(["AAA"]).cohort_hash, Cohort.of(["AAA", "BBB"], "AAA").cohort_hash}
    assert len(hashes) == 3


def test_a_cohort_with_a_vix_is_another_and_one_without_is_what_it_was_before_there_was_any():
    plain, beside = Cohort.of(["AAA", "BBB"], "AAA"), Cohort.of(["AAA", "BBB"], "AAA", "VIX")
    assert beside.sources == ("AAA", "BBB", "VIX")
    assert beside.cohort_hash != plain.cohort_hash
    assert beside.cohort_hash != Cohort.of(["AAA", "BBB"], "AAA", "VXO").cohort_hash
    assert plain.cohort_hash == hashlib.sha256(b'[["AAA", "BBB"], "AAA"]').hexdigest()


def test_a_release_of_before_there_was_a_vix_has_a_cohort_without_one():
    assert Cohort.of(symbols=["AAA"], market=None) == Cohort.of(**asdict(Cohort.of(["AAA"])))
    beside = Cohort.of(["AAA"], vix="VIX")
    assert Cohort.of(**asdict(beside)) == beside


def test_a_cohort_has_its_market_among_its_symbols():
    with pytest.raises(ValueError, match="market CCC is not among the symbols that can be worked on"):
        Cohort.of(["AAA"], "CCC")
