"""Retrain a universe and leave a release: ``python -m cluster.retrain --config configs/retrain/demo.yaml``.

Bars from the store become a panel; Tune fans the per-symbol walk-forward out, Train fits the pooled models; the live
fold's artifacts and forecasts become a release with its digest, and the gate says whether it is served.

A run that died goes on when the same command is given again: what it did lies in its storage. One universe is retrained
by one run at a time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import ray
from pydantic import Field

from cluster.command import parser_of, run_program
from cluster.gauges import RunGauges
from cluster.history import refuse_files
from cluster.lease import Lease
from cluster.progress import progress_view
from cluster.promotion import PromoteMode, decide
from cluster.publication import adjustment_of, not_forecast, patiently, publish, require_live
from cluster.resources import Resources, require_cpus
from cluster.run_records import Line, progress_recorder, reason_of, record_failure
from cluster.session import ray_session
from cluster.storage import RunStorage
from cluster.take_up import KIND, Work, identity_of, take_up, universe_key
from cluster.unit_ledger import UnitLedger
from cluster.walks import Walks
from swiftbolt.config import load_config
from swiftbolt.errors import ConfigError, LeaseLost, ModelError
from swiftbolt.evaluation.evaluate import scorecard_of
from swiftbolt.evaluation.gate import GateConfig, Verdict
from swiftbolt.evaluation.ledger import Look
from swiftbolt.evaluation.receipt import Receipt
from swiftbolt.evaluation.recipe import Recipe, RecipeConfig, beside, require_members
from swiftbolt.evaluation.scorecard import summary_lines
from swiftbolt.evaluation.unit_keys import UNIVERSE, symbol_of
from swiftbolt.evaluation.walk_forward import Progress
from swiftbolt.folds import make_folds
from swiftbolt.local import use_token_authentication
from swiftbolt.panel import Panel
from swiftbolt.release import Release
from swiftbolt.settings import Settings
from swiftbolt.store import Store, resolve_url
from swiftbolt.universe import Universe


class RetrainConfig(RecipeConfig):
    """``configs/retrain/*.yaml``."""

    resources: Resources = Field(default_factory=Resources, description="Shares of the cluster.")
    max_failed_share: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="Share of symbols with a failed fit above which the run fails and releases nothing.",
    )
    promote: PromoteMode = Field(
        "gate", description="never; gate: when it is not worse than what is served; always: without asking."
    )
    gate: GateConfig = Field(default_factory=GateConfig, description="What a release must show to be promoted.")
    resume_within_sessions: int = Field(
        5, ge=0, description="A run that died goes on as long as the store has no more newer sessions than these."
    )


def retrain(
    config_path: Path,
    overrides: Sequence[str],
    settings: Settings,
    write: Line,
    *,
    fresh: bool = False,
    promote: PromoteMode | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Release:
    """Do one retrain, or go on with one, from bars in the store to a release in the store.

    Args:
        fresh: begin anew where an unfinished run of the same recipe and universe could go on.
        promote: instead of the configuration's.
        now: aware; names the run and enters nothing else.

    Raises:
        SwiftBoltError: the run failed; nothing was published, it is recorded as failed, and what it did is kept.
    """
    use_token_authentication(settings)
    config = load_config(config_path, RetrainConfig, overrides)
    recipe = Recipe.read(config, config_path)
    require_members(recipe, config_path)
    require_shares(config.resources, recipe, config_path)
    universe_path = beside(config_path, config.universe)
    universe = load_config(universe_path, Universe)
    refuse_files(universe, universe_path)
    url = resolve_url(settings)
    storage_root = config.resources.storage_path or settings.home / "runs"
    with Store.connect(url) as store:
        store.migrate()
        what = "the retrain of this universe"
        with Lease(url, f"{KIND}:{universe_key(universe)}", what=what, write=write) as lease:
            work = take_up(
                store,
                lambda run: RunStorage.of(storage_root, run),
                recipe,
                universe,
                {"recipe": recipe.to_json(), "universe": universe.model_dump(mode="json")},
                identity_of(recipe, universe, config.resources.train_workers),
                fresh=fresh,
                resume_within_sessions=config.resume_within_sessions,
                now=now(),
                write=write,
            )
            lease.name_run(work.run)
            with ray_session(settings, url):
                return _Retrain(
                    config=config.model_copy(update={"promote": promote or config.promote}),
                    recipe=recipe,
                    universe=universe,
                    settings=settings,
                    store=store,
                    lease=lease,
                    work=work,
                ).run(write)


@dataclass(kw_only=True)
class _Retrain:
    """One run, with all that its steps need."""

    config: RetrainConfig
    recipe: Recipe
    universe: Universe
    settings: Settings
    store: Store
    lease: Lease
    work: Work

    def run(self, write: Line) -> Release:
        """Walk, judge, publish, promote; record how it ended."""
        started = time.monotonic()
        name, skipped = self.work.run, dict(self.work.skipped)
        try:
            record = progress_recorder(self.store, name, write)
            with progress_view(write, sys.stdout, record, also=[RunGauges(name)]) as (progress, write_above):
                release = self._release(skipped, progress, write_above, started)
        except LeaseLost:
            raise  # the run is another driver's now, and so is its record
        except BaseException as exc:
            # Also when stopped, and before Ray is left: that takes seconds, and a stopped job has three of them.
            why = f"{reason_of(exc)}; the same command goes on with it"
            record_failure(self.store, name, time.monotonic() - started, {**skipped, "run": why}, write)
            raise
        self.work.storage.remove()
        write(f"run {name}: done in {time.monotonic() - started:.0f} s, release_digest {release.release_digest}")
        return release

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
            resources=self.config.resources,
            storage=work.storage,
            alive=self.lease.require,
            write=write,
        )
        result = walk.challenger(folds, recipe, ledger, progress)
        patiently(ledger.flush, write)
        require_few_failures(panel, result.failures, self.config.max_failed_share)
        old_enough = panel.select(symbol for symbol in panel.symbols if symbol not in skipped)
        skipped.update(not_forecast(old_enough, result.live_forecasts, write))
        require_live(recipe, result, skipped)
        verdict = decide(
            self.config.promote,
            store=self.store,
            recipe=recipe,
            result=result,
            walk=lambda champion: walk.champion(folds, champion, progress),
            history=history,
            universe=self.universe,
            config=self.config.gate,
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
        for line in verdict.lines() if verdict is not None else ():
            write(line)
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
        """Leave the receipt, beside the release and in the store, and say that the run is done."""
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
    reasons = {symbol_of(key): f"{key}: {reason}" for key, reason in failures.items()}
    reasons.pop(UNIVERSE, None)
    share = len(reasons) / len(panel.symbols)
    if share > allowed:
        raise ModelError(
            f"no release: {len(reasons)} of {len(panel.symbols)} symbols failed ({share:.1%}), and max_failed_share is"
            f" {allowed:.1%}; the first: {next(iter(reasons.values()))}"
        )


def require_shares(resources: Resources, recipe: Recipe, file: Path) -> None:
    """Refuse a model that asks for more than its workers have, and GPUs that nobody would use.

    Raises:
        ConfigError: names the key of ``file``.
    """
    on_gpus = set()
    for name, model in recipe.models.items():
        is_pooled = name in recipe.networks or getattr(model, "scope", "symbol") == "universe"
        key = "cpus_per_train_worker" if is_pooled else "cpus_per_trial"
        threads = getattr(model, "threads", 1)
        require_cpus(getattr(resources, key), threads, key=f"resources.{key}", model=name, file=file)
        if getattr(model, "device", "cpu") == "cuda":
            on_gpus.add(is_pooled)
    if False in on_gpus and not resources.gpus_per_trial:
        raise ConfigError(str(file), "resources.gpus_per_trial", "is 0, but xgboost is told to grow its trees on cuda")
    if resources.gpus_per_trial and False not in on_gpus:
        raise ConfigError(
            str(file),
            "resources.gpus_per_trial",
            f"is {resources.gpus_per_trial:g}, and no model that is fitted in trials uses a GPU: set it to 0, or"
            " xgboost to scope: symbol and device: cuda",
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and do what it says."""
    parser = parser_of("python -m cluster.retrain", __doc__.splitlines()[0], "configs/retrain/")
    parser.add_argument(
        "--fresh", action="store_true", help="Begin anew, where a run of the same recipe that died could go on."
    )
    parser.add_argument(
        "--promote",
        choices=get_args(PromoteMode),
        help="Whether the release is served; the configuration says it, too.",
    )
    parsed = parser.parse_args(arguments)
    return run_program(
        lambda write: retrain(parsed.config, parsed.set, Settings(), write, fresh=parsed.fresh, promote=parsed.promote),
        "interrupted; the same command goes on with it",
    )


if __name__ == "__main__":
    sys.exit(main())
