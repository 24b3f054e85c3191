"""The space of a sweep: what a file may say, and what it is refused for."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from swiftbolt.errors import ConfigError
from swiftbolt.evaluation.search_space import Dimension, require_possible, settings_of, within, written
from swiftbolt.models.registry import config_class

LSTM = config_class("lstm")()
TRANSFORMER = config_class("transformer")()


def dimension(text: str) -> Dimension:
    return Dimension.model_validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("text", "kind", "value", "place"),
    [
        ("uniform: [0, 0.5]", "uniform", 0.25, 0.5),
        ("loguniform: [1e-4, 1e-2]", "loguniform", 1e-3, 0.5),
        ("int: [2, 6]", "int", 3, 0.25),
        ("{int: [16, 96], step: 16}", "int", 96, 1.0),
        ("choice: [[64], [64, 32], null]", "choice", [64, 32], 0.5),
        ("choice: [only]", "choice", "only", 0.0),
    ],
)
def test_a_key_is_a_range_or_a_list(text: str, kind: str, value: Any, place: float) -> None:
    one = dimension(text)
    assert one.kind == kind
    assert one.holds(value)
    assert one.place(value) == pytest.approx(place)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{}", "needs exactly one of uniform, loguniform, int, choice, has none"),
        ("{uniform: [0, 1], choice: [1]}", "has uniform and choice"),
        ("uniform: [1, 1]", "uniform needs its lower end first, has 1 and 1"),
        ("loguniform: [0, 1]", "loguniform needs ends above zero, has 0"),
        ("{int: [16, 90], step: 16}", "int must go from 16 to 90 in whole steps of 16"),
        ("{choice: [1, 3], step: 2}", "step 2 is for int alone, not for choice"),
        ("choice: [a, b, a]", "an option stands there twice"),
        ("gaussian: [0, 1]", "Extra inputs"),
        ("int: [1.5, 3]", "valid integer"),
    ],
)
def test_what_is_no_range_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint.replace("[", r"\[")):
        dimension(text)


def test_true_and_one_are_two_options() -> None:
    one = dimension("choice: [true, 1]")
    assert (one.place(True), one.place(1)) == (0.0, 1.0)
    assert not dimension("int: [0, 1]").holds(True)


@pytest.mark.parametrize(
    ("space", "complaint"),
    [
        ({"hiden": "choice: [1]"}, "f.yaml: space.hiden: unknown key of lstm"),
        ({"learning_rates": "choice: [0.1]"}, "unknown key of lstm (did you mean 'learning_rate'?)"),
        ({"dropout": "uniform: [0, 1]"}, "space.dropout: 1.0: Input should be less than 1"),
        ({"units": "choice: [[64], []]"}, "space.units: []: Tuple should have at least 1 item"),
        ({"look_back": "uniform: [16, 64]"}, "space.look_back: 31.278874536821952: Input should be a valid integer"),
    ],
)
def test_a_space_that_leaves_the_models_settings_is_refused_by_name(space: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        require_possible({key: dimension(text) for key, text in space.items()}, LSTM, "lstm", "f.yaml")
    assert complaint in str(caught.value)


def test_what_two_keys_must_be_to_each_other_is_left_to_the_trial() -> None:
    space = {"look_back": dimension("choice: [30, 32]"), "patch": dimension("choice: [2, 5]")}
    require_possible(space, TRANSFORMER, "transformer", "f.yaml")
    assert settings_of(TRANSFORMER, {"look_back": 30, "patch": 5}, "a trial").model_dump()["patch"] == 5
    with pytest.raises(ConfigError, match="a trial: look_back 32 is not a multiple of patch 5"):
        settings_of(TRANSFORMER, {"look_back": 32, "patch": 5}, "a trial")


def test_the_base_is_a_point_of_the_space_only_if_every_key_holds_it() -> None:
    space = {"dropout": dimension("uniform: [0, 0.5]"), "units": dimension("choice: [[32], [128, 64]]")}
    assert within(space, LSTM) == {"dropout": 0.2, "units": [128, 64]}
    assert within({**space, "batch_size": dimension("choice: [64]")}, LSTM) is None


def test_an_option_is_written_the_same_whatever_the_order_of_its_keys() -> None:
    assert written({"b": 1, "a": [None, True]}) == '{"a": [null, true], "b": 1}'
