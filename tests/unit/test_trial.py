"""A trial's key: every choice changes it, and nothing else does."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from support.trials import returns_of, trial_of

from swiftbolt.errors import DataError
from swiftbolt.trial import DailyReturns

CHOICES = {
    "model": "lstm",
    "horizon": 5,
    "config": {"settings": {"rounds": 4}},
    "symbols": ("AAPL",),
    "first": date(2024, 1, 3),
    "last": date(2024, 6, 27),
}
NO_CHOICES = {
    "returns": returns_of(0.5),
    "sharpe": 0.7,
    "crps": 0.1,
    "skill": -0.1,
    "state": "pruned",
    "source": "sweep",
    "code_version": "1.2.3",
}


@pytest.mark.parametrize("name", CHOICES)
def test_each_choice_changes_the_key(name):
    assert trial_of(**{name: CHOICES[name]}).key != trial_of().key


@pytest.mark.parametrize("name", NO_CHOICES)
def test_what_came_of_it_and_who_looked_do_not(name):
    assert trial_of(**{name: NO_CHOICES[name]}).key == trial_of().key


def test_the_order_in_which_settings_are_written_does_not_change_the_key():
    one = trial_of(config={"seed": 1, "settings": {"depth": 3, "rounds": 4}})
    other = trial_of(config={"settings": {"rounds": 4, "depth": 3}, "seed": 1})
    assert one.key == other.key
    assert trial_of(config={"seed": 2, "settings": {"depth": 3, "rounds": 4}}).key != one.key


def test_the_key_is_the_same_in_every_version():
    # Ledgers outlive code: were this to change, everything would be counted twice.
    assert trial_of().key == "92e81f1fe948848a494ed7563f293f985f4988134cf94136afc2944d8dbd12ca"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"first": date(2024, 7, 1)}, "ends before it begins"),
        ({"symbols": ("IBM", "AAPL")}, "ascending and distinct"),
        ({"symbols": ("IBM", "IBM")}, "ascending and distinct"),
        ({"symbols": ()}, "names its model, horizon and symbols"),
        ({"model": None}, "names its model, horizon and symbols"),
        ({"returns": None}, "or the reason why not"),
        ({"reason": "it never traded"}, "or the reason why not"),
    ],
)
def test_a_trial_that_contradicts_itself_is_refused(changes, reason):
    with pytest.raises(DataError, match=reason):
        trial_of(**changes)


def test_a_note_may_leave_open_what_was_looked_at():
    noted = trial_of(source="note", model=None, horizon=None, symbols=(), returns=None, reason="looked at elsewhere")
    assert noted.key != trial_of().key


@pytest.mark.parametrize(
    ("days", "net"),
    [
        (["2024-01-02"], []),
        ([], []),
        (["2024-01-02", "2024-01-03"], [0.1, np.nan]),
        (["2024-01-03", "2024-01-02"], [0.1, 0.2]),
        (["2024-01-02", "2024-01-02"], [0.1, 0.2]),
    ],
    ids=["uneven", "none", "not finite", "backwards", "twice"],
)
def test_returns_that_are_no_series_are_refused(days, net):
    with pytest.raises(DataError, match="daily returns"):
        DailyReturns(sessions_T=np.array(days, dtype="datetime64[D]"), net_T=np.array(net))
