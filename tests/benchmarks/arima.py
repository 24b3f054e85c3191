"""Five years of daily ARIMA-GARCH forecasts of one symbol, against refitting statsmodels and arch every session.

    PYTHONPATH=tests python -m benchmarks.arima

The peer is what the roadmap's walk-forward does: every session statsmodels fits an ARIMA(1, 1, 1) of log price, and
arch a GARCH(1, 1) with Student-t innovations of its errors, on the same history. It is timed on sessions spread evenly
over the five years, and its time for all of them is extrapolated. The log score, the mean log density of the next
session's return in percent, compares both on those sessions, each by the seven quantiles that would be published. Both
use one thread, and seconds are those of CPU time. Without the shared prices synthetic ones are used.
"""

from __future__ import annotations

import time
import warnings
from datetime import date

import numpy as np
from arch import arch_model
from benchmarks.features import load
from scipy import stats
from statsmodels.tsa.arima.model import ARIMA
from threadpoolctl import threadpool_limits

from swiftbolt.features import build_panel
from swiftbolt.folds import FoldConfig, make_folds
from swiftbolt.forecast import LEVELS, Z_Q, Float64
from swiftbolt.models.arima_garch import ARIMAGARCH, PERCENT, ARIMAGARCHConfig
from swiftbolt.panel import Panel
from swiftbolt.sessions import Sessions
from swiftbolt.windows import outcomes

SYMBOL, END = "IBM", date(2014, 12, 31)  # not the years on which models are judged
ORIGINS, SAMPLED = 1260, 126
FOLDS = FoldConfig(count=1, test_sessions=ORIGINS, validation_sessions=252, min_train_sessions=756)
CONFIG = ARIMAGARCHConfig.model_validate({})


def main() -> None:
    """Measure and print the table."""
    bars, actions = load()
    symbol = SYMBOL if SYMBOL in bars.symbols else bars.symbols[0]
    panel = build_panel(bars.select([symbol], end=END), actions.select(symbols=[symbol]))
    origins = panel.sessions[-ORIGINS - 1 : -1]
    rows_N = panel.rows_at(origins)
    y_N = PERCENT * outcomes(panel)[rows_N, 0]
    sample = np.linspace(0, len(rows_N) - 1, SAMPLED).astype(np.int64)
    print(f"arima: {len(rows_N):,} daily forecasts of {symbol}, {len(panel.session_R):,} sessions")

    with threadpool_limits(1):
        started = time.process_time()
        quantiles_NQ = walk_forward(panel, origins)
        ours = time.process_time() - started
        started = time.process_time()
        theirs_KQ = np.array([refitted(PERCENT * panel.log_price_R[: row + 1]) for row in rows_N[sample]])
        theirs = (time.process_time() - started) / SAMPLED * len(rows_N)
    ours_K, theirs_K = (log_density(each_KQ, y_N[sample]) for each_KQ in (quantiles_NQ[sample], theirs_KQ))
    error = np.std(ours_K - theirs_K, ddof=1) / np.sqrt(SAMPLED)
    print(f"  ours                  {ours:9.2f} s   log score {ours_K.mean():.4f}")
    print(f"  statsmodels and arch  {theirs:9.2f} s   log score {theirs_K.mean():.4f}   from {SAMPLED} sessions")
    print(f"  the peer takes {theirs / ours:.0f} times as long")
    print(f"  log score, ours less theirs {np.mean(ours_K - theirs_K):+.4f}, standard error {error:.4f}")


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
