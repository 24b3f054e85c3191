"""A universe: the symbols that are worked on together, and the range of sessions. One YAML file each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from swiftbolt.config import Strict

FILE_ENDINGS = (".parquet", ".csv", ".tsv")


class Universe(Strict):
    """``configs/universes/*.yaml``."""

    symbols: tuple[str, ...] = Field(min_length=1, description="Ticker symbols, each once.")
    start: date | None = Field(None, description="First session; null takes all there are.")
    end: date | None = Field(None, description="Last session; null takes all there are.")
    min_sessions: int = Field(
        750, ge=1, description="Sessions a symbol must have had to be forecast; with fewer, others only learn from it."
    )
    market: str | None = Field(
        None,
        description="Symbol whose return is the market's, or a parquet or CSV file of an index, relative to this file;"
        " null takes the mean return of all symbols.",
    )
    vix: str | None = Field(
        None,
        description="The VIX in percent: a symbol beside `symbols`, which is not forecast, or a parquet or CSV file,"
        " relative to this file; null learns nothing from it.",
    )

    @field_validator("symbols", mode="before")
    @classmethod
    def _text(cls, symbols: object) -> object:
        for symbol in symbols if isinstance(symbols, (list, tuple)) else ():
            if not isinstance(symbol, str):
                # YAML reads ON and NO as true and false.
                raise ValueError(f"{symbol!r} is not text; put symbols such as 'ON' and 'NO' in quotes")
        return symbols

    @field_validator("symbols")
    @classmethod
    def _distinct(cls, symbols: tuple[str, ...]) -> tuple[str, ...]:
        blank = [symbol for symbol in symbols if not symbol or symbol != symbol.strip()]
        if blank:
            raise ValueError(f"{blank[0]!r} is not a symbol")
        repeated = sorted({symbol for symbol in symbols if symbols.count(symbol) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)} stands there more than once")
        return symbols

    @model_validator(mode="after")
    def _has_its_market(self) -> Universe:
        if self.market is not None and not is_file(self.market) and self.market not in self.symbols:
            raise ValueError(
                f"market {self.market} is not among the symbols; add it to them, or name a parquet or CSV file"
            )
        return self

    @model_validator(mode="after")
    def _does_not_forecast_the_vix(self) -> Universe:
        if self.vix is not None and (not self.vix or self.vix != self.vix.strip()):
            raise ValueError(f"vix {self.vix!r} is neither a symbol nor a file")
        if self.vix in self.symbols:
            raise ValueError(f"vix {self.vix} is no share to be forecast; take it out of the symbols")
        return self

    @model_validator(mode="after")
    def _ordered(self) -> Universe:
        if self.start is not None and self.end is not None and self.start > self.end:
            raise ValueError(f"start {self.start} is after end {self.end}")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """Symbols whose bars are needed: those worked on, and that of the VIX."""
        return self.symbols if self.vix is None or is_file(self.vix) else (*self.symbols, self.vix)


def is_file(named: str) -> bool:
    """Whether ``market`` or ``vix`` names a file, as its ending says; otherwise it is a symbol."""
    return any(ending in FILE_ENDINGS for ending in (suffix.casefold() for suffix in Path(named).suffixes))


@dataclass(frozen=True, kw_only=True, slots=True)
class Cohort:
    """The symbols whose returns make up a session's market and whose values are ranked against each other.

    A universe without those of which there is no bar. Features that look across symbols depend on it.

    Attributes:
        vix: symbol of the VIX, which is none of ``symbols``; None where features know of none.
    """

    symbols: tuple[str, ...]
    market: str | None = None
    vix: str | None = None

    @classmethod
    def of(cls, symbols: Iterable[str], market: str | None = None, vix: str | None = None) -> Cohort:
        """Symbols in order, each once.

        Raises:
            ValueError: the market is none of them, or the VIX is one.
        """
        ordered = tuple(sorted(set(symbols)))
        if market is not None and market not in ordered:
            raise ValueError(f"market {market} is not among the symbols that can be worked on")
        if vix in ordered:
            raise ValueError(f"vix {vix} is among the symbols that are worked on")
        return cls(symbols=ordered, market=market, vix=vix)

    @property
    def sources(self) -> tuple[str, ...]:
        """Symbols whose bars its features are made from."""
        return self.symbols if self.vix is None else (*self.symbols, self.vix)

    @property
    def cohort_hash(self) -> str:
        """SHA-256 over the fields; that of a cohort without a VIX is of the other two alone."""
        fields = [self.symbols, self.market, *([] if self.vix is None else [self.vix])]
        return hashlib.sha256(json.dumps(fields).encode()).hexdigest()
