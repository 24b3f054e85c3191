"""The tests of significance on panels where nothing is to be found, and on panels where something is.

Symbols share a factor, variances cluster, shocks have fat tails, and outcomes over 20 sessions overlap: what makes the
usual readings reject true nulls. Every claim is tested at 5 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import norm

from swiftbolt.evaluation.bootstrap import accuracy_over_constant, pesaran_timmermann, resampled_means
from swiftbolt.evaluation.significance import diebold_mariano, mean_test, session_rank_correlations
from swiftbolt.forecast import crps_from_quantiles, normal_quantiles

Float64 = NDArray[np.float64]

HORIZON = 20
PERSISTENCE = 0.97  # of forecasts, from one session to the next
WARMUP = 100


@dataclass(frozen=True, slots=True)
class MadePanel:
    """Outcomes of T sessions and S symbols, their naive scale, and a forecast in standard units."""

    outcome_TS: Float64
    scale_TS: Float64
    forecast_TS: Float64

    @property
    def session_N(self) -> NDArray[np.datetime64]:
        sessions, symbols = self.outcome_TS.shape
        return np.repeat(np.datetime64("2010-01-01") + np.arange(sessions), symbols)


def persistent(rng: np.random.Generator, *shape: int) -> Float64:
    """Standard normal AR(1) processes along the first axis."""
    shocks = rng.standard_normal(shape) * np.sqrt(1 - PERSISTENCE**2)
    shocks[0] /= np.sqrt(1 - PERSISTENCE**2)
    return lfilter([1.0], [1.0, -PERSISTENCE], shocks, axis=0)


def garch_t(rng: np.random.Generator, sessions: int, series: int) -> Float64:
    """Returns of variance one: GARCH(1, 1) with Student-t shocks of 5 degrees of freedom."""
    shocks = rng.standard_t(5, (sessions, series)) * np.sqrt(3 / 5)
    variance, returns = np.ones(series), np.empty((sessions, series))
    for t in range(sessions):
        returns[t] = np.sqrt(variance) * shocks[t]
        variance = 0.02 + 0.08 * returns[t] ** 2 + 0.90 * variance
    return returns


def panels(
    seed: int, count: int, *, sessions: int, symbols: int = 6, horizon: int = HORIZON, effect: float = 0.0
) -> Iterator[MadePanel]:
    """Panels of a factor and own moves of like size.

    Args:
        effect: correlation of the forecast with the symbol's own move of the next session. With 0 the forecasts of
            a session have a part in common, so that they are mostly on one side.
    """
    rng = np.random.default_rng(seed)
    length = WARMUP + sessions + horizon
    origins = np.arange(WARMUP, WARMUP + sessions)
    for batch in [100] * (count // 100) + [count % 100] * (count % 100 > 0):
        factor = garch_t(rng, length, batch)[:, :, None] * (0.5 + rng.random((batch, symbols)))
        own = garch_t(rng, length, batch * symbols).reshape(length, batch, symbols)
        signal = persistent(rng, length, batch, symbols)
        own[1:] = np.sqrt(1 - effect**2) * own[1:] + effect * signal[:-1]
        returns = 0.01 * (factor + own)
        path = np.concatenate((np.zeros((1, batch, symbols)), np.cumsum(returns, axis=0)))
        outcome = path[origins + 1 + horizon] - path[origins + 1]
        scale = np.sqrt(horizon * lfilter([0.06], [1.0, -0.94], returns**2, axis=0)[origins])
        forecast = signal[origins] + (0.0 if effect else 1.0) * persistent(rng, sessions, batch, 1)
        for b in range(batch):
            yield MadePanel(outcome[:, b], scale[:, b], forecast[:, b])


def loss_of(panel: MadePanel, shift: Float64 | float, stretch: Float64 | float) -> Float64:
    """Session means of the CRPS of normal forecasts, naive's moved by ``shift`` of its scale and stretched."""
    quantiles = normal_quantiles(shift * panel.scale_TS, stretch * panel.scale_TS)
    return crps_from_quantiles(quantiles, panel.outcome_TS).mean(axis=1)


def equally_good_losses(panel: MadePanel, rng: np.random.Generator) -> tuple[Float64, Float64]:
    """Losses of two forecasts of which neither is better: mirrored standing tilts, and widths drawn alike."""
    stretch = np.exp(0.2 * persistent(rng, len(panel.scale_TS), 2, 1))
    return loss_of(panel, 0.2, stretch[:, 0]), loss_of(panel, -0.2, stretch[:, 1])


def usual_p_value(series_T: Float64, horizon: int) -> float:
    """Two-sided: Newey and West's standard error up to lag ``horizon - 1``, normal critical values."""
    count, centred_T = len(series_T), series_T - series_T.mean()
    gamma = [centred_T[k:] @ centred_T[: count - k] / count for k in range(horizon)]
    variance = gamma[0] + 2 * sum((1 - k / horizon) * gamma[k] for k in range(1, horizon))
    return float(2 * norm.sf(abs(series_T.mean()) / np.sqrt(variance / count)))


def share_below(p_values: list[float]) -> float:
    return float(np.mean(np.array(p_values) < 0.05))


def losses_rejected(seed: int, count: int, sessions: int) -> tuple[float, float, float]:
    """Size of Diebold-Mariano two-sided and one-sided, and of the usual reading."""
    rng = np.random.default_rng([seed, 1])
    two, one, usual = [], [], []
    for panel in panels(seed, count, sessions=sessions):
        loss_T, other_T = equally_good_losses(panel, rng)
        test = diebold_mariano(loss_T, other_T, HORIZON)
        two.append(test.p_two_sided)
        one.append(test.p_less)
        usual.append(usual_p_value(loss_T - other_T, HORIZON))
    return share_below(two), share_below(one), share_below(usual)


def ranks_rejected(seed: int, count: int, sessions: int) -> tuple[float, float, float]:
    """Size of the rank IC two-sided and one-sided, and of the usual reading; the order of symbols never changes."""
    made = list(panels(seed, count, sessions=sessions))
    outcome_PTS = np.stack([panel.outcome_TS for panel in made])
    standing_PTS = np.broadcast_to(np.stack([panel.forecast_TS[:1] for panel in made]), outcome_PTS.shape)
    # All panels in one go, one after the other in time: no two share a session, and none has ties.
    session_N = np.repeat(np.datetime64("2010-01-01") + np.arange(count * sessions), outcome_PTS.shape[2])
    ic_N = session_rank_correlations(session_N, standing_PTS.ravel(), outcome_PTS.ravel())[1]
    tests = [mean_test(ic_T, HORIZON) for ic_T in ic_N.reshape(count, sessions)]
    usual = [usual_p_value(ic_T, HORIZON) for ic_T in ic_N.reshape(count, sessions)]
    return share_below([t.p_two_sided for t in tests]), share_below([t.p_greater for t in tests]), share_below(usual)


def directions_rejected(seed: int, count: int, sessions: int, draws: int) -> tuple[float, float, float]:
    """Size of Pesaran-Timmermann, of accuracy over a constant, and of the usual reading of the former's bootstrap.

    For accuracy outcomes are moved so that the better constant is exactly as good as the forecast: they rise more
    often than not when the forecast says so, and as often as not when it does not.
    """
    rng = np.random.default_rng([seed, 2])
    timing, accuracy, usual = [], [], []
    for panel in panels(seed, count, sessions=sessions):
        session_N, p_up_N, outcome_N = panel.session_N, norm.cdf(panel.forecast_TS.ravel()), panel.outcome_TS.ravel()
        timing.append(pesaran_timmermann(session_N, p_up_N, outcome_N, HORIZON, rng, draws).p_value)
        risen_N = outcome_N + 0.5 * panel.scale_TS.ravel() * (p_up_N > 0.5)
        accuracy.append(accuracy_over_constant(session_N, p_up_N, risen_N, HORIZON, rng, draws).p_value)
        up_TK = np.stack([panel.forecast_TS > 0, panel.outcome_TS > 0]).astype(float)
        side_TK = np.column_stack([*up_TK.mean(axis=2), up_TK.prod(axis=0).mean(axis=1)])
        found = np.append(side_TK.mean(axis=0)[None], resampled_means(side_TK, 2 * HORIZON, draws, rng), axis=0)
        excess = found[:, 2] - found[:, 0] * found[:, 1]
        usual.append(float(np.mean(excess[1:] - excess[0] >= excess[0])))
    return share_below(timing), share_below(accuracy), share_below(usual)


def test_of_equally_good_forecasts_few_are_called_different_and_the_usual_reading_calls_many():
    two, one, usual = losses_rejected(seed=1, count=1000, sessions=250)
    assert max(two, one) <= 0.07
    assert usual > 0.10


def test_of_ranks_that_mean_nothing_few_are_called_skill_and_the_usual_reading_calls_many():
    two, one, usual = ranks_rejected(seed=2, count=1500, sessions=250)
    assert max(two, one) <= 0.07
    assert usual > 0.10


def test_of_sides_that_mean_nothing_few_are_called_skill_and_the_usual_reading_calls_many():
    timing, accuracy, usual = directions_rejected(seed=3, count=400, sessions=500, draws=200)
    assert max(timing, accuracy) <= 0.07
    assert usual > 0.10


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("sessions", [200, 500, 1000, 1750])
def test_size_is_at_most_seven_percent_whatever_the_length(sessions):
    sizes = {
        "losses": losses_rejected(seed=11, count=2000, sessions=sessions)[:2],
        "ranks": ranks_rejected(seed=12, count=2000, sessions=sessions)[:2],
        "sides": directions_rejected(seed=13, count=2000, sessions=sessions, draws=400)[:2],
    }
    assert max(max(pair) for pair in sizes.values()) <= 0.07, sizes


def test_a_small_effect_is_found_by_every_test():
    # 20 symbols over six years; the forecast explains one percent of a symbol's own next move, half a percent of all.
    found: dict[str, list[float]] = {name: [] for name in ("losses", "ranks", "timing", "accuracy")}
    rng = np.random.default_rng(5)
    for panel in panels(4, 20, sessions=1500, symbols=20, horizon=1, effect=0.1):
        session_N, outcome_N = panel.session_N, panel.outcome_TS.ravel()
        p_up_N = norm.cdf(0.07 * panel.forecast_TS.ravel())
        better_T, naive_T = loss_of(panel, 0.07 * panel.forecast_TS, 1.0), loss_of(panel, 0.0, 1.0)
        found["losses"].append(diebold_mariano(better_T, naive_T, 1).p_less)
        ic_T = session_rank_correlations(session_N, p_up_N, outcome_N)[1]
        found["ranks"].append(mean_test(ic_T, 1).p_greater)
        found["timing"].append(pesaran_timmermann(session_N, p_up_N, outcome_N, 1, rng, 400).p_value)
        found["accuracy"].append(accuracy_over_constant(session_N, p_up_N, outcome_N, 1, rng, 400).p_value)
    assert min(share_below(p_values) for p_values in found.values()) >= 0.9, found


def test_better_volatility_over_twenty_sessions_is_found():
    # A naive forecast 10 % too wide half of the time and 10 % too narrow otherwise, against the same without that.
    rng = np.random.default_rng(7)
    p_values = []
    for panel in panels(6, 60, sessions=1500):
        stretch = np.exp(0.3 * np.sign(persistent(rng, 1500, 1)))
        p_values.append(diebold_mariano(loss_of(panel, 0.0, 1.0), loss_of(panel, 0.0, stretch), HORIZON).p_less)
    assert share_below(p_values) >= 0.9
