"""The bundled sample: what it holds, and that it can be made again."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from swiftbolt.errors import DataError
from swiftbolt.providers.base import Adjustment
from swiftbolt.providers.sample import SAMPLE_PATH, SampleProvider
from swiftbolt.providers.sample_data import build_sample
from swiftbolt.sessions import sessions_between

ROWS = {"AAPL": 3270, "FB": 196, "GOOG": 2148, "IBM": 3270, "MSFT": 3270, "NASDAQ": 5031, "SP500": 5031}


@pytest.fixture(scope="module")
def sample():
    return SampleProvider().fetch()


def test_the_file_is_what_its_sources_give():
    pytest.importorskip("bokeh_sampledata", reason="bokeh-sampledata, a development dependency, is not installed")
    made, kept = build_sample.build_sample(), pl.read_parquet(SAMPLE_PATH)
    assert made.schema == kept.schema
    assert made.equals(kept)


def test_another_release_of_a_source_is_refused():
    package, name, _ = build_sample.INDICES["SP500"]
    with pytest.raises(DataError, match=r"sp500\.csv\.gz is not the extract"):
        build_sample._read_csv(package, name, "0" * 64)


def test_the_file_is_small_and_its_provenance_and_licence_lie_beside_it():
    assert SAMPLE_PATH.stat().st_size <= 1_000_000
    provenance = (SAMPLE_PATH.parent / "PROVENANCE.md").read_text(encoding="utf-8")
    for source in (build_sample.STOCKS, *build_sample.INDICES.values()):
        assert source[2] in provenance
    assert (SAMPLE_PATH.parent / "LICENSE.arch.md").is_file()


def test_no_row_is_quarantined_and_no_value_ignored(sample):
    assert sample.faults() == []
    assert sample.bars.sessions_per_symbol() == ROWS
    assert sample.adjustment is Adjustment.RAW_WITH_FACTORS


def test_no_symbol_lacks_a_session_between_its_first_and_last(sample):
    for (symbol,), rows in sample.bars.frame.group_by("symbol"):
        expected = sessions_between(rows["session"].min(), rows["session"].max())
        assert rows["session"].to_numpy().astype("datetime64[D]").tolist() == expected.tolist(), symbol


def test_the_splits_of_the_shares_are_found_and_a_crash_is_not_taken_for_one(sample):
    large = sample.actions.frame.filter(pl.col("value") > 1.5)
    assert large.select("symbol", "ex_date", "value").rows() == [
        ("AAPL", date(2000, 6, 21), pytest.approx(2.0, rel=1e-3)),
        ("AAPL", date(2005, 2, 28), pytest.approx(2.0, rel=1e-3)),
        ("MSFT", date(2003, 2, 18), pytest.approx(2.0, rel=1e-3)),
    ]
    closes = sample.bars.select(["AAPL"], date(2000, 9, 28), date(2000, 9, 29)).frame["close"]
    assert closes[1] / closes[0] - 1 == pytest.approx(-0.519, abs=1e-3)


def test_indices_pay_no_dividend_and_are_not_adjusted(sample):
    assert set(sample.actions.frame["symbol"]) == {"AAPL", "IBM", "MSFT"}


def test_a_selection_holds_only_what_was_asked_for():
    found = SampleProvider().fetch(["IBM", "GOOG"], date(2012, 1, 3), date(2012, 1, 31))
    assert found.bars.sessions_per_symbol() == {"GOOG": 20, "IBM": 20}
