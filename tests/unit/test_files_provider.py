"""Market data from files."""

from __future__ import annotations

import gzip
import math
import pickle
from datetime import datetime

import polars as pl
import pytest
from support.by_hand import flat_frame, sessions_from

from swiftbolt.actions import forward_adjusted
from swiftbolt.errors import DataError, NotOffered, SchemaError
from swiftbolt.providers.base import Adjustment, Provider
from swiftbolt.providers.files import FilesProvider, read_market_data
from swiftbolt.providers.sample import SampleProvider

DAYS = sessions_from(4)
TWO = pl.concat([flat_frame("AAA", [10, 11, 12, 13]), flat_frame("BBB", [20, 21, 22, 23])])


@pytest.fixture
def parquet(tmp_path):
    """Writes a frame to a parquet file and gives its path."""

    def write(frame, name="bars.parquet"):
        frame.write_parquet(tmp_path / name)
        return tmp_path / name

    return write


def actions_of(data):
    return data.actions.frame.select("symbol", "ex_date", "kind", "value").rows()


# Shapes a file may have


def test_rows_in_any_order_become_sorted_bars(parquet):
    data = read_market_data(parquet(TWO.sample(fraction=1, shuffle=True, seed=1)))
    assert data.bars.frame.equals(TWO)
    assert data.faults() == []


@pytest.mark.parametrize(
    "session",
    [
        pl.col("session").alias("date"),
        pl.col("session").cast(pl.Datetime("us")),
        pl.col("session").cast(pl.Datetime("ms")).dt.offset_by("21h").dt.replace_time_zone("America/New_York"),
        pl.col("session").dt.to_string("%Y-%m-%d"),
        pl.col("session").dt.to_string("%Y-%m-%dT00:00:00"),
    ],
    ids=["named date", "datetime", "zoned datetime", "text", "text with time"],
)
def test_a_session_may_be_a_date_a_datetime_or_text(parquet, session):
    others = [name for name in TWO.columns if name != "session"]
    assert read_market_data(parquet(TWO.select(session, *others))).bars.frame.equals(TWO)


def test_symbols_may_be_categorical_and_prices_whole_numbers(parquet):
    frame = TWO.with_columns(pl.col("symbol").cast(pl.Categorical), pl.col("open", "high", "low", "close").cast(int))
    assert read_market_data(parquet(frame)).bars.frame.equals(TWO)


def test_csv_gives_the_same_as_parquet_packed_or_not(tmp_path):
    (tmp_path / "bars.csv").write_text(TWO.write_csv())
    (tmp_path / "bars.csv.gz").write_bytes(gzip.compress(TWO.write_csv().encode()))
    for name in ("bars.csv", "bars.csv.gz"):
        assert read_market_data(tmp_path / name).bars.frame.equals(TWO)


def test_a_word_as_symbol_stays_text_in_csv(tmp_path):
    (tmp_path / "bars.csv").write_text(flat_frame("TRUE", [1, 2]).write_csv())
    assert read_market_data(tmp_path / "bars.csv").bars.symbols == ("TRUE",)


def test_a_selection_keeps_symbols_and_sessions_asked_for_both_ends_included(parquet):
    data = FilesProvider(path=parquet(TWO)).fetch(["BBB", "ZZZ"], DAYS[1], DAYS[2])
    assert data.bars.frame.equals(TWO.filter(pl.col("close").is_between(21, 22)))
    assert data.missing == ("ZZZ",)


def test_market_data_survives_a_trip_between_processes(parquet):
    data = read_market_data(parquet(TWO.with_columns(dividend=0.5)))
    assert pickle.loads(pickle.dumps(data)) == data


# The protocol of providers


@pytest.mark.parametrize("symbols", [None, ["AAA"]])
def test_bars_and_actions_alone_are_those_that_are_fetched_together(parquet, symbols):
    frame = TWO.with_columns(dividend=0.5, close=pl.when(pl.col("close") == 12).then(None).otherwise("close"))
    provider: Provider = FilesProvider(path=parquet(frame))
    data = provider.fetch(symbols, DAYS[1], DAYS[2])
    assert provider.bars(symbols, DAYS[1], DAYS[2]) == (data.bars, data.quarantine)
    assert provider.corporate_actions(symbols, DAYS[1], DAYS[2]) == data.actions
    assert len(data.quarantine) == 1
    assert provider.source == "files"


def test_a_factor_on_the_first_session_asked_for_is_found(parquet):
    frame = flat_frame("AAA", [100, 100, 50, 50]).with_columns(adj_close=50.0)
    provider = FilesProvider(path=parquet(frame))
    assert [a.ex_date for a in provider.corporate_actions(start=DAYS[2])] == [DAYS[2]]
    assert len(provider.corporate_actions(start=DAYS[3])) == len(provider.corporate_actions(end=DAYS[1])) == 0


def test_files_and_the_sample_have_closed_sessions_only(parquet):
    for provider in (FilesProvider(path=parquet(TWO)), SampleProvider()):
        with pytest.raises(NotOffered, match=f"{provider.source} has no quotes: use polygon or alpaca"):
            provider.quotes(["AAA"])
        with pytest.raises(NotOffered, match="has no options"):
            provider.options_snapshot("AAA")
        with pytest.raises(NotOffered, match="live stream: use polygon or alpaca"):
            provider.stream(["AAA"])


def test_providers_survive_a_trip_between_processes(parquet):
    given = FilesProvider(path=parquet(TWO), columns={"close": "close"}, symbol=None, today=DAYS[3])
    for provider in (given, SampleProvider()):
        assert pickle.loads(pickle.dumps(provider)) == provider
    assert SampleProvider().source == "sample"


# Splits and dividends


def test_a_dividend_is_per_share_held_after_the_split_of_the_same_day(parquet):
    frame = flat_frame("AAA", [100, 51]).with_columns(dividend=pl.Series([0.0, 1.0]), split=pl.Series([1.0, 2.0]))
    data = read_market_data(parquet(frame))
    assert data.adjustment is Adjustment.RAW_WITH_ACTIONS
    total = forward_adjusted(data.bars, data.actions)["close"]
    assert total[1] / total[0] - 1 == pytest.approx((51 + 1) * 2 / 100 - 1)  # 4 %


def test_adj_close_alone_gives_factors(parquet):
    frame = flat_frame("AAA", [100, 100, 50, 50]).with_columns(adj_close=pl.Series([50.0, 50.0, 50.0, 50.0]))
    data = read_market_data(parquet(frame))
    assert data.adjustment is Adjustment.RAW_WITH_FACTORS
    assert actions_of(data) == [("AAA", DAYS[2], "factor", 2.0)]


def test_prices_without_any_of_the_three_columns_are_taken_as_adjusted(parquet):
    data = read_market_data(parquet(TWO))
    assert data.adjustment is Adjustment.AS_GIVEN
    assert len(data.actions) == 0


def test_with_events_adj_close_is_not_read_and_nothing_is_adjusted_twice(parquet):
    frame = flat_frame("AAA", [100, 50]).with_columns(adj_close=pl.Series([50.0, 50.0]), split=pl.Series([1.0, 2.0]))
    assert actions_of(read_market_data(parquet(frame))) == [("AAA", DAYS[1], "split", 2.0)]


def test_a_symbol_without_an_entry_for_events_falls_back_to_its_adj_close(parquet):
    with_events = flat_frame("AAA", [100, 50]).with_columns(adj_close=50.0, split=pl.Series([1.0, 2.0]))
    without = flat_frame("BBB", [90, 30]).with_columns(adj_close=30.0, split=pl.lit(None, dtype=pl.Float64))
    assert actions_of(read_market_data(parquet(pl.concat([with_events, without])))) == [
        ("AAA", DAYS[1], "split", 2.0),
        ("BBB", DAYS[1], "factor", 3.0),
    ]


def test_null_nan_and_zero_mean_no_event(parquet):
    frame = flat_frame("AAA", [10, 10, 10, 10]).with_columns(
        dividend=pl.Series([None, math.nan, 0.0, 0.25]), split=pl.Series([None, math.nan, 0.0, 1.0])
    )
    data = read_market_data(parquet(frame))
    assert actions_of(data) == [("AAA", DAYS[3], "dividend", 0.25)]
    assert data.faults() == []


@pytest.mark.parametrize("damage", [-2.0, math.inf, -math.inf, 1e300])
@pytest.mark.parametrize("column", ["dividend", "split", "adj_close"])
def test_a_damaged_event_is_ignored_and_named_and_its_bar_kept(parquet, column, damage):
    sound = 1.0 if column == "split" else 10.0
    frame = flat_frame("AAA", [10, 10]).with_columns(pl.Series(column, [sound, damage]))
    data = read_market_data(parquet(frame))
    assert len(data.bars) == 2
    assert data.faults() == [f"ignored 1 implausible value of {column} (first: {damage} at AAA {DAYS[1]})"]
    assert not len(data.actions.frame.filter(ex_date=DAYS[1]))


def test_a_split_on_a_quarantined_row_applies_at_the_next_bar(parquet):
    frame = flat_frame("AAA", [100, 50, 50]).with_columns(
        close=pl.Series([100.0, None, 50.0]), split=pl.Series([1.0, 2.0, 1.0])
    )
    data = read_market_data(parquet(frame))
    assert len(data.quarantine) == 1
    assert forward_adjusted(data.bars, data.actions)["close"].to_list() == [100.0, 100.0]


@pytest.mark.parametrize(("second", "findings"), [(0.5, 0), (0.7, 1)])
def test_of_two_rows_for_a_session_one_dividend_counts_and_another_amount_is_named(parquet, second, findings):
    frame = flat_frame("AAA", [10, 10]).with_columns(dividend=pl.Series([0.0, 0.5]))
    again = frame.tail(1).with_columns(dividend=pl.lit(second))
    data = read_market_data(parquet(pl.concat([frame, again])))
    assert data.quarantine.frame["fault"].to_list() == ["duplicate"]
    assert actions_of(data) == [("AAA", DAYS[1], "dividend", 0.5)]
    assert list(data.findings) == [f"ignored 1 second value of dividend (first: 0.7 at AAA {DAYS[1]})"] * findings


# Faulty rows


def test_faulty_rows_are_set_aside_counted_by_kind_and_never_in_the_bars(parquet):
    sound = flat_frame("AAA", [10, 10, 10])
    saturday = flat_frame("AAA", [10]).with_columns(session=pl.lit(datetime(2020, 1, 4)).cast(pl.Date))
    faulty = [
        saturday,
        sound.head(1),
        sound.head(1).with_columns(volume=pl.lit(7.0)),
        flat_frame("AAA", [10, 10, 10, -1]).tail(1),
        flat_frame("BBB", [10]).with_columns(high=pl.lit(9.0)),
        flat_frame("BBB", [10, 10]).tail(1).with_columns(close=pl.lit(math.nan)),
        flat_frame("CCC", [10]).with_columns(session=pl.lit(None, dtype=pl.Date)),
    ]
    data = read_market_data(parquet(pl.concat([sound, *faulty])))
    assert data.bars.frame.equals(sound)
    kinds = dict(data.quarantine.frame["fault"].value_counts().iter_rows())
    assert kinds == {"null": 2, "not_positive": 1, "high_low": 1, "not_a_session": 1, "duplicate": 1, "conflict": 1}
    assert len(data.faults()) == len(kinds)


def test_a_row_with_an_unreadable_date_is_reported_whatever_range_is_asked_for(parquet):
    frame = TWO.with_columns(session=pl.col("session").dt.to_string("%Y-%m-%d"))
    frame = frame.with_columns(session=pl.when(pl.col("close") == 11).then(pl.lit("soon")).otherwise("session"))
    data = read_market_data(parquet(frame), ["AAA"], DAYS[0], DAYS[3])
    assert data.quarantine.frame["fault"].to_list() == ["null"]
    assert data.bars.sessions_per_symbol() == {"AAA": 3}


def test_a_high_that_misses_the_close_by_rounding_is_mended_and_a_cent_is_not(parquet):
    frame = flat_frame("AAA", [10, 10]).with_columns(high=pl.Series([10 * (1 - 2**-52), 9.99]))
    data = read_market_data(parquet(frame))
    assert data.bars.frame["high"].to_list() == [10.0]
    assert data.quarantine.frame["fault"].to_list() == ["high_low"]


# Files that cannot be used


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("none.parquet", None, "no such file; check the path"),
        ("notes.txt", "bars", "is neither a parquet file nor named .csv; convert it"),
        ("cut.parquet", "PAR1 and no more", "cannot be read .*; write the file anew"),
        ("names.csv", "symbol,date,open,high,low,volume\n", "no column 'close'; needed are symbol, session, .*; found"),
        ("head.csv", "symbol,date,open,high,low,close,volume\n", "no row at all"),
        ("day.csv", "symbol,open,high,low,close,volume\nA,1,1,1,1,1\n", "no column 'session'"),
        (
            "word.csv",
            "symbol,date,open,high,low,close,volume\nA,2020-01-02,1,1,1,1,1\nA,2020-01-03,1,1,1,halted,1\n",
            r"column 'close' must hold numbers, holds text \(first: 'halted' at A 2020-01-03\); correct",
        ),
        (
            "bad.csv",
            "symbol,date,open,high,low,close,volume\nA,2020-01-02,1,1,1,-1,1\nA,2020-01-03,1,1,1,,1\n",
            "no usable row: set aside 1 row with a null.*; set aside 1 row with a price that is zero",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_naming_it_and_the_remedy(tmp_path, name, content, complaint):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=f"{name}: {complaint}") as caught:
        read_market_data(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_folder_without_files_of_bars_and_a_pattern_that_nothing_fits_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("bars")
    for path in (tmp_path, tmp_path / "*.parquet"):
        with pytest.raises(SchemaError, match="no parquet or CSV file there; check the path"):
            read_market_data(path)


def test_a_file_named_like_a_pattern_is_that_file(parquet):
    assert read_market_data(parquet(TWO, "bars[1].parquet")).bars.frame.equals(TWO)


def test_sessions_as_numbers_are_refused(parquet):
    frame = TWO.with_columns(session=pl.col("session").dt.to_string("%Y%m%d").cast(int))
    with pytest.raises(SchemaError, match=r"column 'session' must hold dates \(YYYY-MM-DD\), holds Int64"):
        read_market_data(parquet(frame))


def test_truth_values_as_prices_are_refused(parquet):
    with pytest.raises(SchemaError, match="column 'low' must hold numbers, holds Boolean; correct or remove it"):
        read_market_data(parquet(TWO.with_columns(low=pl.lit(True))))


def test_numbers_written_as_text_are_numbers_in_a_parquet_too(parquet):
    frame = TWO.with_columns(pl.col("open", "volume").cast(pl.String))
    assert read_market_data(parquet(frame), ["BBB"]).bars.frame.equals(TWO[4:])


def test_text_in_a_price_of_a_parquet_is_refused_wherever_it_stands(parquet):
    frame = TWO.with_columns(low=pl.when(pl.col("close") == 23).then(pl.lit("low")).otherwise(pl.lit("1.5")))
    with pytest.raises(SchemaError, match=f"column 'low' must hold numbers, .*'low' at BBB {DAYS[3]}"):
        read_market_data(parquet(frame))


def test_numbers_as_symbols_are_refused(parquet):
    with pytest.raises(SchemaError, match="column 'symbol' must hold text, holds Int32"):
        read_market_data(parquet(TWO.with_columns(symbol=pl.lit(7))))


def test_unknown_symbols_are_named_when_nothing_is_left(parquet):
    with pytest.raises(DataError, match="no row of XXX, YYY from 2020-01-02; check symbols and dates"):
        read_market_data(parquet(TWO), ["XXX", "YYY"], DAYS[0])
