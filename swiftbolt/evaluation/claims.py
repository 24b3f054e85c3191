"""What may be claimed of a model: every test with its p-value, and the claims that hold for all that were tested.

Each p-value is one-sided, small when the model is surely better; a large one says nothing, and one near 1 that the
model is surely worse. A series too short for its test has no p-value, and says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl

from swiftbolt.evaluation.bootstrap import ROUNDING, side_tests
from swiftbolt.evaluation.significance import holm, least_sessions, mean_test, session_means, session_rank_correlations
from swiftbolt.forecast import Float64
from swiftbolt.sessions import Sessions

LEVEL = 0.05
TESTS = (
    "diebold_mariano",
    "location_skill",
    "pesaran_timmermann",
    "accuracy_over_constant",
    "rank_ic",
    "net_sharpe",
    "net_alpha",
)
# A claim holds when every one of its tests says so.
CLAIMS: Mapping[str, tuple[str, ...]] = {
    "location skill": ("location_skill",),
    "direction": ("pesaran_timmermann", "accuracy_over_constant"),
    "rank IC": ("rank_ic",),
    "net Sharpe": ("net_sharpe", "net_alpha"),
}

Result = dict[str, Any]


def gain_tests(common: pl.DataFrame, horizon: int) -> dict[str, Result]:
    """Is the CRPS lower than naive's, and is it the location that makes it so?

    Args:
        common: rows that naive forecast too: ``origin, naive_crps``, and what the CRPS gained in all (``gain``) and
            by its location (``location_gain``).
    """
    origin_N, naive_N = common["origin"].to_numpy(), common["naive_crps"].to_numpy()
    results = {}
    for name, column in (("diebold_mariano", "gain"), ("location_skill", "location_gain")):
        gain_N = _without_rounding(common[column].to_numpy(), naive_N)
        results[name] = _of_mean(session_means(origin_N, gain_N)[1], horizon)
    return results


def direction_tests(matured: pl.DataFrame, horizon: int, rng: np.random.Generator) -> dict[str, Result]:
    """Is the side of ``p_up`` right, and does the median put the symbols of a session in order?

    Args:
        matured: ``origin, q_0.5, p_up, realized``.
    """
    origin_N, outcome_N = matured["origin"].to_numpy(), matured["realized"].to_numpy()
    p_up_N = matured["p_up"].to_numpy()
    return {
        **_of_sides(origin_N, p_up_N, outcome_N, horizon, rng),
        "rank_ic": _of_mean(
            session_rank_correlations(origin_N, matured["q_0.5"].to_numpy(), outcome_N)[1],
            horizon,
            "in which both forecasts and outcomes differ between symbols",
        ),
    }


def earning_tests(net_T: Float64, *constant_T: Float64) -> dict[str, Result]:
    """Does the rule earn anything, and anything that being always long, or always short, would not?

    Always short is not quite minus always long: nights and days compound. So the rule is held against each, and what
    is returned is the test with the larger p-value.

    Args:
        net_T: the rule's daily returns after costs. Days do not overlap, however long a position is held.
        constant_T: of the same rule on the same days, had every forecast been of a rise; and had each been of a fall.

    Source:
        Jensen (1968), "The Performance of Mutual Funds in the Period 1945-1964", Journal of Finance 23(2), for alpha.
    """
    alphas = [_of_mean(_without_rounding(_alpha(net_T, rival_T), net_T), 1) for rival_T in constant_T]
    return {"net_sharpe": _of_mean(net_T, 1), "net_alpha": max(alphas, key=lambda test: test["p_value"] or 0.0)}


def untold(reason: str) -> Result:
    """A test that was not made."""
    return {"value": None, "statistic": None, "p_value": None, "sessions": None, "reason": reason}


def judged(tests: Iterable[tuple[str, int, Mapping[str, Result]]]) -> list[dict[str, Any]]:
    """Every claim that was tested, with its p-value and the one that allows for their number (Holm).

    Args:
        tests: model, horizon and the results by name.
    """
    rows: list[dict[str, Any]] = []
    for model, horizon, results in tests:
        for claim, names in CLAIMS.items():
            found = [results[name]["p_value"] for name in names]
            if None not in found:
                rows.append({"model": model, "horizon": horizon, "claim": claim, "p_value": max(found)})
    adjusted = holm({str(i): row["p_value"] for i, row in enumerate(rows)})
    return [{**row, "p_adjusted": adjusted[str(i)], "holds": adjusted[str(i)] < LEVEL} for i, row in enumerate(rows)]


def sentences(claims: Iterable[Mapping[str, Any]]) -> list[str]:
    """The claims that hold, in words."""
    return [
        f"{c['model']}, {c['horizon']} session{'' if c['horizon'] == 1 else 's'}: {c['claim']} "
        f"(p {c['p_adjusted']:.1g} among all)"
        for c in claims
        if c["holds"]
    ]


def _alpha(net_T: Float64, rival_T: Float64) -> Float64:
    """What is left of the returns without those of the rival, held in the share that explains most of them."""
    centred_T = rival_T - np.mean(rival_T)
    square = float(centred_T @ centred_T)
    return net_T - (float(net_T @ centred_T) / square if square else 0.0) * rival_T


def _without_rounding(value_N: Float64, beside_N: Float64) -> Float64:
    """Zeros if the values are only what rounding leaves of others: it may have a sign, and means nothing."""
    if not len(value_N) or np.max(np.abs(value_N)) > ROUNDING * np.max(np.abs(beside_N)):
        return value_N
    return np.zeros_like(value_N)


def _of_mean(series_T: Float64, horizon: int, which: str = "with an outcome") -> Result:
    """Is the mean above zero?"""
    needed = least_sessions(horizon)
    if len(series_T) < needed:
        return untold(f"{len(series_T)} sessions {which}, needs at least {needed}")
    test = mean_test(series_T, horizon)
    return _result(test.mean, test.statistic, test.p_greater, test.sessions)


def _of_sides(
    origin_N: Sessions, p_up_N: Float64, outcome_N: Float64, horizon: int, rng: np.random.Generator
) -> dict[str, Result]:
    names = CLAIMS["direction"]
    sessions, needed = len(np.unique(origin_N)), least_sessions(horizon)
    if sessions < needed:
        return dict.fromkeys(names, untold(f"{sessions} sessions with an outcome, needs at least {needed}"))
    tests = side_tests(origin_N, p_up_N, outcome_N, horizon, rng)
    return {
        name: _result(test.excess, test.statistic, test.p_value, test.sessions)
        for name, test in zip(names, tests, strict=True)
    }


def _result(value: float, statistic: float, p_value: float, sessions: int) -> Result:
    return {"value": value, "statistic": statistic, "p_value": p_value, "sessions": sessions, "reason": None}
