"""Outcomes of units as bytes: an index that is quick to read, and a ZIP of parquet and the models' own files.

Nothing is a pickle, and floats survive bit for bit. Knows nothing of who keeps the bytes.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from io import BytesIO
from typing import Any

import polars as pl

from swiftbolt.errors import DataError
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.units import Outcome, Unit
from swiftbolt.forecast import Forecasts
from swiftbolt.models.explanations import Importance
from swiftbolt.processes import Cost

_FORECASTS = "forecasts.parquet"

Index = dict[str, dict[str, Any]]
"""By id of the unit, all of its outcome but forecasts and files."""


def unit_ids(recipe: Recipe, units: Iterable[Unit]) -> list[str]:
    """A name for each unit that says all that its outcome depends on but the panel: two recipes may share units."""
    digests: dict[tuple[str, int], str] = {}
    ids = []
    for unit in units:
        fitted = unit.model, unit.fold.index
        if fitted not in digests:
            described = [
                unit.fold.to_json(),
                recipe.config_of(unit.model).model_dump(mode="json"),
                recipe.seed_of(*fitted),
            ]
            digests[fitted] = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:12]
        ids.append(f"{unit.key}@{digests[fitted]}")
    return ids


def pack_outcomes(outcomes: Mapping[str, Outcome]) -> tuple[bytes, bytes]:
    """The index and the ZIP of ``outcomes``, which are given by id."""
    index: Index = {}
    frames = []
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as pack:
        for position, (name, outcome) in enumerate(outcomes.items()):
            if outcome.forecasts is not None and len(outcome.forecasts):
                frames.append(outcome.forecasts.to_frame().with_columns(unit=pl.lit(name)))
            for file, held in outcome.files.items():
                pack.writestr(f"files/{position}/{file}", held)
            index[name] = {
                "position": position,
                "fitted": outcome.forecasts is not None,
                "files": sorted(outcome.files),
                "importance": {horizon: asdict(found) for horizon, found in outcome.importance.items()},
                "notes": list(outcome.notes),
                "failure": outcome.failure,
                "cost": asdict(outcome.cost),
                "attempts": outcome.attempts,
            }
        if frames:
            table = BytesIO()
            pl.concat(frames).write_parquet(table)
            pack.writestr(_FORECASTS, table.getvalue())
    return json.dumps(index).encode(), content.getvalue()


def read_index(index: bytes) -> Index:
    """What ``pack_outcomes`` said of each unit.

    Raises:
        DataError: it is no index.
    """
    try:
        found: Index = json.loads(index)
        return {name: {**entry, "cost": Cost(**entry["cost"])} for name, entry in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise DataError(f"an index of outcomes cannot be read ({exc!r}): start over with --fresh") from exc


def unpack_outcomes(index: Index, content: bytes, units: Mapping[str, Unit]) -> dict[str, Outcome]:
    """The outcomes of ``units``, which are given by id, as ``pack_outcomes`` took them.

    Raises:
        DataError: one of them is not there, or the bytes are not what was packed.
    """
    try:
        with zipfile.ZipFile(BytesIO(content)) as pack:
            tables = _tables(pack) if _FORECASTS in pack.namelist() else {}
            return {name: _outcome(index[name], name, unit, tables, pack) for name, unit in units.items()}
    except (KeyError, zipfile.BadZipFile, pl.exceptions.PolarsError) as exc:
        raise DataError(f"kept outcomes cannot be read ({exc!r}): start over with --fresh") from exc


def _tables(pack: zipfile.ZipFile) -> dict[str, pl.DataFrame]:
    frame = pl.read_parquet(BytesIO(pack.read(_FORECASTS)))
    return {str(name): part.drop("unit") for (name,), part in frame.group_by(["unit"], maintain_order=True)}


def _outcome(
    entry: Mapping[str, Any], name: str, unit: Unit, tables: Mapping[str, pl.DataFrame], pack: zipfile.ZipFile
) -> Outcome:
    forecasts = None
    if entry["fitted"]:
        forecasts = Forecasts.from_frame(tables[name]) if name in tables else Forecasts.empty(unit.model)
    files: Sequence[str] = entry["files"]
    return Outcome(
        unit=unit,
        forecasts=forecasts,
        files={file: pack.read(f"files/{entry['position']}/{file}") for file in files},
        importance={int(horizon): Importance(**found) for horizon, found in entry["importance"].items()},
        notes=tuple(entry["notes"]),
        failure=entry["failure"],
        cost=entry["cost"],
        attempts=entry["attempts"],
    )
