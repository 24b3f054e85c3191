"""The bundled sample: real daily bars of five shares and two indices, so that everything runs without an account.

Where they come from, and under which terms, stands in ``sample_data/PROVENANCE.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import ClassVar

from swiftbolt.providers.base import MarketData
from swiftbolt.providers.files import read_market_data

SAMPLE_PATH = Path(__file__).parent / "sample_data" / "bars.parquet"


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleProvider:
    """Serves the bundled sample."""

    source: ClassVar[str] = "sample"

    def fetch(
        self, symbols: Sequence[str] | None = None, start: date | None = None, end: date | None = None
    ) -> MarketData:
        """Bars of the sample; see ``Provider.fetch``."""
        return read_market_data(SAMPLE_PATH, symbols, start, end)
