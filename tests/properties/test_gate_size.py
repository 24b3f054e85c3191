"""How often the gate's comparison is wrong: on symbols that share a factor, and losses that persist for weeks.

The challenger is exactly as much worse than the champion as the gate allows: promoting it is the mistake.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from swiftbolt.evaluation.gate import GateConfig, compare
from swiftbolt.forecast import QUANTILE_COLUMNS, crps_from_quantiles, normal_quantiles
from swiftbolt.sessions import sessions_between

Float64 = NDArray[np.float64]

SYMBOLS = 6
ALLOWED = GateConfig().max_relative_loss
DAYS = sessions_between(date(2000, 1, 3), date(2004, 1, 2))


def persistent(rng: np.random.Generator, sessions: int, persistence: float = 0.97) -> Float64:
    """A standard normal AR(1) process, one value for all symbols of a session."""
    shocks = rng.standard_normal(sessions) * np.sqrt(1 - persistence**2)
    shocks[0] /= np.sqrt(1 - persistence**2)
    return lfilter([1.0], [1.0, -persistence], shocks)[:, None]


def overlapping(rng: np.random.Generator, sessions: int, horizon: int) -> Float64:
    """Returns over ``horizon`` sessions of symbols that share half of their variance, in calm and in wild times."""
    length = sessions + horizon
    shocks = rng.standard_t(5, (length, 1)) + rng.standard_t(5, (length, SYMBOLS))
    path = np.cumsum(0.01 * np.exp(0.5 * persistent(rng, length)) * shocks, axis=0)
    return path[horizon:] - path[:-horizon]


def forecasts(outcome_TS: Float64, quantiles_TSQ: Float64, horizon: int) -> pl.DataFrame:
    sessions = len(outcome_TS)
    keys = {
        "symbol": np.tile([f"S{s}" for s in range(SYMBOLS)], sessions),
        "origin": np.repeat(DAYS[:sessions], SYMBOLS),
        "horizon": np.full(sessions * SYMBOLS, horizon, dtype=np.int32),
    }
    columns_NQ = quantiles_TSQ.reshape(-1, len(QUANTILE_COLUMNS))
    quantiles = {name: columns_NQ[:, q] for q, name in enumerate(QUANTILE_COLUMNS)}
    return pl.DataFrame({**keys, **quantiles, "realized": outcome_TS.ravel()})


def made_pair(rng: np.random.Generator, sessions: int, horizon: int, worse: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Two forecasts, the first of which has a loss ``worse`` above the other's in expectation.

    Their widths wander, drawn alike; outcomes are as likely to be up as down, and they lean to opposite sides. A loss
    is multiplied by stretching the distance of every quantile to the outcome.
    """
    outcome_TS = overlapping(rng, sessions, horizon)
    sd_TS = np.full(outcome_TS.shape, 0.018 * np.sqrt(horizon))
    pair = []
    for side, factor in ((0.2, 1 + worse), (-0.2, 1.0)):
        stretch_TS = np.exp(0.2 * persistent(rng, sessions)) * sd_TS
        quantiles_TSQ = normal_quantiles(side * sd_TS, stretch_TS)
        stretched_TSQ = outcome_TS[..., None] + factor * (quantiles_TSQ - outcome_TS[..., None])
        pair.append(forecasts(outcome_TS, stretched_TSQ, horizon))
    return pair[0], pair[1]


def bounds(seed: int, count: int, sessions: int, horizon: int, worse: float) -> Float64:
    rng = np.random.default_rng(seed)
    found = [compare(*made_pair(rng, sessions, horizon, worse), horizon).bound for _ in range(count)]
    return np.array(found, dtype=np.float64)


@pytest.mark.parametrize("horizon", [1, 20])
def test_a_challenger_just_as_much_worse_as_allowed_passes_at_most_in_seven_cases_of_a_hundred(horizon: int) -> None:
    passes = float(np.mean(bounds(horizon, 500, 250, horizon, ALLOWED) < ALLOWED))
    assert 0.02 <= passes <= 0.07


@pytest.mark.long
@pytest.mark.parametrize("sessions", [250, 500, 1000])
@pytest.mark.parametrize("horizon", [1, 5, 20])
def test_it_does_so_whatever_the_horizon_and_the_length(horizon: int, sessions: int) -> None:
    passes = float(np.mean(bounds(100 + horizon, 2000, sessions, horizon, ALLOWED) < ALLOWED))
    assert 0.03 <= passes <= 0.07


def test_a_challenger_that_is_clearly_better_passes_and_one_clearly_worse_does_not() -> None:
    assert np.mean(bounds(1, 60, 500, 5, -0.15) < ALLOWED) >= 0.9
    assert np.mean(bounds(2, 60, 500, 5, 0.1) < ALLOWED) == 0.0


def test_stretching_the_distance_to_the_outcome_multiplies_the_loss() -> None:
    quantiles_NQ, outcome_N = normal_quantiles(np.zeros(3), np.ones(3)), np.array([-2.0, 0.1, 5.0])
    stretched_NQ = outcome_N[:, None] + 1.1 * (quantiles_NQ - outcome_N[:, None])
    doubled = crps_from_quantiles(stretched_NQ, outcome_N)
    np.testing.assert_allclose(doubled, 1.1 * crps_from_quantiles(quantiles_NQ, outcome_N))
