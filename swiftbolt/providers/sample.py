"""The bundled sample: real daily bars of five shares and two indices, so that everything runs without an account.

Where they come from, and under which terms, stands in ``sample_data/PROVENANCE.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from swiftbolt.providers.files import FilesProvider

SAMPLE_PATH = Path(__file__).parent / "sample_data" / "bars.parquet"


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleProvider(FilesProvider):
    """Serves the bundled sample."""

    path: Path = field(default_factory=lambda: SAMPLE_PATH, init=False)
    source: str = field(default="sample", init=False)
