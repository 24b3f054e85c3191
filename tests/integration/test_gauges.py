"""What a real Ray tells of a retrain: its gauges, as Prometheus reads them, and the CPUs at work."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest
import ray
from support.ray_cluster import CPUS

from cluster.gauges import RunGauges
from cluster.live_view import cpus_at_work
from cluster.progress import CountedProgress

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60  # Ray passes gauges on every ten seconds
RUN = "retrain-20261122-143000-ab12"


def exported(run: str) -> dict[tuple[str, str | None, str | None], float]:
    """The node's gauges of ``run``, by name, stage and state."""
    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as reply:
        text = reply.read().decode()
    found = {}
    for name, labels, value in re.findall(r"^ray_(swiftbolt_retrain_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        told = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if told["run"] == run:
            found[name, told.get("stage"), told.get("state")] = float(value)
    return found


@pytest.mark.ray
@pytest.mark.long
def test_prometheus_finds_fits_failed_symbols_and_times_on_the_metrics_port(ray_cluster):
    now = [100.0]
    progress = CountedProgress([RunGauges(RUN, clock=lambda: now[0], wall=lambda: 1.7e9)])
    progress.planned("models", [f"arima/S{i}/{fold}" for i in range(3) for fold in range(2)])
    now[0] = 107.5
    progress.done("models", "arima/S0/0")
    progress.done("models", "arima/S1/0", "singular")  # within the second: not told
    now[0] = 110.0
    progress.done("models", "arima/S1/1", "singular")
    expected = {
        ("swiftbolt_retrain_units", "models", "waiting"): 3.0,
        ("swiftbolt_retrain_units", "models", "done"): 1.0,
        ("swiftbolt_retrain_units", "models", "failed"): 2.0,
        ("swiftbolt_retrain_failed_symbols", None, None): 1.0,
        ("swiftbolt_retrain_seconds", None, None): 10.0,
        ("swiftbolt_retrain_last_progress_timestamp_seconds", None, None): 1.7e9,
    }
    until = time.monotonic() + PATIENCE_S
    found: object = None
    while found != expected and time.monotonic() < until:
        time.sleep(0.2)
        try:
            found = exported(RUN)
        except URLError as exc:  # the agent is not up yet
            found = exc
    assert found == expected


@pytest.mark.ray
def test_a_cluster_tells_how_many_of_its_cpus_are_at_work(ray_cluster):
    assert re.fullmatch(rf"[0-{CPUS}](\.\d+)? of {CPUS} CPUs at work", cpus_at_work() or "")


def test_without_ray_nothing_is_exported_and_nothing_fails():
    """In a process of its own: Ray may be running in this one."""
    program = (
        "from cluster.gauges import RunGauges\n"
        "from cluster.progress import CountedProgress\n"
        "progress = CountedProgress([RunGauges('r')])\n"
        "progress.planned('models', ['arima/AA/0'])\n"
        "progress.done('models', 'arima/AA/0')\n"
        "import ray\n"
        "assert not ray.is_initialized()\n"
        "from cluster.live_view import cpus_at_work\n"
        "assert cpus_at_work() is None\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
