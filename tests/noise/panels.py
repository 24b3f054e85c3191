"""One simulated panel through the whole evaluation, as `swiftbolt evaluate` would do it, and what it claims."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from noise.markets import simulated_bars

from swiftbolt.actions import CorporateActions
from swiftbolt.bars import Bars, empty_quarantine
from swiftbolt.evaluation.evaluate import Evaluation, Plan, evaluate
from swiftbolt.providers.base import Adjustment, MarketData

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "evaluate" / "noise.yaml"
SESSIONS = 1512  # six years


@dataclass(kw_only=True, slots=True)
class Stopwatch:
    """Progress that says where the time went: seconds by model, before them and after them."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    last: float = field(default_factory=time.perf_counter)

    def planned(self, stage: str, pieces: Sequence[str]) -> None:
        self.lap("features")

    def done(self, stage: str, piece: str, failure: str | None = None) -> None:
        self.lap(piece.split("/")[0])

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] += now - self.last
        self.last = now


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """What a panel's scorecard says.

    Attributes:
        claims: every claim tested, with its p-value before and after Holm's correction.
        p_values: of every test, by model, horizon and name; None where there was too little to test.
        failures: models that failed, each with its reason.
        seconds: by model, and ``features`` and ``scorecard`` around them.
    """

    number: int
    clustered: bool
    claims: Sequence[Mapping[str, Any]]
    p_values: Mapping[tuple[str, int, str], float | None]
    failures: Mapping[str, str]
    seconds: Mapping[str, float]

    @property
    def held(self) -> list[Mapping[str, Any]]:
        """Claims that hold, all that the scorecard tested considered."""
        return [claim for claim in self.claims if claim["holds"]]


def examine(plan: Plan, number: int) -> Examined:
    """Simulate and evaluate panel ``number``; odd ones cluster. Its randomness comes from the plan's seed and it."""
    watch = Stopwatch()
    clustered = number % 2 == 1
    own = replace(plan, recipe=replace(plan.recipe, seed=plan.recipe.seed_of("panel", number)))
    bars = bars_of(own, clustered=clustered)
    watch.lap("simulation")
    with tempfile.TemporaryDirectory() as folder:
        found = evaluate_bars(own, bars, Path(folder) / "out", watch)
    watch.lap("scorecard")
    return Examined(
        number=number,
        clustered=clustered,
        claims=found.scorecard["claims_tested"],
        p_values=dict(_p_values(found.scorecard)),
        failures=found.failures,
        seconds=watch.seconds,
    )


def bars_of(plan: Plan, *, clustered: bool, phi: float = 0.0) -> Bars:
    """Six years of the plan's symbols, simulated from its seed."""
    rng = np.random.default_rng(plan.recipe.seed)
    return simulated_bars(plan.universe.symbols, SESSIONS, clustered=clustered, rng=rng, phi=phi)


def evaluate_bars(plan: Plan, bars: Bars, out: Path, watch: Stopwatch) -> Evaluation:
    """`swiftbolt evaluate` of as many of the newest sessions as the plan's folds cover, burn-in before them."""
    data = MarketData(
        bars=bars, actions=CorporateActions.of(), quarantine=empty_quarantine(), adjustment=Adjustment.AS_GIVEN
    )
    folds = plan.recipe.folds
    start = bars.frame["session"].unique().sort()[-folds.count * folds.test_sessions]
    return evaluate(plan, data, out, start=start, progress=watch)


def _p_values(scorecard: Mapping[str, Any]) -> Iterator[tuple[tuple[str, int, str], float | None]]:
    for model, by_horizon in scorecard["models"].items():
        for horizon, scores in by_horizon.items():
            for test, result in scores["tests"].items():
                yield (model, int(horizon), test), result["p_value"]
