"""Sweeps on a real Ray and a real PostgreSQL: the planted best is found, the rest is pruned, a killed one goes on."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
import yaml
from support.autoregressive import autoregressive_bars

from cluster.lease import Lease
from swiftbolt import cli
from swiftbolt.errors import ConfigError, DataError, EnvironmentFault, LeaseLost, NotFound
from swiftbolt.evaluation.sweep_results import SweepFolder, ranked
from swiftbolt.settings import Settings
from swiftbolt.store import Store

ROOT = Path(__file__).parents[2]
RIGHT, WRONG = [[1, 1, 0]], [[0, 1, 0]]

pytestmark = pytest.mark.ray


@pytest.fixture
def settings(tmp_path: Path, migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SWIFTBOLT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATABASE_URL", migrated_url)
    with Store.connect(migrated_url) as store:
        store.upsert_bars(autoregressive_bars(["AA", "BB", "CC"], 700, seed=3), source="test")
    return Settings()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A sweep file with the files it names: returns have a memory, and one of two orders knows of it."""
    files: dict[str, dict[str, Any]] = {
        "universe.yaml": {"symbols": ["AA", "BB", "CC"], "min_sessions": 300},
        "arima.yaml": {"orders": WRONG, "max_history": 400},
        "sweep.yaml": {
            "universe": "universe.yaml",
            "symbols": 2,
            "end": "2012-12-31",
            "folds": {"count": 3, "test_sessions": 40, "validation_sessions": 80, "min_train_sessions": 260},
            "model": "arima",
            "base": {"config": "arima.yaml", "set": {"refit_every": 63}},
            "space": {"orders": {"choice": [RIGHT, WRONG]}, "max_history": {"int": [250, 450]}},
            "trials": 8,
            "reduction_factor": 2,
            "seed": 5,
        },
    }
    for name, content in files.items():
        (tmp_path / name).write_text(yaml.safe_dump(content))
    return tmp_path / "sweep.yaml"


def killed_after_one_trial(config: Path) -> None:
    """Start the program in a process of its own, and kill it when it tells of the first trial that ended."""
    import ray

    driver = subprocess.Popen(
        [sys.executable, "-u", "-m", "cluster.sweep", "--config", str(config)],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    assert driver.stderr is not None
    with driver:
        said = next((line for line in driver.stdout if line.startswith("1/8 trials: ")), None)
        driver.send_signal(signal.SIGKILL)
        assert said is not None, driver.stderr.read()


def test_a_sweep_killed_midway_goes_on_and_finds_the_planted_best(
    ray_cluster: str, settings: Settings, config: Path, migrated_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from cluster.sweep import sweep

    killed_after_one_trial(config)
    with Store.connect(migrated_url) as store:
        (run,) = store.runs()
        held = store.lease(f"sweep:{run.run}")
        with psycopg.connect(migrated_url) as connection:
            connection.execute("UPDATE leases SET renewed = renewed - interval '2 minutes'")
        (later,) = store.runs()
    assert (run.kind, run.state, later.state) == ("sweep", "running", "lost")
    assert held is not None
    assert held.run == run.run
    folder = SweepFolder(settings.home, run.run)
    before = {one.number: one for one in folder.trials() if one.state != "running"}
    assert 1 <= len(before) < 8
    assert cli.run(["sweep", "best", run.run]) == (0 if sum(t.state == "complete" for t in before.values()) > 1 else 2)

    lines: list[str] = []
    sweep(config, [], settings, lines.append, resume=run.run)
    plan, trials = folder.plan(), folder.trials()
    assert len(trials) == 8
    after = {one.number: one for one in trials}
    assert {number: after[number] for number in before} == before  # to the last digit of their seconds
    best = ranked(trials)[0]
    assert best.state == "complete"
    assert best.parameters["orders"] == RIGHT
    assert best.loss < 0.97
    pruned = [one for one in trials if one.state == "pruned"]
    assert pruned
    assert all(1 <= len(one.folds) < 3 and one.reason == f"pruned after {len(one.folds)} of 3 folds" for one in pruned)
    assert {one.parameters["orders"] == WRONG for one in trials} == {True, False}

    # Nothing after the end was looked at, and no test range of a fold.
    assert plan.data_end == date(2012, 12, 31)
    assert len(plan.symbols) == 2
    with Store.connect(migrated_url) as store:
        (run,) = store.runs()
        rows = store.trials("arima")
        assert store.releases() == []
        assert store.lease(f"sweep:{run.run}") is None
    assert (run.state, run.done, run.failed, run.total) == ("succeeded", 8, 0, 8)
    assert len(rows) == 3 * 8
    assert {(row.source, row.sessions) for row in rows} == {("sweep", None)}
    assert sum(row.state == "pruned" for row in rows) == 3 * len(pruned)
    assert max(row.last for row in rows) < date(2012, 12, 31)

    frame = pl.read_parquet(folder.path / "sweep.parquet")
    assert frame["trial"][0] == best.number
    assert frame["parameter.orders"][0] == json.dumps(RIGHT)
    page = (folder.path / "sweep.html").read_text()
    assert all(f"trial {one.number}: " in page for one in trials)
    assert not (settings.home / "ray" / f"{run.run}-trials").exists()
    table = [line.split() for line in lines[-10:-2]]
    assert [(row[0], row[1], row[3]) for row in table] == [
        (str(rank), str(number), state) for rank, number, state in frame.select("rank", "trial", "state").iter_rows()
    ]

    target = config.parent / "winner.yaml"
    capsys.readouterr()
    assert cli.run(["sweep", "best", run.run, "--write", str(target)]) == 0
    assert f"trial {best.number}" in capsys.readouterr().out
    written = yaml.safe_load(target.read_text())
    assert written["orders"] == RIGHT
    assert written["refit_every"] == 63
    assert f"# run: {run.run}, trial {best.number} of 8" in target.read_text()

    # What is done is not done again, and what has changed is not resumed.
    sweep(config, [], settings, lambda line: None, resume=run.run)
    assert folder.trials() == trials
    base = config.parent / "arima.yaml"
    assert cli.run(["sweep", "best", run.run, "--write", str(base)]) == 0  # over what the space varied
    sweep(config, [], settings, lines.append, resume=run.run)
    assert f"{base} has changed since sweep {run.run} began: it goes on with the settings it began with" in lines
    assert (folder.plan(), folder.trials()) == (plan, trials)
    with pytest.raises(DataError, match="was of other reduction_factor: start a new one"):
        sweep(config, ["reduction_factor=3"], settings, lambda line: None, resume=run.run)
    with folder.held(), pytest.raises(EnvironmentFault, match="another process works on sweep"):
        sweep(config, [], settings, lambda line: None, resume=run.run)


@pytest.mark.long
def test_a_sweep_that_another_driver_has_taken_over_stops_and_leaves_its_record_alone(
    ray_cluster: str, settings: Settings, config: Path, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cluster.sweep import sweep

    def take_it_at_the_first(line: str) -> None:
        if line.startswith("1/8 trials: "):
            with psycopg.connect(migrated_url) as connection:
                connection.execute("UPDATE leases SET holder = 'elsewhere/7/1.00'")

    monkeypatch.setattr("cluster.sweep.Lease", partial(Lease, renew_s=0.01))
    with pytest.raises(LeaseLost, match=r"^sweep sweep-.* was taken over by another driver"):
        sweep(config, [], settings, take_it_at_the_first)
    with Store.connect(migrated_url) as store:
        (run,) = store.runs()
        held = store.lease_of(run.run)
    assert run.state == "running"
    assert held is not None
    assert held.holder == "elsewhere/7/1.00"


def test_a_sweep_that_is_interrupted_keeps_what_it_has_and_says_how_to_go_on(
    ray_cluster: str, settings: Settings, config: Path, migrated_url: str
) -> None:
    from cluster.sweep import sweep

    def stop_at_the_first(line: str) -> None:
        if line.startswith("1/8 trials: "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(config, [], settings, stop_at_the_first)
    with Store.connect(migrated_url) as store:
        (run,) = store.runs()
        rows = store.trials("arima")
    assert run.state == "failed"
    assert run.failures == {"run": f"stopped before it was done; continue it with --resume {run.run}"}
    ended = [one for one in SweepFolder(settings.home, run.run).trials() if one.state != "running"]
    assert len(rows) == 3 * len(ended) > 0  # what was in flight is begun again, and counts as it ends


def test_a_sweep_that_cannot_write_its_folder_is_recorded_as_failed(
    settings: Settings, config: Path, migrated_url: str
) -> None:
    from cluster.sweep import sweep

    settings.home.mkdir(exist_ok=True)
    (settings.home / "sweeps").write_text("a file where a folder should be")
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        sweep(config, [], settings, lambda line: None)
    with Store.connect(migrated_url) as store:
        (run,) = store.runs()
    assert run.state == "failed"
    assert run.failures["run"].startswith(f"the folder of sweep {run.run}, {settings.home / 'sweeps'}")


def test_a_sweep_for_whose_lock_there_is_no_room_is_recorded_as_failed(
    settings: Settings, config: Path, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cluster.sweep import sweep

    opened = Path.open

    def without_room(path: Path, *arguments: Any, **named: Any) -> Any:
        if path.name == ".lock":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", without_room)
    with pytest.raises(EnvironmentFault, match=r"cannot be written \(No space left on device\)"):
        sweep(config, [], settings, lambda line: None)
    with Store.connect(migrated_url) as store:
        (run,) = store.runs()
    assert run.state == "failed"
    assert "No space left on device" in run.failures["run"]


def test_a_sweep_refuses_what_it_cannot_search_before_it_starts(settings: Settings, config: Path) -> None:
    from cluster.sweep import sweep

    def refused(*overrides: str) -> str:
        with pytest.raises(ConfigError) as caught:
            sweep(config, overrides, settings, lambda line: None)
        return str(caught.value).removeprefix(f"{config}: ")

    assert refused("space.order={choice: [1]}") == "space.order: unknown key of arima (did you mean 'orders'?)"
    assert refused("space.refit_every={int: [0, 5]}").startswith("space.refit_every: 0: Input should be greater")
    assert refused("grace_folds=4") == "grace_folds 4 is more than the 3 folds there are"
    with pytest.raises(DataError, match=r"set folds\.validation_sessions to at least 60"):
        sweep(config, ["folds.validation_sessions=59"], settings, lambda line: None)
    with pytest.raises(NotFound, match="there is no sweep 'sweep-none'"):
        sweep(config, [], settings, lambda line: None, resume="sweep-none")
