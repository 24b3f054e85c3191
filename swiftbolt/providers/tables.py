"""Opening a file as a table: columns with the names they bear in the file, nothing interpreted yet.

Of a CSV every cell is text: what is a number or a date, ``cells`` decides once the columns are known.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from swiftbolt.errors import SchemaError

PARQUET_MAGIC = b"PAR1"
GZIP_MAGIC = b"\x1f\x8b"
PARQUET_SUFFIX = ".parquet"
CSV_SUFFIXES = (".csv", ".tsv")
SEPARATORS = (",", ";", "\t")
# A header may take two lines, as yfinance writes it, and a third with the name of the index. The second begins with
# the name of what it holds, or with nothing.
HEADER_LINES = 3
LEVEL_NAMES = ("", "price", "ticker", "tickers", "symbol", "symbols", "attributes")


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A file as it stands.

    Attributes:
        frame: columns named as in the file; a header of two lines, ``Close`` over ``AAPL``, is named as pandas names
            it in parquet, ``('Close', 'AAPL')``.
        separator: what stands between the cells of a CSV; None for parquet.
        notes: sentences about how the file had to be read.
    """

    frame: pl.LazyFrame
    separator: str | None = None
    notes: tuple[str, ...] = ()


def is_table(path: Path) -> bool:
    """Whether the name of ``path`` is that of a file we read."""
    return _kind(path) is not None


def table_name(path: Path) -> str:
    """The name of ``path`` without the endings that say what it is: AAPL of AAPL.csv.gz, BRK.B of BRK.B.csv."""
    kind = _kind(path)
    return path.name if kind is None else path.name[: path.name.casefold().rindex(kind)]


def open_table(path: Path) -> Table:
    """Open ``path``, lazily where it is parquet; what it is shows in its first bytes or its name.

    Raises:
        SchemaError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(PARQUET_MAGIC))
        if magic == PARQUET_MAGIC:
            return Table(frame=pl.scan_parquet(path, glob=False, hive_partitioning=False))
        if not magic:
            raise SchemaError("is empty; write the file anew")
        if _kind(path) in CSV_SUFFIXES:
            return _csv_table(path.read_bytes())
    except FileNotFoundError:
        raise SchemaError("no such file; check the path") from None
    except OSError as exc:
        raise SchemaError(f"cannot be read ({exc.strerror or exc}); write the file anew") from exc
    if _kind(path) == PARQUET_SUFFIX:
        raise SchemaError("is named .parquet and is none; write the file anew")
    raise SchemaError("is neither a parquet file nor named .csv; convert it to one of the two")


def _kind(path: Path) -> str | None:
    """The ending that says what ``path`` is, wherever it stands: a CSV may be packed."""
    endings = (suffix.casefold() for suffix in path.suffixes)
    return next((ending for ending in endings if ending in (PARQUET_SUFFIX, *CSV_SUFFIXES)), None)


def _csv_table(data: bytes) -> Table:
    data, notes = _as_utf8(_unpacked(data))
    lines = data.lstrip(b"\r\n").split(b"\n", maxsplit=HEADER_LINES)
    if not lines[0].strip():
        raise SchemaError("is empty; write the file anew")
    try:
        separator = _separator(lines[0].decode())
        head = [_cells(line.decode(), separator) for line in lines[:HEADER_LINES]]
    except csv.Error as exc:
        raise SchemaError(f"has no header of columns ({exc}); write the file anew") from exc
    names, height = _header(head)
    # Under a header of our own, names of the file can be neither taken for one another nor for options.
    places = [str(at) for at in range(len(names))]
    body = b"\n".join([separator.join(places).encode(), *lines[height:]])
    cells = pl.read_csv(body, separator=separator, schema=dict.fromkeys(places, pl.String()))
    # A line without a single cell is no row: files end in such lines.
    frame = cells.filter(pl.any_horizontal(pl.all().is_not_null())).rename(dict(zip(places, names, strict=True)))
    return Table(frame=frame.lazy(), separator=separator, notes=notes)


def _header(head: Sequence[Sequence[str]]) -> tuple[list[str], int]:
    """The name of each column, and how many lines they take."""
    first, second, third = [*head, (), ()][:HEADER_LINES]
    if not _is_second_line(first, second):
        return _distinct(first), 1
    names = [str(pair) for pair in zip(first[1:], second[1:], strict=True)]
    # pandas gives the name of the index a line of its own.
    if third and not any(third[1:]) and not _is_number_or_date(third[0]):
        return _distinct([third[0], *names]), 3
    return _distinct(["", *names]), 2


def _is_second_line(first: Sequence[str], second: Sequence[str]) -> bool:
    return (
        len(second) == len(first) > 1
        and second[0].casefold() in LEVEL_NAMES
        and all(cell and not _is_number_or_date(cell) for cell in second[1:])
    )


def _is_number_or_date(cell: str) -> bool:
    return cell[:1].isdigit() and not cell[-1].isalpha()


def _distinct(names: Sequence[str]) -> list[str]:
    """``names``, with every column but the first that has none called by its place."""
    named = [name or (f"column {at}" if at > 1 else "") for at, name in enumerate(names, start=1)]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise SchemaError(f"has more than one column {', '.join(map(repr, twice))}; give each a name of its own")
    return named


def _unpacked(data: bytes) -> bytes:
    if not data.startswith(GZIP_MAGIC):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, zlib.error) as exc:
        raise SchemaError(f"cannot be unpacked ({exc}); write the file anew") from exc


def _as_utf8(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The text as UTF-8 without byte-order mark, and a note where its encoding had to be guessed."""
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        try:
            return data.decode("utf-16").encode(), ()
        except UnicodeDecodeError as exc:
            raise SchemaError(f"is cut off or not UTF-16 ({exc.reason}); save it as UTF-8") from exc
    data = data.removeprefix(BOM_UTF8)
    if b"\0" in data:
        raise SchemaError("holds zero bytes, so is no text we can tell the encoding of; save it as UTF-8")
    try:
        data.decode()
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError:
            raise SchemaError(f"is neither UTF-8 nor Windows-1252 (line {line}); save it as UTF-8") from None
        return text.encode(), (f"read as Windows-1252, for line {line} is not UTF-8; save the file as UTF-8",)
    return data, ()


def _separator(head: str) -> str:
    """The one that parts the header into most cells."""
    return max(SEPARATORS, key=lambda separator: len(_cells(head, separator)))


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line.rstrip("\r")], delimiter=separator), [""])]
