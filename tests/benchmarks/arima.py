"""Five years of daily ARIMA-GARCH forecasts, against refitting statsmodels and arch every session.

    PYTHONPATH=tests python -m benchmarks.arima

The peer is what the roadmap's walk-forward does: every session statsmodels fits an ARIMA(1, 1, 1) of log price, and
arch a GARCH(1, 1) with Student-t innovations of its errors, on the same history. It is timed on sessions spread evenly
over the five years, and its time for all of them is extrapolated. Both use one thread, and seconds are those of CPU
time.

Both are scored on those sessions, each by the seven quantiles that would be published, of the next session's return in
percent: by log density and by CRPS. One symbol's differences say nothing, so there are six, and Diebold and Mariano's
test of the mean over them. Without the shared prices synthetic ones are used.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from datetime import date

import numpy as np
from arch import arch_model
from benchmarks.features import load
from scipy import stats
from statsmodels.tsa.arima.model import ARIMA
from threadpoolctl import threadpool_limits

from swiftbolt.evaluation.significance import diebold_mariano
from swiftbolt.features import build_panel
from swiftbolt.folds import FoldConfig, make_folds
from swiftbolt.forecast import LEVELS, Z_Q, Float64, crps_from_quantiles
from swiftbolt.models.arima_garch import ARIMAGARCH, PERCENT, ARIMAGARCHConfig
from swiftbolt.panel import Panel
from swiftbolt.sessions import Sessions
from swiftbolt.windows import outcomes

SYMBOLS = ("AAPL", "CAT", "IBM", "JNJ", "JPM", "XOM")
END = date(2014, 12, 31)  # not the years on which models are judged
ORIGINS, SAMPLED = 1260, 63
FOLDS = FoldConfig(count=1, test_sessions=ORIGINS, validation_sessions=252, min_train_sessions=756)
CONFIG = ARIMAGARCHConfig.model_validate({})


def main() -> None:
    """Measure and print the table."""
    bars, actions = load()
    symbols = SYMBOLS if set(SYMBOLS) <= set(bars.symbols) else bars.symbols[: len(SYMBOLS)]
    names = ", ".join(symbols)
    print(f"arima: {ORIGINS:,} daily forecasts of each of {names}; the peer's from {SAMPLED} sessions of each")
    runs = [run(build_panel(bars.select([name], end=END), actions.select(symbols=[name]))) for name in symbols]
    ours, theirs = (sum(seconds) / len(runs) for seconds in zip(*(each.seconds for each in runs), strict=True))
    print(f"  ours                  {ours:9.2f} s for {ORIGINS:,} forecasts")
    print(f"  statsmodels and arch  {theirs:9.2f} s")
    print(f"  the peer takes {theirs / ours:.0f} times as long")
    for name, losses in (
        ("log score, negative", [each.log_losses for each in runs]),
        ("CRPS", [each.crps for each in runs]),
    ):
        ours_K, theirs_K = np.mean(losses, axis=0)
        test = diebold_mariano(ours_K, theirs_K, horizon=1)
        print(
            f"  {name:20} ours {ours_K.mean():.4f}, theirs {theirs_K.mean():.4f}: {test.mean:+.4f},"
            f" standard error {test.standard_error:.4f}, p {test.p_two_sided:.2f}; less is better"
        )


@dataclass(frozen=True, kw_only=True)
class Run:
    """One symbol. Seconds for all origins; losses on the K sampled sessions; ours first."""

    seconds: tuple[float, float]
    log_losses: Float64
    crps: Float64


def run(panel: Panel) -> Run:
    """Both on one symbol."""
    origins = panel.sessions[-ORIGINS - 1 : -1]
    rows_N = panel.rows_at(origins)
    sample = np.linspace(0, len(rows_N) - 1, SAMPLED).astype(np.int64)
    y_K = PERCENT * outcomes(panel)[rows_N[sample], 0]
    with threadpool_limits(1):
        started = time.process_time()
        ours_KQ = walk_forward(panel, origins)[sample]
        ours = time.process_time() - started
        started = time.process_time()
        theirs_KQ = np.array([refitted(PERCENT * panel.log_price_R[: row + 1]) for row in rows_N[sample]])
        theirs = (time.process_time() - started) / SAMPLED * len(rows_N)
    both = ours_KQ, theirs_KQ
    return Run(
        seconds=(ours, theirs),
        log_losses=np.array([-log_density(each_KQ, y_K) for each_KQ in both]),
        crps=np.array([crps_from_quantiles(each_KQ, y_K) for each_KQ in both]),
    )


def walk_forward(panel: Panel, origins: Sessions) -> Float64:
    """Our quantiles (N, Q) of the next session's return, in percent."""
    model = ARIMAGARCH(CONFIG)
    model.fit(panel, make_folds(panel.sessions, FOLDS)[0], seed=1)
    return PERCENT * model.forecast(panel, origins).quantiles_NHQ[:, 0]


def refitted(log_price: Float64) -> Float64:
    """The peer's quantiles of the return after ``log_price``, all in percent."""
    history = log_price[-(CONFIG.max_history or len(log_price)) - 1 :]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mean_fit = ARIMA(history, order=(1, 1, 1), trend="t").fit()
        mean = mean_fit.forecast(1)[0] - history[-1]
        fit = arch_model(mean_fit.resid[1:], mean="Zero", vol="GARCH", p=1, q=1, dist="t").fit(disp="off")
    nu = fit.params["nu"]
    variance = fit.forecast(horizon=1).variance.to_numpy()[-1, 0]
    return np.asarray(stats.t.ppf(LEVELS, nu, loc=mean, scale=np.sqrt(variance * (nu - 2) / nu)))


def log_density(quantiles_NQ: Float64, outcome_N: Float64) -> Float64:
    """Log density of the distributions that ``swiftbolt.forecast`` gives seven quantiles."""
    every = np.arange(len(outcome_N))
    piece_N = np.sum(quantiles_NQ[:, 1:-1] < outcome_N[:, None], axis=1)
    left_N, right_N = quantiles_NQ[every, piece_N], quantiles_NQ[every, piece_N + 1]
    slope_N = (right_N - left_N) / (Z_Q[piece_N + 1] - Z_Q[piece_N])
    return np.asarray(stats.norm.logpdf(Z_Q[piece_N] + (outcome_N - left_N) / slope_N) - np.log(slope_N))


if __name__ == "__main__":
    main()
