"""What every source of market data hands out.

Knows the nouns only; how a file or a vendor is read stands in the module of each provider.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import NoReturn, Protocol

from swiftbolt.actions import CorporateActions
from swiftbolt.bars import Bars, Quarantine
from swiftbolt.errors import InsufficientHistory, NotOffered
from swiftbolt.quotes import OptionChain, Snapshot, StreamEvent


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
    """A source of market data. What it does not have raises ``NotOffered``.

    Every method may raise ``ProviderError``: the vendor refused (``ProviderRefused``), asked to wait longer than we do
    (``RateLimited``) or did not answer (``ProviderUnavailable``).
    """

    @property
    def source(self) -> str:
        """Short name stored beside every bar."""

    def bars(
        self, symbols: Sequence[str] | None = None, start: date | None = None, end: date | None = None
    ) -> tuple[Bars, Quarantine]:
        """Raw bars from ``start`` to ``end``, both included, and the rows that are none; None does not restrict."""

    def corporate_actions(
        self, symbols: Sequence[str] | None = None, start: date | None = None, end: date | None = None
    ) -> CorporateActions:
        """Splits, dividends and factors by ex-date, in our convention (``CorporateAction``)."""

    def quotes(self, symbols: Sequence[str]) -> list[Snapshot]:
        """The newest quote and trade of each symbol the source knows, in the order of ``symbols``."""

    def options_snapshot(self, underlying: str) -> OptionChain:
        """Every listed contract of ``underlying`` as last seen."""

    def stream(self, symbols: Sequence[str]) -> AsyncIterator[StreamEvent]:
        """Quotes, trades and minute bars as they come, until the consumer stops."""

    def fetch(
        self, symbols: Sequence[str] | None = None, start: date | None = None, end: date | None = None
    ) -> MarketData:
        """Bars and actions at once.

        Raises:
            SchemaError: what came is not market data.
            DataError: there is no usable row.
        """


class RemoteProvider(Provider, Protocol):
    """A vendor behind a network: asked for one symbol at a time and only for what is missing."""

    def pages(self, symbol: str, start: date, end: date) -> Iterator[MarketData]:
        """History of one symbol, oldest first, as it arrives: what came before a failure is complete up to its last
        session, and a later call goes on from there. Nothing is yielded where the vendor has no bars.

        Raises:
            ProviderRefused: the vendor does not know the symbol.
        """


class HistoryOnly:
    """Mixin of sources that hold closed sessions only."""

    source: str

    def quotes(self, symbols: Sequence[str]) -> list[Snapshot]:
        """Raises ``NotOffered``."""
        self._refuse("quotes")

    def options_snapshot(self, underlying: str) -> OptionChain:
        """Raises ``NotOffered``."""
        self._refuse("options")

    def stream(self, symbols: Sequence[str]) -> AsyncIterator[StreamEvent]:
        """Raises ``NotOffered``."""
        self._refuse("live stream")

    def _refuse(self, what: str) -> NoReturn:
        raise NotOffered(f"{self.source} has no {what}: use polygon or alpaca")
