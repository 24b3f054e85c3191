"""The driver of a retrain is killed, stopped, or one too many: the same command goes on, and what was done stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, time, timedelta

import pytest
from support.retrain_faults import PROJECT, Nodes, Site, until

from swiftbolt.store import Store

REFUSED = 4

# A retrain's only clock is an argument.
_AT = """
import sys
from datetime import datetime
from pathlib import Path
from cluster.retrain import retrain
from swiftbolt.settings import Settings
retrain(Path(sys.argv[1]), [], Settings(), print, now=lambda: datetime.fromisoformat(sys.argv[2]))
"""


def test_a_retrain_outlives_a_worker_refuses_a_second_one_and_is_gone_on_with_once_its_driver_is_killed(
    nodes: Nodes, undisturbed_few: str, few: Site
) -> None:
    with few.held_at(nodes, "arima/S02/0") as first:
        (run,) = few.runs()
        with few.start(nodes) as second:
            assert second.end() == REFUSED
        refusal = rf"run {run.run} holds the retrain of this universe, since .* as process {first.process.pid} on"
        assert re.search(refusal, second.text())
        assert [row.run for row in few.runs()] == [run.run]
        worker = nodes.faults.kill_held()
        first.until(lambda: nodes.faults.held() not in (None, worker))
        first.kill()
    before = few.done()
    nodes.faults.replan()
    assert few.retrain(nodes) == undisturbed_few
    few.require_whole(undisturbed_few)
    few.require_kept(before, nodes.faults.begun())
    assert [row.run for row in few.runs()] == [run.run]
    assert nodes.faults.redone_symbols() == {"S02"}


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("moment", ["arima/S10/0", "xgboost_01", "lstm_00", "transformer_02"])
def test_a_driver_killed_at_any_moment_is_gone_on_with(nodes: Nodes, undisturbed: str, many: Site, moment: str) -> None:
    with many.held_at(nodes, moment) as driver:
        driver.kill()
    before = many.done()
    nodes.faults.replan()
    assert many.retrain(nodes) == undisturbed
    many.require_whole(undisturbed)
    many.require_kept(before, nodes.faults.begun())
    assert len(many.runs()) == 1


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_run_that_died_yesterday_is_gone_on_with_today(nodes: Nodes, undisturbed_few: str, few: Site) -> None:
    with few.held_at(nodes, "lstm_00") as driver:
        driver.kill()
    before = few.done()
    (run,) = few.runs()
    midnight = datetime.combine(run.started.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
    nodes.faults.replan()
    command = [sys.executable, "-c", _AT, str(few.folder / "retrain.yaml"), midnight.isoformat()]
    with few.launch(nodes, command) as driver:
        driver.succeed()
    few.require_whole(undisturbed_few)
    few.require_kept(before, nodes.faults.begun())
    assert [row.run for row in few.runs()] == [run.run]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_fresh_retrain_begins_anew_and_gives_the_other_up(nodes: Nodes, undisturbed_few: str, few: Site) -> None:
    with few.held_at(nodes, "arima/S02/0") as driver:
        driver.kill()
    (died,) = few.runs()
    nodes.faults.plan()
    assert few.retrain(nodes, "--fresh") == undisturbed_few
    few.require_whole(undisturbed_few)
    assert nodes.faults.begun() == dict.fromkeys(few.fits, 1)
    new, old = few.runs()
    assert (old.run, old.state, old.failures) == (died.run, "failed", {"run": "given up: --fresh"})
    assert new.run != died.run
    assert not list((few.folder / "home" / "runs").iterdir())


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_retrain_with_a_gate_that_is_killed_is_judged_once_it_has_gone_on(
    nodes: Nodes, undisturbed_few: str, few: Site
) -> None:
    with few.held_at(nodes, "lstm_00", "--promote", "gate") as driver:
        driver.kill()
    before = few.done()
    nodes.faults.replan()
    assert few.retrain(nodes, "--promote", "gate") == undisturbed_few
    few.require_whole(undisturbed_few)
    few.require_kept(before, dict.fromkeys(before, 1))  # the certificate fits some of them on other bars
    with Store.connect(few.url) as store:
        receipt = store.receipt(few.runs()[0].run)
    assert receipt is not None
    assert receipt["starts"] == 2


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_job_that_is_stopped_says_so_and_is_gone_on_with_by_another(
    job_nodes: Nodes, undisturbed_few: str, few: Site
) -> None:
    job_nodes.faults.plan({"arima/S02/0": "hold"})
    ray_job(job_nodes, few, "submit", "--no-wait", "--submission-id", "first")
    until(lambda: job_nodes.faults.held() and few.done())
    ray_job(job_nodes, few, "stop", "first")
    (run,) = few.runs()
    assert (run.state, run.failures) == (
        "failed",
        {"run": "stopped before it was done; the same command goes on with it"},
    )
    before = few.done()
    job_nodes.faults.replan()
    ray_job(job_nodes, few, "submit", "--submission-id", "second")
    few.require_whole(undisturbed_few)
    few.require_kept(before, job_nodes.faults.begun())
    assert [row.run for row in few.runs()] == [run.run]


def ray_job(nodes: Nodes, site: Site, verb: str, *arguments: str) -> None:
    """``ray job``; it fails where the job does."""
    more = []
    if verb == "submit":
        variables = {**site.own_environment, "PYTHONPATH": f"{nodes.environment['PYTHONPATH']}{os.pathsep}{PROJECT}"}
        more = ["--runtime-env-json", json.dumps({"env_vars": variables}), "--", *site.command()]
    done = None
    while done is None or "No available agent" in done.stderr:  # it comes up after the cluster does
        done = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", "job", verb, "--address", nodes.dashboard, *arguments, *more],
            env=nodes.outer_environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
