"""The panel's promises and its ways of finding rows."""

from __future__ import annotations

import math
import pickle
from dataclasses import fields, replace
from datetime import date

import numpy as np
import pytest
from support.by_hand import panel_at, sessions_from

from swiftbolt.errors import DataError
from swiftbolt.panel import DoubtedBar, Panel, hash_arrays

NAN = math.nan
D = sessions_from(6)


@pytest.fixture
def panel() -> Panel:
    """AAA on sessions 0, 1, 3 and BBB on 1, 2, 3 and 4, of five; the first row of each is warm-up."""
    return panel_at(
        {"AAA": {0: 1.0, 1: 1.1, 3: 1.4}, "BBB": {1: 2.0, 2: 2.1, 3: 2.3, 4: 2.6}},
        sessions=5,
        features=[[NAN, 1], [2, 3], [4, 5], [NAN, NAN], [6, 7], [8, 9], [10, 11]],
    )


def changed(values: np.ndarray, row: int, value: float) -> np.ndarray:
    values = values.copy()
    values[row] = value
    return values


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: {"symbols": ("BBB", "AAA")}, "ascending and distinct"),
        (lambda p: {"symbols": ("AAA", "AAA")}, "ascending and distinct"),
        (lambda p: {"sessions": p.sessions[::-1]}, "sessions must be ascending"),
        (lambda p: {"sessions": p.sessions[[0, 1, 1, 2, 3]]}, "sessions must be ascending"),
        (lambda p: {"sessions": p.sessions[:0]}, "sessions must be ascending and at least one"),
        (lambda p: {"sessions": p.sessions[:4]}, "outside its sessions"),
        (lambda p: {"session_R": changed(p.session_R, 0, -1)}, "outside its sessions"),
        (lambda p: {"session_R": changed(p.session_R, 1, 0)}, "AAA: panel sessions do not increase"),
        (lambda p: {"offsets": p.offsets[:2]}, "do not span"),
        (lambda p: {"offsets": changed(p.offsets, 0, 1)}, "do not span"),
        (lambda p: {"offsets": changed(p.offsets, 2, 6)}, "do not span"),
        (lambda p: {"offsets": changed(p.offsets, 1, 9)}, "offsets decrease"),
        (lambda p: {"close_R": p.close_R[:-1]}, "differ in length"),
        (lambda p: {"log_price_R": p.log_price_R[:-1]}, "differ in length"),
        (lambda p: {"features_RF": p.features_RF[:, :1]}, r"shape \(7, 1\), need \(7, 2\)"),
        (lambda p: {"log_price_R": changed(p.log_price_R, 2, NAN)}, "prices must be finite"),
        (lambda p: {"close_R": changed(p.close_R, 2, math.inf)}, "prices must be finite"),
        (lambda p: {"close_R": changed(p.close_R, 2, 0.0)}, "prices must be finite and positive"),
        (lambda p: {"features_RF": changed(p.features_RF, 5, NAN)}, "BBB: a feature is not finite after the warm-up"),
        (lambda p: {"features_RF": changed(p.features_RF, 0, math.inf)}, "infinite"),
    ],
)
def test_a_panel_refuses_a_broken_promise(panel, spoil, message):
    with pytest.raises(DataError, match=message):
        replace(panel, **spoil(panel))


def test_rows_of_a_symbol_are_found_by_name_and_by_position(panel):
    assert panel.rows("AAA") == panel.rows(0) == slice(0, 3)
    assert panel.rows("BBB") == panel.rows(1) == slice(3, 7)


@pytest.mark.parametrize("symbol", ["CCC", 2, -1])
def test_a_symbol_that_is_not_there_raises(panel, symbol):
    with pytest.raises(DataError, match=str(symbol)):
        panel.rows(symbol)


def test_every_row_knows_its_symbol_and_its_session(panel):
    assert panel.symbol_R.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert panel.date_R.astype(object).tolist() == [D[0], D[1], D[3], D[1], D[2], D[3], D[4]]
    assert panel.last_session == D[4]


def test_log_returns_run_from_bar_to_bar_across_a_gap(panel):
    assert panel.log_returns("AAA") == pytest.approx([0.1, 0.3])


@pytest.mark.parametrize(
    ("day", "position"),
    [(date(2019, 12, 31), -1), (D[0], 0), (D[2], 2), (date(2020, 1, 4), 1), (date(2030, 1, 1), 4)],
)
def test_position_is_that_of_the_last_session_not_later(panel, day, position):
    assert panel.position(day) == position


def test_rows_at_origins_are_those_of_every_symbol_with_a_bar_there(panel):
    assert panel.rows_at(np.array([D[0], D[3]], dtype="datetime64[D]")).tolist() == [0, 2, 5]
    assert panel.rows_at(np.array([], dtype="datetime64[D]")).tolist() == []


def test_selecting_keeps_the_sessions_and_the_rows_of_the_symbols(panel):
    only = panel.select(["BBB"])
    assert only.symbols == ("BBB",)
    assert only.offsets.tolist() == [0, 4]
    assert only.sessions is panel.sessions
    assert only.log_price_R.tolist() == [2.0, 2.1, 2.3, 2.6]
    np.testing.assert_array_equal(only.features_RF, panel.features_RF[3:])
    both = panel.select(["BBB", "AAA", "BBB"])
    assert both.symbols == panel.symbols
    assert both.session_R.tolist() == panel.session_R.tolist()
    assert len(panel.select([]).session_R) == 0
    with pytest.raises(DataError, match="CCC is not in the panel"):
        panel.select(["CCC"])


def test_a_panel_survives_pickling_bit_for_bit(panel):
    loaded = pickle.loads(pickle.dumps(panel))
    for field in fields(Panel):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(panel, field.name))


@pytest.fixture
def doubtful(panel) -> Panel:
    """The same, but AAA had a bar on session 2 as well, which turned out to be wrong once session 3 had come."""
    bar = DoubtedBar(symbol=0, session=2, close=90.0, log_price=4.5, features_F=np.array([12, 13], dtype=np.float32))
    return replace(panel, doubted=(bar,))


def test_a_panel_as_known_at_a_doubted_bar_ends_with_it_and_holds_no_other_symbol(doubtful):
    then = doubtful.as_known_at(2)
    assert then.symbols == ("AAA",)
    assert then.sessions.astype(object).tolist() == D[:3]
    assert then.session_R.tolist() == [0, 1, 2]
    assert then.close_R.tolist() == [*doubtful.close_R[:2], 90.0]
    assert then.log_price_R.tolist() == [1.0, 1.1, 4.5]
    np.testing.assert_array_equal(then.features_RF, [[NAN, 1], [2, 3], [12, 13]])
    assert then.doubted == ()


def test_two_symbols_doubted_on_one_session_each_get_their_own_bar():
    panel = panel_at({"AAA": {0: 1.0, 3: 1.3}, "BBB": {1: 2.0, 3: 2.3}, "CCC": {0: 3.0}}, sessions=4)
    zero = np.zeros(1, dtype=np.float32)
    bars = tuple(DoubtedBar(symbol=s, session=2, close=5.0 + s, log_price=7.0 + s, features_F=zero) for s in (1, 0))
    then = replace(panel, doubted=bars).as_known_at(2)
    assert then.symbols == ("AAA", "BBB")
    assert then.session_R.tolist() == [0, 2, 1, 2]
    assert then.log_price_R.tolist() == [1.0, 7.0, 2.0, 8.0]
    assert then.close_R[[1, 3]].tolist() == [5.0, 6.0]


def test_a_panel_as_known_at_a_doubted_bar_has_the_breaks_up_to_it():
    rows = {"AAA": {0: 1.0, 1: 3.0, 3: 3.1}, "BBB": {0: 2.0, 3: 5.0, 4: 5.1}}
    zero = np.zeros(1, dtype=np.float32)
    bars = tuple(DoubtedBar(symbol=s, session=2, close=5.0, log_price=7.0, features_F=zero) for s in (0, 1))
    panel = replace(panel_at(rows, sessions=5), doubted=bars, breaks=np.array([1, 4]))
    then = panel.as_known_at(2)
    assert then.session_R.tolist() == [0, 1, 2, 0, 2]
    # AAA's second row; and BBB's doubted bar, for its price had jumped before the next row and so before this one.
    assert then.breaks.tolist() == [1, 4]
    assert replace(panel, breaks=np.array([2])).as_known_at(2).breaks.tolist() == [2]
    assert replace(panel, breaks=np.array([5])).as_known_at(2).breaks.tolist() == []


def test_nothing_was_earned_across_a_break():
    panel = panel_at({"AAA": {0: 1.0, 1: 1.1, 2: -1.2}, "BBB": {0: 2.0, 1: 2.5, 2: 2.6, 3: 2.8}}, sessions=4)
    broken = replace(panel, breaks=np.array([2, 4]))
    assert broken.log_returns("AAA") == pytest.approx([0.1, 0.0])
    assert broken.log_returns("BBB") == pytest.approx([0.0, 0.1, 0.2])


def test_a_session_without_a_doubted_bar_has_no_panel_of_its_own(doubtful):
    with pytest.raises(DataError, match=f"no doubted bar at {D[1]}"):
        doubtful.as_known_at(1)


def test_a_bar_cannot_be_doubted_and_a_row_at_once(doubtful):
    with pytest.raises(DataError, match="AAA: a doubted bar is a row of the panel, too"):
        replace(doubtful, doubted=(replace(doubtful.doubted[0], session=3),))


def test_selecting_takes_doubted_bars_and_breaks_along(doubtful):
    broken = replace(doubtful, breaks=np.array([2, 5]))
    assert broken.select(["AAA"]).breaks.tolist() == [2]
    assert broken.select(["BBB"]).breaks.tolist() == [2]
    assert broken.select(["BBB"]).doubted == ()
    (kept,) = broken.select(["AAA"]).doubted
    assert (kept.symbol, kept.session, kept.log_price) == (0, 2, 4.5)


@pytest.mark.parametrize("breaks", [[0], [7], [3, 3], [5, 2]])
def test_breaks_are_ascending_rows_and_never_the_first(panel, breaks):
    with pytest.raises(DataError, match="breaks"):
        replace(panel, breaks=np.array(breaks))


def test_panels_are_compared_by_identity_without_tripping_over_arrays(panel):
    assert panel == panel
    assert panel != replace(panel)
    assert len({panel, panel}) == 1


def test_hashes_differ_when_a_value_a_type_a_shape_or_the_order_does():
    one = np.arange(4.0)
    hashes = [
        hash_arrays(one),
        hash_arrays(one + 1e-12),
        hash_arrays(one.astype(np.float32)),
        hash_arrays(one.reshape(2, 2)),
        hash_arrays(one[::-1]),
        hash_arrays(one, "AAA"),
        hash_arrays("AAA", one),
    ]
    assert len(set(hashes)) == len(hashes)
    assert hash_arrays(one) == hash_arrays(np.arange(8.0)[:4].copy())


def test_hashes_know_where_one_string_ends_and_the_next_begins():
    assert hash_arrays("ab", "c") != hash_arrays("a", "bc") != hash_arrays("abc")


def test_a_view_hashes_like_its_copy():
    grid = np.arange(12.0).reshape(3, 4)
    assert hash_arrays(grid.T) == hash_arrays(np.ascontiguousarray(grid.T))


def test_objects_cannot_be_hashed_because_their_bytes_are_addresses():
    with pytest.raises(TypeError, match="objects"):
        hash_arrays(np.array(["a", "b"], dtype=object))
