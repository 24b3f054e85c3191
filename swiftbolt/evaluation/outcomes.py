"""Outcomes of units on disk: parquet, JSON and the models' own files, never a pickle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import polars as pl

from swiftbolt.errors import DataError
from swiftbolt.evaluation.units import Outcome, Unit
from swiftbolt.forecast import Forecasts
from swiftbolt.models.explanations import Importance

_INDEX = "outcomes.json"
_FORECASTS = "forecasts.parquet"


def save_outcomes(directory: Path, outcomes: Sequence[Outcome]) -> None:
    """Write ``outcomes`` into ``directory``; floats survive bit for bit."""
    directory.mkdir(parents=True, exist_ok=True)
    index = {}
    frames = []
    for position, outcome in enumerate(outcomes):
        if outcome.forecasts is not None and len(outcome.forecasts):
            frames.append(outcome.forecasts.to_frame().with_columns(unit=pl.lit(outcome.unit.key)))
        for name, content in outcome.files.items():
            folder = directory / "files" / str(position)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        index[outcome.unit.key] = {
            "position": position,
            "fitted": outcome.forecasts is not None,
            "files": sorted(outcome.files),
            "importance": {horizon: asdict(of_horizon) for horizon, of_horizon in outcome.importance.items()},
            "notes": list(outcome.notes),
            "failure": outcome.failure,
            "seconds": outcome.seconds,
        }
    if frames:
        pl.concat(frames).write_parquet(directory / _FORECASTS)
    (directory / _INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")


def load_outcomes(directory: Path, units: Sequence[Unit]) -> list[Outcome]:
    """Read the outcomes of ``units`` back.

    Raises:
        DataError: the directory does not hold one of them.
    """
    index = json.loads((directory / _INDEX).read_text(encoding="utf-8"))
    path = directory / _FORECASTS
    frames = {}
    if path.exists():
        frames = {str(key): part.drop("unit") for (key,), part in pl.read_parquet(path).group_by(["unit"])}
    outcomes = []
    for unit in units:
        entry = index.get(unit.key)
        if entry is None:
            raise DataError(f"{directory}: holds no outcome of {unit.key}")
        forecasts = None
        if entry["fitted"]:
            found = frames.get(unit.key)
            forecasts = Forecasts.empty(unit.model) if found is None else Forecasts.from_frame(found)
        folder = directory / "files" / str(entry["position"])
        outcomes.append(
            Outcome(
                unit=unit,
                forecasts=forecasts,
                files={name: (folder / name).read_bytes() for name in entry["files"]},
                importance={int(horizon): Importance(**found) for horizon, found in entry["importance"].items()},
                notes=tuple(entry["notes"]),
                failure=entry["failure"],
                seconds=entry["seconds"],
            )
        )
    return outcomes
