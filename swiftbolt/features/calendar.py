"""The calendar: where a session lies in the week, the month and the year, and between two dividends.

Days are counted from Monday to Friday. A dividend to come counts only where it was declared by then (its
``known_at``); without one, the last two ex-dates foretell the next.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from swiftbolt.features.rolling import Float64
from swiftbolt.features.spec import Feature

DIVIDEND_DAYS = 260  # 52 weeks: ex-dates further away count as none


def dividend_days(day_T: Float64, session_T: Float64, ex_A: Float64, known_A: Float64) -> tuple[Float64, Float64]:
    """Days since the last ex-date and to the next one, ``DIVIDEND_DAYS`` where there is none or none nearer.

    Args:
        day_T: weekdays until each session, ascending; ``session_T`` is the session itself, in days since 1970.
        ex_A: weekdays until the ex-dates of A dividends, ascending and distinct.
        known_A: when each was first declared, in days since 1970; infinite where that is not known.
    """
    if not len(ex_A):
        return np.full(len(day_T), float(DIVIDEND_DAYS)), np.full(len(day_T), float(DIVIDEND_DAYS))
    from_A = np.searchsorted(day_T, ex_A, side="left")  # the first row on or after the ex-date
    passed_T = np.diff(np.concatenate(([0], from_A, [len(day_T)])))
    last_T = np.repeat(np.concatenate(([-np.inf], ex_A)), passed_T)
    before_last_T = np.repeat(np.concatenate(([-np.inf, -np.inf], ex_A[:-1])), passed_T)
    since_T = np.minimum(day_T - last_T, DIVIDEND_DAYS)
    with np.errstate(invalid="ignore"):  # without a last one, infinity less infinity
        foretold_T = np.maximum(last_T + (last_T - before_last_T) - day_T, 1.0)
    foretold_T[~(day_T - before_last_T <= DIVIDEND_DAYS)] = DIVIDEND_DAYS
    declared_A = np.isfinite(known_A)
    first_A = np.searchsorted(session_T, known_A, side="left")
    for ex, start, stop in zip(
        ex_A[declared_A][::-1], first_A[declared_A][::-1], from_A[declared_A][::-1], strict=True
    ):
        foretold_T[start:stop] = ex - day_T[start:stop]  # an earlier ex-date overwrites a later one
    return since_T, np.minimum(foretold_T, DIVIDEND_DAYS)


_feature = partial(Feature, family="calendar", scope="calendar")

FEATURES = (
    _feature(
        name="weekday",
        look_back=0,
        formula="0 on Monday to 4 on Friday",
        range="0..4",
        degenerate=0.0,
        compute=lambda history: history.on_session(history.context.weekday_S),
    ),
    _feature(
        name="days_to_month_end",
        look_back=0,
        formula="weekdays of the month after the session",
        range="0..22",
        degenerate=0.0,
        compute=lambda history: history.on_session(history.context.days_to_month_end_S),
    ),
    _feature(
        name="month_sin",
        look_back=0,
        formula="sin(2 pi month / 12), January being 0",
        range="-1..1",
        degenerate=0.0,
        compute=lambda history: history.on_session(history.context.month_sin_S),
    ),
    _feature(
        name="month_cos",
        look_back=0,
        formula="cos(2 pi month / 12), January being 0",
        range="-1..1",
        degenerate=1.0,
        compute=lambda history: history.on_session(history.context.month_cos_S),
    ),
    _feature(
        name="days_since_dividend",
        scope="symbol",
        look_back=DIVIDEND_DAYS,
        formula="weekdays since the last ex-date, at most 260",
        range="0..260",
        degenerate=float(DIVIDEND_DAYS),
        compute=lambda history: history.dividend_age_T,
    ),
    _feature(
        name="days_to_dividend",
        scope="symbol",
        look_back=DIVIDEND_DAYS,
        formula=(
            "weekdays to the next ex-date declared by then, or else to one as long after the last as that was after the"
            " one before (at least 1); 260 where there is neither"
        ),
        range="1..260",
        degenerate=float(DIVIDEND_DAYS),
        compute=lambda history: history.dividend_wait_T,
    ),
)
