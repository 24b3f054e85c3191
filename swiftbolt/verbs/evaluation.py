"""The verb that judges: evaluate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swiftbolt.console import note, print_json, print_line
from swiftbolt.errors import EnvironmentFault, StoreError
from swiftbolt.verbs.shared import AsJson, open_store

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from swiftbolt.evaluation.evaluate import Plan
    from swiftbolt.evaluation.leakage import Certificate
    from swiftbolt.evaluation.walk_forward import Progress
    from swiftbolt.providers.base import MarketData
    from swiftbolt.store import Store

LEAKY = 1  # exit status


def evaluate(
    bars: Annotated[Path, typer.Option(help="Parquet or CSV file of daily bars.")],
    config: Annotated[Path, typer.Option(help="Recipe, such as configs/evaluate/smoke.yaml.")],
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier evaluation there is replaced.")] = Path(
        "evaluation"
    ),
    start: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First origin to forecast; earlier is history.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="dotted.key=value for this run.")] = None,
    certify: Annotated[
        bool, typer.Option("--certify", help="Look for leaks as well, as swiftbolt certify does; exit 1 on one.")
    ] = False,
    no_ledger: Annotated[
        bool,
        typer.Option(
            "--no-ledger",
            help="Neither record nor count this look: the more looks go uncounted, the more the best of them flatters.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Walk any panel forward, strictly out of sample: forecasts.parquet, scorecard.json, report.html.

    Each model and horizon is recorded in the ledger of trials (swiftbolt trials) and judged as one of all that were
    ever tried on these symbols and years.
    """
    from swiftbolt.evaluation.evaluate import Plan
    from swiftbolt.evaluation.evaluate import evaluate as run_evaluation
    from swiftbolt.evaluation.report_trials import trial_lines
    from swiftbolt.evaluation.scorecard import summary_lines
    from swiftbolt.providers.files import read_market_data

    plan = Plan.read(config, tuple(overrides or ()))
    universe = plan.universe
    data = read_market_data(bars, universe.sources, universe.start, universe.end)
    for line in data.faults():
        note(line)
    with _ledger(not no_ledger) as (ledger, without), bars_of_progress() as progress:
        result = run_evaluation(
            plan,
            data,
            out,
            start=start.date() if start is not None else None,
            progress=progress,
            ledger=ledger,
            without_ledger=without,
        )
    for line in result.findings.quarantining().summary():
        note(line)
    for reason in result.skipped.values():
        note(f"skipped: {reason}")
    for key, reason in result.failures.items():
        note(f"failed: {key}: {reason}")
    if ledger is not None and result.unrecorded is not None:
        note(f"this look was not recorded: {result.unrecorded}")
    certificate = certificate_of(plan, data, start) if certify else None
    if as_json:
        summary = {
            "out": out,
            "rows": result.forecasts,
            "skipped": result.skipped,
            "failures": result.failures,
            "recorded": result.recorded,
            "unrecorded": result.unrecorded,
        }
        print_json(summary if certificate is None else {**summary, "certificate": certificate.to_json()})
    else:
        for line in (*summary_lines(result.scorecard), *trial_lines(result.scorecard)):
            print_line(line)
        print_line(f"{result.forecasts:,} forecasts, scorecard and report in {out}")
        if certificate is not None:
            print_line(certificate.verdict())
    if certificate is not None and not certificate.is_clean:
        raise typer.Exit(LEAKY)


@contextmanager
def _ledger(is_wanted: bool) -> Iterator[tuple[Store | None, str]]:
    """The store as the ledger of trials; None, and why, where it is not wanted or cannot be had."""
    with ExitStack() as stack:
        store, without = None, "--no-ledger was asked for"
        if is_wanted:
            try:
                store = stack.enter_context(open_store())
            except (EnvironmentFault, StoreError) as exc:  # hours of evaluation need no database
                without = "no ledger of trials could be reached"
                note(f"this look will not be recorded: {exc}")
        yield store, without


def certificate_of(plan: Plan, data: MarketData, start: datetime | None, inside_test: int = 5) -> Certificate:
    """The leak certificate of an evaluation, its progress shown; its noise comes from the recipe's seed."""
    import numpy as np

    from swiftbolt.evaluation.leakage import certify

    with bars_of_progress() as progress:
        return certify(
            plan,
            data,
            rng=np.random.default_rng(plan.recipe.seed_of("certificate")),
            progress=progress,
            start=start.date() if start is not None else None,
            inside_test=inside_test,
        )


@contextmanager
def bars_of_progress() -> Iterator[Progress]:
    """A bar per stage on stderr, gone afterwards."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _RichProgress(bars)


class _RichProgress:
    """Shows a walk-forward's progress in rich's bars."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def planned(self, stage: str, pieces: Sequence[str]) -> None:
        """Open a bar."""
        self._tasks[stage] = self._bars.add_task(stage, total=len(pieces))

    def done(self, stage: str, piece: str, failure: str | None = None) -> None:
        """Move it."""
        self._bars.advance(self._tasks[stage])
