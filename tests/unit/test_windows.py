"""Outcomes worked out by hand: the only place where the future of a row is looked at."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from support.by_hand import panel_at, sessions_from

from swiftbolt.folds import Fold, SessionRange
from swiftbolt.panel import DoubtedBar
from swiftbolt.windows import (
    fold_origins,
    has_window,
    labelled_rows,
    outcomes,
    outcomes_known,
    settled,
    train_rows,
    validation_rows,
)

NAN = math.nan
D = sessions_from(60)


def ramp(sessions: int, missing: tuple[int, ...] = (), slope: float = 0.01) -> dict[int, float]:
    """A log price that rises by ``slope`` a session; no bar at ``missing``."""
    return {at: 1.0 + slope * at for at in range(sessions) if at not in missing}


def fold_of(train: tuple[int, int], validation: tuple[int, int], known: int, test: tuple[int, int] | None) -> Fold:
    def days(edges: tuple[int, int]) -> SessionRange:
        return SessionRange(D[edges[0]], D[edges[1]])

    return Fold(
        index=0,
        train=days(train),
        validation=days(validation),
        test=None if test is None else days(test),
        known_through=D[known],
    )


def test_an_outcome_is_the_cumulative_log_return_to_the_h_th_session_after():
    panel = panel_at({"AAA": {0: 1.0, 1: 1.5, 2: 1.25, 3: 3.0}}, sessions=4)
    np.testing.assert_array_equal(outcomes(panel, (1, 2)), [[0.5, 0.25], [-0.25, 1.5], [1.75, NAN], [NAN, NAN]])


def test_a_missing_bar_makes_the_outcomes_that_end_there_nan_and_moves_no_other():
    panel = panel_at({"AAA": ramp(6, missing=(2,))}, sessions=6)  # rows at 0, 1, 3, 4, 5
    np.testing.assert_allclose(
        outcomes(panel, (1, 2)),
        [[0.01, NAN], [NAN, 0.02], [0.01, 0.02], [0.01, NAN], [NAN, NAN]],
        atol=1e-15,
    )


def test_an_outcome_does_not_reach_across_a_break_and_goes_on_behind_it():
    panel = panel_at({"AAA": ramp(3), "BBB": ramp(6)}, sessions=6)
    broken = replace(panel, breaks=np.array([5]))  # BBB's price from session 2 on is another
    np.testing.assert_allclose(outcomes(broken, (1,))[:, 0], [0.01, 0.01, NAN, 0.01, NAN, 0.01, 0.01, 0.01, NAN])
    np.testing.assert_allclose(outcomes(broken, (2,))[3:, 0], [NAN, NAN, 0.02, 0.02, NAN, NAN])


def test_outcomes_never_reach_into_another_symbol():
    panel = panel_at({"AAA": ramp(3), "BBB": {at: 100.0 + at for at in range(3, 6)}}, sessions=6)
    found = outcomes(panel, (1, 3))
    np.testing.assert_allclose(found[:, 0], [0.01, 0.01, NAN, 1.0, 1.0, NAN], atol=1e-15)
    assert np.isnan(found[:, 1]).all()
    delisted = panel_at({"AAA": ramp(6), "BBB": ramp(3)}, sessions=6)  # AAA still trades where BBB has ended
    assert np.isnan(outcomes(delisted, (1, 3))[8]).all()


def test_outcomes_of_the_default_horizons_are_one_five_and_twenty_sessions():
    panel = panel_at({"AAA": ramp(30)}, sessions=30)
    np.testing.assert_allclose(outcomes(panel)[0], [0.01, 0.05, 0.20], atol=1e-15)


def test_a_symbol_without_rows_has_no_outcomes():
    panel = panel_at({"AAA": {}, "BBB": ramp(3)}, sessions=3)
    assert outcomes(panel, (1,)).shape == (3, 1)


def test_a_bar_is_beyond_doubt_when_the_next_one_of_its_symbol_has_come():
    panel = panel_at({"AAA": ramp(6, missing=(2, 3)), "BBB": ramp(2), "CCC": {}}, sessions=6)
    assert settled(panel).tolist() == [1, 4, 5, 6, 1, 6]


def with_doubted(panel, session: int):
    bar = DoubtedBar(symbol=0, session=session, close=1.0, log_price=0.0, features_F=np.zeros(1, np.float32))
    return replace(panel, doubted=(bar,))


def test_a_bar_that_is_itself_doubted_later_is_a_next_one_all_the_same():
    """Whether bar 3 is found to be faulty when bar 4 comes, what was known at its session stays."""
    kept = panel_at({"AAA": ramp(6)}, sessions=6)
    left_out = with_doubted(panel_at({"AAA": ramp(6, missing=(3,))}, sessions=6), 3)
    assert settled(kept).tolist() == [1, 2, 3, 4, 5, 6]
    assert settled(left_out).tolist() == [1, 2, 3, 5, 6]


def test_an_outcome_counts_from_the_session_at_which_its_last_bar_is_beyond_doubt():
    panel = panel_at({"AAA": ramp(6, missing=(4,))}, sessions=6)  # rows at 0, 1, 2, 3, 5
    assert outcomes_known(panel, (1, 2)).tolist() == [[2, 3], [3, 5], [5, 6], [6, 6], [6, 6]]


def test_labels_that_end_on_the_boundary_or_after_it_are_nan_and_the_one_that_ends_before_it_is_not():
    panel = panel_at({"AAA": ramp(10)}, sessions=10)
    rows, y = labelled_rows(panel, np.datetime64(D[2]), np.datetime64(D[5]), np.datetime64(D[6]), (1, 3))
    assert rows.tolist() == [2, 3, 4, 5]
    np.testing.assert_allclose(y, [[0.01, 0.03], [0.01, NAN], [0.01, NAN], [NAN, NAN]], atol=1e-15)


@pytest.mark.parametrize("tick", [4, 5, 6])
def test_labels_do_not_depend_on_what_is_found_out_about_a_bar_after_the_boundary(tick):
    """A bar at the boundary is a row of the panel until the next session shows it to be a bad tick."""
    day = np.datetime64(D[tick])
    kept = panel_at({"AAA": ramp(10)}, sessions=10)
    left_out = with_doubted(panel_at({"AAA": ramp(10, missing=(tick,))}, sessions=10), tick)
    before = np.datetime64(D[tick - 1])
    for one, other in zip(
        labelled_rows(kept, np.datetime64(D[0]), before, day),
        labelled_rows(left_out, np.datetime64(D[0]), before, day),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_boundary_that_is_no_session_is_the_session_before_it():
    panel = panel_at({"AAA": ramp(10)}, sessions=10)
    saturday = np.datetime64("2020-01-04")  # between sessions 1 and 2
    _, y = labelled_rows(panel, np.datetime64(D[0]), np.datetime64(D[1]), saturday, (1,))
    assert np.isnan(y).tolist() == [[True], [True]]
    _, y = labelled_rows(panel, np.datetime64(D[0]), np.datetime64(D[1]), np.datetime64(D[2]), (1,))
    np.testing.assert_allclose(y[:, 0], [0.01, NAN], atol=1e-15)


def test_training_labels_that_reach_into_validation_are_nan_even_without_a_purge():
    panel = panel_at({"AAA": ramp(30)}, sessions=30)
    fold = fold_of((2, 9), (10, 14), 19, (20, 29))
    rows, y = train_rows(panel, fold, (1, 5))
    assert rows.tolist() == list(range(2, 10))
    # Labels may end on session 8 at the latest, which is beyond doubt at 9: one session ahead from 7, five from 3.
    assert np.isfinite(y).sum(axis=0).tolist() == [6, 2]
    assert np.isnan(y[-1]).all()


def test_validation_labels_end_before_the_last_session_known_at_the_fold_start():
    panel = panel_at({"AAA": ramp(30)}, sessions=30)
    fold = fold_of((0, 4), (10, 18), 19, (20, 29))
    rows, y = validation_rows(panel, fold, (1, 5))
    assert rows.tolist() == list(range(10, 19))
    assert np.isfinite(y).sum(axis=0).tolist() == [8, 4]


def test_no_price_after_the_boundary_changes_a_label():
    prices = {"AAA": ramp(30), "BBB": ramp(30, missing=(7,), slope=-0.02)}
    noise = {symbol: {at: p if at < 20 else 99.0 for at, p in rows.items()} for symbol, rows in prices.items()}
    fold = fold_of((0, 8), (10, 19), 19, (20, 29))
    for rows_of in (train_rows, validation_rows):
        for one, other in zip(
            rows_of(panel_at(prices, sessions=30), fold), rows_of(panel_at(noise, sessions=30), fold), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_a_fold_forecasts_from_validation_and_test_and_a_live_one_from_the_newest_session():
    panel = panel_at({"AAA": ramp(30)}, sessions=30)
    tested = fold_origins(panel, fold_of((0, 4), (10, 12), 19, (20, 22)))
    assert tested.astype(object).tolist() == [*D[10:13], *D[20:23]]
    live = fold_origins(panel, fold_of((0, 4), (5, 7), 29, None))
    assert live.astype(object).tolist() == [*D[5:8], D[29]]
    later = fold_origins(panel, replace(fold_of((0, 4), (10, 12), 19, (20, 22)), opens=False))
    assert later.astype(object).tolist() == D[20:23]


def test_a_window_counts_rows_of_one_symbol_past_its_warm_up():
    panel = panel_at(
        {"AAA": ramp(4), "BBB": ramp(3)},
        sessions=4,
        features=[[NAN], [1], [1], [1], [1], [1], [1]],
    )
    assert has_window(panel, 1).tolist() == [False, True, True, True, True, True, True]
    assert has_window(panel, 2).tolist() == [False, False, True, True, False, True, True]
    assert has_window(panel, 3).tolist() == [False, False, False, True, False, False, True]
    assert not has_window(panel, 4).any()


def test_a_window_spans_a_gap_of_missing_bars_because_it_counts_bars():
    panel = panel_at({"AAA": ramp(6, missing=(2, 3))}, sessions=6)
    assert has_window(panel, 3).tolist() == [False, False, True, True]


def test_one_missing_feature_is_a_missing_row():
    panel = panel_at({"AAA": ramp(3)}, sessions=3, features=[[1, NAN], [1, 1], [1, 1]])
    assert has_window(panel, 2).tolist() == [False, False, True]


def test_outcomes_cross_the_days_the_exchange_was_closed():
    panel = panel_at({"AAA": {0: 1.0, 1: 1.5}}, sessions=2, first=date(2001, 9, 10))
    assert panel.sessions.astype(str).tolist() == ["2001-09-10", "2001-09-17"]
    assert outcomes(panel, (1,))[0, 0] == pytest.approx(0.5)
