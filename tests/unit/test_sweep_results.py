"""What a sweep leaves behind: ranking, importance, the ledger's rows, the folder, and the winner's file."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.sweeps import SPACE, TRIALS, fold_score, sweep_plan, sweep_trial

from swiftbolt.errors import DataError, EnvironmentFault, NotFound
from swiftbolt.evaluation.search_space import Dimension
from swiftbolt.evaluation.sweep_results import (
    PENALTY,
    SweepFolder,
    importance,
    ledger_trials,
    ranked,
    running_loss,
    table_lines,
    trial_frame,
    winner,
    winner_text,
    write_winner,
)
from swiftbolt.models.registry import config_class, read_model_config

PLAN = sweep_plan()


# Losses and ranks


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        ([0.9, 1.1], 1.0),
        ([math.nan], PENALTY),
        ([0.9, math.inf], PENALTY),
        ([-math.inf], PENALTY),
        ([25.0], PENALTY),
        ([], PENALTY),
    ],
)
def test_a_search_is_told_a_finite_loss_whatever_a_trial_shows(losses: list[float], told: float) -> None:
    assert running_loss(losses) == pytest.approx(told)


def test_a_failed_trial_counts_the_penalty_however_good_it_was_before() -> None:
    assert sweep_trial(0, 0.5, state="failed", reason="it broke").loss == PENALTY


def test_complete_trials_rank_by_loss_then_pruned_by_how_far_they_came_then_failed() -> None:
    further = sweep_trial(4, 1.2, 1.2, state="pruned", reason="pruned")
    assert [one.number for one in ranked([*TRIALS, further])] == [2, 0, 4, 1, 3]


def test_the_table_shows_rank_objective_parameters_folds_and_seconds() -> None:
    head, *rows = (line.split() for line in table_lines(TRIALS, SPACE))
    assert head == ["rank", "trial", "objective", "state", "folds", "seconds", "learning_rate", "max_depth", "scope"]
    assert rows[0] == ["1", "2", "0.97000", "complete", "2", "1.5", "0.05", "2", '"symbol"']
    assert rows[3][:5] == ["4", "3", "-", "failed", "0"]


def test_the_frame_has_a_row_a_trial_and_the_loss_of_every_fold() -> None:
    frame = trial_frame(TRIALS, PLAN)
    assert frame["trial"].to_list() == [2, 0, 1, 3]
    assert frame["parameter.max_depth"].to_list() == [2, 3, 3, 3]
    assert frame["parameter.scope"][0] == '"symbol"'
    assert frame["loss.1"].to_list() == [0.98, 1.0, None, None]
    assert frame["reason"][3] == "no <row> is long enough"


def test_importance_finds_the_parameter_that_orders_the_trials() -> None:
    space = {"that": Dimension(uniform=(0, 1)), "not": Dimension(choice=("a", "b"))}
    trials = [sweep_trial(n, 1.0 + n / 100, parameters={"that": n / 16, "not": "ab"[n % 2]}) for n in range(16)]
    found = importance(trials, space)
    assert list(found) == ["that", "not"]
    # Four groups of four ranks: inside 4 x 5 of 340 in all, so 1 - (20/12) / (340/15).
    assert found["that"] == pytest.approx(1 - (20 / 12) / (340 / 15))
    assert found["not"] == 0.0
    assert importance(trials[:9], space) == {}


# The ledger


def test_every_horizon_of_a_trial_is_a_row_of_the_ledger() -> None:
    rows = ledger_trials(PLAN, TRIALS[2])
    assert [row.horizon for row in rows] == [1, 5, 20]
    first = rows[0]
    assert (first.source, first.state, first.model, first.symbols) == ("sweep", "complete", "xgboost", ("AA", "BB"))
    assert (first.first, first.last) == (date(2010, 1, 4), date(2011, 6, 30))
    assert first.crps == pytest.approx(0.0097)
    assert first.skill == pytest.approx(0.03)
    assert first.returns is None
    assert first.config["settings"]["learning_rate"] == 0.05
    assert first.config["settings"]["rounds"] == PLAN.base["rounds"]


def test_a_pruned_trial_names_the_folds_it_saw_and_is_another_look_than_the_complete_one() -> None:
    pruned = ledger_trials(PLAN, TRIALS[1])[0]
    assert (pruned.state, pruned.reason, pruned.last) == ("pruned", "pruned after 1 of 2 folds", date(2010, 6, 30))
    assert pruned.config["folds"] == [PLAN.folds[0]]
    whole = replace(TRIALS[1], folds=(*TRIALS[1].folds, fold_score(1.0)), state="complete", reason=None)
    assert pruned.key != ledger_trials(PLAN, whole)[0].key


def test_a_failed_trial_is_in_the_ledger_and_one_that_has_not_ended_is_not() -> None:
    failed = ledger_trials(PLAN, TRIALS[3])[0]
    assert (failed.state, failed.reason, failed.crps, failed.skill) == ("failed", "no <row> is long enough", None, None)
    assert ledger_trials(PLAN, sweep_trial(9, 1.0, state="running")) == []  # it is begun again, and counts as it ends


# The folder


def test_a_folder_gives_back_its_plan_and_its_trials(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path, "sweep-1")
    folder.write_plan(PLAN)
    for one in TRIALS:
        folder.write_trial(one)
    assert folder.plan() == PLAN
    assert folder.trials() == list(TRIALS)
    assert sorted(path.name for path in folder.path.iterdir()) == ["sweep.json", "trials"]
    folder.drop_trial(TRIALS[1])
    assert [one.number for one in folder.trials()] == [0, 2, 3]


def test_a_sweep_that_is_not_there_or_damaged_is_named(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path, "sweep-1")
    with pytest.raises(NotFound, match="there is no sweep 'sweep-1'"):
        folder.plan()
    folder.write_plan(PLAN)
    folder.write_trial(TRIALS[0])
    (folder.path / "trials" / "0000.json").write_text("{}")
    with pytest.raises(DataError, match=r"0000\.json cannot be read"):
        folder.trials()
    (folder.path / "sweep.json").write_text("{")
    with pytest.raises(DataError, match=r"sweep\.json cannot be read"):
        folder.plan()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path, "sweep-1")
    said = r"the folder of sweep sweep-1, .*, cannot be written \(.+\): make room or let SWIFTBOLT_HOME name another"
    with pytest.raises(EnvironmentFault, match=said):
        folder.write_trial(TRIALS[0])  # there is none
    (tmp_path / "sweeps").write_text("a file where a folder should be")
    with pytest.raises(EnvironmentFault, match=said):
        folder.write_plan(PLAN)
    with pytest.raises(EnvironmentFault, match=said), folder.held():
        pass


def test_only_one_process_works_on_a_sweep(tmp_path: Path) -> None:
    one, other = SweepFolder(tmp_path, "sweep-1"), SweepFolder(tmp_path, "sweep-1")
    with one.held(), pytest.raises(EnvironmentFault, match="another process works on sweep sweep-1"), other.held():
        pass
    with other.held():
        pass


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"trials": 40}, []),
        ({"seed": 8}, ["seed"]),
        ({"least_history": 90}, ["least_history"]),
        ({"data_hash": "f" * 64, "symbols": ("AA",)}, ["symbols", "data_hash"]),
    ],
)
def test_a_plan_may_want_more_trials_and_nothing_else(change: dict[str, Any], named: list[str]) -> None:
    assert PLAN.differences(sweep_plan(**change)) == named


# The winner


def test_the_winners_file_is_the_models_and_says_where_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "xgboost.yaml"
    write_winner(PLAN, TRIALS, path)
    assert read_model_config("xgboost", path).model_dump(mode="json") == {**PLAN.base, **TRIALS[2].parameters}
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
    told = "\n".join(comments)
    for part in (
        "run: sweep-1, trial 2 of 4 (2 complete, 1 pruned, 1 failed)",
        "learning_rate 0.05",
        "objective: 0.970000",
        "2 symbols, 2 folds, validation ranges only, data up to 2011-12-30",
        "code: 1+abc, seed 102",
    ):
        assert part in told
    write_winner(PLAN, TRIALS, path)
    assert [one.name for one in tmp_path.iterdir()] == ["xgboost.yaml"]


def test_the_winners_text_is_yaml_with_every_key_of_the_model() -> None:
    text = winner_text(PLAN, TRIALS)
    assert set(yaml.safe_load(text)) == set(config_class("xgboost").model_fields)
    assert "\nscope: symbol\n" in text
    assert "\nlearning_rate: 0.05\n" in text


def test_the_winners_file_says_what_the_base_showed_where_it_was_tried() -> None:
    base = {key: PLAN.base[key] for key in SPACE}
    assert "the base's own" not in winner_text(PLAN, TRIALS)
    text = winner_text(PLAN, [*TRIALS, sweep_trial(4, 0.99, 1.01, parameters=base)])
    assert "lower is better; the base's own: 1.000000 after 2 folds\n" in text


def test_a_list_and_a_small_number_of_the_winner_come_back_as_they_were() -> None:
    point = {"units": [64, 32], "learning_rate": 1e-5}
    space = {"units": Dimension(choice=([64, 32], [32])), "learning_rate": Dimension(loguniform=(1e-6, 1e-2))}
    plan = sweep_plan(model="lstm", base=config_class("lstm")().model_dump(mode="json"), space=space)
    text = winner_text(plan, [sweep_trial(n, 0.9 + n, parameters=point) for n in range(2)])
    assert "\nunits: [64, 32]\n" in text
    assert yaml.safe_load(text)["learning_rate"] == 1e-5


@pytest.mark.parametrize("there", ["orders: [[0, 1, 0]]\n", "just text", "universe: x\nseed: 1\n", "\x00\xff"])
def test_the_winner_replaces_nothing_but_settings_of_the_same_model(tmp_path: Path, there: str) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(there, encoding="latin-1")
    with pytest.raises(DataError, match="holds no settings of xgboost"):
        write_winner(PLAN, TRIALS, path)
    assert path.read_text(encoding="latin-1") == there


def test_a_folder_that_is_not_there_is_one_clear_fault(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        write_winner(PLAN, TRIALS, tmp_path / "none" / "xgboost.yaml")


def test_the_best_of_one_complete_trial_is_no_choice() -> None:
    with pytest.raises(DataError, match="has 1 complete, 1 pruned, 1 failed: the best of fewer than 2"):
        winner([TRIALS[0], TRIALS[1], TRIALS[3]], "sweep-1")
