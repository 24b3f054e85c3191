"""Real prices: raw closes and events in, the vendor's own total returns out.

The panels are too large, and not ours, to be kept with the project: every test is skipped where they are absent.
"""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest
from support.shared_data import shared_parquet

from swiftbolt.actions import CorporateAction, CorporateActions, adjusted, forward_adjusted
from swiftbolt.providers.base import Adjustment, MarketData
from swiftbolt.providers.files import read_market_data
from swiftbolt.sessions import session_after

KEYS = ["symbol", "session"]
TENTH_OF_A_PERCENT = 1e-3

# Rows whose adj_close contradicts the close, dividend and split beside it, each with what is wrong.
WIKI_FAULTS = {
    ("KO", date(2001, 9, 17)): "the dividend of the 12th, when the exchange was closed, is not in adj_close",
}
SP500_FAULTS = {
    ("TMUS", date(2013, 5, 1)): "the 1:2 of the merger with MetroPCS is in adj_close, and not among the splits",
    (
        "TRMB",
        date(2007, 2, 23),
    ): "the 2:1 is in adj_close, not among the splits, and the close is that of the day before",
    ("ZBRA", date(2003, 8, 21)): "the 3:2 of the next session is in adj_close on this one already, and then again",
    ("ZBRA", date(2004, 8, 25)): "the 3:2 of the next session is in adj_close on this one already, and then again",
}

# Each row of sp500_raw_1999_202104 with a split and a dividend: previous close, close, dividend and split. Where one
# event is coded as both, adj_close has it twice as well: what is tested is the arithmetic, not what holders earned.
BOTH_ON_ONE_DAY = {
    ("LDOS", date(2013, 9, 30)): (16.03, 45.52, 21.3549, 0.25),  # SAIC spun off, then 1:4
    ("HLT", date(2017, 1, 4)): (27.39, 58.0, 24.48, 0.333333),  # Park and Grand Vacations spun off, then 1:3
    ("EL", date(2011, 11, 23)): (110.98, 107.61, 1.05, 1.05),  # the dividend, coded as a split too
    ("HBI", date(2015, 3, 4)): (127.95, 32.32, 3.0, 4.0),  # 4:1, coded as three dollars too
    ("MET", date(2017, 8, 7)): (53.92, 48.53, 5.87, 1.122),  # Brighthouse spun off, coded as a split too
    ("ROST", date(2015, 6, 12)): (97.86, 48.53, 2.0, 2.0),  # 2:1, coded as two dollars too
    ("RTX", date(2020, 4, 3)): (86.01, 49.93, 13.28, 1.589),  # Carrier and Otis spun off, Carrier coded twice
    ("YUM", date(2002, 6, 18)): (64.11, 32.5, 2.0, 2.0),  # 2:1, coded as two dollars too
}

Panel = tuple[MarketData, pl.DataFrame]


def read(name: str) -> Panel:
    """What the files provider makes of a panel, and per bar our and the vendor's growth since the bar before."""
    path = shared_parquet(name)
    data = read_market_data(path)
    return data, growths(data, pl.read_parquet(path).rename({"date": "session"}))


def growths(data: MarketData, rows: pl.DataFrame) -> pl.DataFrame:
    """Our and the vendor's growth of each bar but a symbol's first, beside its events."""
    ours = forward_adjusted(data.bars, data.actions).select(*KEYS, total="close", shares="volume")

    def growth(column: str) -> pl.Expr:
        return (pl.col(column) / pl.col(column).shift()).over("symbol")

    # Of two rows for a session, or one that was set aside, the vendor's value is that of the bar.
    vendor = data.bars.frame.select(*KEYS, "close").join(rows, on=[*KEYS, "close"], how="left", maintain_order="left")
    return (
        vendor.join(ours, on=KEYS, how="left", maintain_order="left")
        .with_columns(ours=growth("total"), theirs=growth("adj_close"))
        .filter(pl.col("ours").is_not_null())
    )


def differing(found: pl.DataFrame, tolerance: float = TENTH_OF_A_PERCENT) -> list[tuple[str, date]]:
    """Rows whose growths do not agree; a missing one of the vendor's agrees with nothing."""
    agree = ((pl.col("ours") / pl.col("theirs") - 1).abs() <= tolerance).fill_null(False)
    return [(symbol, session) for symbol, session in found.filter(~agree).select(KEYS).iter_rows()]


@pytest.fixture(scope="module")
def wiki() -> Panel:
    return read("wiki_public_domain_raw")


@pytest.fixture(scope="module")
def sp500() -> Panel:
    return read("sp500_raw_1999_202104")


# Total returns


def test_total_returns_of_eight_companies_since_1962_are_the_vendors_but_for_a_dividend_it_lost(wiki):
    data, found = wiki
    kinds = dict(data.actions.frame.filter(pl.col("symbol") != "IBM")["kind"].value_counts().iter_rows())
    assert kinds == {"split": 28, "dividend": 449}
    assert len(found.filter(pl.col("symbol") != "IBM")) == 54_508  # IBM has no events, and goes by its factors
    assert len(found) == 57_777
    assert differing(found) == list(WIKI_FAULTS)


def test_total_returns_of_348_companies_are_the_vendors_but_for_rows_it_has_wrong(sp500):
    data, found = sp500
    assert (len(data.bars), len(data.quarantine)) == (1_675_985, 0)
    assert len(found) == 1_675_985 - 348
    assert differing(found) == sorted(SP500_FAULTS)


@pytest.mark.parametrize(("row", "values"), BOTH_ON_ONE_DAY.items(), ids=[row[0] for row in BOTH_ON_ONE_DAY])
def test_of_a_split_and_a_dividend_on_one_day_the_dividend_is_per_share_after_the_split(sp500, row, values):
    previous, close, dividend, split = values
    symbol, session = row
    found = sp500[1].filter(symbol=symbol, session=session).row(0, named=True)
    assert (found["close"], found["dividend"], found["split"]) == pytest.approx((close, dividend, split), rel=1e-5)
    assert found["ours"] == pytest.approx((close + dividend) * split / previous, rel=1e-5)
    assert found["theirs"] == pytest.approx(found["ours"], rel=1e-5)


def test_there_is_no_other_row_with_a_split_and_a_dividend(sp500):
    both = sp500[1].filter(pl.col("split") != 1, pl.col("dividend") > 0)
    assert set(both.select(KEYS).rows()) == set(BOTH_ON_ONE_DAY)


def test_factors_of_adj_close_alone_give_the_same_returns(wiki, tmp_path):
    rows = pl.read_parquet(shared_parquet("wiki_public_domain_raw")).drop("dividend", "split")
    rows.write_parquet(tmp_path / "factors.parquet")
    data = read_market_data(tmp_path / "factors.parquet")
    assert data.adjustment is Adjustment.RAW_WITH_FACTORS
    found = growths(data, rows.rename({"date": "session"}))
    assert len(found) == len(wiki[1])
    assert differing(found) == []


def test_factors_kept_in_a_file_of_their_own_give_the_returns_they_stand_for(tmp_path):
    factors = pl.read_parquet(shared_parquet("lean_factor_files")).sort("symbol", "date")
    rows = (
        pl.read_parquet(shared_parquet("lean_raw_unadjusted_daily"))
        .join(factors, on="symbol", how="semi")  # six symbols have no factors under their own name
        .sort("symbol", "date")
        # A factor holds up to and including its date.
        .join_asof(factors, on="date", by="symbol", strategy="forward", check_sortedness=False)
        .with_columns(adj_close=pl.col("close") * pl.col("price_factor") * pl.col("split_factor"))
        .drop("price_factor", "split_factor", "reference_price")
    )
    rows.write_parquet(tmp_path / "lean.parquet")
    data = read_market_data(tmp_path / "lean.parquet")
    found = growths(data, rows.rename({"date": "session"}))
    assert len(found) > 60_000
    assert differing(found) == []


# Volume


def test_volume_is_divided_by_the_splits_so_far_and_by_nothing_else(sp500):
    found = sp500[1].with_columns(splits=pl.col("split").cum_prod().over("symbol"))
    shares = pl.col("volume") / pl.col("splits")
    assert found.filter((pl.col("shares") - shares).abs() > 1e-9 * shares).is_empty()
    assert len(found.filter(pl.col("splits") != 1)) > 500_000


# What is not known yet


@pytest.mark.parametrize("day", [date(1987, 10, 19), date(2000, 3, 10), date(2014, 6, 6)])
@pytest.mark.parametrize("kind", ["split", "dividend", "factor"])
def test_an_event_announced_for_tomorrow_changes_no_bit_of_what_is_seen_today(wiki, day, kind):
    data, _ = wiki
    tomorrow = [
        CorporateAction(symbol=symbol, ex_date=session_after(day, 1), kind=kind, value=3.0, known_at=day)
        for symbol in data.bars.symbols
    ]
    announced = CorporateActions.of([*data.actions, *tomorrow])
    until = pl.col("session") <= day
    seen = forward_adjusted(data.bars, data.actions).filter(until)
    assert len(seen) > 0
    assert forward_adjusted(data.bars, announced).filter(until).equals(seen)
    assert adjusted(data.bars, announced, as_of=day).equals(adjusted(data.bars, data.actions, as_of=day))
    assert not forward_adjusted(data.bars, announced).equals(forward_adjusted(data.bars, data.actions))
