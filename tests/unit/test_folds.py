"""Walk-forward folds on a calendar small enough to count along."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from swiftbolt.config import parse_config
from swiftbolt.errors import ConfigError, DataError
from swiftbolt.folds import Fold, FoldConfig, SessionRange, make_folds
from swiftbolt.sessions import all_sessions, session_after, sessions_between

SESSIONS = sessions_between(date(2000, 1, 3), date(2013, 3, 1))
SMALL = FoldConfig(count=2, test_sessions=30, validation_sessions=40, min_train_sessions=60)


def position(day: date, sessions=SESSIONS) -> int:
    """Where ``day`` stands among the sessions; it must be one."""
    at = int(np.searchsorted(sessions, np.datetime64(day)))
    assert sessions[at] == np.datetime64(day)
    return at


def test_a_fold_is_cut_where_the_numbers_say():
    sessions = SESSIONS[:240]  # tests take the last 60, so the first test origin has position 180
    first, second = make_folds(sessions, SMALL)
    where = [position(day) for r in (first.train, first.validation, first.test) for day in (r.first, r.last)]
    # 180 - 1 - 20 = 159 ends validation, 120 begins it; 120 - 1 - 20 = 99 ends training.
    assert where == [0, 99, 120, 159, 180, 209]
    assert position(first.known_through) == 179
    where = [position(day) for r in (second.train, second.validation, second.test) for day in (r.first, r.last)]
    assert where == [0, 129, 150, 189, 210, 239]
    assert [first.index, second.index] == [0, 1]
    assert not first.is_live


def test_the_live_fold_trains_to_the_newest_session_and_its_validation_has_matured():
    sessions = SESSIONS[:240]
    *tested, live = make_folds(sessions, SMALL, live=True)
    assert tested == make_folds(sessions, SMALL)
    assert live.is_live
    assert live.index == 2
    assert position(live.known_through) == 239
    assert position(live.validation.last) == 219
    assert session_after(live.validation.last, 20) == live.known_through
    assert position(live.train.last) == 219 - 40 - 20


def test_with_a_start_the_tests_tile_from_it_and_the_last_may_be_short():
    folds = make_folds(SESSIONS[:240], SMALL, start=SESSIONS[150].astype(object))
    assert [position(f.test.first) for f in folds] == [150, 180, 210]
    assert position(folds[-1].test.last) == 239
    short = make_folds(SESSIONS[:235], SMALL, start=SESSIONS[150].astype(object))
    assert position(short[-1].test.first) == 210
    assert position(short[-1].test.last) == 234


def test_a_start_that_is_no_session_means_the_next_one():
    folds = make_folds(SESSIONS, SMALL, start=date(2001, 9, 12))
    assert folds[0].test.first == date(2001, 9, 17)


BURNT = SMALL.model_copy(update={"burn_in_sessions": 90, "burn_in_fold_sessions": 60})


def test_burn_in_folds_of_equal_length_end_where_the_given_first_origin_begins():
    start = SESSIONS[300].astype(object)
    *taught, first, second = make_folds(SESSIONS[:360], BURNT, start=start, burn_in=True)
    assert [(position(f.test.first), position(f.test.last)) for f in taught] == [(210, 254), (255, 299)]
    assert [f.burn_in for f in (*taught, first, second)] == [True, True, False, False]
    assert [f.index for f in (*taught, first, second)] == [0, 1, 2, 3]
    # Published folds are cut as they are without.
    plain = make_folds(SESSIONS[:360], BURNT, start=start)
    assert [replace(f, index=f.index - 2) for f in (first, second)] == plain


def test_the_default_burn_in_lets_500_sessions_mature_at_the_longest_horizon_and_costs_two_fits():
    config = FoldConfig()
    taught = [f for f in make_folds(SESSIONS, config, start=SESSIONS[2000].astype(object), burn_in=True) if f.burn_in]
    assert len(taught) == 2
    assert position(taught[0].test.first) == 2000 - 500 - 20


@pytest.mark.parametrize(("start", "expected"), [(170, [140]), (169, []), (215, [140, 177])])
def test_a_burn_in_is_as_long_as_the_history_allows_and_none_where_it_would_be_shorter_than_a_test(start, expected):
    folds = make_folds(SESSIONS[:300], BURNT, start=SESSIONS[start].astype(object), burn_in=True)
    assert [position(f.test.first) for f in folds if f.burn_in] == expected


def test_there_is_no_burn_in_where_it_is_not_asked_for_or_no_first_origin_is_given():
    assert not any(f.burn_in for f in make_folds(SESSIONS, BURNT, burn_in=True))
    none = BURNT.model_copy(update={"burn_in_sessions": 0})
    assert not any(f.burn_in for f in make_folds(SESSIONS, none, start=date(2005, 1, 3), burn_in=True))


def test_a_longest_training_range_moves_along():
    config = SMALL.model_copy(update={"max_train_sessions": 70})
    lengths = [position(f.train.last) - position(f.train.first) + 1 for f in make_folds(SESSIONS[:240], config)]
    assert lengths == [70, 70]


def test_exactly_enough_history_is_enough_and_one_session_less_is_not():
    needed = SMALL.needed_sessions
    assert needed == 60 + 20 + 40 + 20
    folds = make_folds(SESSIONS[: needed + 60], SMALL)
    assert position(folds[0].train.last) == 59
    with pytest.raises(DataError, match=f"needs {needed} sessions before it, has {needed - 1}"):
        make_folds(SESSIONS[: needed + 59], SMALL)


@pytest.mark.parametrize("count", [1, 50])
def test_a_history_shorter_than_the_tests_raises_and_says_what_to_do(count):
    with pytest.raises(DataError, match=r"has 0: use a longer history"):
        make_folds(SESSIONS[:count], SMALL)


def test_a_start_before_or_after_the_history_raises():
    with pytest.raises(DataError, match="needs 140 sessions before it, has 0"):
        make_folds(SESSIONS, SMALL, start=date(1990, 1, 1))
    with pytest.raises(DataError, match="--start 2020-01-01 lies after the last session, 2013-03-01"):
        make_folds(SESSIONS, SMALL, start=date(2020, 1, 1))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"purge_sessions": 19}, "purge_sessions must be at least the longest horizon, 20"),
        ({"embargo_sessions": 0}, "embargo_sessions must be at least the longest horizon, 20"),
        ({"max_train_sessions": 100}, "max_train_sessions is below min_train_sessions"),
        ({"count": 0}, "greater than or equal to 1"),
        ({"test_sessions": 0}, "greater than or equal to 1"),
    ],
)
def test_a_configuration_that_would_let_labels_cross_is_refused(data, problem):
    with pytest.raises(ConfigError, match=problem):
        parse_config(data, FoldConfig, "folds.yaml")


def ranges(*edges: int) -> list[SessionRange]:
    days = [session.astype(object) for session in all_sessions()[list(edges)]]
    return [SessionRange(days[i], days[i + 1]) for i in range(0, len(days), 2)]


@pytest.mark.parametrize(
    ("edges", "known"),
    [
        ((0, 10, 10, 20, 30, 40), 29),  # training and validation share a session
        ((0, 10, 11, 30, 30, 40), 29),  # validation and test do
        ((0, 10, 11, 20, 30, 40), 30),  # the first test session would be known
        ((0, 10, 11, 20, 30, 40), 19),  # validation ends after what is known
        ((11, 20, 0, 10, 30, 40), 29),
    ],
)
def test_a_fold_refuses_ranges_that_overlap_or_are_out_of_order(edges, known):
    train, validation, test = ranges(*edges)
    with pytest.raises(DataError, match="fold 3: ranges overlap or are out of order"):
        Fold(index=3, train=train, validation=validation, test=test, known_through=all_sessions()[known].astype(object))


def test_a_range_refuses_to_end_before_it_begins():
    with pytest.raises(DataError, match="ends before it begins"):
        SessionRange(date(2020, 1, 3), date(2020, 1, 2))


def test_a_range_includes_both_its_ends():
    days = np.array(["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04"], dtype="datetime64[D]")
    found = SessionRange(date(2020, 1, 2), date(2020, 1, 3)).mask(days)
    assert found.tolist() == [False, True, True, False]


def test_folds_are_values_that_survive_pickling_and_print_as_json():
    *_, fold, live = make_folds(SESSIONS[:240], SMALL, live=True)
    assert pickle.loads(pickle.dumps(fold)) == fold
    assert hash(pickle.loads(pickle.dumps(fold))) == hash(fold)
    assert fold != live
    assert fold.to_json()["test"] == [fold.test.first.isoformat(), fold.test.last.isoformat()]
    assert live.to_json()["test"] is None
    assert live.to_json()["known_through"] == live.known_through.isoformat()
