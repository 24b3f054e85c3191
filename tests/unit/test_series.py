"""Daily series: what is known at a session, the files they come from, and what is refused."""

from __future__ import annotations

import gzip
import re
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.by_hand import flat_bars, sessions_from
from support.vix import as_bars, make_vix, without

from swiftbolt.actions import CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.errors import DataError, SchemaError
from swiftbolt.evaluation.backdrop import Backdrop, read_series
from swiftbolt.evaluation.noise import History, another_future
from swiftbolt.features import DailySeries
from swiftbolt.features.series import CARRIED

DAYS = sessions_from(10)
SESSIONS = np.array(DAYS, dtype="datetime64[D]")


def series_of(values: dict[int, float]) -> DailySeries:
    """Values on some of ``DAYS``, by position."""
    return DailySeries(name="VIX", session_N=SESSIONS[list(values)], value_N=np.array(list(values.values())))


def test_a_value_stands_until_the_next_one_and_no_longer_than_five_sessions() -> None:
    assert CARRIED == 5
    known = series_of({1: 11.0, 2: 12.0, 9: 19.0}).known_at(SESSIONS)
    np.testing.assert_array_equal(known, [np.nan, 11.0, *[12.0] * 6, np.nan, 19.0])


def test_what_is_known_does_not_depend_on_which_sessions_are_asked_for() -> None:
    series = series_of({1: 11.0, 2: 12.0, 9: 19.0})
    np.testing.assert_array_equal(series.known_at(SESSIONS[4:]), series.known_at(SESSIONS)[4:])


def test_age_is_counted_in_sessions_not_days() -> None:
    # Friday 3 January 2020 and the five sessions after it, two weekends and Martin Luther King's day aside.
    series = series_of({1: 11.0})
    assert series.known_at(SESSIONS)[1 + CARRIED] == 11.0
    assert (DAYS[1 + CARRIED] - DAYS[1]).days == 7


def test_a_series_without_values_is_never_known() -> None:
    assert np.isnan(series_of({}).known_at(SESSIONS)).all()
    assert series_of({}).last_session is None


def test_a_series_up_to_a_session_knows_that_session_and_nothing_later() -> None:
    cut = series_of({1: 11.0, 2: 12.0, 9: 19.0}).up_to(DAYS[2])
    assert cut.value_N.tolist() == [11.0, 12.0]
    assert cut.last_session == DAYS[2]


@pytest.mark.parametrize(
    ("days", "values", "complaint"),
    [
        ([0, 1], [1.0], "VIX: 2 sessions have 1 values"),
        ([1, 0], [1.0, 2.0], "its sessions are not ascending, each once"),
        ([1, 1], [1.0, 2.0], "its sessions are not ascending, each once"),
        ([0, 1], [1.0, 0.0], "VIX: 0 on 2020-01-03 is not positive and finite"),
        ([0, 1], [np.inf, 1.0], "VIX: inf on 2020-01-02 is not positive and finite"),
        ([0, 1], [1.0, np.nan], "VIX: nan on 2020-01-03 is not positive"),
    ],
)
def test_a_series_that_breaks_a_promise_is_refused(days: list[int], values: list[float], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        DailySeries(name="VIX", session_N=SESSIONS[days], value_N=np.array(values))


def test_a_series_off_the_calendar_is_refused() -> None:
    with pytest.raises(DataError, match="the exchange was closed"):
        DailySeries(name="VIX", session_N=np.array(["2020-01-04"], dtype="datetime64[D]"), value_N=np.ones(1))


# Files.


def written(path: Path, **columns: list[object]) -> Path:
    pl.DataFrame(columns).write_parquet(path)
    return path


@pytest.mark.parametrize(("day", "value"), [("session", "close"), ("date", "value"), ("DATE", "CLOSE")])
def test_a_parquet_is_read_whatever_it_calls_its_days_and_values(tmp_path: Path, day: str, value: str) -> None:
    series = read_series(written(tmp_path / "vix.parquet", **{value: [12, 11], day: [DAYS[1], DAYS[0]]}))
    assert series.session_N.tolist() == DAYS[:2]
    assert series.value_N.tolist() == [11.0, 12.0]
    assert series.name == str(tmp_path / "vix.parquet")


def test_days_without_a_value_and_days_off_the_calendar_are_left_out(tmp_path: Path) -> None:
    days = [DAYS[0], DAYS[1], date(2020, 1, 4), DAYS[2]]
    series = read_series(written(tmp_path / "vix.parquet", date=days, close=[11.0, None, 99.0, float("nan")]))
    assert series.session_N.tolist() == [DAYS[0]]


def test_a_csv_as_the_exchange_publishes_it_is_read_packed_or_not(tmp_path: Path) -> None:
    text = "DATE,OPEN,HIGH,LOW,CLOSE\n01/02/2020,13.5,13.7,12.4,12.47\n01/13/2020,12.8,13.0,12.1,12.32\n"
    (tmp_path / "vix.csv").write_text(text)
    (tmp_path / "vix.csv.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("vix.csv", "vix.csv.gz"):
        series = read_series(tmp_path / name)
        assert series.session_N.tolist() == [date(2020, 1, 2), date(2020, 1, 13)]
        assert series.value_N.tolist() == [12.47, 12.32]


def test_a_point_in_place_of_a_value_is_no_value(tmp_path: Path) -> None:
    (tmp_path / "vix.csv").write_text("date,value\n2020-01-02,12.5\n2020-01-03,.\n")
    assert read_series(tmp_path / "vix.csv").value_N.tolist() == [12.5]


@pytest.mark.parametrize(
    ("columns", "error", "complaint"),
    [
        ({"day": [DAYS[0]], "close": [1.0]}, SchemaError, "no column 'session' or 'date'; found day, close"),
        ({"date": [DAYS[0]], "vix": [1.0]}, SchemaError, "no column 'close' or 'value'; found date, vix"),
        ({"date": [20200102], "close": [1.0]}, SchemaError, r"column 'date' must hold dates \(YYYY-MM-DD\), holds Int"),
        ({"date": [DAYS[0]], "close": [True]}, SchemaError, "column 'close' must hold numbers, holds Boolean"),
        ({"date": [DAYS[0]], "close": ["high"]}, SchemaError, "column 'close' must hold numbers, holds text"),
        ({"date": [DAYS[0], None], "close": [1.0, 2.0]}, SchemaError, "column 'date' has an empty cell"),
        ({"date": ["2020-01-02", "soon"], "close": [1.0, 2.0]}, SchemaError, "1 row without a readable date"),
        ({"date": [DAYS[0], DAYS[0]], "close": [1.0, 1.0]}, DataError, "2020-01-02 stands there twice"),
        ({"date": [DAYS[0]], "close": [-1.0]}, DataError, "-1 on 2020-01-02 is not positive and finite"),
        ({"date": [date(2020, 1, 4)], "close": [1.0]}, DataError, "holds no value of any session"),
        ({"date": [DAYS[0]], "close": [None]}, SchemaError, "column 'close' must hold numbers, holds Null"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_daily_series_is_refused_with_its_fault(
    tmp_path: Path, columns: dict[str, list[object]], error: type[DataError], complaint: str
) -> None:
    path = written(tmp_path / "vix.parquet", **columns)
    with pytest.raises(error, match=rf"{re.escape(str(path))}: {complaint}"):
        read_series(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "no such file; check the path"),
        (b"date,close\n2020-01-02,1\n", "is named .parquet and is none"),
        (b"PAR1 and no more", "cannot be read"),
    ],
)
def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    path = tmp_path / "vix.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SchemaError, match=rf"{re.escape(str(path))}: {complaint}"):
        read_series(path)


# What stands behind a universe.


def bars_of(*symbols: str) -> Bars:
    return flat_bars({symbol: [20.0 + at for at in range(10)] for symbol in symbols})


def test_files_are_looked_for_in_the_folder_and_symbols_are_no_files(tmp_path: Path) -> None:
    written(tmp_path / "index.parquet", date=DAYS, close=[100.0] * 10)
    backdrop = Backdrop.read("index.parquet", "VIX", tmp_path)
    assert backdrop.market is not None
    assert backdrop.market.value_N.tolist() == [100.0] * 10
    assert backdrop.vix is None


def test_the_symbol_of_the_vix_is_taken_out_of_the_bars_and_its_closes_are_kept() -> None:
    bars, backdrop = Backdrop().set_apart(bars_of("AA", "VIX"), "VIX")
    assert bars.symbols == ("AA",)
    assert backdrop.vix is not None
    assert backdrop.vix.name == "VIX"
    assert backdrop.vix.value_N.tolist() == [20.0 + at for at in range(10)]


def test_without_a_vix_the_bars_are_all_there_is() -> None:
    bars, backdrop = Backdrop().set_apart(bars_of("AA", "VIX"), None)
    assert bars.symbols == ("AA", "VIX")
    assert backdrop.vix is None


def test_a_series_of_other_years_or_a_symbol_without_bars_is_refused() -> None:
    elsewhere = make_vix(50, seed=1, end=date(2013, 3, 1), name="old.parquet")
    complaint = "has no value between 2020-01-02 and 2020-01-15, the sessions of the bars"
    for market, vix in ((elsewhere, None), (None, elsewhere)):
        with pytest.raises(DataError, match=f"old.parquet: {complaint}"):
            Backdrop(market=market, vix=vix).set_apart(bars_of("AA"), None)
    with pytest.raises(DataError, match=f"VIX: {complaint}"):
        Backdrop().set_apart(bars_of("AA"), "VIX")


def test_a_vix_in_fractions_is_refused() -> None:
    fractions = DailySeries(name="vix.csv", session_N=SESSIONS, value_N=np.full(10, 0.183))
    with pytest.raises(DataError, match=r"vix\.csv: is no VIX in percent, such as 18\.3"):
        Backdrop(vix=fractions).set_apart(bars_of("AA"), None)
    Backdrop(market=fractions).set_apart(bars_of("AA"), None)  # an index may stand at any level


# The certificate's noise.


def test_another_future_replaces_every_value_after_the_cut_and_none_before() -> None:
    vix, index = make_vix(400, seed=1), make_vix(400, seed=2, name="index")
    bars = as_bars(make_vix(400, seed=3, name="AA"))
    cut = vix.session_N[-100].astype(object)
    history = History.of(bars, CorporateActions.of(), Backdrop(market=index, vix=vix))
    changed = another_future(history, cut, np.random.default_rng(0)).backdrop
    for before, after in ((index, changed.market), (vix, changed.vix)):
        assert after is not None
        np.testing.assert_array_equal(after.up_to(cut).value_N, before.up_to(cut).value_N)
        np.testing.assert_array_equal(after.up_to(cut).session_N, before.up_to(cut).session_N)
        later = after.session_N[after.session_N > np.datetime64(cut)]
        assert 70 <= len(later) < 99  # it ends earlier, and some are missing
        assert not np.isin(after.value_N[-len(later) :], before.value_N).any()


def test_another_future_of_bars_alone_is_what_it_was_before_there_were_series() -> None:
    bars = as_bars(make_vix(400, seed=3, name="AA"))
    cut = bars.frame["session"][300]
    alone = another_future(History.of(bars, CorporateActions.of()), cut, np.random.default_rng(0))
    beside = History.of(bars, CorporateActions.of(), Backdrop(vix=make_vix(400, seed=1)))
    assert alone.backdrop.vix is None
    assert another_future(beside, cut, np.random.default_rng(0)).bars == alone.bars


def test_a_series_may_lack_days() -> None:
    vix = make_vix(30, seed=1)
    day = vix.session_N[10].astype(object)
    known = without(vix, day).known_at(vix.session_N)
    assert known[10] == vix.value_N[9]
    np.testing.assert_array_equal(np.delete(known, 10), np.delete(vix.value_N, 10))
