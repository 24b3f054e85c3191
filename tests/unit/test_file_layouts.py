"""Files as vendors and spreadsheets write them: layouts, names of columns, encodings, numbers and dates."""

from __future__ import annotations

import gzip
from datetime import date

import polars as pl
import pytest
from support.by_hand import flat_frame, sessions_from

from swiftbolt.bars import PRICES
from swiftbolt.errors import DataError, SchemaError
from swiftbolt.providers.base import Adjustment
from swiftbolt.providers.files import FilesProvider, read_market_data

DAYS = sessions_from(4)
TWO = pl.concat([flat_frame("AAA", [10, 11, 12, 13]), flat_frame("BRK.B", [20, 21, 22, 23])])
FIELDS = (*PRICES, "volume")
HEADER = "symbol,date,open,high,low,close,volume"


@pytest.fixture
def written(tmp_path):
    """Writes text or bytes to a file and gives its path."""

    def write(content, name="bars.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return write


def wide(name_of) -> pl.DataFrame:
    """``TWO`` with one row per session; ``name_of(symbol, field)`` names its columns."""
    parts = [
        TWO.filter(symbol=symbol).select("session", *(pl.col(f).alias(name_of(symbol, f)) for f in FIELDS))
        for symbol in ("AAA", "BRK.B")
    ]
    return parts[0].join(parts[1], on="session")


def one_row(*, day="2020-01-02", price="10", volume="1000", separator=",") -> str:
    """A long file with one bar of AAA."""
    cells = ["AAA", day, price, price, price, price, volume]
    return "\n".join([HEADER.replace(",", separator), separator.join(cells)]) + "\n"


# Wide files


@pytest.mark.parametrize(
    "name_of",
    [
        lambda symbol, f: f"{symbol}_{f}",
        lambda symbol, f: f"{symbol}.{f}",
        lambda symbol, f: f"{symbol} {f.title()}",
        lambda symbol, f: f"{f}_{symbol}",
        lambda symbol, f: f"{'Total ' if f == 'volume' else ''}{f}{'' if f == 'volume' else ' price'} {symbol}",
        lambda symbol, f: str((f.title(), symbol)),
        lambda symbol, f: str((symbol, f.title())),
    ],
    ids=["AAA_open", "AAA.open", "AAA Open", "open_AAA", "open price AAA", "pandas field first", "pandas symbol first"],
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_wide_file_becomes_long(tmp_path, name_of, ending):
    path = tmp_path / f"wide.{ending}"
    frame = wide(name_of)
    frame.write_csv(path) if ending == "csv" else frame.write_parquet(path)
    data = read_market_data(path)
    assert data.bars.frame.equals(TWO)
    assert data.faults() == []


@pytest.mark.parametrize("symbols", [("LOW", "OPEN"), ("LOW",)])
@pytest.mark.parametrize("name_of", [lambda symbol, f: f"{symbol}_{f}", lambda symbol, f: f"{f}_{symbol}"])
def test_symbols_that_are_words_for_fields_are_told_from_them_by_what_makes_whole_bars(tmp_path, symbols, name_of):
    columns = {name_of(symbol, f): [10.0] for symbol in symbols for f in FIELDS}
    pl.DataFrame({"Date": DAYS[:1], **columns}).write_parquet(tmp_path / "wide.parquet")
    assert read_market_data(tmp_path / "wide.parquet").bars.symbols == symbols


@pytest.mark.parametrize(
    ("first", "second", "third"),
    [
        ("Price,{fields}", "Ticker,{symbols}", "Date,,,,,,,,,,\n"),
        (",{fields}", ",{symbols}", "Date,,,,,,,,,,\n"),
        ("Ticker,{symbols}", "Price,{fields}", "Date,,,,,,,,,,\n"),
        ("Attributes,{fields}", "Symbols,{symbols}", ""),
    ],
)
def test_a_header_of_two_lines_names_fields_and_symbols(written, first, second, third):
    names = {"fields": ",".join(f.title() for f in FIELDS for _ in "AB"), "symbols": ",".join(["AAA", "BRK.B"] * 5)}
    rows = wide(lambda symbol, f: f"{symbol}_{f}")
    rows = rows.select("session", *(f"{symbol}_{f}" for f in FIELDS for symbol in ("AAA", "BRK.B")))
    head = f"{first}\n{second}\n".format(**names)
    data = read_market_data(written(head + third + rows.write_csv(include_header=False)))
    assert data.bars.frame.equals(TWO)
    assert data.faults() == []


def test_a_header_of_two_lines_serves_one_symbol_too(written):
    text = "Price,Close,High,Low,Open,Volume\nTicker,AAA,AAA,AAA,AAA,AAA\nDate,,,,,\n2020-01-02,10,10,10,10,1000\n"
    assert read_market_data(written(text)).bars.frame.equals(flat_frame("AAA", [10]))


def test_a_first_row_without_numbers_is_no_second_line_of_the_header(written):
    text = "Date,Open,High,Low,Close,Volume\n2020-01-02,null,null,null,null,null\n2020-01-03,10,10,10,10,1000\n"
    data = read_market_data(written(text), symbol="AAA")
    assert data.bars.frame.equals(flat_frame("AAA", [10], first=DAYS[1]))
    assert data.quarantine.frame.select("symbol", "session", "fault").rows() == [("AAA", DAYS[0], "null")]


def test_adj_close_of_a_wide_file_is_not_the_close_of_another_symbol(tmp_path):
    frame = wide(lambda symbol, f: f"{symbol}_{f}").with_columns(AAA_adj_close=pl.lit(5.0))
    frame.write_parquet(tmp_path / "wide.parquet")
    data = read_market_data(tmp_path / "wide.parquet")
    assert data.bars.symbols == ("AAA", "BRK.B")
    assert data.adjustment is Adjustment.RAW_WITH_FACTORS
    assert set(data.actions.frame["symbol"]) == {"AAA"}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_before_a_symbol_is_listed_it_has_no_row_but_its_events_and_half_a_row_is_a_fault(tmp_path, ending):
    frame = wide(lambda symbol, f: f"{symbol}_{f}").with_columns(
        *(pl.when(pl.col("session") > DAYS[1]).then(f"AAA_{f}").otherwise(float("nan")) for f in FIELDS),
        *(pl.when(pl.col("session") != DAYS[1]).then(f"BRK.B_{f}") for f in FIELDS[1:]),
        AAA_dividend=pl.Series([0.0, 0.5, 0.0, 0.0]),
    )
    path = tmp_path / f"wide.{ending}"
    frame.write_csv(path) if ending == "csv" else frame.write_parquet(path)
    data = read_market_data(path)
    assert data.bars.sessions_per_symbol() == {"AAA": 2, "BRK.B": 3}
    assert data.quarantine.frame.select("symbol", "session").rows() == [("AAA", DAYS[1]), ("BRK.B", DAYS[1])]
    assert [(a.symbol, a.ex_date, a.value) for a in data.actions] == [("AAA", DAYS[1], 0.5)]


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        (
            "Date,AAA,BBB",
            r"no column 'open', .*; if AAA, BBB hold one price a session, they are no bars: a wide file has",
        ),
        ("Date,AAA_close,BBB_close", r"no column 'open', 'high', 'low', 'volume' of AAA; found AAA_close, BBB_close"),
        (
            "Date,A_open,A.open,A_high,A_low,A_close,A_volume",
            r"'A_open' and 'A\.open' may both be 'open' of A; remove one",
        ),
    ],
)
def test_a_wide_file_without_whole_bars_is_refused_with_what_it_lacks(written, header, complaint):
    row = ",".join(["2020-01-02", *["1"] * header.count(",")])
    with pytest.raises(SchemaError, match=complaint):
        read_market_data(written(f"{header}\n{row}\n"))


# One symbol, folders and patterns


SINGLE = flat_frame("AAA", [10, 11]).drop("symbol")


def test_a_file_of_one_symbol_takes_it_from_the_option(written):
    path = written(SINGLE.write_csv())
    assert FilesProvider(path=path, symbol="AAA").fetch().bars.frame.equals(flat_frame("AAA", [10, 11]))
    with pytest.raises(SchemaError, match=r"bars\.csv: no column 'symbol'; give the symbol of a file that holds one"):
        read_market_data(path)
    with pytest.raises(DataError, match="no row of BBB"):
        read_market_data(path, ["BBB"], symbol="AAA")


def test_a_symbol_for_a_file_that_has_its_own_is_refused(written, tmp_path):
    wide(lambda symbol, f: f"{symbol}_{f}").write_parquet(tmp_path / "wide.parquet")
    for path in (written(TWO.write_csv()), tmp_path / "wide.parquet"):
        with pytest.raises(SchemaError, match="says which symbols it holds; leave out the symbol 'AAA'"):
            read_market_data(path, symbol="AAA")


def test_a_folder_and_a_pattern_give_each_file_its_name_as_symbol(written, tmp_path):
    for symbol, ending in (("AAA", ".csv"), ("BRK.B", ".csv.gz")):
        content = TWO.filter(symbol=symbol).drop("symbol").write_csv().encode()
        written(gzip.compress(content) if ending.endswith("gz") else content, symbol + ending)
    written("no market data", "README.txt")
    (tmp_path / "old.csv").mkdir()
    assert read_market_data(tmp_path).bars.frame.equals(TWO)
    assert read_market_data(tmp_path / "*.csv*").bars.frame.equals(TWO)
    assert read_market_data(tmp_path / "A*.csv", ["AAA", "ZZZ"]).missing == ("ZZZ",)


def test_files_of_a_folder_may_name_their_symbols_themselves(tmp_path):
    TWO[:3].write_parquet(tmp_path / "one.parquet")
    TWO[3:].write_parquet(tmp_path / "two.PARQUET")
    assert read_market_data(tmp_path).bars.frame.equals(TWO)


def test_a_bad_file_of_a_folder_is_named(written, tmp_path):
    written(SINGLE.write_csv(), "AAA.csv")
    bad = written("", "BBB.csv")
    with pytest.raises(SchemaError, match=r"BBB\.csv: is empty; write the file anew"):
        read_market_data(tmp_path)
    bad.write_text(SINGLE.with_columns(dividend=0.0).write_csv())
    with pytest.raises(SchemaError, match=r"BBB\.csv: differs from AAA\.csv in dividend; one adjustment must hold"):
        read_market_data(tmp_path)
    with pytest.raises(SchemaError, match="more than one file; leave out the symbol 'AAA'"):
        read_market_data(tmp_path, symbol="AAA")


# Names of columns


@pytest.mark.parametrize(
    ("header", "adjustment"),
    [
        ("SYMBOL,Session,OPEN,HIGH,LOW,CLOSE,VOLUME", Adjustment.AS_GIVEN),
        ("Name,Date,Open,High,Low,Close/Last,Vol.", Adjustment.AS_GIVEN),
        (" Ticker , Timestamp ,1. open,2. high,3. low,4. close,5. volume", Adjustment.AS_GIVEN),
        ("Ticker,Date,Open,High,Low,Close,Volume,Adj. Close", Adjustment.RAW_WITH_FACTORS),
        ("Ticker,Date,Open,High,Low,Close,Volume,Ex-Dividend,Split Ratio", Adjustment.RAW_WITH_ACTIONS),
        ("Ticker,Date,Open,High,Low,Close,Volume,divCash,splitFactor", Adjustment.RAW_WITH_ACTIONS),
    ],
)
def test_usual_names_of_columns_are_known_whatever_their_case_and_signs(written, header, adjustment):
    row = ",".join(["AAA", "2020-01-02", "10", "10", "10", "10", "1000", "1", "1"][: header.count(",") + 1])
    data = read_market_data(written(f"{header}\n{row}\n"))
    assert data.bars.frame.equals(flat_frame("AAA", [10]))
    assert data.adjustment is adjustment


def test_an_index_without_a_name_is_the_session_as_pandas_writes_it(tmp_path):
    frame = flat_frame("AAA", [10, 11]).to_pandas().set_index("session")
    frame.index.name = None
    frame.to_csv(tmp_path / "index.csv")
    frame.to_parquet(tmp_path / "index.parquet")
    for name in ("index.csv", "index.parquet"):
        assert read_market_data(tmp_path / name).bars.frame.equals(flat_frame("AAA", [10, 11]))


def test_our_own_name_goes_before_a_vendors(written):
    text = "Ticker,Name,Date,Timestamp,Open,High,Low,close,Last,Volume\nAAA,A Co.,2020-01-02,x,10,10,10,10,9,1000\n"
    assert read_market_data(written(text)).bars.frame.equals(flat_frame("AAA", [10]))


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        (
            "symbol,date,open,high,low,Close,CLOSE,volume",
            r"'Close' and 'CLOSE' may both be 'close'; name the right one in a mapping, such as close=Close",
        ),
        ("symbol,Datetime,Timestamp,open,high,low,close,volume", "'Datetime' and 'Timestamp' may both be 'session'"),
        (
            "symbol,date,open,high,low,close,close,volume",
            "has more than one column 'close'; give each a name of its own",
        ),
    ],
)
def test_two_columns_that_may_be_meant_are_named_and_refused(written, header, complaint):
    with pytest.raises(SchemaError, match=complaint):
        read_market_data(written(f"{header}\n"))


def test_a_mapping_says_which_column_is_meant_and_frees_the_others(written):
    header = "Ticker,Tag,Eröffnung,Hoch,Tief,Close,Schluß,Stück"
    text = f"{header}\nAAA,2020-01-02,10,10,10,9,10,1000\n"
    theirs = ["Tag", "Eröffnung", "Hoch", "Tief", "Schluß", "Stück"]
    columns = dict(zip(["date", *FIELDS], theirs, strict=True))
    assert FilesProvider(path=written(text), columns=columns).fetch().bars.frame.equals(flat_frame("AAA", [10]))


def test_closes_alone_are_bars_where_the_caller_says_so(written):
    path = written("symbol,date,close,volume\nAAA,2020-01-02,10,1000\n")
    columns = dict.fromkeys(["open", "high", "low"], "close")
    with pytest.raises(SchemaError, match="no column 'close'"):
        read_market_data(path, columns=columns)
    assert read_market_data(path, columns={**columns, "close": "close"}).bars.frame.equals(flat_frame("AAA", [10]))


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"close": "Close/Lost"}, r"no column 'Close/Lost' to take 'close' from; did you mean 'CLOSE/LAST'\?"),
        ({"close": "Kurs"}, r"no column 'Kurs' to take 'close' from; there are symbol, date, open, high, .*"),
        ({"price": "CLOSE/LAST"}, "there is no field 'price' to give a column to; there are symbol, session, open,"),
    ],
)
def test_a_mapping_that_cannot_be_followed_is_refused_with_near_misses(written, columns, complaint):
    path = written("symbol,date,open,high,low,CLOSE/LAST,volume\nAAA,2020-01-02,10,10,10,10,1000\n")
    with pytest.raises(SchemaError, match=complaint):
        read_market_data(path, columns=columns)


# Yahoo adjusts its prices and writes the events beside them.


YAHOO = "Date,Open,High,Low,Close,{}Volume,Dividends,Stock Splits\n2020-01-02,10,10,10,10,{}1000,0,0\n"


def test_splits_and_dividends_beside_prices_that_yahoo_adjusted_are_not_applied_again(written):
    text = YAHOO.format("", "") + "2020-01-03,10,10,10,10,1000,0.5,2\n"
    data = read_market_data(written(text), symbol="AAA")
    assert (data.adjustment, len(data.actions)) == (Adjustment.AS_GIVEN, 0)
    assert ["Yahoo" in line for line in data.findings] == [True]


def test_of_prices_that_yahoo_adjusted_for_splits_alone_adj_close_gives_the_dividends(written):
    text = YAHOO.format("Adj Close,", "9.5,") + "2020-01-03,10,10,10,10,10,1000,0.5,2\n"
    data = read_market_data(written(text), symbol="AAA")
    assert [(a.kind, a.value) for a in data.actions] == [("factor", pytest.approx(10 / 9.5))]


def test_a_column_that_the_caller_calls_split_is_one_whoever_wrote_it(written):
    text = YAHOO.format("", "") + "2020-01-03,5,5,5,5,1000,0.5,2\n"
    data = read_market_data(written(text), symbol="AAA", columns={"split": "Stock Splits"})
    assert [(a.kind, a.value) for a in data.actions] == [("dividend", 0.5), ("split", 2.0)]
    assert data.faults() == []


def test_a_dividend_that_the_caller_names_is_applied_to_prices_that_yahoo_adjusted_for_splits(written):
    text = YAHOO.format("", "") + "2020-01-03,10,10,10,10,1000,0.5,2\n"
    data = read_market_data(written(text), symbol="AAA", columns={"dividend": "Dividends"})
    assert [(a.kind, a.value) for a in data.actions] == [("dividend", 0.5)]


# Encodings and separators


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_csv_is_read_in_any_usual_encoding_and_with_any_usual_separator(written, encoding, separator):
    text = TWO.with_columns(note=pl.lit("Müller")).write_csv(separator=separator)
    mark = {"utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}.get(encoding, "")
    data = read_market_data(written(mark + text, encoding=encoding))
    assert data.bars.frame.equals(TWO)
    note = "read as Windows-1252, for line 2 is not UTF-8; save the file as UTF-8"
    assert data.faults() == ([note] if encoding == "cp1252" else [])


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_line_ends_quotes_and_blank_lines_do_not_matter(written, line_end):
    lines = [
        "",
        HEADER,
        "",
        '"AAA",2020-01-02,"10",10,10,10,"1,000"',
        "",
        "AAA , 2020-01-03 ,11,11, 11,11,1000",
        "",
        "",
    ]
    data = read_market_data(written(line_end.join(lines)))
    assert data.bars.frame.equals(flat_frame("AAA", [10, 11]))
    assert data.faults() == []


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty; write the file anew"),
        (b"\r\n\n", "is empty; write the file anew"),
        (
            one_row().encode("utf-16-le"),
            "holds zero bytes, so is no text we can tell the encoding of; save it as UTF-8",
        ),
        (one_row().encode("utf-16")[:-1], r"is cut off or not UTF-16 \(truncated data\); save it as UTF-8"),
        (f"{one_row()}\x81\x8d".encode("latin-1"), r"is neither UTF-8 nor Windows-1252 \(line 3\); save it as UTF-8"),
        (gzip.compress(one_row().encode())[:-9], r"cannot be unpacked \(.*\); write the file anew"),
        (f'{one_row()}AAA,"2020-01-03,10,10\n'.encode(), r"cannot be read \(.*\); write the file anew"),
        (f"{one_row()}AAA,2020-01-03,10,10,10,10,1,000\n".encode(), r"cannot be read \(.*\); write the file anew"),
        (b"x" * 200_000, r"has no header of columns \(field larger .*\); write the file anew"),
        (b"one column\n1\n", "no column 'symbol', 'session', .*; found one column"),
    ],
    ids=[
        "empty",
        "blank",
        "UTF-16 without mark",
        "UTF-16 cut",
        "binary",
        "gzip cut",
        "open quote",
        "long row",
        "no header",
        "no table",
    ],
)
def test_a_csv_that_is_damaged_is_one_line_naming_it_and_the_remedy(written, content, complaint):
    with pytest.raises(SchemaError, match=rf"bars\.csv: {complaint}") as caught:
        read_market_data(written(content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", range(1, 42))
def test_a_csv_that_ends_in_the_middle_of_a_row_loses_no_row_that_is_whole(written, cut):
    text = flat_frame("AAA", [10, 11]).write_csv()
    data = read_market_data(written(text[:-cut]))
    assert data.bars.frame.head(1).equals(flat_frame("AAA", [10]))
    assert len(data.bars) + len(data.quarantine) == 2


@pytest.mark.parametrize("kept", [4, 100, -1, -20])
def test_a_parquet_that_is_cut_off_is_one_line_naming_it(tmp_path, kept):
    path = tmp_path / "bars.parquet"
    TWO.write_parquet(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SchemaError, match=r"bars\.parquet: cannot be read \(.*\); write the file anew") as caught:
        read_market_data(path)
    assert "\n" not in str(caught.value)


def test_a_parquet_whose_data_was_overwritten_is_one_line_naming_it(tmp_path):
    path = tmp_path / "bars.parquet"
    TWO.write_parquet(path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196
    path.write_bytes(content)
    with pytest.raises(SchemaError, match=r"bars\.parquet: cannot be read \(.*\); write the file anew"):
        read_market_data(path)


def test_a_parquet_damaged_anywhere_is_read_or_refused_in_one_line_and_never_ends_otherwise(tmp_path):
    path = tmp_path / "bars.parquet"
    TWO.write_parquet(path)
    whole = path.read_bytes()
    refusals = []
    for at in range(84, len(whole), 8):  # polars panics at some of these
        path.write_bytes(whole[:at] + b"\0" + whole[at + 1 :])
        try:
            data = read_market_data(path)
        except DataError as exc:
            refusals.append(str(exc))
        else:
            assert len(data.bars) + len(data.quarantine) == len(TWO)
    assert len(refusals) > 50
    assert [line for line in refusals if "\n" in line or not line.startswith(f"{path}: ")] == []


# Numbers


@pytest.mark.parametrize(
    ("written_as", "separator", "value"),
    [
        ("1234.5", ",", 1234.5),
        ("$1234.5", ",", 1234.5),
        ('"$1,234.50"', ",", 1234.5),
        ("1'234.50", ",", 1234.5),
        ("1.2345e3", ",", 1234.5),
        ("1.234,50", ";", 1234.5),
        ("1 234,50", ";", 1234.5),
        ("1\u00a0234,50 ", ";", 1234.5),
        ("€1.234,5", ";", 1234.5),
        ("1,234.5", ";", 1234.5),
        ("1,234.5", "\t", 1234.5),
        ('"1234,5"', ",", 1234.5),
        ("1.234.567", ";", 1234567.0),
        ("1,234,567", ";", 1234567.0),
        ("0,125", ";", 0.125),
        (",5", ";", 0.5),
        ("1234,567", ";", 1234.567),
        ("1.234", ",", 1.234),
        ('"1,234"', ",", 1234.0),
        ("1234", ";", 1234.0),
    ],
)
def test_a_number_is_read_in_the_notation_that_the_file_shows(written, written_as, separator, value):
    text = one_row(price=written_as, separator=separator)
    assert read_market_data(written(text)).bars.frame["close"].to_list() == [value]


def test_one_number_tells_how_every_column_is_written(written):
    text = one_row(price="1.234,5", volume="2.500", separator=";")
    assert read_market_data(written(text)).bars.frame["volume"].to_list() == [2500.0]
    text = one_row(price="1,234.5", volume="2.500", separator=";")
    assert read_market_data(written(text)).bars.frame["volume"].to_list() == [2.5]


def test_the_whole_file_tells_also_of_rows_that_were_not_asked_for(written):
    text = one_row(price="1.234", separator=";") + one_row(day="2020-01-03", price="99,5", separator=";").split("\n")[1]
    assert read_market_data(written(text), end=DAYS[0]).bars.frame["close"].to_list() == [1234.0]


@pytest.mark.parametrize(
    ("price", "volume", "separator", "complaint"),
    [
        (
            "1.234",
            "1000",
            ";",
            r"'1\.234' may be thousands or a fraction, and no number in the file tells; write numbers",
        ),
        ("1,234", "1000", "\t", r"'1,234' may be thousands or a fraction"),
        ("12,5", "10.5", ";", r"'10\.5' has a decimal point and '12,5' a decimal comma; write all numbers in one way"),
        (
            '"1,23,456.5"',
            "1000",
            ",",
            r"column 'open' must hold numbers, holds text \(first: '1,23,456\.5' at AAA 2020-",
        ),
        ("10", "12.5K", ",", r"column 'volume' must hold numbers, holds text \(first: '12\.5K' at AAA 2020-01-02\)"),
        ("12,5", "1.5e3", ";", r"column 'volume' must hold numbers, holds text \(first: '1\.5e3'"),
    ],
)
def test_a_number_that_may_be_two_or_none_is_refused_with_its_text(written, price, volume, separator, complaint):
    with pytest.raises(SchemaError, match=complaint):
        read_market_data(written(one_row(price=price, volume=volume, separator=separator)))


@pytest.mark.parametrize("nothing", ["", "null", "NaN", "N/A", "#N/A", "None", "-", "."])
def test_a_word_for_nothing_sets_its_row_aside_and_is_no_event(written, nothing):
    header = f"{HEADER},dividend\n"
    rows = f"AAA,2020-01-02,10,10,10,{nothing},1000,0\nAAA,2020-01-03,11,11,11,11,1000,{nothing}\n"
    data = read_market_data(written(header + rows))
    assert data.quarantine.frame.select("session", "open", "close", "fault").rows(named=True)[0]["session"] == DAYS[0]
    assert data.quarantine.frame["fault"].to_list() == ["null"]
    assert (len(data.bars), len(data.actions)) == (1, 0)


def test_words_for_nothing_are_symbols_all_the_same(written):
    names = ["NA", "NAN", "NULL", "TRUE", "700"]
    rows = "".join(one_row().split("\n")[1].replace("AAA", name) + "\n" for name in names)
    assert read_market_data(written(f"{HEADER}\n{rows}")).bars.symbols == tuple(sorted(names))


# Dates


@pytest.mark.parametrize(
    "day",
    [
        "2020-01-02",
        "2020/01/02",
        "2020.1.2",
        "20200102",
        "2020-01-02T21:00:00Z",
        "2020-01-02 00:00:00-05:00",
        "2020/01/02 16:00",
        "20200102 1600",
        "Jan 2, 2020",
        "January 02 2020",
        "2 Jan 2020",
        "02-JAN-2020",
    ],
)
def test_a_date_that_can_be_read_in_one_way_is_read(written, day):
    path = written(one_row(day=f'"{day}"'))
    data = read_market_data(path)
    assert data.bars.frame["session"].to_list() == [date(2020, 1, 2)]
    assert data.faults() == []


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (["02/01/2020", "13/01/2020"], [date(2020, 1, 2), date(2020, 1, 13)]),
        (["01/02/2020", "01/13/2020"], [date(2020, 1, 2), date(2020, 1, 13)]),
        (["2.1.2020", "13.1.2020"], [date(2020, 1, 2), date(2020, 1, 13)]),
        (["01-02-2020 16:00", "01-13-2020 16:00"], [date(2020, 1, 2), date(2020, 1, 13)]),
        (["05/05/2020", "06/06/2019"], [date(2020, 5, 5), date(2019, 6, 6)]),
    ],
    ids=["day first", "month first", "points", "with time", "the same either way"],
)
def test_one_day_after_the_12th_tells_the_order_of_all_dates_also_of_those_left_out(written, days, expected):
    rows = "".join(one_row(day=day).split("\n")[1] + "\n" for day in days)
    path = written(f"{HEADER}\n{rows}")
    found = read_market_data(path)
    sessions = [*found.bars.frame["session"], *found.quarantine.frame["session"]]
    assert sorted(sessions) == sorted(expected)
    assert read_market_data(path, end=expected[0]).bars.frame["session"].max() == expected[0]


@pytest.mark.parametrize(
    ("days", "complaint"),
    [
        (
            ["03/02/2020", "04/02/2020"],
            "03/02/2020 may have the day or the month first, and no date in the file tells; w",
        ),
        (["13/01/2020", "01/14/2020"], r"dates are written day first \(13/01/2020\) and month first \(01/14/2020\); "),
        (["01/02/20", "tomorrow"], "no session can be read as a date; write dates as YYYY-MM-DD"),
        (["20-01-02"], "no session can be read as a date"),
        (["45/13/2020", "02/03/2020"], "02/03/2020 may have the day or the month first"),
    ],
)
def test_dates_that_may_be_read_in_two_ways_or_in_none_are_refused(written, days, complaint):
    rows = "".join(one_row(day=day).split("\n")[1] + "\n" for day in days)
    with pytest.raises(SchemaError, match=complaint):
        read_market_data(written(f"{HEADER}\n{rows}"))


def test_a_date_among_others_that_cannot_be_read_is_set_aside_and_its_text_is_named(written):
    text = one_row() + "".join(one_row(day=day).split("\n")[1] + "\n" for day in ("soon", "2020-02-30"))
    data = read_market_data(written(text))
    assert data.quarantine.frame["fault"].to_list() == ["null", "null"]
    assert data.findings == ("2 rows without a readable date (first: 'soon')",)


def test_sessions_after_today_are_faults_and_none_are_where_no_today_is_given(written):
    path = written(TWO.write_csv())
    data = FilesProvider(path=path, today=DAYS[1]).fetch()
    assert data.bars.last_session == DAYS[1]
    assert data.quarantine.frame["fault"].to_list() == ["future"] * 4
    assert read_market_data(path).faults() == []
