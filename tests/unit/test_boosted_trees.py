"""Boosted quantile trees on markets whose truth is known."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb
from support.panels import panel_from_returns

from swiftbolt.config import load_config
from swiftbolt.errors import ArtifactMismatch, InsufficientHistory
from swiftbolt.folds import Fold, FoldConfig, make_folds
from swiftbolt.forecast import LEVELS, crps_from_quantiles, uncrossed
from swiftbolt.models.boosted_trees import BoostedTrees, BoostedTreesConfig, BoostingJob, Examples, HorizonTrees, grow
from swiftbolt.models.explanations import Importance
from swiftbolt.models.naive import Naive
from swiftbolt.panel import Panel
from swiftbolt.scaling import panel_volatility
from swiftbolt.windows import outcomes, train_rows

SESSIONS, SYMBOLS = 520, ("A", "B", "C")
FOLDS = FoldConfig(count=1, test_sessions=80, validation_sessions=80, min_train_sessions=300)
CONFIG = BoostedTreesConfig.model_validate({"rounds": 60, "learning_rate": 0.2, "min_child_weight": 30})


def market(strength: float, *, seed: int = 0, inverted_in: slice = slice(0, 0), symbols=SYMBOLS) -> Panel:
    """Returns of 1 % a day, of which the first of three features tells ``strength`` a session ahead.

    In the sessions ``inverted_in`` the feature tells the opposite.
    """
    rng = np.random.default_rng(seed)
    returns, features = {}, []
    for symbol in symbols:
        features_TF = rng.standard_normal((SESSIONS, 3))
        told_T = strength * features_TF[:-1, 0]
        told_T[inverted_in] *= -1
        noise_T = np.sqrt(1 - strength**2) * rng.standard_normal(SESSIONS - 1)
        returns[symbol] = 0.01 * (told_T + noise_T)
        features.append(features_TF)
    return panel_from_returns(returns, features=np.concatenate(features))


def the_fold(panel: Panel) -> Fold:
    return make_folds(panel.sessions, FOLDS)[0]


def fitted(panel: Panel, config: BoostedTreesConfig = CONFIG, seed: int = 1) -> BoostedTrees:
    model = BoostedTrees(config)
    model.fit(panel, the_fold(panel), seed=seed)
    return model


def rounds(model: BoostedTrees) -> dict[str, int]:
    about = json.loads(model.dump()["model.json"])
    return {horizon: entry["rounds"] for horizon, entry in about["horizons"].items()}


def test_trees_find_a_planted_signal_and_beat_naive_out_of_sample():
    panel = market(0.6)
    model = fitted(panel)
    origins = panel.sessions[the_fold(panel).test.mask(panel.sessions)][:-1]
    y_N = outcomes(panel)[panel.rows_at(origins), 0]
    scores = {
        m.name: np.mean(crps_from_quantiles(m.forecast(panel, origins).quantiles_NHQ[:, 0], y_N))
        for m in (model, Naive())
    }
    # Knowing 0.6 of a standard deviation leaves a spread of 0.8, hence 20 % less CRPS at the very best.
    assert scores["xgboost"] < 0.9 * scores["naive"]


def test_the_planted_feature_matters_most_by_gain_and_by_contribution_and_the_artifact_says_so():
    model = fitted(market(0.6))
    importance = model.importance()[1]
    assert max(importance.gain, key=importance.gain.__getitem__) == "f0"
    # Over the planted spread of 0.6 a mean absolute contribution near 0.6 sqrt(2 / pi) is possible, noise has none.
    assert importance.shap["f0"] > 0.3
    assert all(importance.shap[name] < 0.1 for name in importance.shap if name != "f0")
    assert json.loads(model.dump()["importance.json"])["1"] == asdict(importance)


def test_every_forecast_is_explained_and_contributions_sum_to_its_median():
    panel = market(0.6)
    model = fitted(panel)
    origins = panel.sessions[-40:]
    forecasts = model.forecast(panel, origins)
    found = model.explain(panel, panel.rows_at(origins))
    assert [(e.symbol, e.origin, e.horizon) for e in found[:2]] == [
        ("A", forecasts.origin_N[0].astype(object), h) for h in (1, 5)
    ]
    medians_NH = np.array([e.median for e in found]).reshape(-1, 3)
    assert np.abs(medians_NH - forecasts.quantiles_NHQ[:, :, 3]).max() < 1e-7
    # The first feature tells the next return: its contribution has its sign wherever it says much.
    told = [part for e in found if e.horizon == 1 for part in e.largest if part.feature == "f0" and abs(part.value) > 1]
    assert len(told) > 30
    assert all(np.sign(part.log_return) == np.sign(part.value) for part in told)


def test_where_quantiles_cross_the_one_that_becomes_the_median_is_explained():
    rng = np.random.default_rng(3)
    noise = Examples(features_NF=rng.standard_normal((400, 4)).astype(np.float32), target_N=rng.standard_normal(400))
    greedy = CONFIG.model_copy(update={"learning_rate": 1.0, "min_child_weight": 1.0, "max_depth": 6, "rounds": 3})
    start_Q = uncrossed(np.quantile(noise.target_N, LEVELS))
    grown = grow(BoostingJob(config=greedy, seed=1, start_Q=start_Q, train=noise, held=noise))
    booster = xgb.Booster()
    booster.load_model(bytearray(grown.ubj))
    raw_NQ = booster.predict(xgb.DMatrix(noise.features_NF, base_margin=np.tile(start_Q, (400, 1))))
    assert np.mean(np.argsort(raw_NQ, axis=1)[:, 3] != 3) > 0.05

    trees = HorizonTrees(start_Q=start_Q, booster=booster, importance=Importance(gain={}, shap={}))
    median_N = trees.predict(noise.features_NF, threads=1)[:, 3]
    assert trees.contributions(noise.features_NF, threads=1).sum(axis=1) == pytest.approx(median_N, abs=1e-5)


def test_models_apart_explain_the_symbols_they_know():
    panel = market(0.5)
    model = fitted(panel.select(["A", "B"]), CONFIG.model_copy(update={"scope": "symbol"}))
    found = model.explain(panel, panel.rows_at(panel.sessions[-1:]))
    assert [e.symbol for e in found] == ["A"] * 3 + ["B"] * 3
    forecasts = model.forecast(panel, panel.sessions[-1:])
    assert np.array([e.median for e in found]) == pytest.approx(forecasts.quantiles_NHQ[:, :, 3].ravel(), abs=1e-7)
    assert model.importance()[1].gain["f0"] > 0
    only_b = panel.select(["B"])
    assert model.explain(only_b, only_b.rows_at(panel.sessions[-1:])) == found[3:]


def test_without_trees_the_forecast_is_the_training_quantiles_times_volatility():
    # The signal turns its sign when validation begins: no tree can improve on the start.
    first = SESSIONS - 80 - 20 - 80
    panel = market(0.6, inverted_in=slice(first - 20, None))
    model = fitted(panel)
    assert rounds(model)["1"] == 0
    assert "1.ubj" not in model.dump()

    rows_B, y_BH = train_rows(panel, the_fold(panel))
    sigma_R = panel_volatility(panel)
    target_B = y_BH[:, 0] / sigma_R[rows_B]
    start_Q = uncrossed(np.quantile(target_B[np.isfinite(target_B)], LEVELS))
    expected_Q = uncrossed(start_Q) * sigma_R[panel.rows("A")][-1]
    forecast = next(iter(model.forecast(panel.select(["A"]), panel.sessions[-1:])))
    assert forecast.quantiles_HQ[0] == pytest.approx(expected_Q, rel=1e-12)

    (explanation, *_) = model.explain(panel, panel.rows_at(panel.sessions[-1:]))
    assert explanation.largest == ()
    assert explanation.base == pytest.approx(expected_Q[3], rel=1e-12)
    assert model.importance()[1] == Importance(gain={}, shap={})


def test_early_stopping_looks_at_validation_and_keeps_trees_that_help_there():
    assert 0 < rounds(fitted(market(0.6)))["1"] <= CONFIG.rounds


def test_what_comes_after_known_through_changes_no_forecast_up_to_it():
    panel = market(0.4)
    fold = the_fold(panel)
    after_R = panel.date_R > np.datetime64(fold.known_through)
    rng = np.random.default_rng(9)
    noise_R = np.where(after_R, rng.normal(0, 0.2, len(after_R)), 0.0)
    features_RF = np.where(after_R[:, None], rng.standard_normal(panel.features_RF.shape), panel.features_RF)
    changed = Panel(
        symbols=panel.symbols,
        sessions=panel.sessions,
        offsets=panel.offsets,
        session_R=panel.session_R,
        close_R=panel.close_R,
        log_price_R=panel.log_price_R + noise_R,
        features_RF=features_RF.astype(np.float32),
        feature_names=panel.feature_names,
        spec_hash=panel.spec_hash,
        data_hash="changed",
    )
    model, other = fitted(panel), fitted(changed)
    origins = panel.sessions[panel.sessions <= np.datetime64(fold.known_through)]
    assert model.dump() == other.dump()
    assert np.array_equal(model.forecast(panel, origins).quantiles_NHQ, other.forecast(changed, origins).quantiles_NHQ)


def test_the_same_seed_gives_the_same_bytes_whatever_the_threads_and_another_seed_does_not():
    panel = market(0.4)
    two_threads = CONFIG.model_copy(update={"threads": 2})
    assert fitted(panel).dump() == fitted(panel, two_threads).dump()
    assert fitted(panel).dump() != fitted(panel, seed=2).dump()


@pytest.mark.parametrize("scope", ["universe", "symbol"])
def test_restored_trees_forecast_bit_for_bit(scope, tmp_path: Path):
    panel = market(0.4)
    config = CONFIG.model_copy(update={"scope": scope})
    model = fitted(panel, config)
    model.save(tmp_path / "xgboost")
    loaded = BoostedTrees.load(tmp_path / "xgboost", config)
    before, after = (m.forecast(panel, panel.sessions) for m in (model, loaded))
    assert np.array_equal(before.quantiles_NHQ, after.quantiles_NHQ)
    assert before.symbol_N.tolist() == after.symbol_N.tolist()
    assert loaded.dump() == model.dump()
    rows = panel.rows_at(panel.sessions[-3:])
    assert loaded.explain(panel, rows) == model.explain(panel, rows)


def test_dumps_of_two_symbols_join_into_a_dump_of_both_whatever_their_names():
    config = CONFIG.model_copy(update={"scope": "symbol", "rounds": 5})
    panel = market(0.5, symbols=("BRK/B", "^GSPC"))
    dumps = [fitted(panel.select([symbol]), config).dump() for symbol in panel.symbols]
    assert all("/" not in name for dump in dumps for name in dump)
    joined = BoostedTrees.restore(config, {**dumps[0], **dumps[1]})
    together = fitted(panel, config)
    assert np.array_equal(
        joined.forecast(panel, panel.sessions).quantiles_NHQ,
        together.forecast(panel, panel.sessions).quantiles_NHQ,
    )


def test_a_pooled_model_forecasts_a_symbol_it_never_saw_and_models_apart_do_not():
    panel = market(0.5)
    known, stranger = panel.select(["A", "B"]), panel.select(["C"])
    pooled = fitted(known)
    assert len(pooled.forecast(stranger, panel.sessions[-5:])) == 5
    apart = fitted(known, CONFIG.model_copy(update={"scope": "symbol"}))
    assert len(apart.forecast(stranger, panel.sessions[-5:])) == 0


def test_rows_without_a_feature_or_a_volatility_get_no_forecast_and_no_explanation():
    panel = market(0.3)
    panel.features_RF[panel.rows("B").stop - 1, 2] = np.nan
    model, origins = fitted(panel), panel.sessions[[19, 20, -1]]
    # Position 19 has 19 returns behind it, one too few; B lacks a feature at the newest session.
    assert model.forecast(panel, origins).symbol_N.tolist() == ["A", "A", "B", "C", "C"]
    explained = model.explain(panel, panel.rows_at(origins))
    assert [e.symbol for e in explained if e.horizon == 1] == ["A", "A", "B", "C", "C"]


def test_too_few_rows_are_an_error_that_counts_them():
    panel = market(0.3, symbols=("A",))
    with pytest.raises(InsufficientHistory, match=r"A \(training at horizon 1\): needs 9999 sessions"):
        fitted(panel, CONFIG.model_copy(update={"min_rows": 9999}))


def test_models_apart_note_the_symbol_that_is_too_short_and_keep_the_others():
    long, short = market(0.3, symbols=("A",)), 0.01 * np.resize([1.0, -1.0], 150)
    panel = panel_from_returns(
        {"A": long.log_returns("A"), "SHORT": short},
        features=np.concatenate([long.features_RF, np.zeros((151, 3))]),
    )
    model = fitted(panel, CONFIG.model_copy(update={"scope": "symbol"}))
    assert len(model.notes) == 1
    assert "SHORT" in model.notes[0]
    assert set(model.forecast(panel, panel.sessions[-1:]).symbol_N) == {"A"}


def test_trees_refuse_other_features_and_a_dump_with_a_file_missing():
    panel = market(0.6)
    model = fitted(panel)
    with pytest.raises(ArtifactMismatch, match="test-3"):
        model.forecast(panel_from_returns({"A": np.zeros(30)}), panel.sessions[-1:])
    with pytest.raises(ArtifactMismatch, match="test-3"):
        model.explain(panel_from_returns({"A": np.zeros(30)}), np.array([29]))
    for name in ("1.ubj", "importance.json"):
        with pytest.raises(ArtifactMismatch, match=name):
            BoostedTrees.restore(CONFIG, {other: content for other, content in model.dump().items() if other != name})
    with pytest.raises(ArtifactMismatch, match=r"no model\.json"):
        BoostedTrees.restore(CONFIG, {"1.ubj": b""})


def test_the_shipped_configuration_is_the_default_one():
    shipped = load_config(Path(__file__).parents[2] / "configs/models/boosted_trees.yaml", BoostedTreesConfig)
    assert shipped == BoostedTreesConfig.model_validate({})
