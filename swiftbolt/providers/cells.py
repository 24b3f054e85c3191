"""What the text in a table means: numbers in whichever notation, and dates in whichever order the file shows.

A file writes its numbers in one way and its dates in one way. Where nothing in it tells two ways apart, it is refused
rather than guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl

from swiftbolt.errors import SchemaError

# How files write that there is no number.
NOTHING = ("", "null", "none", "nan", "na", "n/a", "#n/a", "-", ".")
CURRENCY = "$€£"
# Between thousands, whatever the decimal sign: spaces (also those that do not break) and the Swiss apostrophe.
NEUTRAL_GROUPS = " \u00a0\u202f'’"
TIME_OF_DAY = r"(?:[T ,]+\d{1,2}:?\d{2}.*)?$"
NUMBERED_MONTH = rf"^(\d{{1,2}})[-/.](\d{{1,2}})[-/.](\d{{4}}){TIME_OF_DAY}"


def read_text(frame: pl.DataFrame, names: Sequence[str], *, comma_separated: bool) -> tuple[pl.DataFrame, list[str]]:
    """``frame`` with the text of its ``session`` as dates and that of ``names`` as numbers, and what was no date.

    A date that cannot be read becomes null; the rest of its row stays.

    Args:
        comma_separated: cells stand between commas, so a number is not expected to hold one.

    Raises:
        SchemaError: no date or not every number can be read, or nothing tells which of two numbers or dates is meant.
    """
    notes = []
    frame = frame.with_columns(pl.col("symbol").cast(pl.String).str.strip_chars().replace("", None))
    if frame.schema["session"] == pl.String:
        text = frame["session"].str.strip_chars()
        frame = frame.with_columns(session=_dates(text))
        unread = text.filter(frame["session"].is_null() & text.is_not_null())
        if len(frame) and frame["session"].null_count() == len(frame):
            raise SchemaError("no session can be read as a date; write dates as YYYY-MM-DD")
        if len(unread):
            notes.append(
                f"{len(unread)} row{'s' if len(unread) > 1 else ''} without a readable date (first: {unread[0]!r})"
            )
    texts = [name for name in names if frame.schema[name] == pl.String]
    if comma_separated:
        plain = frame.with_columns(pl.col(texts).cast(pl.Float64, strict=False))
        if plain.select(texts).null_count().equals(frame.select(texts).null_count()):
            return plain, notes  # the usual file, in a third of the time
    stripped = frame.with_columns(_stripped(name) for name in texts)
    sign = _decimal_sign([stripped[name] for name in texts], comma_separated=comma_separated)
    read = stripped.with_columns(_number(name, sign) for name in texts)
    for name in texts:
        unread = read[name].is_null() & stripped[name].is_not_null()
        if unread.any():
            row = frame.filter(unread).row(0, named=True)
            raise SchemaError(
                f"column {name!r} must hold numbers, holds text (first: {row[name]!r} at {row['symbol']}"
                f" {row['session']}); correct or remove it"
            )
    return read, notes


def _stripped(name: str) -> pl.Expr:
    """The text of a number alone; null where it says that there is none."""
    text = pl.col(name).str.strip_chars()
    text = text.str.replace(rf"^([+-]?)[{CURRENCY}]\s*", "$1")
    return pl.when(~text.str.to_lowercase().is_in(NOTHING)).then(text).alias(name)


def _decimal_sign(texts: Sequence[pl.Series], *, comma_separated: bool) -> str:
    """The point or the comma, whichever the numbers show to be their decimal sign."""
    proofs = {sign: _first_match(texts, _proof(sign)) for sign in ".,"}
    if proofs["."] is not None and proofs[","] is not None:
        raise SchemaError(
            f"{proofs['.']!r} has a decimal point and {proofs[',']!r} a decimal comma; write all numbers in one way"
        )
    if proofs[","] is not None:
        return ","
    doubtful = _first_match(texts, r"^[+-]?\d{1,3}[.,]\d{3}$")
    if proofs["."] is None and not comma_separated and doubtful is not None:
        raise SchemaError(
            f"{doubtful!r} may be thousands or a fraction, and no number in the file tells; write numbers without"
            " separators of thousands"
        )
    return "."


def _proof(sign: str) -> str:
    """Pattern of the numbers in which ``sign`` can only be the decimal sign, never stand between thousands."""
    other = re.escape("," if sign == "." else ".")
    sign = re.escape(sign)
    return (
        rf"^[+-]?(?:\d*{sign}(?:\d{{1,2}}|\d{{4,}})"  # not three digits behind it
        rf"|(?:0\d*|\d{{4,}})?{sign}\d+"  # what stands before it is no head of thousands
        rf"|\d{{1,3}}(?:[{other}{NEUTRAL_GROUPS}]\d{{3}})+{sign}\d+"  # something else stands between thousands
        rf"|\d{{1,3}}(?:{other}\d{{3}}){{2,}})$"
    )


def _number(name: str, sign: str) -> pl.Expr:
    other = "," if sign == "." else "."
    grouped = rf"^[+-]?\d{{1,3}}(?:[{re.escape(other)}{NEUTRAL_GROUPS}]\d{{3}})+(?:{re.escape(sign)}\d*)?$"
    text = pl.col(name)
    ungrouped = (
        pl.when(text.str.contains(grouped)).then(text.str.replace_all(f"[{other}{NEUTRAL_GROUPS}]", "")).otherwise(text)
    )
    # What still holds the other sign is no number, whatever it would be in another file.
    return (
        pl.when(~ungrouped.str.contains(other, literal=True))
        .then(ungrouped.str.replace(sign, ".", literal=True).cast(pl.Float64, strict=False))
        .alias(name)
    )


def _dates(text: pl.Series) -> pl.Series:
    """Dates written year first, with the month's name, or with day and month in the order that the file shows.

    Of a time the day is taken as it is written, in whichever zone.
    """
    if text.str.contains(r"^\d{4}-\d{2}-\d{2}$").all():
        return text.str.to_date("%Y-%m-%d", strict=False)
    order = "${3}-${2}-${1}" if _day_comes_first(text) else "${3}-${1}-${2}"
    iso = (
        pl.col("text")
        .str.replace(rf"^(\d{{4}})[-/.](\d{{1,2}})[-/.](\d{{1,2}}){TIME_OF_DAY}", "${1}-${2}-${3}")
        .str.replace(rf"^(\d{{4}})(\d{{2}})(\d{{2}}){TIME_OF_DAY}", "${1}-${2}-${3}")
        .str.replace(NUMBERED_MONTH, order)
    )
    named = (
        pl.col("text")
        .str.replace(rf"^([A-Za-z]+)\.? (\d{{1,2}}),? (\d{{4}}){TIME_OF_DAY}", "${2} ${1} ${3}")
        .str.replace(rf"^(\d{{1,2}})-([A-Za-z]+)-(\d{{4}}){TIME_OF_DAY}", "${1} ${2} ${3}")
    )
    is_iso = iso.str.contains(r"^\d{4}-")  # a year of two digits would be one of the first century
    dates = pl.coalesce(
        pl.when(is_iso).then(iso).str.to_date("%Y-%m-%d", strict=False), named.str.to_date("%d %B %Y", strict=False)
    )
    return pl.DataFrame({"text": text}).select(dates).to_series()


def _day_comes_first(text: pl.Series) -> bool:
    """Whether dates such as 13/01/2020 have the day before the month; a date with a number above 12 tells."""
    numbers = pl.DataFrame({"text": text.filter(text.str.contains(NUMBERED_MONTH))}).with_columns(
        pl.col("text").str.extract(NUMBERED_MONTH, 1).cast(pl.Int64).alias("first"),
        pl.col("text").str.extract(NUMBERED_MONTH, 2).cast(pl.Int64).alias("second"),
    )
    day_first = numbers.filter(pl.col("first").is_between(13, 31), pl.col("second") <= 12)["text"]
    month_first = numbers.filter(pl.col("second").is_between(13, 31), pl.col("first") <= 12)["text"]
    if len(day_first) and len(month_first):
        raise SchemaError(
            f"dates are written day first ({day_first[0]}) and month first ({month_first[0]}); write them as YYYY-MM-DD"
        )
    doubtful = numbers.filter(pl.col("first") != pl.col("second"), pl.max_horizontal("first", "second") <= 12)["text"]
    if len(doubtful) and not len(day_first) and not len(month_first):
        raise SchemaError(
            f"{doubtful[0]} may have the day or the month first, and no date in the file tells;"
            " write dates as YYYY-MM-DD"
        )
    return len(day_first) > 0


def _first_match(texts: Sequence[pl.Series], pattern: str) -> str | None:
    for text in texts:
        found = text.filter(text.str.contains(pattern))
        if len(found):
            return str(found[0])
    return None
