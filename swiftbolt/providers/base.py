"""What every source of market data hands out.

Knows the nouns only; how a file or a vendor is read stands in the module of each provider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Protocol

from swiftbolt.actions import CorporateActions
from swiftbolt.bars import Bars, Quarantine
from swiftbolt.errors import InsufficientHistory


class Adjustment(StrEnum):
    """How the prices of a source stand to splits and dividends."""

    RAW_WITH_ACTIONS = "raw prices with dividends and splits"
    RAW_WITH_FACTORS = "raw prices with factors from adj_close"
    AS_GIVEN = "as given (taken as adjusted)"


@dataclass(frozen=True, kw_only=True, slots=True)
class MarketData:
    """One answer of a provider: bars, what adjusts them, and everything that was set aside on the way.

    Attributes:
        quarantine: rows that are not in ``bars``, each with its fault.
        findings: sentences about values that were ignored while their row was kept.
        missing: symbols asked for of which there is no usable row.
    """

    bars: Bars
    actions: CorporateActions
    quarantine: Quarantine
    adjustment: Adjustment
    findings: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def faults(self) -> list[str]:
        """One line per kind of row that was quarantined and value that was ignored."""
        return [*self.quarantine.summary(), *self.findings]

    def too_short(self, min_sessions: int) -> list[InsufficientHistory]:
        """The symbols with fewer than ``min_sessions`` bars, in order."""
        return [
            InsufficientHistory(symbol, min_sessions, available)
            for symbol, available in self.bars.sessions_per_symbol().items()
            if available < min_sessions
        ]


class Provider(Protocol):
    """A source of daily bars and corporate actions."""

    @property
    def source(self) -> str:
        """Short name stored beside every bar."""

    def fetch(
        self, symbols: Sequence[str] | None = None, start: date | None = None, end: date | None = None
    ) -> MarketData:
        """Bars of ``symbols`` from ``start`` to ``end``, both included; None does not restrict.

        Raises:
            SchemaError: what came is not market data.
            DataError: there is no usable row.
            ProviderError: a vendor did not answer.
        """
