"""What a sweep leaves behind: its plan, its trials on disk, their ranking, and the winner's settings as a file.

A sweep is a folder: ``sweep.json`` says what is searched, ``trials/NNNN.json`` what one configuration showed. Each is
written whole or not at all, so that a killed sweep can be taken up again. Knows nothing of who searches.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import yaml

from swiftbolt.config import load_config
from swiftbolt.errors import ConfigError, DataError, EnvironmentFault, NotFound
from swiftbolt.evaluation.search_space import Dimension, Parameters, Space, settings_of, written
from swiftbolt.forecast import HORIZONS
from swiftbolt.models.registry import config_class
from swiftbolt.trial import Trial

TrialState = Literal["running", "complete", "pruned", "failed"]

# What a trial counts that shows no number, or one beyond it: finite, as a search does not take a NaN for an answer.
PENALTY = 10.0
LEAST_COMPLETE = 2  # trials, for one of them to be a winner
LEAST_TO_COMPARE = 10  # trials with a score, to tell what mattered: of fewer, luck explains much
OBJECTIVE = "CRPS relative to naive, the mean over folds and horizons"
NOT_TRADED = "a sweep scores forecasts of validation ranges and trades nothing"
_PLAN, _TRIALS = "sweep.json", "trials"
_RANK = {"complete": 0, "pruned": 1, "failed": 2, "running": 3}


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldScore:
    """What a configuration showed on one fold.

    Attributes:
        loss: mean over horizons of its CRPS over naive's, on the same rows; 0.98 is 2 % better than naive.
        crps_H: by horizon; where it did not forecast, naive's.
        naive_H: naive's on these rows.
        share: of the rows, that it forecast.
    """

    loss: float
    crps_H: tuple[float, ...]
    naive_H: tuple[float, ...]
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepTrial:
    """One configuration, as far as it has come.

    Attributes:
        folds: scores of the folds done, in their order.
        reason: why it failed, or how far it came when it ended early.
    """

    number: int
    parameters: Parameters
    seed: int
    state: TrialState
    folds: tuple[FoldScore, ...]
    reason: str | None
    seconds: float
    code_version: str

    @property
    def loss(self) -> float:
        """What the search is told: the running mean, or the penalty."""
        return PENALTY if self.state == "failed" else running_loss([fold.loss for fold in self.folds])

    @property
    def is_scored(self) -> bool:
        """Whether ``loss`` is of forecasts."""
        return bool(self.folds) and self.state != "failed"

    @property
    def running_losses(self) -> list[float]:
        """The mean after each fold."""
        return [running_loss([fold.loss for fold in self.folds[: k + 1]]) for k in range(len(self.folds))]


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepPlan:
    """All that decides what a sweep's trials show, and how many are wanted.

    Attributes:
        base: settings that the space varies.
        symbols: those searched on.
        folds: each as it was walked, in JSON.
        least_history: bars a symbol has at an origin that is scored.
        data_end: last session of the data.
    """

    run: str
    model: str
    base: dict[str, Any]
    space: Space
    symbols: tuple[str, ...]
    folds: tuple[dict[str, Any], ...]
    least_history: int
    seed: int
    trials: int
    grace_folds: int
    reduction_factor: float
    data_end: date
    data_hash: str
    spec_hash: str

    def differences(self, other: SweepPlan) -> list[str]:
        """What is not the same; how many trials are wanted may change."""
        mine, theirs = _plain(self), _plain(other)
        return [name for name in mine if name not in ("run", "trials") and mine[name] != theirs[name]]


def running_loss(losses: Sequence[float]) -> float:
    """The mean over the folds done, at most ``PENALTY``; that too where it is no number."""
    mean = sum(losses) / len(losses) if losses else math.nan
    return min(mean, PENALTY) if math.isfinite(mean) else PENALTY


class SweepFolder:
    """The folder of one sweep.

    Args:
        home: holds the folders of all sweeps, each under its run's name.
    """

    def __init__(self, home: Path, run: str) -> None:
        self.run = run
        self.path = home / "sweeps" / run

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes of this machine away while the block runs; the system lets go of what a killed one held.

        Raises:
            EnvironmentFault: another process works on this sweep, or the folder cannot be written.
        """
        with self.writing():
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise EnvironmentFault(f"another process works on sweep {self.run}: wait for it, or stop it") from None
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Where the block writes into the folder.

        Raises:
            EnvironmentFault: it cannot.
        """
        try:
            yield
        except OSError as exc:
            raise EnvironmentFault(
                f"the folder of sweep {self.run}, {self.path}, cannot be written ({exc.strerror or exc}): make room or"
                " let SWIFTBOLT_HOME name another place"
            ) from exc

    def write_plan(self, plan: SweepPlan) -> None:
        """Begin, or change how many trials are wanted.

        Raises:
            EnvironmentFault: the folder cannot be written.
        """
        with self.writing():
            (self.path / _TRIALS).mkdir(parents=True, exist_ok=True)
            write_whole(self.path / _PLAN, json.dumps(_plain(plan), indent=1) + "\n")

    def plan(self) -> SweepPlan:
        """What was asked for.

        Raises:
            NotFound: there is no such sweep here.
            DataError: its plan cannot be read.
        """
        try:
            found = json.loads((self.path / _PLAN).read_text(encoding="utf-8"))
            return SweepPlan(
                **{
                    **found,
                    "space": {key: Dimension.model_validate(one) for key, one in found["space"].items()},
                    "symbols": tuple(found["symbols"]),
                    "folds": tuple(found["folds"]),
                    "data_end": date.fromisoformat(found["data_end"]),
                }
            )
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"there is no sweep {self.run!r} under {self.path.parent}; see swiftbolt runs") from None
        except (ValueError, KeyError, TypeError) as exc:
            raise DataError(f"{self.path / _PLAN} cannot be read ({exc}); start the sweep anew") from exc

    def write_trial(self, trial: SweepTrial) -> None:
        """Keep what a trial has shown so far.

        Raises:
            EnvironmentFault: the folder cannot be written.
        """
        text = json.dumps(asdict(trial), indent=1, allow_nan=False) + "\n"
        with self.writing():
            write_whole(self.path / _TRIALS / f"{trial.number:04d}.json", text)

    def drop_trial(self, trial: SweepTrial) -> None:
        """Forget one that never ended; it is begun again under another number."""
        (self.path / _TRIALS / f"{trial.number:04d}.json").unlink()

    def trials(self) -> list[SweepTrial]:
        """Every trial begun, in the order they began."""
        return [_read_trial(path) for path in sorted((self.path / _TRIALS).glob("*.json"))]


def _read_trial(path: Path) -> SweepTrial:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        folds = tuple(
            FoldScore(
                loss=fold["loss"],
                crps_H=tuple(fold["crps_H"]),
                naive_H=tuple(fold["naive_H"]),
                share=fold["share"],
            )
            for fold in found["folds"]
        )
        return SweepTrial(**{**found, "folds": folds})
    except (ValueError, KeyError, TypeError) as exc:
        raise DataError(f"{path} cannot be read ({exc}); remove it, and its trial is done again") from exc


def ranked(trials: Sequence[SweepTrial]) -> list[SweepTrial]:
    """The best first: complete ones by their loss, then the pruned by how far they came, then the failed."""
    return sorted(
        trials,
        key=lambda one: (_RANK[one.state], -len(one.folds) if one.state == "pruned" else 0, one.loss, one.number),
    )


def counted(trials: Sequence[SweepTrial]) -> str:
    """How they ended, such as ``9 complete, 30 pruned, 1 failed``."""
    counts: Counter[str] = Counter(one.state for one in trials)
    return ", ".join(f"{counts[state]} {state}" for state in _RANK if counts[state]) or "none"


def table_cells(best_first: Sequence[SweepTrial], space: Space) -> list[list[str]]:
    """Heads, then rank, objective, folds, seconds and parameters of every trial."""
    return [
        ["rank", "trial", "objective", "state", "folds", "seconds", *space],
        *(
            [
                str(rank),
                str(one.number),
                f"{one.loss:.5f}" if one.is_scored else "-",
                one.state,
                str(len(one.folds)),
                f"{one.seconds:.1f}",
                *(shown(one.parameters[key]) for key in space),
            ]
            for rank, one in enumerate(best_first, start=1)
        ),
    ]


def table_lines(trials: Sequence[SweepTrial], space: Space) -> list[str]:
    """For a terminal: ``table_cells`` in columns."""
    rows = table_cells(ranked(trials), space)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]


def shown(value: object) -> str:
    """A parameter's value, short."""
    return f"{value:.4g}" if isinstance(value, float) else written(value)


def trial_frame(trials: Sequence[SweepTrial], plan: SweepPlan) -> pl.DataFrame:
    """One row a trial, the best first: how it ended, every parameter, and the loss on each fold."""
    best_first = ranked(trials)
    columns: dict[str, pl.Series] = {
        "rank": pl.Series(range(1, len(best_first) + 1), dtype=pl.Int32),
        "trial": pl.Series([one.number for one in best_first], dtype=pl.Int32),
        "state": pl.Series([one.state for one in best_first], dtype=pl.String),
        "loss": pl.Series([one.loss for one in best_first], dtype=pl.Float64),
        "folds": pl.Series([len(one.folds) for one in best_first], dtype=pl.Int32),
        "seconds": pl.Series([one.seconds for one in best_first], dtype=pl.Float64),
        "seed": pl.Series([one.seed for one in best_first], dtype=pl.Int64),
        "reason": pl.Series([one.reason for one in best_first], dtype=pl.String),
        "code_version": pl.Series([one.code_version for one in best_first], dtype=pl.String),
    }
    for key, dimension in plan.space.items():
        values = [one.parameters[key] for one in best_first]
        kind = {"choice": pl.String, "int": pl.Int64}.get(dimension.kind, pl.Float64)
        columns[f"parameter.{key}"] = pl.Series(
            [written(value) for value in values] if kind == pl.String else values, dtype=kind
        )
    for k in range(len(plan.folds)):
        losses = [one.folds[k].loss if k < len(one.folds) else None for one in best_first]
        columns[f"loss.{k}"] = pl.Series(losses, dtype=pl.Float64)
    return pl.DataFrame(columns)


def importance(trials: Sequence[SweepTrial], space: Space) -> dict[str, float]:
    """How much of the order of the trials each parameter explains alone, the largest first; 0 to 1.

    It is the share of the variance of the ranks of the losses that lies between groups of a parameter's values (its
    options, or four groups of equal size along a range), corrected for what groups of that number explain by luck.
    Empty for fewer than ``LEAST_TO_COMPARE`` trials with a score.

    Source:
        Kelley (1935), "An Unbiased Correlation Ratio Measure", PNAS 21(9): epsilon squared.
    """
    scored = [one for one in trials if one.is_scored]
    if len(scored) < LEAST_TO_COMPARE:
        return {}
    rank_N = pl.Series([one.loss for one in scored]).rank().to_numpy()
    found = {}
    for key, dimension in space.items():
        place_N = pl.Series([dimension.place(one.parameters[key]) for one in scored])
        group_N = place_N.to_numpy()
        if dimension.kind != "choice":
            group_N = np.floor(4 * (place_N.rank("max").to_numpy() - 1) / len(scored))
        found[key] = _explained(rank_N, group_N)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _explained(rank_N: Any, group_N: Any) -> float:
    groups = [rank_N[group_N == group] for group in np.unique(group_N)]
    spare = len(rank_N) - len(groups)
    total = float(np.sum((rank_N - np.mean(rank_N)) ** 2))
    if len(groups) < 2 or spare < 1 or total == 0:
        return 0.0
    inside = sum(float(np.sum((group - np.mean(group)) ** 2)) for group in groups)
    return max(0.0, 1.0 - (inside / spare) / (total / (len(rank_N) - 1)))


def ledger_trials(plan: SweepPlan, trial: SweepTrial) -> list[Trial]:
    """What the ledger of trials keeps of one that has ended: a row for each horizon.

    One that was in flight when its sweep ended was told to nobody: it is begun again when the sweep goes on, and counts
    once, as it ends then. Folds weigh alike in the scores. One that ended early holds the folds it saw, and no others.
    """
    if trial.state == "running":
        return []
    seen = plan.folds[: len(trial.folds)] if trial.folds else plan.folds
    config = {
        "settings": {**plan.base, **trial.parameters},
        "folds": list(seen),
        "least_history": plan.least_history,
        "seed": trial.seed,
        "spec_hash": plan.spec_hash,
        "data_hash": plan.data_hash,
    }
    rows = []
    for h, horizon in enumerate(HORIZONS):
        own, naive = (sum(getattr(fold, name)[h] for fold in trial.folds) for name in ("crps_H", "naive_H"))
        rows.append(
            Trial(
                model=plan.model,
                horizon=horizon,
                config=config,
                symbols=plan.symbols,
                first=date.fromisoformat(seen[0]["test"][0]),
                last=date.fromisoformat(seen[-1]["test"][1]),
                returns=None,
                reason=trial.reason or NOT_TRADED,
                crps=own / len(trial.folds) if trial.folds else None,
                skill=1.0 - own / naive if naive else None,
                state=trial.state,
                source="sweep",
                code_version=trial.code_version,
            )
        )
    return rows


def winner(trials: Sequence[SweepTrial], run: str) -> SweepTrial:
    """The complete trial of the lowest loss.

    Raises:
        DataError: fewer than two are complete.
    """
    complete = [one for one in ranked(trials) if one.state == "complete"]
    if len(complete) < LEAST_COMPLETE:
        raise DataError(
            f"sweep {run} has {counted(trials)}: the best of fewer than {LEAST_COMPLETE} complete trials is no choice; "
            f"continue it with --resume {run}"
        )
    return complete[0]


def winner_text(plan: SweepPlan, trials: Sequence[SweepTrial]) -> str:
    """The winner's settings as YAML, with where they come from in comments.

    Raises:
        DataError: there is no winner.
        ConfigError: its settings are no longer those of the model.
    """
    best = winner(trials, plan.run)
    base = settings_of(config_class(plan.model)(), plan.base, plan.run)
    settings = settings_of(base, best.parameters, plan.run)
    named = ", ".join(f"{key} {shown(best.parameters[key])}" for key in plan.space)
    lines = [
        f"The {plan.model} settings chosen by a sweep; `swiftbolt sweep best` wrote this file.",
        f"run: {plan.run}, trial {best.number} of {len(trials)} ({counted(trials)})",
        f"searched: {named}",
        f"objective: {best.loss:.6f} ({OBJECTIVE}), lower is better{_beside_base(plan, trials)}",
        f"chosen on: {len(plan.symbols)} symbols, {len(best.folds)} folds, validation ranges only,"
        f" data up to {plan.data_end}",
        f"data hash: {plan.data_hash}",
        f"code: {best.code_version}, seed {best.seed}",
    ]
    values = settings.model_dump(mode="json").items()
    return "".join([*(f"# {line}\n" for line in lines), *(f"{key}: {_in_yaml(value)}\n" for key, value in values)])


def _beside_base(plan: SweepPlan, trials: Sequence[SweepTrial]) -> str:
    """What the settings that were varied showed themselves, where they were tried."""
    own = {key: plan.base[key] for key in plan.space}
    tried = [one for one in trials if one.is_scored and written(one.parameters) == written(own)]
    return f"; the base's own: {tried[0].loss:.6f} after {len(tried[0].folds)} folds" if tried else ""


def _in_yaml(value: object) -> str:
    """On one line, lists in brackets."""
    return str(yaml.safe_dump([value], default_flow_style=True, width=math.inf)).strip()[1:-1]


def write_winner(plan: SweepPlan, trials: Sequence[SweepTrial], path: Path) -> None:
    """Write ``winner_text``; what is there already must be settings of the same model.

    Raises:
        DataError: there is no winner, or something else is there.
        EnvironmentFault: the file cannot be written.
    """
    text = winner_text(plan, trials)
    target = path.resolve()
    if target.exists():
        try:
            load_config(target, config_class(plan.model))
        except ConfigError as exc:
            raise DataError(
                f"{path} holds no settings of {plan.model} ({exc.problem}): choose another --write"
            ) from exc
    try:
        write_whole(target, text)
    except OSError as exc:
        raise EnvironmentFault(f"{path} cannot be written ({exc.strerror}): choose another --write") from exc


def write_whole(path: Path, text: str) -> None:
    """Write beside ``path`` and move into place."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:  # also an interrupt: nothing half written stays
        Path(name).unlink(missing_ok=True)
        raise


def _plain(plan: SweepPlan) -> dict[str, Any]:
    """As JSON can hold it."""
    return {
        "run": plan.run,
        "model": plan.model,
        "base": plan.base,
        "space": {key: one.model_dump(mode="json", exclude_none=True) for key, one in plan.space.items()},
        "symbols": list(plan.symbols),
        "folds": list(plan.folds),
        "least_history": plan.least_history,
        "seed": plan.seed,
        "trials": plan.trials,
        "grace_folds": plan.grace_folds,
        "reduction_factor": plan.reduction_factor,
        "data_end": plan.data_end.isoformat(),
        "data_hash": plan.data_hash,
        "spec_hash": plan.spec_hash,
    }
