"""The story from the shell: demo, ask, refuse a second one, stop, nothing left. Small fits, real parts."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

PROJECT = Path(__file__).parents[2]
SYMBOLS = ["AAPL", "GOOG", "IBM", "MSFT", "NASDAQ", "SP500"]


@dataclass(frozen=True)
class Shell:
    """Runs ``swiftbolt`` as a person does, with a home and ports of its own."""

    home: Path
    ports: tuple[int, int, int]

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SWIFTBOLT_"))}
        kept.pop("DATABASE_URL", None)
        return {**kept, "SWIFTBOLT_HOME": str(self.home), "COLUMNS": "100"}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "swiftbolt.cli", *arguments],
            cwd=PROJECT,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    def demo(self) -> subprocess.CompletedProcess[str]:
        service, dashboard, ray = map(str, self.ports)
        more = ("--port", service, "--dashboard-port", dashboard, "--ray-port", ray)
        return self.run("demo", "--config", "configs/retrain/smoke.yaml", *more)

    def processes(self) -> list[str]:
        """Whatever runs with our home in its command line or environment, or with a file of it open."""
        found = []
        for process in psutil.process_iter():
            try:
                words = " ".join(process.cmdline())
                # Ray's workers rename themselves over both; their logs stay open.
                words += " ".join(file.path for file in process.open_files())
                if str(self.home) in words or process.environ().get("SWIFTBOLT_HOME") == str(self.home):
                    found.append(words)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    home = Path(tempfile.mkdtemp(prefix="sb-demo-", dir="/tmp"))
    shell = Shell(home, (_free_port(), _free_port(), _free_port()))
    try:
        yield shell
    finally:
        shell.run("stop")
        shutil.rmtree(home, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.timeout(600)
def test_the_demo_goes_from_bars_to_an_answer_over_http_and_leaves_nothing_behind(shell: Shell) -> None:
    finished = shell.demo()
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    for expected in (
        "token authentication on",
        "FB: needs 750 sessions, has 196",
        "6/6 symbols",
        "release_digest",
        "release 1 is active",
        "95 % interval",
        "naive_drift",
        "make stop",
    ):
        assert expected in finished.stdout + finished.stderr

    with httpx.Client(base_url=f"http://127.0.0.1:{shell.ports[0]}", timeout=30.0) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/ready").status_code == 200
        assert client.get("/docs").status_code == 200
        assert [row["symbol"] for row in client.get("/api/symbols").json() if row["has_forecast"]] == SYMBOLS
        reply = client.get("/api/ensemble/forecast", params={"symbol": "AAPL", "horizon": 5}).json()
        assert reply["current_price"] == 430.47
        assert reply["lower_ci"] < reply["price_target"] < reply["upper_ci"]
        assert reply["as_of"] == "2013-03-01"
        live = client.get("/api/ensemble/forecast", params={"symbol": "AAPL", "horizon": 5, "live": "true"}).json()
        assert set(live["missing"]) <= {"arima", "xgboost", "lstm", "transformer"}
        if not live["missing"]:  # a loaded machine may be late for the deadline, and then says so
            assert live["price_targets"] == pytest.approx(reply["price_targets"], rel=1e-9)
        assert client.get("/api/bars/AAPL", params={"limit": 1}).json()["bars"][-1]["close"] == 430.47
        assert client.get("/api/ensemble/forecast", params={"symbol": "FB"}).status_code == 404
        assert client.get("/api/ensemble/forecast", params={"symbol": "AAPL", "horizon": 21}).status_code == 422

    again = shell.demo()
    assert again.returncode == 4
    assert "already running" in again.stderr
    assert "make stop" in again.stderr
    assert httpx.get(f"http://127.0.0.1:{shell.ports[0]}/health", timeout=10.0).status_code == 200

    shown = shell.run("forecast", "AAPL")
    assert shown.returncode == 0
    assert "ensemble" in shown.stdout
    refused = shell.run("rollback")
    assert refused.returncode == 1
    assert "nothing to roll back to" in refused.stderr

    assert any("logs/serve" in words for words in shell.processes())
    stopped = shell.run("stop")
    assert stopped.returncode == 0
    assert "the embedded database" in stopped.stdout
    assert shell.processes() == []


def test_a_demo_whose_port_is_taken_says_so_and_starts_nothing(shell: Shell) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", shell.ports[0]))
        taken.listen()
        refused = shell.demo()
    assert refused.returncode == 4
    assert refused.stderr.strip().splitlines() == [
        f"error: port {shell.ports[0]} (service) is taken: stop what listens there, or choose another with --port"
    ]
    assert shell.processes() == []
