"""Importance and contributions by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from swiftbolt.models.explanations import (
    Contribution,
    Explanation,
    Importance,
    covering,
    explanation_of,
    importance_of,
    mean_by_horizon,
    mean_importance,
)

FEATURES = {"a": 1.5, "b": -2.0, "c": 0.0, "d": 4.0, "e": 0.1, "f": 7.0, "g": 3.0}


def explained(*parts: float) -> Explanation:
    return explanation_of(
        np.array(parts), features=FEATURES, symbol="X", origin=date(2020, 1, 2), horizon=5
    )  # fmt: skip


def test_the_five_largest_contributions_are_named_by_size_whatever_their_sign():
    found = explained(0.001, -0.006, 0.002, 0.004, -0.003, 0.005, 0.0005, 0.01)
    assert [part.feature for part in found.largest] == ["b", "f", "d", "e", "c"]
    assert found.largest[0] == Contribution(feature="b", value=-2.0, log_return=-0.006)


def test_base_contributions_and_the_rest_sum_to_the_median():
    found = explained(0.001, -0.006, 0.002, 0.004, -0.003, 0.005, 0.0005, 0.01)
    assert found.base == 0.01
    assert found.others == pytest.approx(0.001 + 0.0005)
    assert found.median == pytest.approx(0.0135)


def test_features_that_add_nothing_are_no_part_of_an_explanation():
    found = explained(0.0, 0.0, 0.0, 0.002, 0.0, 0.0, 0.0, 0.01)
    assert [part.feature for part in found.largest] == ["d"]
    assert found.others == 0.0


def test_importance_is_the_mean_size_of_contributions_of_features_that_split():
    contributions_NF = np.array([[0.1, -0.2, 0.0], [-0.3, 0.4, 0.0]])
    found = importance_of({"a": 5.0, "b": 2.0}, ["a", "b", "c"], contributions_NF)
    assert found.gain == {"a": 5.0, "b": 2.0}
    assert found.shap == pytest.approx({"a": 0.2, "b": 0.3})


def test_a_model_that_does_not_use_a_feature_counts_as_zero_in_the_mean():
    one, other = Importance(gain={"a": 4.0}, shap={"a": 0.2}), Importance(gain={"b": 3.0}, shap={"b": 0.1})
    assert mean_importance([one, other]) == Importance(gain={"a": 2.0, "b": 1.5}, shap={"a": 0.1, "b": 0.05})


def test_importance_over_folds_is_the_mean_at_each_horizon():
    first = {1: Importance(gain={"a": 4.0}, shap={"a": 0.2}), 5: Importance(gain={}, shap={})}
    second = {1: Importance(gain={"a": 2.0}, shap={"a": 0.4}), 5: Importance(gain={"b": 3.0}, shap={"b": 0.1})}
    found = mean_by_horizon([first, second])
    assert found[1].gain == {"a": 3.0}
    assert found[1].shap["a"] == pytest.approx(0.3)
    assert found[5] == Importance(gain={"b": 1.5}, shap={"b": 0.05})
    assert mean_by_horizon([]) == {}


def test_features_are_ranked_by_contribution_then_name_and_twenty_are_listed():
    shap = {f"f{i:02}": i / 100 for i in range(30)} | {"b": 1.0, "a": 1.0}
    ranked = Importance(gain={name: 2 * size for name, size in shap.items()}, shap=shap).ranked()
    assert ranked[:3] == [
        {"feature": "a", "shap": 1.0, "gain": 2.0},
        {"feature": "b", "shap": 1.0, "gain": 2.0},
        {"feature": "f29", "shap": 0.29, "gain": 0.58},
    ]
    assert (len(ranked), ranked[-1]["feature"]) == (20, "f12")


def test_an_explanation_survives_json_bit_for_bit_and_something_else_is_no_explanation():
    found = explained(0.1 / 3, -0.006, 0.002, 0.004, -0.003, 0.005, 0.0005, 0.01)
    data = json.loads(json.dumps(found.to_json()))
    assert Explanation.from_json(data) == found
    for damage in ({"origin": "soon"}, {"largest": [{"feature": "a"}]}, {"more": 1}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            Explanation.from_json({**data, **damage})


def test_a_horizon_is_explained_by_the_shortest_fitted_one_that_covers_it():
    one = explained(0.001, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.01)
    fitted = [replace(one, horizon=horizon) for horizon in (1, 5, 20)]
    assert {asked: covering(fitted, asked).horizon for asked in (1, 2, 5, 6, 20)} == {1: 1, 2: 5, 5: 5, 6: 20, 20: 20}
    assert covering(fitted, 21) is None
    assert covering([], 5) is None
