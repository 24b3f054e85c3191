"""What came of the panels: how many show a claim, how often each test rejects, and where the time went."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from noise.panels import Examined

from swiftbolt.ensemble.weights import ENSEMBLE
from swiftbolt.evaluation.claims import CLAIMS, LEVEL
from swiftbolt.forecast import HORIZONS, MODELS

TOLERATED = 15 / 200  # of the panels may show a claim; 5 % do by chance at most, and 200 then show 16 or more in 4 %
TESTS = tuple(test for tests in CLAIMS.values() for test in tests)
COLUMNS = (*MODELS, ENSEMBLE)


def tolerated(panels: int) -> int:
    """How many of so many panels may show a claim."""
    return math.floor(TOLERATED * panels)


def report_lines(examined: Sequence[Examined]) -> list[str]:
    """The whole report, a line at a time."""
    return [*_claims(examined), "", *_sizes(examined), "", *_seconds(examined)]


def _claims(examined: Sequence[Examined]) -> Iterator[str]:
    for name, clustered in (("independent shocks", False), ("GARCH", True)):
        kind = [panel for panel in examined if panel.clustered == clustered]
        tested = sum(len(panel.claims) for panel in kind)
        yield f"{name}: {sum(bool(p.held) for p in kind)} of {len(kind)} panels show a claim, {tested} claims tested"
    for panel in examined:
        for claim in panel.held:
            yield (
                f"- panel {panel.number}: {claim['model']}, {claim['horizon']}: {claim['claim']} "
                f"(p {claim['p_adjusted']:.2g} among all)"
            )
    failures = Counter(reason for panel in examined for reason in panel.failures.values())
    yield from (f"- failed {count} times: {reason}" for reason, count in failures.items())


def _sizes(examined: Sequence[Examined]) -> Iterator[str]:
    yield f"share of p-values below {LEVEL:.0%}; ! is above it by more than three standard errors"
    yield f"{'test':<24}" + "".join(f"{name:>12}" for name in (*COLUMNS, *(f"{h} sessions" for h in HORIZONS)))
    for test in TESTS:
        cells = [_share(examined, test, [model], HORIZONS) for model in COLUMNS]
        cells += [_share(examined, test, COLUMNS, [horizon]) for horizon in HORIZONS]
        yield f"{test:<24}" + "".join(f"{cell:>12}" for cell in cells)


def _share(examined: Sequence[Examined], test: str, models: Sequence[str], horizons: Sequence[int]) -> str:
    """Panels are independent, what they hold is not: the standard error is that of the panels' shares."""
    shares = []
    for panel in examined:
        found = [panel.p_values[model, horizon, test] for model in models for horizon in horizons]
        told = [p_value < LEVEL for p_value in found if p_value is not None]
        if told:
            shares.append(np.mean(told))
    if not shares:
        return "-"
    error = np.std(shares) / math.sqrt(len(shares))
    return f"{np.mean(shares):.1%}{'!' if np.mean(shares) - 3 * error > LEVEL else ' '}"


def _seconds(examined: Sequence[Examined]) -> Iterator[str]:
    parts = {part: np.mean([panel.seconds[part] for panel in examined]) for part in examined[0].seconds}
    yield f"{sum(parts.values()):.1f} seconds a panel: " + ", ".join(f"{part} {s:.1f}" for part, s in parts.items())
