"""``swiftbolt sweep``: one starts as a program, the winner is shown or written, what does not fit is one line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from support.sweeps import TRIALS, sweep_plan

from swiftbolt import cli
from swiftbolt.evaluation.sweep_results import SweepFolder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """A finished sweep under the home of this environment."""
    monkeypatch.setenv("SWIFTBOLT_HOME", str(tmp_path / "home"))
    found = SweepFolder(tmp_path / "home", "sweep-1")
    found.write_plan(sweep_plan())
    for one in TRIALS:
        found.write_trial(one)
    return found


def test_sweep_goes_on_as_the_cluster_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "lstm.yaml"
    config.write_text("")
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, arguments: became.append(arguments))
    cli.run(["sweep", "--config", str(config), "--set", "seed=7", "--resume", "sweep-1"])
    program = [sys.executable, "-m", "cluster.sweep", "--config", str(config)]
    assert became == [[*program, "--set", "seed=7", "--resume", "sweep-1"]]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["sweep"], "--config: name a sweep file"),
        (["sweep", "--config", "none.yaml"], "none.yaml: no such file"),
        (["sweep", "--config", "x.yaml", "best", "sweep-1"], "--config: belongs to a sweep, not to best"),
        (["sweep", "best"], "Missing argument 'run'"),
        (["sweep", "worst"], "No such command 'worst'"),
    ],
)
def test_a_wrong_command_line_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert cli.run(arguments) == 2
    shown = capsys.readouterr()
    assert complaint in shown.err
    assert shown.err.count("\n") == 1


def test_help_names_sweep_and_best(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    assert " sweep " in capsys.readouterr().out
    assert cli.run(["sweep", "--help"]) == 0
    assert " best " in capsys.readouterr().out


def test_best_shows_the_winner_or_writes_it(
    folder: SweepFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["sweep", "best", "sweep-1"]) == 0
    shown = capsys.readouterr().out
    assert "# run: sweep-1, trial 2 of 4" in shown
    target = tmp_path / "xgboost.yaml"
    assert cli.run(["sweep", "best", "sweep-1", "--write", str(target), "--json"]) == 0
    reply = json.loads(capsys.readouterr().out)
    assert (reply["trial"], reply["model"], reply["written"]) == (2, "xgboost", str(target))
    assert reply["objective"] == pytest.approx(0.97)
    assert target.read_text() == shown


def test_best_of_a_sweep_that_is_not_there_says_where_to_look(
    folder: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["sweep", "best", "sweep-2"]) == 1
    assert "there is no sweep 'sweep-2'" in capsys.readouterr().err
