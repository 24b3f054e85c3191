"""The history a run works on, in its storage: a run that goes on sees the bars it began with, whatever came since."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date
from io import BytesIO

import polars as pl

from cluster.storage import RunStorage
from swiftbolt.actions import CorporateActions
from swiftbolt.bars import Bars
from swiftbolt.errors import DataError
from swiftbolt.feature_cache import CohortHistory
from swiftbolt.features.series import DailySeries
from swiftbolt.findings import Findings
from swiftbolt.universe import Cohort

_FOLDER = "history"
_ABOUT = f"{_FOLDER}/about.json"


def keep_history(storage: RunStorage, history: CohortHistory, skipped: dict[str, str]) -> None:
    """Keep ``history``, and why symbols of the universe are not forecast; the file that says so comes last.

    Raises:
        EnvironmentFault: the storage cannot be written.
    """
    frames = {
        "bars": history.bars.frame,
        "actions": history.actions.frame,
        "findings": history.findings.frame,
    }
    if history.vix is not None:
        frames["vix"] = pl.DataFrame({"session": history.vix.session_N, "value": history.vix.value_N})
    for name, frame in frames.items():
        content = BytesIO()
        frame.write_parquet(content)
        storage.write(f"{_FOLDER}/{name}.parquet", content.getvalue())
    about = {
        "cohort": asdict(history.cohort),
        "revision": history.revision,
        "last_session": history.bars.last_session.isoformat(),
        "vix": None if history.vix is None else history.vix.name,
        "skipped": skipped,
    }
    storage.write(_ABOUT, json.dumps(about).encode())


def kept_to(storage: RunStorage) -> date | None:
    """The newest session of what was kept; None where it was not kept whole."""
    if not storage.exists(_ABOUT):
        return None
    return date.fromisoformat(json.loads(storage.read(_ABOUT))["last_session"])


def read_history(storage: RunStorage) -> tuple[CohortHistory, dict[str, str]]:
    """What ``keep_history`` was given.

    Raises:
        DataError: it cannot be read.
        EnvironmentFault: the storage cannot.
    """
    try:
        about = json.loads(storage.read(_ABOUT))
        vix = None
        if about["vix"] is not None:
            series = _read(storage, "vix")
            vix = DailySeries(
                name=about["vix"],
                session_N=series["session"].to_numpy().astype("datetime64[D]"),
                value_N=series["value"].to_numpy().copy(),
            )
        history = CohortHistory(
            cohort=Cohort.of(**about["cohort"]),
            bars=Bars(frame=_read(storage, "bars")),
            actions=CorporateActions(frame=_read(storage, "actions")),
            findings=Findings(frame=_read(storage, "findings")),
            revision=about["revision"],
            vix=vix,
        )
    except (ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as exc:
        raise DataError(
            f"the history that the run began with cannot be read ({exc!r}): start over with --fresh"
        ) from exc
    return history, about["skipped"]


def _read(storage: RunStorage, name: str) -> pl.DataFrame:
    return pl.read_parquet(BytesIO(storage.read(f"{_FOLDER}/{name}.parquet")))
