"""What is wrong with market data: named findings, with symbol, session, remedy and the session they are known from.

A finding never changes a price. Depending on its kind the row was set aside before it became a bar, or the
bar is kept and quarantined from ``known_from`` on, or it is only reported. Knows nothing of how findings are made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import polars as pl

from swiftbolt.bars import FAULTS, PRICES, Quarantine
from swiftbolt.errors import DataError, SchemaError

FINDING_SCHEMA = {
    "symbol": pl.String(),
    "session": pl.Date(),
    "kind": pl.String(),
    "known_from": pl.Date(),
    "detail": pl.String(),
}


class Effect(StrEnum):
    """What a finding does to its row."""

    SET_ASIDE = "set aside"  # the row never became a bar; it lies in the quarantine with its values
    QUARANTINED = "quarantined"  # the bar is kept, and left out by whoever knows of the finding
    REPORTED = "reported"  # the bar is used


@dataclass(frozen=True, kw_only=True, slots=True)
class FindingKind:
    """What one kind of finding means and what to do about it."""

    meaning: str
    remedy: str
    effect: Effect


KINDS: dict[str, FindingKind] = {
    **{
        fault: FindingKind(
            meaning=meaning, remedy="correct the row at its source and ingest again", effect=Effect.SET_ASIDE
        )
        for fault, meaning in FAULTS.items()
    },
    "bad_tick": FindingKind(
        meaning="a close that jumps away and back within one session",
        remedy="compare with a second source; ingest the corrected bar",
        effect=Effect.QUARANTINED,
    ),
    "stale_close": FindingKind(
        meaning="a close that only repeats the previous one, though the symbol or its universe traded on",
        remedy="compare with a second source; ingest the corrected bar",
        effect=Effect.QUARANTINED,
    ),
    "zero_volume": FindingKind(
        meaning="no volume, of a symbol that otherwise trades",
        remedy="compare with a second source; ingest the corrected bar",
        effect=Effect.QUARANTINED,
    ),
    "split_like_jump": FindingKind(
        meaning="a jump like that of a split, with no split on file",
        remedy="add the split to the actions, or a corrected price",
        effect=Effect.QUARANTINED,
    ),
    "absurd_rise": FindingKind(
        meaning="a rise to eight times the previous close or more in one session, with no split on file",
        remedy="check for a change of unit (dollars to cents), or add the split to the actions",
        effect=Effect.QUARANTINED,
    ),
    "split_without_jump": FindingKind(
        meaning="a split on file that the price does not show",
        remedy="remove the split from the actions, or correct its ex-date",
        effect=Effect.REPORTED,
    ),
    "implausible_action": FindingKind(
        meaning="a corporate action out of all proportion to the price",
        remedy="check whether a split or a spin-off was coded as a dividend",
        effect=Effect.REPORTED,
    ),
    "missing_session": FindingKind(
        meaning="an exchange session without a bar between a symbol's first and last",
        remedy="ask the source again, or a second one",
        effect=Effect.REPORTED,
    ),
    "revision": FindingKind(
        meaning="a bar or an action that came with other values than those held, or no more",
        remedy="none needed: the new values count, the old ones are kept in bar_revisions and action_revisions",
        effect=Effect.REPORTED,
    ),
    "source_mismatch": FindingKind(
        meaning="two sources that disagree on a session's close",
        remedy="find out which is right, and ingest the corrected bar",
        effect=Effect.REPORTED,
    ),
}

# Prices on either side of such a bar cannot be compared, whichever of them is right.
BREAKS = ("split_like_jump", "absurd_rise")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Findings:
    """Findings of many symbols as a frame of ``FINDING_SCHEMA``, sorted by symbol, session and kind.

    ``session`` and ``symbol`` may be null where the faulty row had none. ``known_from`` is the first session at
    whose close the finding can be made; null (a row that has no session) is known at once.

    Raises:
        SchemaError: a column is missing or of another type.
        DataError: rows are unsorted, or a kind is none of ``KINDS``.
    """

    frame: pl.DataFrame

    def __post_init__(self) -> None:
        if list(self.frame.schema.items()) != list(FINDING_SCHEMA.items()):
            raise SchemaError(f"findings must have the columns {', '.join(FINDING_SCHEMA)}")
        unknown = set(self.frame["kind"].unique()) - set(KINDS)
        if unknown:
            raise DataError(f"no such kind of finding: {', '.join(sorted(map(str, unknown)))}")
        keys = self.frame.select("symbol", "session", "kind")
        if not keys.equals(keys.sort("symbol", "session", "kind")):
            raise DataError("findings are not sorted by symbol, session and kind")

    def __len__(self) -> int:
        return len(self.frame)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Findings) and self.frame.equals(other.frame)

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> Findings:
        """Sort ``frame`` and drop exact repeats."""
        return cls(frame=frame.select(list(FINDING_SCHEMA)).unique().sort(list(FINDING_SCHEMA)))

    @classmethod
    def none(cls) -> Findings:
        """No findings."""
        return cls(frame=pl.DataFrame(schema=FINDING_SCHEMA))

    @classmethod
    def concatenate(cls, parts: Iterable[Findings]) -> Findings:
        """All of ``parts``, each finding once."""
        return cls.from_frame(pl.concat([pl.DataFrame(schema=FINDING_SCHEMA), *(part.frame for part in parts)]))

    @classmethod
    def of_quarantine(cls, quarantine: Quarantine) -> Findings:
        """The rows that were set aside, as findings known at their own session."""
        values = (pl.col(name).cast(pl.String).fill_null("null") for name in (*PRICES, "volume"))
        return cls.from_frame(
            # In one chunk: polars 2.1 panics when it formats columns that are split differently.
            quarantine.frame.rechunk().select(
                "symbol",
                "session",
                kind=pl.col("fault"),
                known_from=pl.col("session"),
                detail=pl.format("open {} high {} low {} close {} volume {}", *values),
            )
        )

    def select(self, symbols: Iterable[str] | None = None, known_at: date | None = None) -> Findings:
        """Findings of ``symbols`` that were known at the close of ``known_at``; None does not restrict."""
        frame = self.frame
        if symbols is not None:
            frame = frame.filter(pl.col("symbol").is_in(list(symbols)))
        if known_at is not None:
            frame = frame.filter(pl.col("known_from").is_null() | (pl.col("known_from") <= known_at))
        return Findings(frame=frame)

    def quarantining(self) -> Findings:
        """Those because of which a bar is left out."""
        kinds = [kind for kind, what in KINDS.items() if what.effect is Effect.QUARANTINED]
        return Findings(frame=self.frame.filter(pl.col("kind").is_in(kinds)))

    def counts(self) -> dict[str, int]:
        """How many there are of each kind that was found."""
        counted = self.frame["kind"].value_counts().sort("kind")
        return {str(kind): int(count) for kind, count in counted.iter_rows()}

    def summary(self) -> list[str]:
        """One line per kind that was found, with its effect, count, first row and remedy."""
        lines = []
        for name, kind in KINDS.items():
            rows = self.frame.filter(pl.col("kind") == name)
            if len(rows):
                first = rows.row(0, named=True)
                lines.append(
                    f"{kind.effect} {len(rows):,} row{'s' if len(rows) > 1 else ''} with {kind.meaning}"
                    f" (first: {first['symbol']} {first['session']}); {kind.remedy}"
                )
        return lines
