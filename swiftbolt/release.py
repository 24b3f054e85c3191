"""A release: the live fold's artifacts and their forecasts from the universe's last session.

On disk it is one directory::

    release.json        what it is: run, origin, symbols, models, skipped symbols, release_digest
    ensemble.json       weights and calibration
    forecasts.parquet   every model's and the ensemble's forecast from the origin
    explanations.json   why, by the models that can say: the largest contributions to each of their medians
    scorecard.json      the walk-forward evaluation behind it
    <model>/            one artifact per model: manifest.json and the model's files

The directory is written beside its place and renamed into it, so that it is never half there. Which
release is active is one row in the store, not anything in here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from swiftbolt.artifact import Manifest, read_artifact, read_manifest
from swiftbolt.ensemble.weights import EnsembleState
from swiftbolt.errors import ArtifactMismatch
from swiftbolt.forecast import QUANTILE_COLUMNS, Forecasts
from swiftbolt.models.base import Model
from swiftbolt.models.explanations import Explaining, Explanation, explain_newest
from swiftbolt.models.registry import model_class
from swiftbolt.panel import Panel, hash_arrays
from swiftbolt.universe import Cohort

FORECAST_KEYS = ["symbol", "origin", "horizon", "model"]

EXPLANATIONS = "explanations.json"

Explanations = Mapping[str, Sequence[Explanation]]
"""By model, of all symbols and horizons."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """What one retrain made, ready to be promoted.

    Attributes:
        release_digest: SHA-256 over weights, configurations, fold, data and spec hashes, ensemble state, forecasts
            and, where there are any, their explanations in canonical order; no run id, clock time or attempt enters it.
        origin: the session the forecasts were made from.
        skipped: symbols left out, each with its reason.
        cohort: the symbols, and the market among them, that features looked across.
        reproducible: False when workers came and went while it was trained.
    """

    run: str
    release_digest: str
    origin: date
    symbols: tuple[str, ...]
    models: tuple[str, ...]
    skipped: dict[str, str]
    spec_hash: str
    data_hash: str
    cohort: Cohort
    reproducible: bool = True

    def to_json(self) -> str:
        """Canonical JSON."""
        return json.dumps({**asdict(self), "origin": self.origin.isoformat()}, sort_keys=True, indent=1) + "\n"

    @classmethod
    def read(cls, directory: Path) -> Release:
        """Read ``release.json``.

        Raises:
            ArtifactMismatch: it is missing or is not one.
        """
        path = directory / "release.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            data["origin"] = date.fromisoformat(data["origin"])
            data["symbols"], data["models"] = tuple(data["symbols"]), tuple(data["models"])
            data["cohort"] = Cohort.of(**data["cohort"])
            return cls(**data)
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise ArtifactMismatch(f"{path}: is not a release ({exc})") from exc


def release_digest(
    manifests: Mapping[str, Manifest], ensemble: EnsembleState, forecasts: pl.DataFrame, explanations: Explanations
) -> str:
    """The digest of a release's content; same code, data, seed and device kind give the same.

    Explanations follow from weights and features, and are part of it so that damaged ones are refused. A release made
    before there were any has the digest it had then.
    """
    digest = hashlib.sha256()
    for name in sorted(manifests):
        manifest = manifests[name]
        part: dict[str, Any] = {
            "model": manifest.model,
            "config": manifest.config,
            "symbols": manifest.symbols,
            "fold": manifest.fold,
            "spec_hash": manifest.spec_hash,
            "data_hash": manifest.data_hash,
            "seed": manifest.seed,
            "files": manifest.files,
        }
        digest.update(json.dumps(part, sort_keys=True).encode())
    digest.update(ensemble.to_json().encode())
    ordered = forecasts.sort(FORECAST_KEYS)
    digest.update(ordered.select(pl.concat_str([pl.col(key).cast(pl.String) for key in FORECAST_KEYS], separator="|"))
                  .to_series().str.join("\n").item().encode())  # fmt: skip
    digest.update(hash_arrays(ordered.select(QUANTILE_COLUMNS).to_numpy()).encode())
    if explanations:
        digest.update(_explanations_json(explanations).encode())
    return digest.hexdigest()


def write_release(
    directory: Path,
    *,
    run: str,
    manifests: Mapping[str, Manifest],
    staging: Path,
    cohort: Cohort,
    ensemble: EnsembleState,
    forecasts: pl.DataFrame,
    explanations: Explanations,
    scorecard: Mapping[str, Any],
    skipped: Mapping[str, str],
    reproducible: bool = True,
) -> Release:
    """Finish the release whose artifacts already lie in ``staging`` and move it to ``directory`` in one step.

    No two runs share a directory: one that is there already is an error of the caller's, and is not touched.
    """
    any_manifest = next(iter(manifests.values()))
    origin = forecasts["origin"].max()
    assert isinstance(origin, date)
    release = Release(
        run=run,
        release_digest=release_digest(manifests, ensemble, forecasts, explanations),
        origin=origin,
        symbols=tuple(sorted(forecasts["symbol"].unique())),
        models=tuple(sorted(manifests)),
        skipped=dict(sorted(skipped.items())),
        spec_hash=any_manifest.spec_hash,
        data_hash=any_manifest.data_hash,
        cohort=cohort,
        reproducible=reproducible,
    )
    forecasts.sort(FORECAST_KEYS).write_parquet(staging / "forecasts.parquet")
    (staging / EXPLANATIONS).write_text(_explanations_json(explanations), encoding="utf-8")
    (staging / "ensemble.json").write_text(ensemble.to_json(), encoding="utf-8")
    (staging / "scorecard.json").write_text(json.dumps(scorecard, sort_keys=True, indent=1) + "\n", encoding="utf-8")
    (staging / "release.json").write_text(release.to_json(), encoding="utf-8")
    os.replace(staging, directory)
    return release


def verify_release(directory: Path) -> Release:
    """Recompute the digest from what lies on disk; the models' own files are checked when they are loaded.

    Raises:
        ArtifactMismatch: something in the directory is not what was released.
    """
    release = Release.read(directory)
    manifests = {name: read_manifest(directory / name) for name in release.models}
    try:
        ensemble, forecasts = read_ensemble(directory), read_forecasts(directory)
    except (OSError, ValueError, pl.exceptions.PolarsError) as exc:
        raise ArtifactMismatch(f"{directory}: cannot be read ({exc})") from exc
    actual = release_digest(manifests, ensemble, forecasts, read_explanations(directory))
    if actual != release.release_digest:
        raise ArtifactMismatch(f"{directory}: its content has digest {actual[:12]}, not {release.release_digest[:12]}")
    return release


def read_ensemble(directory: Path) -> EnsembleState:
    """Weights and calibration of a release."""
    return EnsembleState.from_json((directory / "ensemble.json").read_text(encoding="utf-8"))


def read_forecasts(directory: Path) -> pl.DataFrame:
    """Every model's forecast from the origin."""
    return pl.read_parquet(directory / "forecasts.parquet")


def read_explanations(directory: Path) -> dict[str, list[Explanation]]:
    """Why, by model; nothing in a release made before models could say.

    Raises:
        ArtifactMismatch: the file is there and is not one of explanations.
    """
    path = directory / EXPLANATIONS
    try:
        by_model = json.loads(path.read_text(encoding="utf-8"))
        return {name: [Explanation.from_json(entry) for entry in entries] for name, entries in by_model.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ArtifactMismatch(f"{path}: does not hold explanations ({exc!r})") from exc


def explain_members(directory: Path, names: Iterable[str], panel: Panel) -> dict[str, list[Explanation]]:
    """Why those models whose artifacts lie in ``directory`` forecast what they do from the panel's newest session."""
    can_say = [name for name in names if issubclass(model_class(name), Explaining)]  # others need not be read
    told = {name: explain_newest(read_member(directory, name, spec_hash=panel.spec_hash), panel) for name in can_say}
    return {name: explanations for name, explanations in told.items() if explanations}


def _explanations_json(explanations: Explanations) -> str:
    """Canonical JSON."""
    plain = {name: [entry.to_json() for entry in entries] for name, entries in explanations.items()}
    return json.dumps(plain, sort_keys=True, allow_nan=False) + "\n"


def read_member(directory: Path, name: str, *, spec_hash: str) -> Model:
    """One model of a release, checked against its manifest."""
    model, _ = read_artifact(directory / name, spec_hash=spec_hash)
    return model


def forecasts_by_model(frame: pl.DataFrame) -> dict[str, Forecasts]:
    """Split a frame of many models."""
    return {str(name): Forecasts.from_frame(part) for (name,), part in frame.group_by(["model"], maintain_order=True)}
