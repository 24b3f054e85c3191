"""Two sources of the same market held against each other: where they disagree, and whose prices look adjusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from math import prod
from statistics import median
from typing import Any

import polars as pl

from swiftbolt.actions import CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.findings import FINDING_SCHEMA, Findings

KIND = "source_mismatch"
# So many sessions in a row that differ by one ratio are one difference of scale, not as many wrong closes.
LEAST_STRETCH = 5
HALF_A_CENT = 0.005


def disagreements(
    ours: Bars,
    theirs: Bars,
    our_actions: CorporateActions,
    their_actions: CorporateActions,
    *,
    tolerance: float = 0.005,
) -> Findings:
    """Where two sources disagree, within the sessions from a symbol's first to its last that both of them cover.

    That is: raw closes further apart than ``tolerance`` (relative to ours), sessions and splits and dividends that only
    one has, and splits and dividends of different values. Closes that differ by one ratio, to within ``tolerance`` and
    the rounding to cents, for ``LEAST_STRETCH`` common sessions or more are one finding, dated where the stretch begins
    and known where it ends; its detail says whose prices are adjusted if later splits of either source explain it.
    Actions of a symbol are not compared where a source has factors for it: those stand for splits and dividends alike.
    """
    common = _spans(ours).join(_spans(theirs), on="symbol", suffix="_of_theirs").select(
        "symbol",
        first=pl.max_horizontal("first", "first_of_theirs"),
        last=pl.min_horizontal("last", "last_of_theirs"),
    )  # fmt: skip
    closes = (
        ours.frame.select("symbol", "session", ours="close")
        .join(
            theirs.frame.select("symbol", "session", theirs="close"),
            on=["symbol", "session"],
            how="full",
            coalesce=True,
        )
        .join(common, on="symbol")
        .filter(pl.col("session").is_between("first", "last"))
        .sort("symbol", "session")
    )
    splits = _splits(our_actions, their_actions)
    return Findings.concatenate(
        [
            _found(_lone_sessions(closes)),
            _found(_different_closes(closes, splits, tolerance)),
            _found(_different_actions(our_actions, their_actions, common, tolerance)),
        ]
    )


@dataclass(kw_only=True, slots=True)
class _Stretch:
    """Common sessions in a row whose closes are apart by one ratio, theirs over ours."""

    rows: list[dict[str, Any]]

    @property
    def symbol(self) -> str:
        return str(self.rows[0]["symbol"])

    @property
    def last(self) -> date:
        last: date = self.rows[-1]["session"]
        return last

    @property
    def ratio(self) -> float:
        return float(median(row["ratio"] for row in self.rows))

    def goes_on_with(self, row: dict[str, Any], tolerance: float) -> bool:
        """Compared with the first session, so that a ratio that creeps is no single stretch."""
        first, newest = self.rows[0], self.rows[-1]
        if row["symbol"] != first["symbol"] or row["place"] != newest["place"] + 1:
            return False
        rounding = sum(HALF_A_CENT / min(each["ours"], each["theirs"]) for each in (first, row))
        return bool(abs(row["ratio"] / first["ratio"] - 1) <= tolerance + rounding)


def _spans(bars: Bars) -> pl.DataFrame:
    return bars.frame.group_by("symbol").agg(first=pl.col("session").min(), last=pl.col("session").max())


def _lone_sessions(closes: pl.DataFrame) -> Iterator[dict[str, Any]]:
    for row in closes.filter(pl.col("ours").is_null() | pl.col("theirs").is_null()).iter_rows(named=True):
        who, close = ("theirs", row["theirs"]) if row["ours"] is None else ("ours", row["ours"])
        yield _finding(row["symbol"], row["session"], f"only {who} has the session (close {close:g})")


def _different_closes(
    closes: pl.DataFrame, splits: dict[tuple[str, date], float], tolerance: float
) -> Iterator[dict[str, Any]]:
    for stretch in _stretches(closes, tolerance):
        if len(stretch.rows) >= LEAST_STRETCH:
            first = stretch.rows[0]
            detail = (
                f"theirs is {stretch.ratio:.6g} times ours on {len(stretch.rows)} sessions up to {stretch.last}"
                f" (first: close {first['ours']:g} in ours, {first['theirs']:g} in theirs):"
                f" {_explanation(stretch, splits, tolerance)}"
            )
            yield _finding(stretch.symbol, first["session"], detail, known_from=stretch.last)
            continue
        for row in stretch.rows:
            detail = f"close {row['ours']:g} in ours, {row['theirs']:g} in theirs ({row['ratio'] - 1:+.2%})"
            yield _finding(row["symbol"], row["session"], detail)


def _stretches(closes: pl.DataFrame, tolerance: float) -> Iterator[_Stretch]:
    """The sessions on which closes differ, cut where the ratio changes or the sources agree in between."""
    both = closes.drop_nulls(["ours", "theirs"]).with_columns(
        ratio=pl.col("theirs") / pl.col("ours"), place=pl.int_range(pl.len())
    )
    held: _Stretch | None = None
    for row in both.filter((pl.col("ratio") - 1).abs() > tolerance).iter_rows(named=True):
        if held is not None and held.goes_on_with(row, tolerance):
            held.rows.append(row)
            continue
        if held is not None:
            yield held
        held = _Stretch(rows=[row])
    if held is not None:
        yield held


def _explanation(stretch: _Stretch, splits: dict[tuple[str, date], float], tolerance: float) -> str:
    """Whose prices are adjusted, if the splits after the stretch say so."""
    later = prod(value for (symbol, day), value in splits.items() if symbol == stretch.symbol and day > stretch.last)
    for who, ratio in (("theirs", 1 / later), ("ours", later)):
        if abs(stretch.ratio / ratio - 1) <= tolerance:
            return f"{who} is adjusted for later splits of {later:g} in all, and should be raw"
    return "one of the two is probably adjusted, or another security"


def _splits(*sources: CorporateActions) -> dict[tuple[str, date], float]:
    """Splits that any of the sources has, the first to have one counting."""
    found: dict[tuple[str, date], float] = {}
    for source in sources:
        merged = _merged(source).filter(kind="split")
        for symbol, ex_date, value in merged.select("symbol", "ex_date", "value").iter_rows():
            found.setdefault((symbol, ex_date), value)
    return found


def _different_actions(
    ours: CorporateActions, theirs: CorporateActions, common: pl.DataFrame, tolerance: float
) -> Iterator[dict[str, Any]]:
    by_factor = pl.concat([ours.frame, theirs.frame]).filter(kind="factor")["symbol"].unique()
    paired = (
        _merged(ours)
        .join(_merged(theirs), on=["symbol", "ex_date", "kind"], how="full", coalesce=True, suffix="_of_theirs")
        .join(common, on="symbol")
        .filter(pl.col("ex_date").is_between("first", "last") & ~pl.col("symbol").is_in(by_factor.implode()))
        .select("symbol", "ex_date", "kind", ours="value", theirs="value_of_theirs")
    )
    for row in paired.iter_rows(named=True):
        mine, other, kind = row["ours"], row["theirs"], row["kind"]
        if mine is None or other is None:
            who, value = ("theirs", other) if mine is None else ("ours", mine)
            yield _finding(row["symbol"], row["ex_date"], f"only {who} has a {kind} of {value:g}")
        elif abs(other / mine - 1) > tolerance:
            yield _finding(row["symbol"], row["ex_date"], f"{kind} of {mine:g} in ours, of {other:g} in theirs")


def _merged(actions: CorporateActions) -> pl.DataFrame:
    """One row for each symbol, ex-date and kind: splits multiply, dividends add up."""
    value = pl.col("value")
    whole = pl.when(pl.col("kind").first() == "dividend").then(value.sum()).otherwise(value.product())
    return actions.frame.group_by("symbol", "ex_date", "kind").agg(value=whole)


def _finding(symbol: str, session: date, detail: str, known_from: date | None = None) -> dict[str, Any]:
    known = session if known_from is None else known_from
    return {"symbol": symbol, "session": session, "kind": KIND, "known_from": known, "detail": detail}


def _found(rows: Iterable[dict[str, Any]]) -> Findings:
    return Findings.from_frame(pl.DataFrame(list(rows), schema=FINDING_SCHEMA))
