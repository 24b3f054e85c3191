"""Real price panels that are too large, or not ours, to be kept with the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "SWIFTBOLT_SHARED_DATA"
BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data" / "dev"


def shared_parquet(name: str) -> Path:
    """Path of ``name``.parquet in the folder ``SWIFTBOLT_SHARED_DATA``, or in shared/data/dev beside the repository.

    The test that asks is skipped where the file is absent.
    """
    path = Path(os.environ.get(VARIABLE) or BESIDE) / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"needs {path}; set {VARIABLE} to the folder that holds it")
    return path
