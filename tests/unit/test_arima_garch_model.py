"""ARIMA-GARCH as a model: schedule, causality, fallbacks and files. Its numerics are tested against references."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.garch import make_parameters, simulate_returns
from support.panels import panel_from_returns

from swiftbolt.config import load_config, parse_config
from swiftbolt.errors import ArtifactMismatch, ConfigError, InsufficientHistory
from swiftbolt.folds import Fold, SessionRange
from swiftbolt.forecast import HORIZONS, LEVELS, Z_Q
from swiftbolt.models import arima_garch
from swiftbolt.models.arima_garch import ARIMAGARCH, ARIMAGARCHConfig, limited_returns
from swiftbolt.models.naive import Naive
from swiftbolt.panel import DoubtedBar, Panel
from swiftbolt.scaling import ewma_variance
from swiftbolt.windows import outcomes

SHARE = make_parameters(mean=0.03)
TRAIN_END = 400  # position of the first anchor


def share_returns(count: int = 600, seed: int = 1, parameters=SHARE) -> np.ndarray:
    return simulate_returns(parameters, count, np.random.default_rng(seed))[0] / 100


def fold_of(panel: Panel, *, live: bool = False, train_end: int = TRAIN_END) -> Fold:
    """Train to ``train_end``, validate for 40 sessions, test from 80 sessions later to the end."""
    day = [session.astype(object) for session in panel.sessions]
    validation = SessionRange(day[train_end + 20], day[train_end + 59])
    if live:
        test, known_through = None, day[-1]
    else:
        test, known_through = SessionRange(day[train_end + 80], day[-1]), day[train_end + 79]
    return Fold(
        index=0,
        train=SessionRange(day[0], day[train_end]),
        validation=validation,
        test=test,
        known_through=known_through,
    )


def fitted(panel: Panel, *, live: bool = False, train_end: int = TRAIN_END, seed: int = 0, **config) -> ARIMAGARCH:
    model = ARIMAGARCH(ARIMAGARCHConfig(**config))
    model.fit(panel, fold_of(panel, live=live, train_end=train_end), seed=seed)
    return model


def anchors_in(model: ARIMAGARCH, file: str) -> list[dict]:
    return json.loads(model.dump()[file])["anchors"]


def test_parameters_are_estimated_at_the_end_of_training_and_every_21_sessions_after():
    panel = panel_from_returns({"AAA": share_returns()})
    sessions = [anchor["session"] for anchor in anchors_in(fitted(panel), "AAA.json")]
    assert sessions == [str(day) for day in panel.sessions[TRAIN_END::21]]


def test_a_live_fold_is_estimated_at_its_newest_session_too():
    panel = panel_from_returns({"AAA": share_returns()})
    sessions = [anchor["session"] for anchor in anchors_in(fitted(panel, live=True), "AAA.json")]
    assert sessions == [*(str(day) for day in panel.sessions[TRAIN_END::21]), str(panel.sessions[-1])]


def test_every_origin_from_the_first_anchor_on_is_forecast_and_none_before():
    panel = panel_from_returns({"AAA": share_returns(), "BBB": share_returns(seed=2)})
    found = fitted(panel).forecast(panel, panel.sessions)
    assert found.horizons == HORIZONS
    assert found.symbol_N.tolist() == ["AAA"] * 201 + ["BBB"] * 201
    np.testing.assert_array_equal(found.origin_N, np.tile(panel.sessions[TRAIN_END:], 2))


@pytest.mark.parametrize("cut", [TRAIN_END, 441, 442, 520])
def test_forecasts_and_estimates_up_to_a_session_ignore_all_that_follows(cut):
    past = share_returns()
    noise = np.random.default_rng(9).standard_t(2, len(past)) * 0.2
    changed = np.where(np.arange(len(past)) < cut, past, noise)  # return i ends at session i + 1
    panel, other = panel_from_returns({"AAA": past}), panel_from_returns({"AAA": changed})
    shorter = panel_from_returns({"AAA": past[:cut]}, end=panel.sessions[cut].astype(object))
    origins = panel.sessions[: cut + 1]
    model, same = fitted(panel), fitted(other)
    expected = model.forecast(panel, origins).quantiles_NHQ
    assert len(expected) == cut - TRAIN_END + 1
    np.testing.assert_array_equal(same.forecast(other, origins).quantiles_NHQ, expected)
    np.testing.assert_array_equal(model.forecast(shorter, origins).quantiles_NHQ, expected)
    scheduled = (cut - TRAIN_END) // 21 + 1
    assert anchors_in(same, "AAA.json")[:scheduled] == anchors_in(model, "AAA.json")[:scheduled]
    assert anchors_in(same, "AAA.json") != anchors_in(model, "AAA.json")


def found_out(panel: Panel, row: int) -> Panel:
    """``panel`` of one symbol without the bar of ``row``, which was found to be faulty when the next one came."""
    bar = DoubtedBar(
        symbol=0,
        session=int(panel.session_R[row]),
        close=panel.close_R[row],
        log_price=panel.log_price_R[row],
        features_F=panel.features_RF[row],
    )
    columns = ("session_R", "close_R", "log_price_R", "features_RF")
    return replace(
        panel,
        offsets=panel.offsets - [0, 1],
        doubted=(bar,),
        **{name: np.delete(getattr(panel, name), row, axis=0) for name in columns},
    )


@pytest.mark.parametrize("anchor", [TRAIN_END, TRAIN_END + 21])
def test_an_anchor_does_not_depend_on_whether_its_own_bar_is_found_to_be_faulty_later(anchor):
    """Were its own return in the estimate, a bad tick would count here only if the next session does not show it."""
    panel = panel_from_returns({"AAA": share_returns()})
    kept, left_out = anchors_in(fitted(panel), "AAA.json"), anchors_in(fitted(found_out(panel, anchor)), "AAA.json")
    last = (anchor - TRAIN_END) // 21
    assert kept[last]["session"] == str(panel.sessions[anchor])
    assert kept[: last + 1] == left_out[: last + 1]
    assert kept[last + 1] != left_out[last + 1]


def test_whether_a_symbol_is_old_enough_does_not_depend_on_it_either():
    panel = panel_from_returns({"AAA": share_returns(400)})
    for known in (panel, found_out(panel, 249)):
        first = anchors_in(fitted(known, train_end=249), "AAA.json")[0]
        assert first["fallback"] == "needs 250 sessions, has 249"


def test_a_forecast_does_not_depend_on_which_others_are_asked_for():
    panel = panel_from_returns({"AAA": share_returns(), "BBB": share_returns(seed=2)})
    together = fitted(panel).forecast(panel, panel.sessions)
    alone = fitted(panel.select(["BBB"]))
    one = alone.forecast(panel.select(["BBB"]), panel.sessions[-7:-6])
    at = np.flatnonzero((together.symbol_N == "BBB") & (together.origin_N == panel.sessions[-7]))
    np.testing.assert_array_equal(one.quantiles_NHQ, together.quantiles_NHQ[at])


def test_the_seed_and_a_second_fit_change_nothing():
    panel = panel_from_returns({"AAA": share_returns()})
    model = fitted(panel, seed=1)
    first = model.dump()
    model.fit(panel, fold_of(panel), seed=2)
    assert model.dump() == first


def test_a_restored_model_forecasts_bit_for_bit_what_the_dumped_one_did(tmp_path):
    panel = panel_from_returns({"BF/B": share_returns(), "^GSPC": share_returns(seed=2)})
    model = fitted(panel, orders=[(1, 1, 1)])
    model.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["%5EGSPC.json", "BF%2FB.json"]
    loaded = ARIMAGARCH.load(tmp_path, model.config)
    assert loaded.dump() == model.dump()
    expected = model.forecast(panel, panel.sessions).quantiles_NHQ
    np.testing.assert_array_equal(loaded.forecast(panel, panel.sessions).quantiles_NHQ, expected)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(model)).forecast(panel, panel.sessions).quantiles_NHQ, expected
    )


def test_the_dumps_of_two_symbols_fitted_apart_add_up_to_the_dump_of_both():
    panel = panel_from_returns({"AAA": share_returns(), "BBB": share_returns(seed=2)})
    apart = fitted(panel.select(["AAA"])).dump() | fitted(panel.select(["BBB"])).dump()
    assert apart == fitted(panel).dump()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"symbol": "A"}', b'{"symbol": "A", "anchors": [{"session": 3}]}'])
def test_a_file_of_something_else_is_refused(content):
    with pytest.raises(ArtifactMismatch, match=r"A\.json is not an ARIMA-GARCH file"):
        ARIMAGARCH.restore(ARIMAGARCHConfig(), {"A.json": content})


def test_a_young_symbol_is_named_and_gets_ewma_volatility_until_it_is_old_enough():
    panel = panel_from_returns({"OLD": share_returns(), "YOUNG": share_returns(395, seed=2)})
    model = fitted(panel, outlier_limit=100)
    # The first anchor is the symbol's 196th session, and its return not beyond doubt; three anchors later it has 258.
    assert model.notes == [
        f"YOUNG: needs 250 sessions, has 195 at {panel.sessions[TRAIN_END]}, EWMA volatility used (3 of 10 estimations)"
    ]
    parameters = [anchor["parameters"] for anchor in anchors_in(model, "YOUNG.json")]
    assert [values is None for values in parameters] == [True] * 3 + [False] * 7
    found = model.forecast(panel, panel.sessions)
    young = found.take(found.symbol_N == "YOUNG")
    assert len(young) == 201
    naive = Naive().forecast(panel.select(["YOUNG"]), young.origin_N[:63])
    np.testing.assert_allclose(young.quantiles_NHQ[:63], naive.quantiles_NHQ, rtol=1e-9, atol=1e-12)


def test_a_symbol_listed_after_the_first_anchor_is_forecast_from_its_twentieth_return_on():
    panel = panel_from_returns({"OLD": share_returns(), "YOUNG": share_returns(150, seed=2)})
    found = fitted(panel).forecast(panel, panel.sessions)
    np.testing.assert_array_equal(found.origin_N[found.symbol_N == "YOUNG"], panel.sessions[-131:])


def test_a_symbol_without_a_return_by_the_last_anchor_is_named_and_left_out():
    panel = panel_from_returns({"OLD": share_returns(), "NEW": share_returns(5, seed=2)})
    model = fitted(panel)
    assert model.notes == ["NEW: needs 21 sessions, has 0, left out"]
    assert list(model.dump()) == ["OLD.json"]
    with pytest.raises(InsufficientHistory, match="NEW: needs 21 sessions, has 0"):
        fitted(panel.select(["NEW"]))


def test_a_panel_shorter_than_the_least_history_gets_no_forecast():
    panel = panel_from_returns({"AAA": share_returns()})
    model = fitted(panel)
    short = panel_from_returns({"AAA": share_returns()[-251:]})
    found = model.forecast(short, short.sessions)
    np.testing.assert_array_equal(found.origin_N, short.sessions[249:])


def test_constant_prices_fall_back_to_ewma_and_say_so():
    panel = panel_from_returns({"AAA": np.zeros(600)})
    model = fitted(panel)
    assert model.notes == [
        f"AAA: prices do not move at {panel.sessions[TRAIN_END]}, EWMA volatility used (10 of 10 estimations)"
    ]
    found = model.forecast(panel, panel.sessions[-1:])
    # The least volatility is 1 basis point a session.
    np.testing.assert_allclose(found.quantiles_NHQ[0], 1e-4 * np.sqrt(HORIZONS)[:, None] * Z_Q, rtol=1e-9)


def test_volatility_without_a_level_falls_back_to_ewma():
    growing = share_returns(900) * np.exp(np.linspace(0, 5, 900)) * 0.05
    panel = panel_from_returns({"AAA": growing})
    model = fitted(panel, train_end=800, asymmetric=False)
    assert "AAA: alpha+beta 0.99" in model.notes[0]
    assert f">= 0.9995 at {panel.sessions[800]}, EWMA volatility used" in model.notes[0]
    found = model.forecast(panel, panel.sessions[810:811])
    sigma = np.sqrt(ewma_variance(limited_returns(100 * panel.log_returns("AAA"), 5.0))[809]) / 100
    np.testing.assert_allclose(found.quantiles_NHQ[0], sigma * np.sqrt(HORIZONS)[:, None] * Z_Q, rtol=1e-9)


def test_an_optimiser_that_stops_short_leaves_ewma_until_the_next_anchor(monkeypatch):
    panel = panel_from_returns({"AAA": share_returns()})
    whole, calls = arima_garch.estimate, []

    def stops_short_once(returns, shape, starts):
        calls.append(len(returns))
        found = whole(returns, shape, starts)
        return replace(found, failure="iteration limit") if len(calls) == 2 else found

    monkeypatch.setattr(arima_garch, "estimate", stops_short_once)
    model = fitted(panel, orders=[(0, 1, 0)])
    assert model.notes == [
        f"AAA: did not converge (iteration limit) at {panel.sessions[TRAIN_END + 21]}, "
        "EWMA volatility used (1 of 10 estimations)"
    ]
    parameters = [anchor["parameters"] for anchor in anchors_in(model, "AAA.json")]
    assert [values is None for values in parameters] == [False, True] + [False] * 8
    assert len(model.forecast(panel, panel.sessions)) == 201


def test_an_order_that_did_not_converge_is_not_chosen(monkeypatch):
    panel = panel_from_returns({"AAA": share_returns(parameters=make_parameters(ar=(0.5,)))})
    whole = arima_garch.estimate

    def refuses_ar(returns, shape, starts):
        return replace(whole(returns, shape, starts), failure="abnormal" if shape.p else None)

    monkeypatch.setattr(arima_garch, "estimate", refuses_ar)
    model = fitted(panel, orders=[(1, 1, 0), (0, 1, 1)])
    assert all(len(anchor["parameters"]["ma"]) == 1 for anchor in anchors_in(model, "AAA.json"))


@pytest.mark.parametrize(("parameters", "order"), [(SHARE, (0, 0)), (make_parameters(ar=(0.4,)), (1, 0))])
def test_the_order_is_that_of_the_process(parameters, order):
    panel = panel_from_returns({"AAA": share_returns(1000, parameters=parameters)})
    found = anchors_in(fitted(panel, train_end=900), "AAA.json")[0]["parameters"]
    assert (len(found["ar"]), len(found["ma"])) == order


def test_the_centre_of_a_forecast_follows_the_last_return_of_an_autoregressive_share():
    panel = panel_from_returns({"AAA": share_returns(1000, parameters=make_parameters(ar=(0.4,)))})
    model = fitted(panel, train_end=900, orders=[(1, 1, 0)], refit_every=500)
    p = anchors_in(model, "AAA.json")[0]["parameters"]
    found = model.forecast(panel, panel.sessions[-1:])
    x, phi, mean = 100 * panel.log_returns("AAA")[-1] - p["mean"], p["ar"][0], p["mean"]
    expected = [h * mean + x * sum(phi**k for k in range(1, h + 1)) for h in HORIZONS]
    np.testing.assert_allclose(100 * found.quantiles_NHQ[0, :, LEVELS.index(0.5)], expected, rtol=1e-9)


def test_forecasts_are_in_log_returns_not_in_percent():
    returns = np.random.default_rng(4).standard_normal(1000) * 0.02
    panel = panel_from_returns({"AAA": returns})
    found = fitted(panel, train_end=900).forecast(panel, panel.sessions[-50:])
    np.testing.assert_allclose(found.sd_NH.mean(axis=0), 0.02 * np.sqrt(HORIZONS), rtol=0.1)


def test_an_unadjusted_split_neither_stops_the_fit_nor_widens_later_forecasts():
    clean = share_returns(seed=3)
    jumped = clean.copy()
    jumped[480] = -np.log(10)
    panel, other = panel_from_returns({"AAA": clean}), panel_from_returns({"AAA": jumped})
    expected = fitted(panel).forecast(panel, panel.sessions[-100:])
    found = fitted(other).forecast(other, other.sessions[-100:])
    ratio = found.sd_NH / expected.sd_NH
    assert ratio.max() < 1.5
    assert ratio.min() > 0.75


def test_an_outlier_is_limited_by_what_was_usual_before_it():
    returns = np.tile([2.0, -2.0], 100)
    returns[150] = -230.0
    limited = limited_returns(returns, limit=5)
    assert limited[150] == pytest.approx(-5 * 2.0 / 0.6745)
    np.testing.assert_array_equal(np.delete(limited, 150), np.delete(returns, 150))


def test_a_quiet_share_may_still_fall_by_as_many_percent_as_the_limit():
    returns = np.tile([0.1, -0.1], 50)
    returns[60] = -7.0
    assert limited_returns(returns, limit=5)[60] == -5.0


def test_an_early_outlier_is_limited_too():
    returns = np.tile([2.0, -2.0], 50)
    returns[3] = 90.0
    assert limited_returns(returns, limit=5)[3] == pytest.approx(5 * 2.0 / 0.6745)


def test_it_beats_naive_where_volatility_returns_faster_than_ewma_forgets():
    reverting = make_parameters(omega=1.0, alpha=0.3, beta=0.3, nu=5.0)
    panel = panel_from_returns({"AAA": share_returns(2500, parameters=reverting)})
    origins = panel.sessions[1100:2450]
    ours = fitted(panel, train_end=1000, refit_every=126).forecast(panel, origins)
    naive = Naive().forecast(panel, origins)
    y_NH = outcomes(panel)[1100:2450]

    def pinball(quantiles_NHQ):
        error = y_NH[..., None] - quantiles_NHQ
        return np.maximum(np.array(LEVELS) * error, (np.array(LEVELS) - 1) * error).mean(axis=(0, 2))

    assert (pinball(ours.quantiles_NHQ) < 0.99 * pinball(naive.quantiles_NHQ)).all()


def test_orders_difference_the_log_price_exactly_once():
    with pytest.raises(ConfigError, match=r"orders: .*\(3, 2, 2\): d must be 1, it differences the log price"):
        parse_config({"orders": [[3, 2, 2]]}, ARIMAGARCHConfig, "arima_garch.yaml")


def test_a_share_that_stopped_trading_is_not_estimated_again():
    both = panel_from_returns({"AAA": share_returns(), "BBB": share_returns(seed=2)})
    kept = np.r_[0:451, 601:1202]  # AAA has no bar after position 450
    panel = replace(
        both,
        offsets=np.array([0, 451, 1052]),
        **{name: getattr(both, name)[kept] for name in ("session_R", "close_R", "log_price_R", "features_RF")},
    )
    model = fitted(panel)
    sessions = [anchor["session"] for anchor in anchors_in(model, "AAA.json")]
    assert sessions == [str(panel.sessions[position]) for position in (400, 421, 442, 463)]
    found = model.forecast(panel, panel.sessions)
    assert found.origin_N[found.symbol_N == "AAA"].max() == panel.sessions[450]


def test_a_long_order_can_be_fitted():
    panel = panel_from_returns({"AAA": share_returns(700)})
    model = fitted(panel, train_end=600, orders=[[3, 1, 2]])
    assert model.notes == []
    assert len(model.forecast(panel, panel.sessions)) == 101


def test_the_shipped_configuration_is_the_default():
    path = Path(__file__).parents[2] / "configs/models/arima_garch.yaml"
    assert load_config(path, ARIMAGARCHConfig) == ARIMAGARCHConfig()
