"""The steps of one retrain on the cluster: walk, judge, publish, promote, and leave a receipt."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import ray

from cluster.gauges import RunGauges
from cluster.lease import Lease
from cluster.progress import progress_view
from cluster.promotion import decide
from cluster.publication import adjustment_of, not_forecast, patiently, publish, require_live
from cluster.resources import Resources
from cluster.run_records import Line, progress_recorder, reason_of, record_failure
from cluster.session import ray_session
from cluster.storage import RunStorage
from cluster.take_up import Work, forget_others
from cluster.unit_ledger import UnitLedger
from cluster.walks import Walks
from swiftbolt.errors import EnvironmentFault, LeaseLost, ModelError, StoreUnavailable
from swiftbolt.evaluation.evaluate import scorecard_of
from swiftbolt.evaluation.gate import GateConfig, PromoteMode, Verdict
from swiftbolt.evaluation.ledger import Look
from swiftbolt.evaluation.receipt import Receipt
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.scorecard import summary_lines
from swiftbolt.evaluation.unit_keys import UNIVERSE, failures_by_symbol
from swiftbolt.evaluation.walk_forward import Progress
from swiftbolt.folds import make_folds
from swiftbolt.panel import Panel
from swiftbolt.release import Release
from swiftbolt.settings import Settings
from swiftbolt.store import Store
from swiftbolt.universe import Universe


@dataclass(frozen=True, kw_only=True)
class RetrainRun:
    """One run, with all that its steps need; see ``cluster.retrain.RetrainConfig`` for the first four.

    Attributes:
        url: of the store, for Ray's workers.
        storage_of: of a run.
        lease: on the universe.
        work: what is retrained, and where what was done is kept.
    """

    resources: Resources
    max_failed_share: float
    promote: PromoteMode
    gate: GateConfig
    recipe: Recipe
    universe: Universe
    settings: Settings
    url: str
    storage_of: Callable[[str], RunStorage]
    store: Store
    lease: Lease
    work: Work

    def run(self, write: Line) -> Release:
        """Walk, judge, publish, promote; record how it ended."""
        started = time.monotonic()
        name, skipped = self.work.run, dict(self.work.skipped)
        with ExitStack() as held:
            try:
                held.enter_context(ray_session(self.settings, self.url))
                release = self._watched(skipped, started, write)
            except BaseException as exc:
                # Also when stopped, and before Ray is left: that takes seconds, and a stopped job has three of them.
                self._record(exc, skipped, started, write)
                raise
        self._clean_up(write)
        write(f"run {name}: done in {time.monotonic() - started:.0f} s, release_digest {release.release_digest}")
        return release

    def _clean_up(self, write: Line) -> None:
        """Remove what was kept to go on with; what cannot be removed is no reason to call a finished run failed."""
        try:
            self.work.storage.remove()
            forget_others(self.store, self.storage_of, self.universe, self.work.run)
        except (EnvironmentFault, StoreUnavailable) as exc:
            write(f"what earlier runs kept was not all removed: {exc}")

    def _watched(self, skipped: dict[str, str], started: float, write: Line) -> Release:
        record = progress_recorder(self.store, self.work.run, write)
        with progress_view(write, sys.stdout, record, also=[RunGauges(self.work.run)]) as (progress, write_above):
            return self._release(skipped, progress, write_above, started)

    def _record(self, exc: BaseException, skipped: Mapping[str, str], started: float, write: Line) -> None:
        """Leave why the run ended, unless it is another driver's by now, and so is its record."""
        if not isinstance(exc, LeaseLost):
            why = f"{reason_of(exc)}; the same command goes on with it"
            record_failure(self.store, self.work.run, time.monotonic() - started, {**skipped, "run": why}, write)

    def _release(self, skipped: dict[str, str], progress: Progress, write: Line, started: float) -> Release:
        work, recipe, history = self.work, self.recipe, self.work.history
        panel = history.panel()
        folds = make_folds(panel.sessions, recipe.folds, live=True)
        write(
            f"run {work.run}: {len(panel.symbols)} symbols, {len(folds) - 1} test folds and the live one,"
            f" {panel.sessions[0]} to {panel.last_session}"
        )
        ledger = UnitLedger(self.store, work.run, write)
        walk = Walks(
            panel=panel,
            least_history=recipe.needed_sessions(self.universe),
            resources=self.resources,
            storage=work.storage,
            alive=self.lease.require,
            write=write,
        )
        result = walk.challenger(folds, recipe, ledger, progress)
        patiently(ledger.flush, write)
        require_few_failures(panel, result.failures, self.max_failed_share)
        old_enough = panel.select(symbol for symbol in panel.symbols if symbol not in skipped)
        skipped.update(not_forecast(old_enough, result.live_forecasts, write))
        require_live(recipe, result, skipped)
        verdict = decide(
            self.promote,
            store=self.store,
            recipe=recipe,
            result=result,
            walk=lambda champion: walk.champion(folds, champion, progress),
            history=history,
            universe=self.universe,
            config=self.gate,
            write=write,
        )
        self.lease.require()
        look = Look(self.store, recipe, panel, folds, least_history=walk.least_history, source="retrain")
        scorecard = scorecard_of(
            result, recipe, panel, history.bars, adjustment_of(history.actions), history.findings, skipped, look
        )
        release, version = publish(
            self.store,
            self.settings.artifacts,
            work.run,
            history,
            panel,
            folds[-1],
            recipe,
            result,
            scorecard,
            skipped,
            walk.is_reproducible,
            write,
        )
        look.record()
        if look.unrecorded:
            write(f"this look was not recorded: {look.unrecorded}")
        for line in summary_lines(scorecard):
            write(line)
        promoted = verdict is not None and verdict.promotes
        if promoted:
            patiently(lambda: self.store.promote(version), write)
        write(
            f"release {version}: {len(release.symbols)} symbols from {release.origin},"
            f" {'promoted' if promoted else 'not promoted'}"
        )
        self._finish(release, version, verdict, scorecard, {**skipped, **result.failures}, started, write)
        return release

    def _finish(
        self,
        release: Release,
        version: int,
        verdict: Verdict | None,
        scorecard: Mapping[str, Any],
        failures: Mapping[str, str],
        started: float,
        write: Line,
    ) -> None:
        """Leave the receipt in the store, and say that the run is done."""
        seconds = time.monotonic() - started
        receipt = Receipt.of(
            run=self.work.run,
            release=release,
            version=version,
            verdict=verdict,
            scorecard=scorecard,
            totals=patiently(lambda: self.store.unit_totals(self.work.run), write),
            failures=failures,
            seconds=seconds,
            cpus=ray.cluster_resources().get("CPU", 0.0),  # type: ignore[no-untyped-call]
            starts=self.work.starts,
            identity=self.work.identity,
        )
        patiently(
            lambda: self.store.finish_run(self.work.run, "succeeded", seconds, failures, receipt=receipt.to_json()),
            write,
        )
        for line in receipt.lines():
            write(line)


def require_few_failures(panel: Panel, failures: Mapping[str, str], allowed: float) -> None:
    """Refuse to release what fails for too many symbols.

    Args:
        failures: reasons by the key of the unit.
        allowed: share of symbols with a failed fit.

    Raises:
        ModelError: they are more.
    """
    reasons = failures_by_symbol(failures)
    reasons.pop(UNIVERSE, None)
    share = len(reasons) / len(panel.symbols)
    if share > allowed:
        raise ModelError(
            f"no release: {len(reasons)} of {len(panel.symbols)} symbols failed ({share:.1%}), and max_failed_share is"
            f" {allowed:.1%}; the first: {next(iter(reasons.values()))}"
        )
