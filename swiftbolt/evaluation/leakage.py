"""The leak certificate: what claims to be known at a session does not change when all that comes later is replaced.

The pipeline runs once on the data as they are. Then, cut by cut, everything after the cut becomes noise
(``another_future``), the pipeline runs again, and its stages are compared in their order, to the last bit (any NaN is
equal to any other). A cut ends at the first stage that differs, for all after it only inherit the leak.

What a cut can prove decides what it runs, so that a certificate costs about two evaluations, one more of scheduled fits
(ARIMA-GARCH) for each cut inside a test range, and features for every cut. At the end of training, purge and
validation: data, features, folds and labels, and at the first of them the scheduled fits. At the end of the embargo,
when a fold starts: every fit of that fold, its forecasts and what the ensemble learnt. Inside a test range: forecasts
of models as they were fitted on the data as they are, scheduled fits, ensemble, signals and positions. Earlier folds
are not run again: their own cuts replaced all that this one does, and more.

The first test origin is a choice, not knowledge: it stays, and the folds have to follow from it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from swiftbolt.errors import DataError
from swiftbolt.evaluation.cuts import Cut, choose_cuts
from swiftbolt.evaluation.evaluate import Plan
from swiftbolt.evaluation.noise import History, another_future
from swiftbolt.evaluation.replay import Pipeline
from swiftbolt.evaluation.stages import KEYS, STAGES, tables
from swiftbolt.evaluation.walk_forward import Progress, short_of_history
from swiftbolt.providers.base import MarketData

CUTS_INSIDE_TEST = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """A stage that changed with the future, and the first place where it did.

    Attributes:
        where: what names the place, as far as the stage has it: fold, model, symbol, session, horizon, item.
        column: which value of it: a feature, a quantile, or ``row`` where the whole row was there only once.
        detail: what it was, and what it became.
    """

    stage: str
    cut: Cut
    where: Mapping[str, str]
    column: str
    detail: str

    def __str__(self) -> str:
        where = ", ".join(f"{name} {value}" for name, value in self.where.items())
        return (
            f"{self.stage}: {where}: {self.column} {self.detail} (fold {self.cut.fold}, cut after {self.cut.session})"
        )

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "stage": self.stage,
            "cut": self.cut.to_json(),
            "where": dict(self.where),
            "column": self.column,
            "detail": self.detail,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """What was compared, and what leaked. Equal where all but the time it took is.

    Attributes:
        compared: values compared at each stage.
        leaks: the first of each cut, in the order of the cuts.
    """

    cuts: tuple[Cut, ...]
    compared: Mapping[str, int]
    leaks: tuple[Leak, ...]
    seconds: float = field(compare=False)

    @property
    def is_clean(self) -> bool:
        """Nothing leaked."""
        return not self.leaks

    @property
    def first(self) -> Leak | None:
        """The leak of the earliest stage: where to look."""
        return min(self.leaks, key=lambda leak: STAGES.index(leak.stage), default=None)

    def lines(self) -> list[str]:
        """One line per stage."""
        lines = []
        for stage in STAGES:
            leaks = [leak for leak in self.leaks if leak.stage == stage]
            verdict = "clean" if self.compared[stage] else "nothing to compare"
            if leaks:
                verdict = f"LEAK at {len(leaks)} of {len(self.cuts)} cuts; {leaks[0]}"
            lines.append(f"{stage:<12} {self.compared[stage]:>13,} values  {verdict}")
        return lines

    def verdict(self) -> str:
        """One sentence."""
        cuts = f"{len(self.cuts)} cuts, {sum(self.compared.values()):,} values"
        if self.first is None:
            return f"no leak: {cuts}, {self.seconds:.0f} s"
        return f"LEAK, first in {self.first.stage}: {cuts}, {self.seconds:.0f} s"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "clean": self.is_clean,
            "compared": dict(self.compared),
            "cuts": [cut.to_json() for cut in self.cuts],
            "leaks": [leak.to_json() for leak in self.leaks],
            "first": None if self.first is None else self.first.stage,
            "seconds": round(self.seconds, 1),
        }


def certify(
    plan: Plan,
    data: MarketData,
    *,
    rng: np.random.Generator,
    progress: Progress,
    start: date | None = None,
    inside_test: int = CUTS_INSIDE_TEST,
) -> Certificate:
    """Certify the evaluation of ``data`` by ``plan``.

    Args:
        rng: chooses the cuts inside the test ranges, and makes the noise.
        start: first origin to forecast, as for ``evaluate``.
        inside_test: cuts within each test range.

    Raises:
        DataError: no symbol has enough history.
        ModelError: no member could be fitted on some fold.
    """
    began = time.perf_counter()
    bars, backdrop = plan.backdrop.set_apart(data.bars, plan.universe.vix)
    if len(short_of_history(bars, plan.recipe.needed_sessions(plan.universe))) == len(bars.symbols):
        raise DataError("no symbol has enough history for a certificate: use a longer history or a smaller recipe")
    history = History.of(bars, data.actions, backdrop)
    burn_in = start is not None
    reference = Pipeline(plan, history, start, burn_in=burn_in, progress=progress)
    first_origin = next(fold.test.first for fold in reference.folds if fold.test is not None and not fold.burn_in)
    cuts = choose_cuts(reference.folds, reference.panel.sessions, inside_test, rng)
    compared = dict.fromkeys(STAGES, 0)
    leaks = []
    progress.planned("cuts", [_piece(cut) for cut in cuts])
    for cut, of_cut in zip(cuts, rng.spawn(len(cuts)), strict=True):
        changed = another_future(history, cut.session, of_cut)
        pipeline = Pipeline(plan, changed, first_origin, burn_in=burn_in, reference=reference)
        leak = _first_leak(reference, pipeline, cut, compared)
        if leak is not None:
            leaks.append(leak)
        progress.done("cuts", _piece(cut), None if leak is None else str(leak))
    return Certificate(cuts=tuple(cuts), compared=compared, leaks=tuple(leaks), seconds=time.perf_counter() - began)


def _piece(cut: Cut) -> str:
    return f"{cut.place}/{cut.session}/{cut.fold}"


def _first_leak(reference: Pipeline, changed: Pipeline, cut: Cut, compared: dict[str, int]) -> Leak | None:
    """Compare stage by stage; counts in ``compared`` what was."""
    doubts = reference.in_doubt(cut.session) | changed.in_doubt(cut.session)
    both = zip(tables(reference, cut, doubts), tables(changed, cut, doubts), strict=True)
    for (stage, before), (_, after) in both:
        keys = [name for name in KEYS if name in before.columns]
        compared[stage] += len(before) * max(len(before.columns) - len(keys), 1)
        if not before.equals(after):
            where, column, detail = _difference(before, after, keys)
            return Leak(stage=stage, cut=cut, where=where, column=column, detail=detail)
    return None


def _difference(before: pl.DataFrame, after: pl.DataFrame, keys: list[str]) -> tuple[dict[str, str], str, str]:
    """Place, column and values of the first difference of two tables that are not equal."""
    for one, other, told in ((before, after, "is there no longer"), (after, before, "was not there before")):
        alone = one.join(other, on=keys, how="anti", nulls_equal=True, maintain_order="left")
        if len(alone):
            return _place(alone, 0, keys), "row", told
    if len(before) != len(after):  # a place that has several rows
        return {}, "rows", f"were {len(before)}, become {len(after)}"
    for name in before.columns:
        changed = before[name].ne_missing(after[name])
        if changed.any():
            row = changed.arg_true()[0]
            return _place(before, row, keys), name, f"was {before[name][row]}, becomes {after[name][row]}"
    raise AssertionError("tables that are not equal have no difference")


def _place(frame: pl.DataFrame, row: int, keys: list[str]) -> dict[str, str]:
    return {name: str(value) for name, value in frame.select(keys).row(row, named=True).items() if value is not None}
