"""A sweep that was never run: its plan and its trials, as values."""

from __future__ import annotations

from datetime import date
from typing import Any

from swiftbolt.evaluation.search_space import Dimension
from swiftbolt.evaluation.sweep_results import FoldScore, SweepPlan, SweepTrial
from swiftbolt.models.registry import config_class

SPACE = {
    "learning_rate": Dimension(loguniform=(0.001, 0.1)),
    "max_depth": Dimension(int=(2, 6)),
    "scope": Dimension(choice=("universe", "symbol")),
}


def fold_score(loss: float) -> FoldScore:
    return FoldScore(loss=loss, crps_H=(0.01 * loss, 0.02 * loss, 0.04 * loss), naive_H=(0.01, 0.02, 0.04), share=1.0)


def sweep_trial(number: int, *losses: float, **changes: Any) -> SweepTrial:
    values: dict[str, Any] = {
        "number": number,
        "parameters": {"learning_rate": 0.01, "max_depth": 3, "scope": "universe"},
        "seed": 100 + number,
        "state": "complete",
        "folds": tuple(fold_score(loss) for loss in losses),
        "reason": None,
        "seconds": 1.5,
        "code_version": "1+abc",
    }
    return SweepTrial(**{**values, **changes})


def sweep_plan(**changes: Any) -> SweepPlan:
    values: dict[str, Any] = {
        "run": "sweep-1",
        "model": "xgboost",
        "base": config_class("xgboost")().model_dump(mode="json"),
        "space": SPACE,
        "symbols": ("AA", "BB"),
        "folds": ({"test": ["2010-01-04", "2010-06-30"]}, {"test": ["2011-01-03", "2011-06-30"]}),
        "least_history": 60,
        "seed": 7,
        "trials": 4,
        "grace_folds": 1,
        "reduction_factor": 2.0,
        "data_end": date(2011, 12, 30),
        "data_hash": "d" * 64,
        "spec_hash": "e" * 64,
    }
    return SweepPlan(**{**values, **changes})


TRIALS = (
    sweep_trial(0, 0.98, 1.00),
    sweep_trial(1, 1.05, state="pruned", reason="pruned after 1 of 2 folds"),
    sweep_trial(2, 0.96, 0.98, parameters={"learning_rate": 0.05, "max_depth": 2, "scope": "symbol"}),
    sweep_trial(3, state="failed", reason="no <row> is long enough"),
)
