"""What a finished retrain leaves for those who ask later: what went in, what came out, what failed, and what it took.

It is kept as JSON; ``receipt_lines`` reads that back, whichever version of this code wrote it down.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from swiftbolt.evaluation.unit_keys import symbol_of

if TYPE_CHECKING:
    from swiftbolt.evaluation.gate import Verdict
    from swiftbolt.release import Release
    from swiftbolt.store import UnitTotal

FORMAT = 1
SYMBOLS_NAMED = 3  # of those that failed for one reason
UNITS = {
    "seconds": "wall time, s; of a model, summed over its fits, which ran side by side; of the run, of its last start",
    "cpu_seconds": "CPU time of all threads, s, summed over fits",
    "peak_mb": "highest resident memory of a process, MB of 10**6 bytes, with what it shares",
    "cpus": "CPUs of the cluster when the run ended",
    "skill": "1 - mean CRPS / mean CRPS of naive on the same rows of the test folds, a share",
    "coverage_95": "share of outcomes within the central 95 % interval",
    "horizon": "exchange sessions ahead",
    "attempts": "how often fits were begun, all together",
    "starts": "how often a driver took the run up",
}
_WITHOUT_SYMBOL = "<symbol>"


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureGroup:
    """What failed for one reason.

    Attributes:
        reason: with the symbol's name taken out.
        count: of failures; a symbol may have several.
        symbols: how many.
        first: the first of them by name.
    """

    reason: str
    count: int
    symbols: int
    first: tuple[str, ...]

    def __str__(self) -> str:
        more = ", ..." if self.symbols > len(self.first) else ""
        return f"{self.count}x {self.reason} ({', '.join(self.first)}{more})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """See the module; ``UNITS`` says what each number is counted in.

    Attributes:
        identity: SHA-256 over what the release depends on, but for the data; None where the run was not given one.
        config: the recipe as resolved, every file read and every override applied.
        universe: symbols that were trained on.
        symbols: those that are forecast.
        folds: test folds; there was a live one beside them.
        sessions: of the test folds: how many, the first and the last.
        scores: skill and coverage of the ensemble and its members, by model and horizon.
        models: what fitting took, by model.
        failures: fits that failed, by reason.
        skipped: symbols left out, by reason.
        gate: its verdict and the lines that tell it; None where it was not to be promoted in any case.
    """

    run: str
    identity: str | None
    version: int
    release_digest: str
    reproducible: bool
    data_hash: str
    spec_hash: str
    code_version: str
    seed: int
    config: Mapping[str, Any]
    universe: int
    symbols: int
    folds: int
    sessions: Mapping[str, Any]
    scores: Sequence[Mapping[str, Any]]
    models: Sequence[Mapping[str, Any]]
    failures: Sequence[FailureGroup]
    skipped: Sequence[FailureGroup]
    gate: Mapping[str, Any] | None
    seconds: float
    cpus: float
    starts: int

    @classmethod
    def of(
        cls,
        *,
        run: str,
        release: Release,
        version: int,
        verdict: Verdict | None,
        scorecard: Mapping[str, Any],
        totals: Sequence[UnitTotal],
        failures: Mapping[str, str],
        seconds: float,
        cpus: float,
        starts: int,
        identity: str | None = None,
    ) -> Receipt:
        """Gather it.

        Args:
            scorecard: as ``evaluate.scorecard_of`` makes it.
            failures: reasons by the unit's key; symbols that the release skipped may be among them.
        """
        context = scorecard["extra"]
        failed = {key: reason for key, reason in failures.items() if key not in release.skipped}
        return cls(
            run=run,
            identity=identity,
            version=version,
            release_digest=release.release_digest,
            reproducible=release.reproducible,
            data_hash=release.data_hash,
            spec_hash=release.spec_hash,
            code_version=context["code_version"],
            seed=context["recipe"]["seed"],
            config=context["recipe"],
            universe=len(context["symbols"]),
            symbols=len(release.symbols),
            folds=len(scorecard["folds"]),
            sessions=scorecard["origins"],
            scores=_scores(scorecard["models"], ("ensemble", *release.models)),
            models=[{key: value for key, value in asdict(total).items() if key != "waiting"} for total in totals],
            failures=group_failures((symbol_of(key), reason) for key, reason in failed.items()),
            skipped=group_failures(release.skipped.items()),
            gate=None if verdict is None else {**verdict.to_json(), "lines": verdict.lines()},
            seconds=seconds,
            cpus=cpus,
            starts=starts,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, and what they are counted in."""
        return {"format": FORMAT, **asdict(self), "units": UNITS}

    def lines(self) -> list[str]:
        """For people."""
        return receipt_lines(self.to_json())


def receipt_lines(receipt: Mapping[str, Any]) -> list[str]:
    """A receipt, as ``to_json`` made it, for people."""
    sessions, starts = receipt["sessions"], receipt["starts"]
    identity = "" if receipt["identity"] is None else f", identity {receipt['identity'][:12]}"
    return [
        f"receipt of {receipt['run']}{identity}",
        f"  release {receipt['version']}, digest {receipt['release_digest'][:12]}"
        + ("" if receipt["reproducible"] else ", not reproducible"),
        f"  data {receipt['data_hash'][:12]}, features {receipt['spec_hash'][:12]}, code {receipt['code_version']},"
        f" seed {receipt['seed']}",
        f"  {receipt['symbols']} symbols forecast of {receipt['universe']} trained on; {receipt['folds']} test folds,"
        f" {sessions['sessions']} sessions from {sessions['first']} to {sessions['last']}",
        *(f"  {line}" for line in _score_lines(receipt["scores"])),
        *(f"  {line}" for line in cost_lines(receipt["models"])),
        *(f"  failed: {FailureGroup(**group)}" for group in receipt["failures"]),
        *(f"  skipped: {FailureGroup(**group)}" for group in receipt["skipped"]),
        *(f"  {line}" for line in (receipt["gate"] or {"lines": ["gate: not asked, not to be promoted"]})["lines"]),
        f"  {receipt['seconds']:,.0f} s on {receipt['cpus']:g} CPUs, {starts} start{'' if starts == 1 else 's'}",
    ]


def group_failures(failures: Iterable[tuple[str, str]]) -> list[FailureGroup]:
    """``(symbol, reason)`` pairs grouped by what the reason says without the symbol, the most frequent first."""
    symbols: dict[str, list[str]] = defaultdict(list)
    for symbol, reason in failures:
        name = rf"(?<![\w.]){re.escape(symbol)}(?![\w.]\w|\w)"
        symbols[re.sub(name, _WITHOUT_SYMBOL, reason)].append(symbol)
    groups = [
        FailureGroup(
            reason=reason, count=len(held), symbols=len(set(held)), first=tuple(sorted(set(held))[:SYMBOLS_NAMED])
        )
        for reason, held in symbols.items()
    ]
    return sorted(groups, key=lambda group: (-group.count, group.reason))


def cost_lines(models: Iterable[Mapping[str, Any]]) -> list[str]:
    """What fitting took, a line per model."""
    heads = f"{'model':<12} {'done':>8} {'failed':>7} {'attempts':>9} {'wall s':>10} {'CPU s':>10} {'peak MB':>8}"
    return [
        heads,
        *(
            f"{row['model']:<12} {row['done']:>8} {row['failed']:>7} {row['attempts']:>9} {row['seconds'] or 0:>10,.1f}"
            f" {row['cpu_seconds'] or 0:>10,.1f} {'-' if row['peak_mb'] is None else format(row['peak_mb'], ',.0f'):>8}"
            for row in models
        ),
    ]


def _scores(models: Mapping[str, Any], names: Iterable[str]) -> list[dict[str, Any]]:
    return [
        {"model": name, "horizon": int(horizon), "skill": found["skill"], "coverage_95": found["coverage_95"]}
        for name in names
        for horizon, found in sorted(models.get(name, {}).items(), key=lambda item: int(item[0]))
    ]


def _score_lines(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    by_model: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for score in scores:
        by_model[score["model"]].append(score)
    return [
        f"{name:<12} skill {_by_horizon(found, 'skill', '+.2%')}; in 95 % {_by_horizon(found, 'coverage_95', '.1%')}"
        for name, found in by_model.items()
    ]


def _by_horizon(scores: Sequence[Mapping[str, Any]], key: str, form: str) -> str:
    return ", ".join(
        f"{'-' if score[key] is None else format(score[key], form)} ({score['horizon']})" for score in scores
    )
