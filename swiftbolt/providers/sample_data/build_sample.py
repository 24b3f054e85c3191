"""Build ``bars.parquet`` from two packages: ``python -m swiftbolt.providers.sample_data.build_sample``.

Needs ``bokeh-sampledata`` (a development dependency). Only files of the packages are read; nothing is downloaded.
"""

from __future__ import annotations

import gzip
import hashlib
import io
from importlib.resources import files
from pathlib import Path

import polars as pl

from swiftbolt.errors import DataError

# SHA-256 of the unpacked CSV: another release of a package may hold another extract.
STOCKS = ("bokeh_sampledata", "_data/stocks.csv.gz", "e73fe05d106b7da1abe8f947264c514afd02cef5c9db4864b9437c84d6bd6069")
INDICES = {
    "SP500": ("arch.data.sp500", "sp500.csv.gz", "1c4d0aeed8db9284de8ad71e4063c97f645ad6dd13507f8e305338e96c396ba7"),
    "NASDAQ": ("arch.data.nasdaq", "nasdaq.csv.gz", "799ab0bf4a29129f23c27743098215c4033c139ff76dc935a1cd53d1aea9997e"),
}
OUT = Path(__file__).with_name("bars.parquet")


def build_sample() -> pl.DataFrame:
    """Daily bars ``symbol, session, open, high, low, close, volume, adj_close`` of seven symbols, raw as traded.

    Raises:
        ModuleNotFoundError: a source package is not installed.
        DataError: a package holds another extract than the sample was made from.
    """
    stocks = _read_csv(*STOCKS).rename({"Ticker": "symbol"})
    parts = [_bars(stocks, "%Y-%m-%d")]
    for symbol, source in INDICES.items():
        parts.append(_bars(_read_csv(*source).with_columns(symbol=pl.lit(symbol)), "%m/%d/%Y"))
    return pl.concat(parts).sort("symbol", "session")


def _read_csv(package: str, name: str, sha256: str) -> pl.DataFrame:
    content = gzip.decompress(files(package).joinpath(name).read_bytes())
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{package}: {name} is not the extract the sample was made from; install the recorded release")
    return pl.read_csv(io.BytesIO(content))


def _bars(frame: pl.DataFrame, date_format: str) -> pl.DataFrame:
    prices = [pl.col(name).cast(pl.Float64).alias(name.lower()) for name in ("Open", "High", "Low", "Close")]
    return frame.select(
        "symbol",
        pl.col("Date").str.to_date(date_format).alias("session"),
        *prices,
        pl.col("Volume").cast(pl.Int64).alias("volume"),
        pl.col("Adj Close").cast(pl.Float64).alias("adj_close"),
    )


if __name__ == "__main__":
    sample = build_sample()
    sample.write_parquet(OUT, compression="zstd", compression_level=19)
    print(f"{len(sample)} bars of {sample['symbol'].n_unique()} symbols in {OUT} ({OUT.stat().st_size} bytes)")
