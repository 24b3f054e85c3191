"""The trading rule on two or three symbols and a handful of sessions, worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date

import numpy as np
import polars as pl
import pytest
from support.by_hand import sessions_from

from swiftbolt.errors import DataError
from swiftbolt.evaluation import equity
from swiftbolt.evaluation.equity import Equity, max_drawdown, sharpe_ratio, simple_rule, trade

NAN = np.nan
Trade = Callable[..., Equity]


def days(count: int) -> np.ndarray:
    return np.array(sessions_from(count), dtype="datetime64[D]")


def run(
    p_up, open_, close, *, horizon: int = 1, threshold: float = 0.5, cost: float = 0.0, rule: Trade = trade
) -> Equity:
    p_up_ST, open_ST, close_ST = (np.atleast_2d(np.array(x, dtype=float)) for x in (p_up, open_, close))
    return rule(days(p_up_ST.shape[1]), p_up_ST, open_ST, close_ST, horizon=horizon, threshold=threshold, cost=cost)


def random_market(seed: int, symbols: int = 4, sessions: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forecasts, opens and closes, with bars and forecasts missing here and there."""
    rng = np.random.default_rng(seed)
    path = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (symbols, 2 * sessions)), axis=1))
    open_ST, close_ST, p_up_ST = path[:, ::2], path[:, 1::2], rng.random((symbols, sessions))
    missing = rng.random((symbols, sessions)) < 0.1
    open_ST[missing] = close_ST[missing] = NAN
    p_up_ST[rng.random((symbols, sessions)) < 0.2] = NAN
    return p_up_ST, open_ST, close_ST


def test_a_long_is_entered_at_the_next_open_and_left_at_the_open_after():
    # Bought at 110, closes at 121 (+10 %), sold at the next open at 115.5 (21/22 of the close).
    found = run([0.6, NAN, NAN], [100, 110, 115.5], [105, 121, 140])
    assert found.sessions_T.tolist() == days(3)[1:].tolist()
    assert found.net_T == pytest.approx([0.10, 115.5 / 121 - 1])
    assert np.prod(1 + found.net_T) == pytest.approx(115.5 / 110)
    assert found.gross_T.tolist() == [1.0, 0.0]
    assert found.turnover_T.tolist() == [1.0, 1.0]


def test_a_short_earns_what_the_price_loses():
    found = run([0.3, NAN, NAN], [100, 100, 90], [100, 95, 80])
    assert found.net_T == pytest.approx([0.05, 1 - 90 / 95])


def test_each_purchase_and_sale_costs_five_basis_points_and_what_goes_on_being_held_costs_nothing():
    flat = [100.0] * 5
    found = run([0.6, 0.6, 0.6, NAN, NAN], flat, flat, cost=equity.COST_PER_SIDE)
    assert found.net_T == pytest.approx([-0.0005, 0, 0, -0.0005])
    turned = run([0.6, 0.4, NAN, NAN], flat[:4], flat[:4], cost=equity.COST_PER_SIDE)
    assert turned.turnover_T.tolist() == [1.0, 2.0, 1.0]
    assert turned.net_T == pytest.approx([-0.0005, -0.001, -0.0005])


def test_capital_is_shared_equally_by_the_forecasts_that_are_confident_enough():
    p_up = [[0.9, NAN, NAN], [0.2, NAN, NAN], [0.55, NAN, NAN], [0.5, NAN, NAN]]
    open_ = [[100, 100, 100]] * 4
    close = [[100, 110, 100], [100, 90, 100], [100, 150, 100], [100, 50, 100]]
    found = run(p_up, open_, close, threshold=0.6)
    assert found.net_T[0] == pytest.approx(0.5 * 0.10 + 0.5 * 0.10)
    assert run(p_up, open_, close, threshold=0.55).net_T[0] == pytest.approx((0.10 + 0.10 + 0.50) / 3)
    assert run(p_up, open_, close, threshold=0.95).net_T.tolist() == [0.0, 0.0]


def test_a_horizon_of_two_sessions_makes_two_sleeves_of_half_the_capital():
    found = run([0.6, 0.6, NAN, NAN, NAN], [100.0] * 5, [100.0] * 5, horizon=2)
    assert found.gross_T.tolist() == [0.5, 1.0, 0.5, 0.0]
    assert found.turnover_T.tolist() == [0.5, 0.5, 0.5, 0.5]
    opposite = run([0.6, 0.4, NAN, NAN, NAN], [100.0] * 5, [100.0] * 5, horizon=2)
    assert opposite.gross_T.tolist() == [0.5, 0.0, 0.5, 0.0]


def test_sessions_run_from_the_first_entry_to_the_last_exit_or_the_end_of_prices():
    p_up = [NAN, 0.6, NAN, 0.6, NAN, NAN, NAN]
    assert run(p_up, [1.0] * 7, [1.0] * 7).sessions_T.tolist() == days(7)[2:6].tolist()
    assert run(p_up, [1.0] * 7, [1.0] * 7, horizon=20).sessions_T.tolist() == days(7)[2:].tolist()
    assert len(run([NAN] * 3, [1.0] * 3, [1.0] * 3).net_T) == 0


def test_what_has_no_bar_waits_for_its_next_one():
    # To be bought on session 1, which has no bar: nothing happens. Bought on 2, halted on 3, left on 4.
    found = run([0.6, 0.6, NAN, NAN, NAN], [100, NAN, 100, NAN, 80], [100, NAN, 110, NAN, 70])
    assert found.gross_T.tolist() == [0.0, 1.0, 1.0]
    late = run([0.6, 0.6, NAN, NAN, 0.6, NAN], [100, NAN, 100, NAN, 80, 80], [100, NAN, 110, NAN, 70, 80])
    assert late.net_T == pytest.approx([0.0, 0.10, 0.0, 80 / 110 - 1, 0.0])


def test_a_symbol_that_is_never_seen_again_is_held_at_its_last_close():
    found = run([0.6, NAN, NAN, NAN], [100, 100, NAN, NAN], [100, 90, NAN, NAN], horizon=2)
    assert found.net_T == pytest.approx([-0.05, 0.0, 0.0])


def test_ruin_is_the_end_and_no_debt():
    found = run([0.3, 0.3, NAN, NAN], [100, 100, 250, 250], [100, 100, 250, 250])
    assert found.net_T == pytest.approx([0.0, -1.0, 0.0])
    assert found.max_drawdown == -1.0


def at_the_origins_close(sessions_T, p_up_ST, open_ST, close_ST, **settings) -> Equity:
    """A rule that looks ahead: it is in the position for the very session whose close it needed to decide."""
    return trade(sessions_T, np.roll(p_up_ST, -1, axis=1), open_ST, close_ST, **settings)


def changes_the_past(rule: Trade, cut: int) -> bool:
    """Whether forecasts from the close of session ``cut`` on, or later prices, change a result up to ``cut``."""
    p_up_ST, open_ST, close_ST = random_market(1)
    known = run(p_up_ST, open_ST, close_ST, horizon=3, cost=0.001, rule=rule)
    other_up_ST, other_open_ST, other_close_ST = random_market(2)
    p_up_ST[:, cut:] = other_up_ST[:, cut:]
    open_ST[:, cut + 1 :], close_ST[:, cut + 1 :] = other_open_ST[:, cut + 1 :], other_close_ST[:, cut + 1 :]
    changed = run(p_up_ST, open_ST, close_ST, horizon=3, cost=0.001, rule=rule)
    until = known.sessions_T <= days(40)[cut]
    return not np.array_equal(known.net_T[until], changed.net_T[: until.sum()])


@pytest.mark.parametrize("cut", [5, 17, 39])
def test_later_forecasts_and_prices_change_no_earlier_result_and_a_planted_look_ahead_is_caught(cut):
    assert not changes_the_past(trade, cut)
    assert changes_the_past(at_the_origins_close, cut)


def test_knowing_the_night_after_the_origin_earns_nothing_and_knowing_the_day_after_earns_it():
    rng = np.random.default_rng(5)
    night, day = rng.normal(0, 0.01, (2, 300))
    close = 100 * np.exp(np.cumsum(night + day))
    open_ = close * np.exp(-day)
    foresees_night = run(np.where(np.roll(night, -1) > 0, 0.9, 0.1), open_, close)
    foresees_day = run(np.where(np.roll(day, -1) > 0, 0.9, 0.1), open_, close)
    assert abs(foresees_night.sharpe) < 2.5
    assert foresees_day.sharpe > 8


def test_sharpe_is_annualised_by_the_root_of_252_sessions():
    net_T = np.array([0.01, -0.01, 0.02, 0.0])
    assert sharpe_ratio(net_T) == pytest.approx(0.005 / math.sqrt(5e-4 / 3))
    made = Equity(sessions_T=days(4), net_T=net_T, gross_T=net_T, turnover_T=net_T)
    assert made.sharpe == pytest.approx(sharpe_ratio(net_T) * math.sqrt(252))
    assert sharpe_ratio(np.full(5, 0.1)) == sharpe_ratio(np.array([0.1])) == sharpe_ratio(np.array([])) == 0.0


def test_drawdown_is_compounded_from_the_highest_wealth_so_far():
    assert max_drawdown(np.array([0.10, -0.10, -0.10, 0.30])) == pytest.approx(0.9 * 0.9 - 1)
    assert max_drawdown(np.array([-0.05, 0.10])) == pytest.approx(-0.05)  # from the start
    assert max_drawdown(np.array([0.01, 0.02])) == max_drawdown(np.array([])) == 0.0


def forecasts(rows: list[tuple[str, date, float]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"symbol": pl.String, "origin": pl.Date, "p_up": pl.Float64}, orient="row")


def prices(rows: list[tuple[str, date, float, float]]) -> pl.DataFrame:
    schema = {"symbol": pl.String, "session": pl.Date, "open": pl.Float64, "close": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_frames_in_any_order_give_what_their_tables_give():
    d = sessions_from(4)
    found = simple_rule(
        forecasts([("B", d[1], 0.2), ("A", d[0], 0.8)]),
        prices(
            [
                ("B", d[3], 95, 70), ("B", d[2], 100, 90), ("B", d[0], 1, 1), ("C", d[1], 5, 6),
                ("A", d[2], 120, 1), ("A", d[1], 100, 110), ("A", d[0], 7, 7),
            ]
        ),
        horizon=1,
        threshold=0.6,
        cost=0.0,
    )  # fmt: skip
    assert found.sessions_T.tolist() == d[1:]
    assert found.net_T == pytest.approx([0.10, (1 + 10 / 110) * (1 + 0.10) - 1, -5 / 90])


def test_frames_that_do_not_fit_together_are_refused():
    d = sessions_from(3)
    good = prices([("A", d[0], 1, 1), ("A", d[1], 1, 1)])
    with pytest.raises(DataError, match="no price of B"):
        simple_rule(forecasts([("B", d[0], 0.5)]), good, horizon=1, threshold=0.5)
    with pytest.raises(DataError, match=f"A is forecast from {d[2]}, a session without prices"):
        simple_rule(forecasts([("A", d[2], 0.5)]), good, horizon=1, threshold=0.5)
    with pytest.raises(DataError, match=f"A is forecast twice from {d[0]}"):
        simple_rule(forecasts([("A", d[0], 0.5), ("A", d[0], 0.6)]), good, horizon=1, threshold=0.5)
    assert len(simple_rule(forecasts([]), good, horizon=1, threshold=0.5).net_T) == 0
