"""Which column of a table is what, and one row per symbol and session whatever the layout.

A table is *long* (a row per symbol and session), *wide* (a row per session, columns such as ``AAPL_open``), or of a
single symbol that it does not name. Columns bear our names, usual ones of vendors (``ALIASES``), or are named by a
mapping from ours to theirs. Knows nothing of what the cells hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import polars as pl

from swiftbolt.bars import BAR_SCHEMA, PRICES
from swiftbolt.errors import SchemaError

EVENTS = ("dividend", "split")
VALUES = (*PRICES, "volume", "adj_close", *EVENTS)
FIELDS = ("symbol", "session", *VALUES)
NAMES_SHOWN = 12

# Names of a column in groups: a later group counts where an earlier one is absent; of two names of one group the table
# does not say which is meant. Case, signs, spaces and a number in front ("1. open") do not matter.
ALIASES: dict[str, tuple[tuple[str, ...], ...]] = {
    "symbol": (("symbol",), ("ticker", "ticker symbol", "stock symbol"), ("name",)),
    "session": (
        ("session",),
        ("date",),
        ("datetime", "timestamp", "time", "trade date", "trading day"),
        ("unnamed", "unnamed 0", "index level 0"),  # an index that has no name, as pandas writes it
    ),
    "open": (("open",), ("open price", "px open")),
    "high": (("high",), ("high price", "px high")),
    "low": (("low",), ("low price", "px low")),
    "close": (("close",), ("close last", "close price", "px last", "last")),
    "volume": (("volume",), ("vol", "px volume", "total volume")),
    "adj_close": (("adj close",), ("adjusted close", "adj close price")),
    "dividend": (("dividend",), ("dividends", "dividend amount", "div cash", "ex dividend")),
    "split": (("split",), ("splits", "stock splits", "split ratio", "split factor", "split coefficient")),
}
# A column of this name is Yahoo's. Its prices are adjusted for splits, and where there is no adj_close for dividends.
YAHOO_SPLITS = "stocksplits"
# What may stand between symbol and field in the name of a wide column, and two lines of header as pandas joins them.
BETWEEN = r"[ _.:/-]"
PANDAS_PAIR = re.compile(r"\('(.+)', '(.+)'\)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How to make a table long.

    Attributes:
        parts: for each symbol, the column of the table that each of our columns is; where a column says which symbol a
            row is of, one part under None.
        is_wide: the columns name the symbols; a symbol that was not listed yet has empty cells.
        notes: sentences about columns that are there and not used.
    """

    parts: Mapping[str | None, Mapping[str, str]]
    is_wide: bool = False
    notes: tuple[str, ...] = ()

    def applied_to(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """One row per symbol and session, with our columns."""
        if len(self.parts) > 1:
            frame = frame.collect().lazy()  # read once, not once a symbol
        return pl.concat(
            [
                frame.select(
                    *([] if symbol is None else [pl.lit(symbol, pl.String()).alias("symbol")]),
                    *(pl.col(theirs).alias(ours) for ours, theirs in columns.items()),
                )
                for symbol, columns in self.parts.items()
            ],
            how="diagonal_relaxed",
        )


def find_layout(names: Sequence[str], columns: Mapping[str, str], symbol: str | None) -> Layout:
    """Say what each column of a table is.

    Args:
        names: the columns of the table.
        columns: ours to theirs, for columns that bear other names; ``date`` may stand for ``session``.
        symbol: what a table holds that does not say so.

    Raises:
        SchemaError: a column is missing, or the table does not say which is meant.
    """
    found = _mapped(names, columns)
    free = [name for name in names if name not in found.values()]
    for ours in FIELDS:
        theirs = None if ours in found else _the_one(ours, free)
        if theirs is not None:
            found[ours] = theirs
    parts: Mapping[str | None, Mapping[str, str]]
    is_wide = "session" in found and not any(name in found for name in BAR_SCHEMA if name != "session")
    if is_wide:
        session = {"session": found["session"]}
        others = [name for name in free if name != found["session"]]
        parts = {each: {**session, **values} for each, values in _wide_columns(others).items()}
    else:
        parts = {None if "symbol" in found else symbol: found}
        _require([name for name in BAR_SCHEMA if name not in found and not (name == "symbol" and symbol)], names)
    if "split" in columns or not any(YAHOO_SPLITS in _plain(part.get("split", "")) for part in parts.values()):
        return Layout(parts=parts, is_wide=is_wide)
    applied = set(FIELDS) - (set(EVENTS) - set(columns))
    return Layout(
        parts={each: {ours: part[ours] for ours in part if ours in applied} for each, part in parts.items()},
        is_wide=is_wide,
        notes=(
            "the columns of dividends and stock splits are Yahoo's, whose prices are adjusted for them already, and"
            " were not applied; if the prices are raw, call the columns dividend and split",
        ),
    )


def _mapped(names: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """The columns that the caller named, by our names."""
    found = {}
    for given, theirs in columns.items():
        ours = "session" if given == "date" else given
        if ours not in FIELDS:
            raise SchemaError(f"there is no field {given!r} to give a column to; there are {', '.join(FIELDS)}")
        if theirs not in names:
            folded = {name.casefold(): name for name in names}
            near = [folded[name] for name in get_close_matches(theirs.casefold(), folded)]
            remedy = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {_listed(names)}"
            raise SchemaError(f"no column {theirs!r} to take {given!r} from; {remedy}")
        found[ours] = theirs
    return found


def _the_one(ours: str, names: Sequence[str]) -> str | None:
    """The column that is our field ``ours``; None where there is none."""
    if ours in names:
        return ours
    for group in ALIASES[ours]:
        spellings = {_plain(alias) for alias in group}
        found = [name for name in names if (_plain(name) or "unnamed") in spellings]
        if len(found) > 1:
            raise SchemaError(
                f"{' and '.join(map(repr, found))} may both be {ours!r}; name the right one in a mapping, such as"
                f" {ours}={found[0]}"
            )
        if found:
            return found[0]
    return None


def _wide_columns(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The column of each symbol and field, in whichever order of the two makes most whole bars."""
    best = max(_readings(names), key=lambda found: (sum(not _lacking(fields) for fields in found.values()), len(found)))
    if not best:
        raise SchemaError(
            f"no column 'open', 'high', 'low', 'close', 'volume'; if {_listed(names)} hold one price a session, they"
            " are no bars: a wide file has AAPL_open, AAPL_high, AAPL_low, AAPL_close and AAPL_volume of each symbol"
        )
    for symbol, fields in best.items():
        if _lacking(fields):
            raise SchemaError(f"no column {', '.join(map(repr, _lacking(fields)))} of {symbol}; found {_listed(names)}")
        for ours, theirs in fields.items():
            if len(theirs) > 1:
                raise SchemaError(f"{' and '.join(map(repr, theirs))} may both be {ours!r} of {symbol}; remove one")
    return {symbol: {ours: theirs[0] for ours, theirs in fields.items()} for symbol, fields in best.items()}


def _readings(names: Sequence[str]) -> Iterator[dict[str, dict[str, list[str]]]]:
    """The columns that may be each field of each symbol: where the symbol comes first, and where the field does."""
    ours_of = {alias: ours for ours in VALUES for group in ALIASES[ours] for alias in group}
    by_plain = {_plain(alias): ours for alias, ours in ours_of.items()}
    # The longest first, lest "open price AAPL" be taken for the open of a symbol "price AAPL".
    field = "|".join(alias.replace(" ", "[ _.]*") for alias in sorted(ours_of, key=len, reverse=True))
    for order in (rf"(?P<symbol>.+?){BETWEEN}(?P<field>{field})", rf"(?P<field>{field}){BETWEEN}(?P<symbol>.+)"):
        reading: dict[str, dict[str, list[str]]] = {}
        for name in names:
            pair = PANDAS_PAIR.fullmatch(name)
            match = re.fullmatch(order, " ".join(pair.groups()) if pair else name, re.IGNORECASE)
            if match:
                reading.setdefault(match["symbol"], {}).setdefault(by_plain[_plain(match["field"])], []).append(name)
        yield reading


def _lacking(fields: Iterable[str]) -> list[str]:
    return [name for name in (*PRICES, "volume") if name not in fields]


def _require(absent: Sequence[str], names: Sequence[str]) -> None:
    if absent == ["symbol"]:
        raise SchemaError(f"no column 'symbol'; give the symbol of a file that holds one; found {_listed(names)}")
    if absent:
        raise SchemaError(
            f"no column {', '.join(map(repr, absent))}; needed are {', '.join(BAR_SCHEMA)} (session may be called date,"
            f" and a mapping may give any other name); found {_listed(names)}"
        )


def _plain(name: str) -> str:
    """``name`` without case, signs, spaces and a number in front."""
    return "".join(letter for letter in re.sub(r"^\d+\. *", "", name.casefold()) if letter.isalnum())


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return (", ".join(names[:NAMES_SHOWN]) or "none") + (f" and {more} more" if more > 0 else "")
