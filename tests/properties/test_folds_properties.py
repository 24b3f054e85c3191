"""What holds for every way of cutting the calendar."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftbolt.folds import Fold, FoldConfig, make_folds
from swiftbolt.forecast import HORIZONS
from swiftbolt.panel import Panel
from swiftbolt.sessions import Sessions, all_sessions
from swiftbolt.windows import fold_origins, train_rows, validation_rows

QUICK = settings(max_examples=100, deadline=None, derandomize=True)
LONGEST = HORIZONS[-1]


@st.composite
def configs(draw: st.DrawFn) -> FoldConfig:
    min_train = draw(st.integers(60, 150))
    return FoldConfig(
        count=draw(st.integers(1, 5)),
        test_sessions=draw(st.integers(1, 70)),
        validation_sessions=draw(st.integers(20, 90)),
        min_train_sessions=min_train,
        max_train_sessions=draw(st.none() | st.integers(min_train, 300)),
        purge_sessions=draw(st.integers(LONGEST, 50)),
        embargo_sessions=draw(st.integers(LONGEST, 50)),
        burn_in_sessions=draw(st.integers(0, 150)),
        burn_in_fold_sessions=draw(st.integers(1, 150)),
    )


@st.composite
def cuts(draw: st.DrawFn) -> tuple[Sessions, FoldConfig, list[Fold], bool]:
    """Sessions, a configuration, the folds it makes, and whether the first origin was given."""
    config = draw(configs())
    needed = config.needed_sessions
    begin = draw(st.integers(0, 15_000))
    if draw(st.booleans()):
        ahead = draw(st.integers(1, 200))
        sessions = all_sessions()[begin : begin + needed + draw(st.integers(0, 200)) + ahead]
        start = sessions[-ahead].astype(object)
        return sessions, config, make_folds(sessions, config, start, live=True, burn_in=draw(st.booleans())), True
    extra = draw(st.integers(0, 200))
    sessions = all_sessions()[begin : begin + needed + config.count * config.test_sessions + extra]
    return sessions, config, make_folds(sessions, config, live=True), False


def at(sessions: Sessions, day: object) -> int:
    position = int(np.searchsorted(sessions, np.datetime64(day)))
    assert sessions[position] == np.datetime64(day)
    return position


@QUICK
@given(cuts())
def test_folds_up_to_the_first_published_one_open_and_no_later_one(cut):
    _, _, folds, _ = cut
    first_published = next(fold.index for fold in folds if not fold.burn_in)
    assert [fold.opens for fold in folds] == [fold.index <= first_published for fold in folds]


@QUICK
@given(cuts())
def test_ranges_are_disjoint_in_order_and_apart_by_purge_and_embargo(cut):
    sessions, config, folds, _ = cut
    for fold in folds:
        train = at(sessions, fold.train.first), at(sessions, fold.train.last)
        validation = at(sessions, fold.validation.first), at(sessions, fold.validation.last)
        assert train[1] - train[0] + 1 >= config.min_train_sessions
        assert config.max_train_sessions is None or train[1] - train[0] + 1 <= config.max_train_sessions
        assert validation[0] - train[1] - 1 == config.purge_sessions >= LONGEST
        assert validation[1] - validation[0] + 1 == config.validation_sessions
        known = at(sessions, fold.known_through)
        assert known - validation[1] == config.embargo_sessions >= LONGEST
        if fold.test is not None:
            assert at(sessions, fold.test.first) == known + 1


@QUICK
@given(cuts())
def test_no_label_of_training_reaches_validation_and_none_of_validation_reaches_the_test(cut):
    sessions, _, folds, _ = cut
    for fold in folds:
        assert at(sessions, fold.train.last) + LONGEST < at(sessions, fold.validation.first)
        assert at(sessions, fold.validation.last) + LONGEST <= at(sessions, fold.known_through)


@QUICK
@given(cuts())
def test_test_ranges_tile_the_calendar_to_its_end(cut):
    sessions, config, folds, started = cut
    edges = [(at(sessions, f.test.first), at(sessions, f.test.last)) for f in folds if f.test is not None]
    assert [first for first, _ in edges[1:]] == [last + 1 for _, last in edges[:-1]]
    assert edges[-1][1] == len(sessions) - 1
    taught = [last - first + 1 for (first, last), f in zip(edges, folds, strict=False) if f.burn_in]
    assert sum(taught) == 0 or config.test_sessions <= sum(taught) <= config.burn_in_sessions
    assert all(1 <= length <= config.burn_in_fold_sessions for length in taught)
    lengths = [last - first + 1 for first, last in edges[len(taught) :]]
    assert set(lengths[:-1]) <= {config.test_sessions}
    assert 1 <= lengths[-1] <= config.test_sessions
    if not started:
        assert lengths == [config.test_sessions] * config.count


@QUICK
@given(cuts())
def test_the_live_fold_is_the_last_knows_everything_and_its_validation_has_matured(cut):
    sessions, _, folds, _ = cut
    *tested, live = folds
    assert live.is_live
    assert not any(fold.is_live for fold in tested)
    assert [fold.index for fold in folds] == list(range(len(folds)))
    assert live.known_through == sessions[-1].astype(object)
    assert at(sessions, live.validation.last) + LONGEST <= len(sessions) - 1


@QUICK
@given(cuts())
def test_folds_ignore_every_session_after_their_test(cut):
    sessions, config, folds, _ = cut
    first = next(fold for fold in folds if not fold.burn_in)
    shorter = sessions[: at(sessions, first.test.last) + 1]
    assert make_folds(shorter, config, first.test.first)[0] == replace(first, index=0)


@settings(QUICK, max_examples=25)
@given(cuts(), st.integers(0, 2**32 - 1))
def test_no_price_after_a_boundary_reaches_a_label(cut, seed):
    """Labels of a fold are the same when every price after validation, or after the fold start, is noise."""
    sessions, _, folds, _ = cut
    fold = folds[seed % len(folds)]
    rng = np.random.default_rng(seed)
    present = np.flatnonzero(rng.random(len(sessions)) < 0.9)
    prices = rng.normal(size=len(present))

    def panel(last_known: object) -> Panel:
        known = sessions[present] <= np.datetime64(last_known)
        return Panel(
            symbols=("AAA",),
            sessions=sessions,
            offsets=np.array([0, len(present)]),
            session_R=present,
            close_R=np.ones(len(present)),
            log_price_R=np.where(known, prices, 1e3),
            features_RF=np.zeros((len(present), 1), dtype=np.float32),
            feature_names=("f",),
            spec_hash="",
            data_hash="",
        )

    whole = panel(sessions[-1])
    before_validation = panel(fold.validation.first - np.timedelta64(1, "D").astype(object))
    for label, spoilt in ((train_rows, before_validation), (validation_rows, panel(fold.known_through))):
        for one, other in zip(label(whole, fold), label(spoilt, fold), strict=True):
            np.testing.assert_array_equal(one, other)
    assert np.isfinite(train_rows(whole, fold)[1]).any()
    assert fold_origins(whole, replace(fold, opens=True))[0] == np.datetime64(fold.validation.first)
    assert fold_origins(whole, fold)[-1] == np.datetime64(fold.test.last if fold.test else fold.known_through)
